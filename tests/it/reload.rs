//! The configuration changes while midwatch runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use lab::net::{Peer, Refused};

use crate::mongodb::{CONNECT, probe};
use crate::support::{Metrics, Midwatch, Place, eventually, program, write_and_rename};

const RUNS: &str = "midwatch_probe_runs_total";
const INFO: &str = "midwatch_probe_info";
const HASH: &str = "midwatch_config_hash";
const SUCCESSFUL: &str = "midwatch_config_last_reload_successful";
const FILE_OK: &str = "midwatch_config_file_ok";
const RHYTHM: &str = "interval = \"200ms\"\ntimeout = \"150ms\"\ndiscover = false\n";

/// A probe of a port that refuses: it has all its series, and needs no server.
fn refused(name: &str, peer: &Refused, rest: &str) -> String {
    probe(name, &[peer.address().to_string()], &format!("{RHYTHM}{rest}"))
}

fn runs(metrics: &Metrics, name: &str) -> f64 {
    metrics.get(RUNS, &[("probe", name)]).unwrap_or(0.0)
}

fn reloads(metrics: &Metrics, result: &str) -> f64 {
    metrics.get("midwatch_config_reloads_total", &[("result", result)]).expect("known from the start")
}

/// Who owns the probe now: what the tests edit when any edit will do.
fn owner(metrics: &Metrics, name: &str) -> Option<String> {
    let of = [("probe", name)];
    let owners: Vec<_> = metrics.all(INFO, &of).collect();
    assert!(owners.len() <= 1, "a probe has one owner: {owners:?}");
    owners.first()?.labels.get("owner").cloned()
}

fn owned_by(name: &str, peer: &Refused, owner: &str) -> String {
    refused(name, peer, &format!("owner = \"{owner}\""))
}

async fn until_owned(daemon: &Midwatch, name: &str, by: &str) -> Metrics {
    let what = format!("{name} to be owned by {by}");
    daemon.until(&what, |m| (owner(m, name).as_deref() == Some(by)).then(|| m.clone())).await
}

async fn until_runs(daemon: &Midwatch, name: &str, least: f64) -> Metrics {
    daemon.until(&format!("{least} runs of {name}"), |m| (runs(m, name) >= least).then(|| m.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_buckets_start_that_histogram_afresh_and_touch_nothing_else() {
    let peer = Refused::pick().unwrap();
    let text = |buckets| [refused("edited", &peer, buckets), refused("other", &peer, "")].concat();
    let daemon = Midwatch::start(&text("")).await;
    until_runs(&daemon, "other", 5.0).await;
    let before = until_runs(&daemon, "edited", 5.0).await;
    let total = [("probe", "edited"), ("phase", "total")];
    assert_eq!(before.bounds(CONNECT, &total).len(), 37, "lan is the default");

    // Saved, and nobody asks for a reload.
    daemon.rewrite(&text("buckets = [0.5, \"5s\"]"));
    let after = daemon
        .until("the new bounds", |m| (m.bounds(CONNECT, &total) == ["0.5", "5", "+Inf"]).then(|| m.clone()))
        .await;
    let counted = after.get(&format!("{CONNECT}_count"), &total).unwrap();
    let since = runs(&after, "edited") - runs(&before, "edited");
    assert!(counted <= since, "{counted} observations after {since} runs: it started afresh");
    let shrunk = after.shrunk_since(&before);
    let own = |name: &str| name.starts_with(CONNECT);
    assert!(shrunk.iter().all(|sample| own(&sample.name) && sample.labels["probe"] == "edited"), "{shrunk:?}");
    assert!(shrunk.iter().any(|sample| sample.name.ends_with("_bucket")));
    assert!(daemon.log().contains("0 probes added, 1 changed, 0 removed, 1 kept"), "{}", daemon.log());

    // And back: the same bounds as before are still a fresh start, nothing comes back from the dead.
    daemon.rewrite(&text(""));
    let again = daemon.until("the old bounds", |m| (m.bounds(CONNECT, &total).len() == 37).then(|| m.clone())).await;
    let counted = again.get(&format!("{CONNECT}_count"), &total).unwrap();
    assert!(counted <= runs(&again, "edited") - runs(&after, "edited"));
    let shrunk = again.shrunk_since(&after);
    assert!(shrunk.iter().all(|sample| own(&sample.name) && sample.labels["probe"] == "edited"), "{shrunk:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_a_good_one_recovers() {
    let peer = Refused::pick().unwrap();
    let good = owned_by("a", &peer, "fleet");
    let daemon = Midwatch::start(&good).await;
    let before = until_runs(&daemon, "a", 1.0).await;
    let main = [("file", daemon.config().to_str().unwrap())];
    assert_eq!((before.get(SUCCESSFUL, &[]), before.get(FILE_OK, &main)), (Some(1.0), Some(1.0)));
    assert_eq!((reloads(&before, "success"), reloads(&before, "failure")), (0.0, 0.0), "a start is no reload");

    let bad =
        "[probe.mongodb.a]\nhosts = []\ninterval = \"hourly\"\nbuckets = [3, 2, 1]\ntmieout = \"1s\"\ncolour = 1\n";
    let (status, text) = daemon.reload(bad).await;
    assert_eq!(status, 422, "{text}");
    let problems: Vec<_> = text.lines().collect();
    assert_eq!(problems.len(), 5, "{text}");
    for (at, problem) in problems.iter().enumerate() {
        let place = format!("{}:{}:", main[0].1, at + 5);
        assert!(problem.starts_with(&place) && problem.contains("probe.mongodb.a: "), "{place} in {problem}");
    }
    assert!(text.contains("unknown field `tmieout`, did you mean `timeout`?"), "{text}");

    let during = until_runs(&daemon, "a", runs(&before, "a") + 3.0).await;
    assert_eq!(during.get(SUCCESSFUL, &[]), Some(0.0));
    assert_eq!(during.get(FILE_OK, &main), Some(0.0), "what the file holds is not in force");
    assert!(reloads(&during, "failure") >= 1.0);
    assert_eq!(during.get(HASH, &[]), before.get(HASH, &[]));
    assert_eq!(owner(&during, "a").as_deref(), Some("fleet"));
    assert!(during.shrunk_since(&before).is_empty());
    let (_, shown) = daemon.request("GET", "/config").await.unwrap();
    assert!(shown.contains("owner = \"fleet\"") && !shown.contains("hourly"), "{shown}");

    let (status, text) = daemon.reload(&format!("# now with a comment\n{good}")).await;
    assert_eq!(status, 200, "{text}");
    let after = daemon.metrics().await;
    assert_eq!((after.get(SUCCESSFUL, &[]), after.get(FILE_OK, &main)), (Some(1.0), Some(1.0)));
    assert!(reloads(&after, "success") >= 1.0);
    assert_ne!(after.get(HASH, &[]), before.get(HASH, &[]), "another content, another hash");
    assert!(after.shrunk_since(&during).is_empty(), "a comment is no change of the probe");

    daemon.reload(&good).await;
    assert_eq!(daemon.metrics().await.get(HASH, &[]), before.get(HASH, &[]), "the hash is that of the content");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_saving_a_file_takes_effect() {
    let peer = Refused::pick().unwrap();
    let daemon = Midwatch::start(&owned_by("a", &peer, "first")).await;
    let text = |by: &str| daemon.place.text(&owned_by("a", &peer, by));
    let config = daemon.config();

    fs::write(config, text("in-place")).unwrap();
    until_owned(&daemon, "a", "in-place").await;

    write_and_rename(config, &text("renamed"));
    until_owned(&daemon, "a", "renamed").await;

    // As vim does by default: the old file becomes the backup, a new one takes its name.
    fs::rename(config, config.with_extension("toml~")).unwrap();
    fs::write(config, text("backed-up")).unwrap();
    until_owned(&daemon, "a", "backed-up").await;

    // A clock that went back: what counts is the content.
    write_and_rename(config, &text("from-the-past"));
    let touched = Command::new("touch").args(["-d", "2001-01-01"]).arg(config).status().unwrap();
    assert!(touched.success());
    until_owned(&daemon, "a", "from-the-past").await;

    // A signal and a request count, although there is nothing new.
    let before = daemon.metrics().await;
    daemon.signal("HUP");
    daemon.until("the signal to count", |m| (reloads(m, "success") > reloads(&before, "success")).then_some(())).await;
    let (status, text) = daemon.post_reload().await;
    assert_eq!((status, text.as_str()), (200, "nothing has changed\n"));
    let after = daemon.metrics().await;
    assert!(reloads(&after, "success") >= reloads(&before, "success") + 2.0);
    assert_eq!(after.get(HASH, &[]), before.get(HASH, &[]));
    assert_eq!(reloads(&after, "failure"), reloads(&before, "failure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_swaps_the_mounted_directory() {
    let peer = Refused::pick().unwrap();
    let place = Place::new();
    let mount = place.folder.path().join("mounted");
    // As the kubelet does it: a new directory, a new link, which is renamed over the old one; then the old is removed.
    let publish = |version: &str, text: &str| {
        let new = mount.join(version);
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("midwatch.toml"), text).unwrap();
        let old = fs::read_link(mount.join("..data"));
        symlink(version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(mount.join(old)).unwrap();
        }
    };
    let text = |by: &str| place.text(&owned_by("a", &peer, by));
    let texts = ["first", "second", "third"].map(text);
    publish("..2026_01", &texts[0]);
    symlink("..data/midwatch.toml", mount.join("midwatch.toml")).unwrap();
    let daemon = place.launch("mounted/midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    let before = until_owned(&daemon, "a", "first").await;
    publish("..2026_02", &texts[1]);
    until_owned(&daemon, "a", "second").await;
    publish("..2026_03", &texts[2]);
    let after = until_owned(&daemon, "a", "third").await;
    assert!(after.shrunk_since(&before).is_empty());
    assert_eq!(after.get(SUCCESSFUL, &[]), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_rotates_alone_changes_its_probe_and_no_counter() {
    let peer = Refused::pick().unwrap();
    let place = Place::new();
    let secret = place.write("secrets/password", "first-hunter2\n");
    let rest = format!("username = \"midwatch\"\npassword = {{ file = \"{}\" }}", secret.display());
    let probes = [refused("with", &peer, &rest), refused("without", &peer, "")].concat();
    place.write("midwatch.toml", &place.text(&probes));
    let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    let before = until_runs(&daemon, "with", 2.0).await;

    write_and_rename(&secret, "second-hunter2\n");
    eventually("the new secret to be noticed", async || {
        daemon.log().contains("1 changed, 0 removed, 1 kept").then_some(())
    })
    .await;
    let after = until_runs(&daemon, "with", runs(&before, "with") + 2.0).await;
    assert!(after.shrunk_since(&before).is_empty(), "{:?}", after.shrunk_since(&before));
    assert_eq!(after.get(HASH, &[]), before.get(HASH, &[]), "the hash is public, so no secret is in it");

    // Gone: the probe that has it goes on with it.
    fs::remove_file(&secret).unwrap();
    let (status, text) = daemon.post_reload().await;
    assert_eq!(status, 422);
    assert!(text.contains("probe.mongodb.with") && text.contains("it does not exist"), "{text}");
    let metrics = until_runs(&daemon, "with", runs(&after, "with") + 1.0).await;
    assert_eq!(metrics.get(SUCCESSFUL, &[]), Some(0.0));
    fs::write(&secret, "third-hunter2").unwrap();
    daemon.until("the secret to be back", |m| (m.get(SUCCESSFUL, &[]) == Some(1.0)).then_some(())).await;
    let (_, shown) = daemon.request("GET", "/config").await.unwrap();
    assert!(shown.contains("secrets/password"), "{shown}");
    for text in [shown, daemon.log()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_at_once_end_with_the_last_content() {
    let peer = Refused::pick().unwrap();
    let text = |by: &str| [owned_by("a", &peer, by), owned_by("b", &peer, by)].concat();
    let daemon = Midwatch::start(&text("first")).await;
    let before = until_runs(&daemon, "a", 1.0).await;
    let scrapes = async {
        let mut last = before.clone();
        loop {
            let now = daemon.metrics().await;
            assert!(now.shrunk_since(&last).is_empty(), "{:?}", now.shrunk_since(&last));
            assert!(owner(&now, "a").is_some() && owner(&now, "b").is_some(), "both are always there");
            last = now;
            tokio::task::yield_now().await;
        }
    };
    let reloads = async {
        for round in 0..100 {
            let text = daemon.place.text(&text(&format!("round-{round}")));
            if round % 2 == 0 {
                write_and_rename(daemon.config(), &text);
            } else {
                fs::write(daemon.config(), text).unwrap();
            }
            daemon.signal("HUP");
            let (one, other) = tokio::join!(daemon.post_reload(), daemon.post_reload());
            for (status, text) in [one, other] {
                assert_eq!(status, 200, "{text}");
            }
        }
    };
    tokio::select! {
        () = scrapes => {}
        () = reloads => {}
    }
    // Whoever asks is told about a load that began after the question: nothing is left to wait for.
    let after = daemon.metrics().await;
    for name in ["a", "b"] {
        assert_eq!(owner(&after, name).as_deref(), Some("round-99"));
    }
    assert_eq!(after.get(SUCCESSFUL, &[]), Some(1.0));
    until_runs(&daemon, "a", runs(&after, "a") + 1.0).await;
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_configuration_changes_nothing_and_is_recovered_from() {
    let peer = Refused::pick().unwrap();
    let good = refused("a", &peer, "");
    let daemon = Midwatch::start(&good).await;
    let mut last = until_runs(&daemon, "a", 1.0).await;
    let config = daemon.config().to_owned();
    let whole = daemon.place.text(&good);
    let half = whole[..whole.rfind("150ms").unwrap()].to_owned();
    type Case<'c> = (&'c str, Box<dyn Fn(&Path) + 'c>);
    let write = |bytes: Vec<u8>| Box::new(move |path: &Path| fs::write(path, &bytes).unwrap()) as Box<dyn Fn(&Path)>;
    let cases: Vec<Case<'_>> = vec![
        ("not TOML", write(half.into())),
        ("the file is empty", write(Vec::new())),
        ("the file is empty", write(b" \n\n".to_vec())),
        ("NUL", write(b"[server]\n\0\0\0".to_vec())),
        ("not UTF-8", write(b"owner = \"\xff\"".to_vec())),
        ("it does not exist", Box::new(|path| fs::remove_file(path).unwrap())),
        (
            "it is a directory",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ),
        (
            "not a regular file",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }),
        ),
        (
            "not a regular file",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                drop(std::os::unix::net::UnixListener::bind(path).unwrap());
            }),
        ),
        (
            "it does not exist",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                symlink("nowhere.toml", path).unwrap();
            }),
        ),
        ("larger than 8 MiB", Box::new(|path| fs::File::create(path).unwrap().set_len(50 << 20).unwrap())),
        // Within the limit, and a problem in every line.
        ("not TOML", write(b"a = [\n".repeat(1 << 20))),
    ];
    for (expected, break_it) in cases {
        break_it(&config);
        let (status, text) = daemon.post_reload().await;
        assert_eq!(status, 422, "{expected}: {text}");
        assert!(text.starts_with(config.to_str().unwrap()) && text.contains(expected), "{expected}: {text}");
        assert!(text.lines().count() <= 1_001, "{expected}: {} lines", text.lines().count());
        let now = until_runs(&daemon, "a", runs(&last, "a") + 1.0).await;
        assert_eq!(now.get(SUCCESSFUL, &[]), Some(0.0), "{expected}");
        assert_eq!(now.get(HASH, &[]), last.get(HASH, &[]), "{expected}");
        assert!(now.shrunk_since(&last).is_empty(), "{expected}: {:?}", now.shrunk_since(&last));
        last = now;
        if config.is_dir() {
            fs::remove_dir(&config).unwrap();
        }
        write_and_rename(&config, &whole);
        let (status, text) = daemon.post_reload().await;
        assert_eq!(status, 200, "after {expected}: {text}");
        assert_eq!(daemon.metrics().await.get(SUCCESSFUL, &[]), Some(1.0), "after {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_fragment_keeps_its_last_good_version_also_over_a_restart() {
    let peer = Refused::pick().unwrap();
    let place = Place::new();
    place.write("midwatch.toml", &place.text("[[include]]\nfiles = \"teams/*.toml\"\n"));
    let red = place.write("teams/red.toml", &owned_by("red", &peer, "one"));
    let blue = place.write("teams/blue.toml", &owned_by("blue", &peer, "one"));
    let mut daemon = place.launch("midwatch.toml", &[], Command::new(program()));
    daemon.wait_ready().await;
    let ok = |metrics: &Metrics, file: &Path| metrics.get(FILE_OK, &[("file", file.to_str().unwrap())]);
    let main = daemon.config().to_owned();

    // One is bad, the other applies.
    fs::write(&red, "[probe.mongodb.red]\nhosts = 1\n").unwrap();
    write_and_rename(&blue, &owned_by("blue", &peer, "two"));
    let (status, text) = daemon.post_reload().await;
    assert_eq!(status, 422);
    assert!(text.starts_with(&format!("{}:2:", red.display())), "{text}");
    let bad = until_owned(&daemon, "blue", "two").await;
    assert_eq!(owner(&bad, "red").as_deref(), Some("one"));
    assert_eq!((ok(&bad, &main), ok(&bad, &red), ok(&bad, &blue)), (Some(1.0), Some(0.0), Some(1.0)));
    assert_eq!(bad.get(SUCCESSFUL, &[]), Some(0.0));

    // A restart forgets counters, but not what was good.
    daemon.restart().await;
    let restarted = until_runs(&daemon, "red", 1.0).await;
    assert_eq!(owner(&restarted, "red").as_deref(), Some("one"));
    assert_eq!((ok(&restarted, &red), ok(&restarted, &blue)), (Some(0.0), Some(1.0)));
    assert_eq!(restarted.get(SUCCESSFUL, &[]), Some(0.0));

    write_and_rename(&red, &owned_by("red", &peer, "three"));
    let good = until_owned(&daemon, "red", "three").await;
    assert_eq!((ok(&good, &red), good.get(SUCCESSFUL, &[])), (Some(1.0), Some(1.0)));
    assert!(good.shrunk_since(&restarted).is_empty());

    // A name stays with the file that has it.
    let green = daemon.place.write("teams/green.toml", &owned_by("red", &peer, "thief"));
    let (status, text) = daemon.post_reload().await;
    assert_eq!(status, 422);
    assert!(text.contains("green.toml:1:") && text.contains("red.toml defines a probe of this type"), "{text}");
    let metrics = daemon.metrics().await;
    assert_eq!((ok(&metrics, &red), ok(&metrics, &green)), (Some(1.0), Some(0.0)));
    assert_eq!(owner(&metrics, "red").as_deref(), Some("three"));
    daemon.restart().await;
    let metrics = until_runs(&daemon, "red", 1.0).await;
    assert_eq!(owner(&metrics, "red").as_deref(), Some("three"), "also after a restart");

    // A fragment that goes takes its probes along.
    fs::remove_file(&green).unwrap();
    fs::remove_file(&red).unwrap();
    let (status, text) = daemon.post_reload().await;
    assert_eq!(status, 200, "{text}");
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.all("midwatch_probe_interval_seconds", &[]).count(), 1);
    assert_eq!(ok(&metrics, &red), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_gone_from_the_next_scrape() {
    let peer = Refused::pick().unwrap();
    let text = |labels| [refused("a", &peer, labels), refused("b", &peer, "")].concat();
    let daemon = Midwatch::start(&text("")).await;
    until_runs(&daemon, "b", 1.0).await;
    let before = until_runs(&daemon, "a", 3.0).await;
    let daemon_alone = before.0.iter().filter(|sample| !sample.labels.contains_key("probe")).count();

    // Another label: other series, which begin anew. None of the old ones is left.
    let (status, answer) = daemon.reload(&text("labels = { tier = \"gold\" }")).await;
    assert_eq!((status, answer.as_str()), (200, "0 probes added, 1 changed, 0 removed, 1 kept\n"));
    let labelled = daemon.metrics().await;
    let of = [("probe", "a")];
    assert!(labelled.all(RUNS, &of).all(|sample| sample.labels["tier"] == "gold" && sample.value < runs(&before, "a")));
    let stale = |metrics: &Metrics| {
        metrics
            .0
            .iter()
            .filter(|s| s.labels.get("probe").is_some_and(|p| p == "a") && !s.labels.contains_key("tier"))
            .count()
    };
    assert_eq!(stale(&labelled), 0);

    // Labels of all: also on what is no probe's.
    let (status, _) = daemon.reload(&format!("[labels]\nvantage = \"north\"\n{}", text(""))).await;
    assert_eq!(status, 200);
    let everywhere = daemon.metrics().await;
    assert!(everywhere.0.iter().all(|sample| sample.labels.get("vantage").is_some_and(|vantage| vantage == "north")));

    let (status, answer) = daemon.reload("# nothing to watch\n").await;
    assert_eq!((status, answer.as_str()), (200, "0 probes added, 0 changed, 2 removed, 0 kept\n"));
    let empty = daemon.metrics().await;
    assert!(
        empty.0.iter().all(|sample| !sample.labels.contains_key("probe") && !sample.labels.contains_key("vantage"))
    );
    assert!(empty.0.len() <= daemon_alone, "{} series, {daemon_alone} at the start", empty.0.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_while_runs_wait_for_silent_peers_loses_no_run() {
    let (kept, changed) = (Peer::silent().await.unwrap(), Peer::silent().await.unwrap());
    let rest = "interval = \"1s\"\ntimeout = \"950ms\"\ndiscover = false\n";
    let text = |by: &str| {
        [
            probe("kept", &[kept.address().to_string()], rest),
            probe("changed", &[changed.address().to_string()], &format!("{rest}owner = \"{by}\"")),
        ]
        .concat()
    };
    let daemon = Midwatch::start(&text("first")).await;
    eventually("a run in flight", async || (kept.accepted() > 0).then_some(())).await;
    for round in 0..5 {
        let before = changed.accepted();
        eventually("another run in flight", async || (changed.accepted() > before).then_some(())).await;
        let (status, answer) = daemon.reload(&text(&round.to_string())).await;
        assert_eq!((status, answer.as_str()), (200, "0 probes added, 1 changed, 0 removed, 1 kept\n"));
    }
    let metrics = until_runs(&daemon, "kept", 2.0).await;
    assert_eq!(owner(&metrics, "changed").as_deref(), Some("4"));
    // Every connection is a run that was counted, but for the one that may be in flight.
    for (name, peer) in [("kept", &kept), ("changed", &changed)] {
        let metrics = until_runs(&daemon, name, 2.0).await;
        let missed = metrics.get("midwatch_probe_missed_total", &[("probe", name)]).unwrap();
        let counted = runs(&metrics, name) + missed;
        #[allow(clippy::cast_precision_loss, reason = "a few")]
        let accepted = peer.accepted() as f64;
        assert!(accepted <= counted + 1.0, "{name}: {accepted} connections, {counted} runs");
    }
    // Removed in flight: the connection goes with the run.
    let files = daemon.open_files();
    let (status, _) = daemon.reload("# nothing to watch\n").await;
    assert_eq!(status, 200);
    eventually("the connections to be closed", async || (daemon.open_files() < files).then_some(())).await;
}
