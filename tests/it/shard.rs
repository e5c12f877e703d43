//! Several processes with one configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::net::Refused;
use lab::ports::Port;
use lab::prometheus::{Options, Prometheus};
use midwatch::shard::Shard;

use crate::mongodb::probe;
use crate::support::{Midwatch, Place, eventually, midwatch, program, request_as};

const TOKEN: &str = "0b1c2d3e-4f50-4617-8283-94a5b6c7d8e9";
const COUNT: u32 = 3;

/// Three shards, which listen on one port of three addresses.
struct Shards {
    daemons: Vec<Midwatch>,
    port: Port,
}

impl Shards {
    async fn start(probes: &str) -> Self {
        let port = Port::pick().unwrap();
        let peers = format!("http://127.77.0.{{shard}}:{}", port.number());
        let mut shards = Self { daemons: Vec::new(), port };
        for index in 0..COUNT {
            let shard = format!("{index}/{COUNT}");
            let arguments = match index {
                // The last one knows from its name.
                2 => ["--shard", "auto/3", "--peers", &peers],
                _ => ["--shard", &shard, "--peers", &peers],
            };
            let mut command = Command::new(program());
            command.env("HOSTNAME", format!("midwatch-{index}"));
            shards.launch(index, probes, &arguments, command).await;
        }
        shards
    }

    async fn launch(&mut self, index: u32, probes: &str, arguments: &[&str], command: Command) {
        let place = Place::new();
        place.write("token", TOKEN);
        place.write("midwatch.toml", &self.text(&place, index, probes));
        let mut daemon = place.launch("midwatch.toml", arguments, command);
        daemon.address = self.address(index);
        daemon.wait_ready().await;
        self.daemons.push(daemon);
    }

    fn address(&self, index: u32) -> String {
        format!("127.77.0.{index}:{}", self.port.number())
    }

    fn text(&self, place: &Place, index: u32, probes: &str) -> String {
        let (address, state) = (self.address(index), place.folder.path().join("state"));
        format!("[server]\nlisten = \"{address}\"\nstate_dir = \"{}\"\n{probes}", state.display())
    }

    /// Which shards run each probe, by what they expose.
    async fn owners(&self) -> BTreeMap<String, Vec<u32>> {
        let mut owners: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for (index, daemon) in (0..).zip(&self.daemons) {
            for sample in daemon.metrics().await.all("midwatch_probe_info", &[]) {
                owners.entry(sample.labels["probe"].clone()).or_default().push(index);
            }
        }
        owners
    }
}

fn of(index: u32) -> Shard {
    Shard { index, count: COUNT }
}

/// The alerting rules with shorter times; rules are those that are shipped.
fn rules(folder: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/midwatch.yml")).unwrap();
    let file = folder.join("rules.yml");
    std::fs::write(&file, text.replace("for: 2m", "for: 1s")).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_run_each_probe_once_and_a_lost_one_is_missed_until_it_is_back() {
    let refused = Refused::pick().unwrap();
    let hosts = [refused.address().to_string()];
    let rest = "interval = \"500ms\"\ntimeout = \"400ms\"";
    let probes = |count: usize| (0..count).map(|n| probe(&format!("p{n}"), &hosts, rest)).collect::<String>();
    let mut shards = Shards::start(&probes(12)).await;
    let owners = shards.owners().await;
    assert_eq!(owners.len(), 12);
    for (name, owners) in &owners {
        assert_eq!(*owners, [of(0).owner("mongodb", name).index], "{name}");
    }
    for (index, daemon) in (0..).zip(&shards.daemons) {
        let metrics = daemon.metrics().await;
        let owned = owners.values().filter(|owners| **owners == [index]).count();
        assert!(owned > 0, "the names leave a shard without any");
        assert_eq!(metrics.get("midwatch_probes_owned", &[]), Some(owned as f64));
        assert_eq!(metrics.get("midwatch_probes_loaded", &[]), Some(12.0));
        let own = [("shard", &*index.to_string()), ("shards", "3")];
        assert_eq!(metrics.get("midwatch_shard_info", &own), Some(1.0));
        assert_eq!(metrics.all("midwatch_shard_expected", &[]).count(), 3);
        assert!(daemon.log().contains(&format!("this is shard {index} of 3, counted from 0 to 2")), "{}", daemon.log());
        let share = format!("This is shard {index} of 3, counted from 0 to 2; probes of other shards: {}.", 12 - owned);
        for path in ["/", "/runs"] {
            let (_, page) = daemon.request("GET", path).await.unwrap();
            assert!(page.contains(&share), "{share} in {path}: {page}");
        }
    }

    // A probe that comes is run by one, and nothing else is touched anywhere.
    let before =
        shards.daemons[0].until("runs", |m| m.all("midwatch_probe_runs_total", &[]).next().map(|_| m.clone())).await;
    let mut kept = Vec::new();
    for (index, daemon) in (0..).zip(&shards.daemons) {
        let text = shards.text(&daemon.place, index, &probes(13));
        std::fs::write(daemon.config(), text).unwrap();
        kept.push(daemon.post_reload().await);
    }
    let added = |text: &str| text.starts_with("1 probes added, 0 changed, 0 removed, ");
    assert!(kept.iter().all(|(status, _)| *status == 200), "{kept:?}");
    assert_eq!(kept.iter().filter(|(_, text)| added(text)).count(), 1, "{kept:?}");
    let others = |text: &str| text.starts_with("0 probes added, 0 changed, 0 removed, ");
    assert_eq!(kept.iter().filter(|(_, text)| others(text)).count(), 2, "{kept:?}");
    assert_eq!(shards.daemons[0].metrics().await.shrunk_since(&before), Vec::<&crate::support::Sample>::new());
    let whose = shards.owners().await;
    assert!(whose.len() == 13 && whose.values().all(|owners| owners.len() == 1), "{whose:?}");

    let folder = tempfile::tempdir().unwrap();
    let targets = shards.daemons.iter().map(|daemon| daemon.address.clone());
    let options = Options::new(targets, Duration::from_millis(500)).rules(rules(folder.path()));
    let prometheus = Prometheus::with(options).await.unwrap();
    prometheus.wait_for("count(midwatch_shard_info) == 3 and sum(midwatch_probes_owned) == 13").await.unwrap();
    let alerts = "ALERTS{alertname=\"MidwatchShardMissing\"}";
    let silent = async || prometheus.query(alerts).await.unwrap().is_empty().then_some(());
    eventually("no shard to be missing", silent).await;

    shards.daemons[1].signal("KILL");
    shards.daemons[1].end().await;
    let firing = "ALERTS{alertname=\"MidwatchShardMissing\",alertstate=\"firing\"}";
    let missing = eventually("the alert to fire", async || {
        prometheus.query(firing).await.unwrap().into_iter().next().map(|sample| sample.labels)
    })
    .await;
    assert_eq!((&*missing["shard"], &*missing["shards"], &*missing["job"]), ("1", "3", "lab"));
    assert_eq!(prometheus.query(firing).await.unwrap().len(), 1);
    shards.daemons[1].respawn();
    shards.daemons[1].wait_ready().await;
    eventually("the alert to be over", silent).await;
}

/// Jobs that are told over HTTP, so many that every shard has one.
fn jobs() -> String {
    let job = |n| {
        format!(
            "[probe.backup.job{n}]\nsource = \"push\"\ntoken = {{ file = \"token\" }}\nmax_duration = \"24h\"\n\
             interval = \"500ms\"\ntimeout = \"400ms\"\n"
        )
    };
    (0..9).map(job).collect()
}

/// The first job that belongs to that shard.
fn job_of(index: u32) -> String {
    let mut names = (0..9).map(|n| format!("job{n}"));
    names.find(|name| of(index).owns("backup", name)).expect("a job of every shard")
}

/// Waits until that many runs of a job ended so.
async fn until_counted(daemon: &Midwatch, job: &str, outcome: &str, runs: f64) {
    let of = [("probe", job), ("outcome", outcome)];
    daemon.until("runs", |m| (m.get("midwatch_backup_runs_total", &of) == Some(runs)).then_some(())).await;
}

/// Says with the token that the job succeeded, and more, by the header or in the path.
async fn ping(address: &str, path: &str, headers: &str) -> (u16, String) {
    request_as(address, "POST", &format!("/ping/{path}"), headers).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_another_shard_is_handed_on_or_refused_by_name() {
    let mut shards = Shards::start(&jobs()).await;
    let (job, other) = (job_of(1), job_of(2));
    let login = format!("Authorization: Bearer {TOKEN}\r\n");
    let first = shards.daemons[0].address.clone();
    // Right after the start, jobs may not be known yet.
    eventually("the job to be known where it belongs", async || {
        (ping(&first, &job, &login).await.0 == 200).then_some(())
    })
    .await;
    until_counted(&shards.daemons[1], &job, "success", 1.0).await;
    let rid = "3ac5ad23-1f4c-4d5e-9a6b-0123456789ab";
    let failed = format!("{TOKEN}/{job}/fail?rid={rid}&size=77");
    for address in [&first, &shards.daemons[2].address, &shards.daemons[1].address] {
        assert_eq!(ping(address, &failed, "").await, (200, "OK".to_owned()), "{address}");
    }
    // One run, however often it is told: the success after them is shown with whatever was counted before.
    assert_eq!(ping(&shards.daemons[2].address, &job, &login).await.0, 200);
    until_counted(&shards.daemons[1], &job, "success", 2.0).await;
    until_counted(&shards.daemons[1], &job, "failure", 1.0).await;
    for index in [0, 2] {
        assert_eq!(
            shards.daemons[index].metrics().await.all("midwatch_backup_runs_total", &[("probe", &job)]).count(),
            0
        );
    }

    // Who does not know the token learns no more of it than of any other.
    let wrong = "Authorization: Bearer wrong-wrong-wrong-wrong\r\n";
    let unknown = (404, "not found".to_owned());
    for (path, login) in [(&*job, wrong), ("nobody", &login)] {
        // Right after the start, whoever is not known is told to come again.
        let told = eventually("an answer for good", async || {
            Some(ping(&first, path, login).await).filter(|told| told.0 != 503)
        });
        assert_eq!(told.await, unknown, "{path}");
    }
    let (status, said) = shards.daemons[0].request("GET", &format!("/runs?probe={job}")).await.unwrap();
    assert_eq!(status, 404);
    assert!(said.starts_with(&format!("backup {job} belongs to shard 1 of 3, and this is shard 0.\n")), "{said}");

    // One hop, and no further.
    let refused = (421, format!("job {job} belongs to shard 1 of 3, and is not handed on"));
    assert_eq!(ping(&first, &job, &format!("{login}Midwatch-Handed-On: 1\r\n")).await, refused);

    // With its shard down, the wrapper leaves a record here, and it gets there later.
    shards.daemons[1].signal("KILL");
    shards.daemons[1].end().await;
    let (status, said) = ping(&first, &job, &login).await;
    assert_eq!(
        (status, &*said),
        (502, &*format!("job {job} belongs to shard 1 of 3, which could not be told (refused)"))
    );
    assert_eq!(ping(&first, &other, &login).await.0, 200, "other shards go on");
    let config = shards.daemons[0].config().to_str().unwrap().to_owned();
    let output = midwatch(&["backup", "run", &job, "--config", &config, "--", "true"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the record is left in"), "{said}");
    shards.daemons[1].respawn();
    shards.daemons[1].wait_ready().await;
    until_counted(&shards.daemons[1], &job, "success", 3.0).await;
    let spool = shards.daemons[0].place.folder.path().join("state/spool");
    eventually("the spool to be empty", async || (std::fs::read_dir(&spool).unwrap().count() == 0).then_some(())).await;

    let list = |shard: &str| {
        let output = midwatch(&["backup", "list", "--config", &config, "--shard", shard]);
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = list("0/3");
    assert!(listed.starts_with("This is shard 0 of 3, counted from 0 to 2; jobs of other shards: "), "{listed}");
    let elsewhere = format!("\nbackup {job} belongs to shard 1 of 3, where its runs are written down\n");
    assert!(listed.contains(&elsewhere) && !list("1/3").contains(&elsewhere), "{listed}");
    for daemon in &shards.daemons {
        assert!(!daemon.log().contains(TOKEN), "{}", daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_to_the_other_shards_their_messages_are_refused() {
    let place = Place::new();
    place.write("token", TOKEN);
    place.write("midwatch.toml", &place.text(&jobs()));
    let daemon = place.launch("midwatch.toml", &["--shard", "0/3"], Command::new(program()));
    daemon.wait_ready().await;
    let (job, login) = (job_of(1), format!("Authorization: Bearer {TOKEN}\r\n"));
    let refused = (421, format!("job {job} belongs to shard 1 of 3, and is not handed on"));
    assert_eq!(ping(&daemon.address, &job, &login).await, refused);
    assert_eq!(ping(&daemon.address, &format!("{TOKEN}/{job}/start"), "").await, refused);
    eventually("what is not known to be refused", async || {
        (ping(&daemon.address, "nobody", "").await.0 == 404).then_some(())
    })
    .await;
}

#[test]
fn a_shard_that_cannot_be_is_refused_with_a_sentence() {
    let place = Place::new();
    let file = place.write("midwatch.toml", &place.text(""));
    let refused = |shard: &str, more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["run", "--config"]).arg(&file).args(["--shard", shard]).args(more).env("HOSTNAME", "midwatch-3");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused("5/5", &[]);
    assert!(said.contains("there is no shard 5 of 5: it counts from 0, so the last one is 4/5"), "{said}");
    let said = refused("auto/3", &[]);
    assert!(said.starts_with("--shard auto: the host name \"midwatch-3\" is that of shard 3, and of 3"), "{said}");
    let said = refused("0/3", &["--peers", "http://midwatch:9817"]);
    assert!(said.starts_with("--peers: expected a URL with {shard} in it"), "{said}");
}

/// Replicas that both knock at a WireGuard server are two peers of it.
#[test]
fn a_replica_finds_a_key_and_an_address_of_its_own() {
    let place = Place::new();
    place.write("key-0", "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n");
    place.write("key-1", "GGHrGTvSvdPHZ7nlDDqDPBiXK/3FSOpKgxIBiKE1tVg=\n");
    let section = "[probe.vpn.office]\nprotocol = \"wireguard\"\nserver = \"192.0.2.1:51820\"\ninside_address = \"10.8.0.1{ordinal}\"\n\
                   private_key = { file = \"key-{ordinal}\" }\nserver_public_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\n\
                   inside = [{ icmp = \"10.8.0.1\" }]\n";
    let file = place.write("midwatch.toml", &place.text(section));
    let check = |host: &str| {
        let output = Command::new(program()).arg("check").arg(&file).env("HOSTNAME", host).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    for host in ["midwatch-0", "midwatch-1"] {
        let (good, said) = check(host);
        assert!(good, "{host}: {said}");
        let key = format!("key-{}", &host[9..]);
        // Who else can read it is said of the file that is used.
        assert!(said.contains(&key), "{said}");
    }
    let (good, said) = check("midwatch-2");
    assert!(!good && said.contains("cannot read the file"), "{said}");
    let (good, said) = check("watcher");
    assert!(!good && said.contains("this host's has none"), "{said}");
    assert!(said.lines().count() == 2, "the key and the address: {said}");
}
