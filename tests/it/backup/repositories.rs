//! Real repositories of restic, Borg and pgBackRest.

use std::path::{Path, PathBuf};

use lab::repositories::{Borg, PgBackRest, Restic};

use crate::support::{Metrics, Midwatch, Place, eventually, midwatch};

const PASSWORD: &str = "canary-password-4711";
/// Of the tool that hangs, by which its processes are found.
const HUNG: &str = "canary-hung-0815";

/// A job whose repository is listed all the time.
fn job(name: &str, source: &str, rest: &str) -> String {
    let rhythm = "interval = \"1s\"\nlisting_interval = \"15s\"\nlisting_timeout = \"14s\"";
    format!("[probe.backup.{name}]\nsource = \"{source}\"\n{rhythm}\n{rest}\n")
}

fn start(place: Place, probes: &str) -> Midwatch {
    place.write("midwatch.toml", &place.text(&format!("log_level = \"debug\"\n{probes}")));
    place.launch("midwatch.toml", &[], std::process::Command::new(crate::support::program()))
}

/// A place with a file that holds the secret.
fn place_with(secret: &str) -> (Place, PathBuf) {
    let place = Place::new();
    let file = place.write("password", secret);
    (place, file)
}

fn get(metrics: &Metrics, job: &str, name: &str) -> Option<f64> {
    metrics.get(&format!("midwatch_backup_{name}"), &[("probe", job)])
}

fn counted(metrics: &Metrics, job: &str) -> f64 {
    metrics.get("midwatch_backup_runs_total", &[("probe", job), ("outcome", "success")]).unwrap_or(0.0)
}

fn failures(metrics: &Metrics, job: &str, reason: &str) -> f64 {
    metrics.all("midwatch_probe_failures_total", &[("probe", job), ("reason", reason)]).map(|sample| sample.value).sum()
}

/// Waits until the repository was listed and holds so many backups, and then until all that this led to is shown.
async fn until_retained(daemon: &Midwatch, job: &str, retained: f64) -> Metrics {
    let runs = |m: &Metrics| m.get("midwatch_probe_runs_total", &[("probe", job)]).unwrap_or(0.0);
    let mut since = None;
    let what = format!("{retained} backups in {job}");
    daemon
        .until(&what, |m| {
            let is_up = get(m, job, "source_up") == Some(1.0);
            if !is_up || get(m, job, "retained") != Some(retained) {
                since = None;
                return None;
            }
            let since = *since.get_or_insert_with(|| runs(m));
            (runs(m) >= since + 3.0).then(|| m.clone())
        })
        .await
}

/// Waits until the repository could not be listed.
async fn until_down(daemon: &Midwatch, job: &str) -> Metrics {
    let is_down = |m: &Metrics| get(m, job, "source_up") == Some(0.0) && failures(m, job, "rejected") >= 1.0;
    daemon.until("no repository", |m| is_down(m).then(|| m.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_restic_are_counted_once() {
    let restic = Restic::create(PASSWORD).unwrap();
    restic.backup("mongo-1", 1, 100_000).unwrap();
    let (place, password) = place_with(&format!("{PASSWORD}\n"));
    let keys = format!(
        "repository = \"{}\"\npassword = {{ file = \"{}\" }}\nstats = true\nnodes = {{ mongo-2 = \"mongo-2:27017\" }}",
        restic.path().display(),
        password.display()
    );
    let mut daemon = start(place, &job("files", "restic", &keys));
    daemon.wait_ready().await;
    let m = until_retained(&daemon, "files", 1.0).await;
    assert_eq!(counted(&m, "files"), 0.0, "it was there before anybody watched");
    assert!(get(&m, "files", "last_success_timestamp_seconds").is_some());

    let second = restic.backup("mongo-2", 2, 300_000).unwrap();
    let m = until_retained(&daemon, "files", 2.0).await;
    assert_eq!(counted(&m, "files"), 1.0);
    assert_eq!(m.get("midwatch_backup_running", &[("probe", "files"), ("node", "mongo-2:27017")]), Some(0.0));
    let stored = get(&m, "files", "stored_bytes").unwrap();
    let packs = restic.packs().unwrap() as f64;
    assert!(stored > 400_000.0 && stored <= packs && stored > packs * 0.95, "{stored} of {packs}");

    daemon.restart().await;
    let m = until_retained(&daemon, "files", 2.0).await;
    assert_eq!(counted(&m, "files"), 1.0, "a restart counts nothing again");

    // A tag makes another snapshot of it, of the same backup.
    restic.tag(&second, "kept").unwrap();
    let third = restic.backup("mongo-1", 3, 1000).unwrap();
    let m = until_retained(&daemon, "files", 3.0).await;
    assert_eq!(counted(&m, "files"), 2.0);
    let before = get(&m, "files", "last_success_timestamp_seconds");

    std::fs::write(&password, "wrong").unwrap();
    daemon.post_reload().await;
    daemon.until("a wrong password", |m| (failures(m, "files", "auth") >= 1.0).then_some(())).await;
    std::fs::write(&password, PASSWORD).unwrap();
    daemon.post_reload().await;
    until_retained(&daemon, "files", 3.0).await;

    let away = restic.path().with_extension("away");
    std::fs::rename(restic.path(), &away).unwrap();
    let m = until_down(&daemon, "files").await;
    assert_eq!((get(&m, "files", "retained"), counted(&m, "files")), (Some(3.0), 2.0), "frozen");
    assert_eq!(get(&m, "files", "last_success_timestamp_seconds"), before);
    std::fs::rename(&away, restic.path()).unwrap();
    until_retained(&daemon, "files", 3.0).await;

    restic.forget(&third).unwrap();
    let m = until_retained(&daemon, "files", 2.0).await;
    assert_eq!(counted(&m, "files"), 2.0, "what is forgotten stays counted");
    assert_eq!(restic.locks().unwrap(), 0, "nothing was locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_borg_are_counted_once_and_listed_beside_a_lock() {
    let borg = Borg::create(PASSWORD).unwrap();
    borg.backup("one", 1, 100_000).unwrap();
    let (place, password) = place_with(PASSWORD);
    let keys = format!(
        "repository = \"{}\"\npassphrase = {{ file = \"{}\" }}\nstats = true\nenvironment = {{ HOME = {{ file = \"home\" }} }}",
        borg.path().display(),
        password.display()
    );
    // As a service's own home may be, nobody can write to it.
    place.write("home", "/proc");
    let mut daemon = start(place, &job("files", "borg", &keys));
    daemon.wait_ready().await;
    until_retained(&daemon, "files", 1.0).await;

    borg.backup("two", 2, 300_000).unwrap();
    let m = until_retained(&daemon, "files", 2.0).await;
    assert_eq!(counted(&m, "files"), 1.0);
    let end = get(&m, "files", "last_success_timestamp_seconds").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 300.0..=now).contains(&end), "{end} is no time in UTC just before {now}");
    // As Borg says it to people: "Original size … Deduplicated size", of which the first is exact to two digits.
    assert!(borg.info("two").unwrap().contains("400."), "{}", borg.info("two").unwrap());
    let size = get(&m, "files", "last_uncompressed_bytes").unwrap();
    assert!((400_000.0..401_000.0).contains(&size), "{size}");
    let stored = get(&m, "files", "stored_bytes").unwrap();
    assert!((400_000.0..410_000.0).contains(&stored), "{stored}");

    let held = borg.hold().unwrap();
    eventually("the lock", async || borg.is_locked().then_some(())).await;
    daemon.restart().await;
    let m = until_retained(&daemon, "files", 2.0).await;
    assert_eq!((counted(&m, "files"), borg.is_locked()), (1.0, true), "listed beside a lock");
    drop(held);
}

/// A Borg that stays within `info` until there is a file `go`: nobody reads its answer, which is longer than what a pipe holds.
fn slow(borg: &Path) -> String {
    let borg = borg.display();
    format!(
        "cd \"$(dirname \"$0\")\"\n[ \"$1\" = info ] || exec {borg} \"$@\"\n\
         {borg} \"$@\" | {{ dd bs=1 count=1 2>dd; : >held; while [ ! -e go ]; do sleep 0.1; done; cat; }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_and_a_backup_of_the_same_user_do_not_disturb_each_other() {
    let borg = Borg::create(PASSWORD).unwrap();
    borg.backup("one", 1, 100_000).unwrap();
    let (place, password) = place_with(PASSWORD);
    let [program, held, go] = ["slow-borg", "held", "go"].map(|name| place.folder.path().join(name));
    lab::script(&program, &slow(&lab::binary::BORG.find().unwrap())).unwrap();
    std::fs::write(&go, "").unwrap();
    let keys = format!(
        "program = \"{}\"\nrepository = \"{}\"\npassphrase = {{ file = \"{}\" }}\nstats = true",
        program.display(),
        borg.path().display(),
        password.display()
    );
    place.write("midwatch.toml", &place.text(&job("files", "borg", &keys)));
    // Where the Borg of whoever makes the backups has its cache and what it knows of repositories.
    let command = || {
        let mut command = std::process::Command::new(crate::support::program());
        command.env("HOME", borg.home()).env_remove("XDG_CACHE_HOME");
        command
    };
    let mut daemon = place.launch("midwatch.toml", &[], command());
    daemon.wait_ready().await;
    until_retained(&daemon, "files", 1.0).await;
    let failed = |m: &Metrics| -> f64 {
        m.all("midwatch_probe_failures_total", &[("probe", "files")]).map(|sample| sample.value).sum()
    };

    // The backup first: it holds its locks for as long as it reads from a pipe.
    let open = borg.begin("two").await.unwrap();
    daemon.restart_as(command()).await;
    let m = until_retained(&daemon, "files", 1.0).await;
    assert_eq!((failed(&m), borg.is_locked()), (0.0, true), "{}", daemon.log());

    // The listing first: it holds the lock of its cache for as long as it prints.
    for file in [&held, &go] {
        std::fs::remove_file(file).unwrap();
    }
    open.end().unwrap();
    eventually("the listing", async || held.exists().then_some(())).await;
    borg.backup("three", 3, 100_000).unwrap();
    std::fs::write(&go, "").unwrap();
    let m = until_retained(&daemon, "files", 3.0).await;
    assert_eq!((counted(&m, "files"), failed(&m)), (2.0, 0.0), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_pgbackrest_are_counted_once() {
    let postgres = PgBackRest::start(PASSWORD).await.unwrap();
    postgres.backup("full").unwrap();
    let (place, password) = place_with(PASSWORD);
    let keys = format!(
        "stanza = \"{}\"\nconfig_file = \"{}\"\nnode = \"pg-1:5432\"\n\
         environment = {{ PGBACKREST_REPO1_CIPHER_PASS = {{ file = \"{}\" }} }}",
        postgres.stanza(),
        postgres.configuration().unwrap().display(),
        password.display()
    );
    let mut daemon = start(place, &job("postgres", "pgbackrest", &keys));
    daemon.wait_ready().await;
    until_retained(&daemon, "postgres", 1.0).await;
    postgres.backup("incr").unwrap();
    let m = until_retained(&daemon, "postgres", 2.0).await;
    assert_eq!(counted(&m, "postgres"), 1.0);
    assert_eq!(m.get("midwatch_backup_running", &[("probe", "postgres"), ("node", "pg-1:5432")]), Some(0.0));
    assert!(get(&m, "postgres", "last_duration_seconds").unwrap() >= 0.0);
    let info = postgres.info().unwrap();
    assert_eq!(info.matches(" backup: ").count(), 2, "{info}");
    daemon.restart().await;
    let m = until_retained(&daemon, "postgres", 2.0).await;
    assert_eq!(counted(&m, "postgres"), 1.0);

    std::fs::write(&password, "wrong").unwrap();
    daemon.post_reload().await;
    daemon.until("a wrong passphrase", |m| (failures(m, "postgres", "auth") >= 1.0).then_some(())).await;
    std::fs::write(&password, PASSWORD).unwrap();
    daemon.post_reload().await;
    until_retained(&daemon, "postgres", 2.0).await;
    std::fs::rename(postgres.path(), postgres.path().with_extension("away")).unwrap();
    let m = until_down(&daemon, "postgres").await;
    assert_eq!((get(&m, "postgres", "retained"), counted(&m, "postgres")), (Some(2.0), 1.0), "frozen");
}

/// Processes whose environment has that text: those of a fake tool, and what it started.
fn processes_with(marker: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let has = |path: &Path| {
        std::fs::read(path.join("environ")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(marker))
    };
    all.filter(|path| has(path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_hangs_is_ended_with_all_it_started_and_no_secret_is_seen() {
    let (place, password) = place_with(HUNG);
    // A fake restic, which says its password, starts another process, and ignores that it is asked to end.
    let text = "echo \"the password is $RESTIC_PASSWORD\" >&2\ntrap '' TERM\nsleep 600 &\nwhile :; do sleep 1; done";
    let program = place.folder.path().join("restic");
    lab::script(&program, text).unwrap();
    let keys = format!(
        "program = \"{}\"\nrepository = \"/nowhere\"\npassword = {{ file = \"{}\" }}",
        program.display(),
        password.display()
    );
    let probes = job("files", "restic", &keys).replace("listing_timeout = \"14s\"", "listing_timeout = \"5s\"");
    let daemon = start(place, &probes);
    daemon.wait_ready().await;
    let marker = format!("RESTIC_PASSWORD={HUNG}");
    let mut seen = String::new();
    eventually("the tool", async || {
        let processes = processes_with(&marker);
        for process in &processes {
            let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
            seen += &String::from_utf8_lossy(&arguments).replace('\0', " ");
        }
        (processes.len() >= 2).then_some(())
    })
    .await;
    assert!(seen.contains("snapshots --json --no-lock"), "{seen}");
    daemon.until("a timeout", |m| (failures(m, "files", "timeout") >= 2.0).then_some(())).await;
    let files = daemon.open_files();
    daemon.until("more timeouts", |m| (failures(m, "files", "timeout") >= 4.0).then_some(())).await;
    assert!(daemon.open_files() <= files + 8, "{} after {files}", daemon.open_files());
    for path in ["/metrics", "/config", "/runs", "/"] {
        seen += &daemon.request("GET", path).await.unwrap().1;
    }
    let config = daemon.config().display().to_string();
    let output = midwatch(&["probe", "backup", "files", "--config", &config]);
    seen += &String::from_utf8_lossy(&output.stdout);
    seen += &String::from_utf8_lossy(&output.stderr);
    seen += &daemon.log();
    assert!(seen.contains("the password is …"), "what it said is shown: {seen}");
    assert!(!seen.contains(HUNG), "{seen}");
    daemon.signal("TERM");
    let mut daemon = daemon;
    assert!(daemon.end().await.success());
    eventually("all of it to be gone", async || processes_with(&marker).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_included_file_cannot_start_programs() {
    let place = Place::new();
    place.write(
        "team/team.toml",
        "[probe.backup.files]\nsource = \"restic\"\nrepository = \"/x\"\nprogram = \"/bin/sh\"\n",
    );
    let main = place.write("midwatch.toml", &place.text("[[include]]\nfiles = \"team/*.toml\"\n"));
    let output = midwatch(&["check", &main.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("`source`: \"restic\" is for the main file only, because it starts programs"), "{said}");
}
