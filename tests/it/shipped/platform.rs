//! A platform from the lab, and a midwatch that watches all of it, often.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::kafka::{Cluster, Member, Protocol, Record};
use lab::mongodb::driver::bson::doc;
use lab::mongodb::{self, ReplicaSet, User};
use lab::prometheus::Options;
use lab::vpn::{Implementation, Inside, Network, Ocserv, Peer, WireguardServer, available};
use tokio::task::JoinHandle;

use super::relay::Relay;
use crate::backup::pbm::{self, Pbm, now};
use crate::backup::tell;
use crate::kafka::QUICK;
use crate::support::{Midwatch, Place, program};
use crate::{kafka, vpn};

/// Keys of every probe: rhythm, owner and objective. The time-outs suit a machine that is busy.
pub const RHYTHM: &str = "interval = \"2s\"\ntimeout = \"1900ms\"\n";
const OWNER: &str = "owner = \"night-shift\"\nslo = { objective = 0.99, latency = \"1500ms\" }\n";

/// The topic with a producer, the group that keeps up with it, and the group that has given up.
pub const TOPIC: &str = "orders";
pub const KEEPS_UP: &str = "billing";
pub const LAGS: &str = "reports";

/// The token of all jobs that are told over HTTP.
const TOKEN: &str = "a-token-of-these-tests-only";

/// Which parts to start. A fault needs only those that it is about.
#[derive(Default)]
pub struct Plan {
    pub mongodb: bool,
    pub kafka: bool,
    pub vpn: bool,
    /// With `mongodb`, its members are where backups run, and there is one with Percona's tool.
    pub backups: bool,
}

impl Plan {
    pub const ALL: Self = Self { mongodb: true, kafka: true, vpn: true, backups: true };
}

/// What was started. The parts that were not asked for are absent; the VPN also where namespaces cannot be had, see [`available`].
pub struct Platform {
    // First: it ends before what it watches.
    pub daemon: Midwatch,
    pub mongodb: Option<ReplicaSet>,
    pub kafka: Option<Streams>,
    pub vpn: Option<Tunnel>,
    pub backups: Option<Backups>,
    /// The probes as they are configured.
    pub probes: String,
}

impl Platform {
    /// Starts all parts, then midwatch, which is ready when this returns; not all probes have run yet.
    pub async fn start(plan: Plan) -> Self {
        let (mongodb, kafka, vpn) = tokio::join!(
            async { if plan.mongodb { Some(start_mongodb().await) } else { None } },
            async { if plan.kafka { Some(Streams::start().await) } else { None } },
            async { if plan.vpn && available().unwrap() { Some(Tunnel::start().await) } else { None } },
        );
        let place = Place::new();
        let mut probes = String::new();
        if let Some(set) = &mongodb {
            probes +=
                &crate::mongodb::probe("orders", &set.hosts(), &(common() + &crate::mongodb::login_over_tls(set)));
        }
        if let Some(streams) = &kafka {
            probes += &streams.probes();
        }
        if let Some(tunnel) = &vpn {
            probes += &tunnel.probes();
        }
        let mut backups = None;
        if plan.backups {
            let started = Backups::lay_out(&place, mongodb.as_ref()).await;
            probes += &started.probes;
            backups = Some(started);
        }
        place.write("midwatch.toml", &place.text(&probes));
        let daemon = place.launch("midwatch.toml", &[], Command::new(program()));
        daemon.wait_ready().await;
        Self { daemon, mongodb, kafka, vpn, backups, probes }
    }

    /// For a Prometheus that scrapes this midwatch once a second.
    pub fn scraping(&self) -> Options {
        Options::new([self.daemon.address.as_str()], Duration::from_secs(1)).job("midwatch")
    }
}

/// The shipped rules.
pub fn rules() -> Vec<PathBuf> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    files
}

fn common() -> String {
    format!("{RHYTHM}{OWNER}")
}

/// Three members with logins and TLS, which is what all phases of a connection need.
async fn start_mongodb() -> ReplicaSet {
    let options = mongodb::Options::default().members(3).auth().tls(mongodb::Tls::Server);
    let set = ReplicaSet::with(options).await.unwrap();
    set.wait_settled().await.unwrap();
    set
}

/// A cluster with a producer, a group that keeps up, and one that stands still.
pub struct Streams {
    /// A member of [`KEEPS_UP`]: pause it, or drop it.
    pub member: Option<Member>,
    pub producer: Option<JoinHandle<()>>,
    // Last: the others are its clients.
    pub cluster: std::sync::Arc<Cluster>,
}

impl Streams {
    async fn start() -> Self {
        let cluster = std::sync::Arc::new(Cluster::start(3).await.unwrap());
        cluster.create_topic(TOPIC, 6, 2, &[]).await.unwrap();
        let records = (0..6).flat_map(|partition| (0..20).map(move |_| Record::new(partition)));
        cluster.produce(TOPIC, records).await.unwrap();
        let done: Vec<_> = (0..6).map(|partition| (TOPIC, partition, 5)).collect();
        cluster.commit(LAGS, &done).await.unwrap();
        let member = cluster.join(KEEPS_UP, &[TOPIC], Protocol::Classic).unwrap();
        member.wait_assigned(6).await.unwrap();
        let producer = tokio::spawn(produce(cluster.clone()));
        Self { member: Some(member), producer: Some(producer), cluster }
    }

    fn probes(&self) -> String {
        let canary = format!("manage = \"create\"\nsla = \"1500ms\"\n{}", common());
        let [collector, canary] =
            [("kafka", format!("{QUICK}{OWNER}")), ("kafka_canary", canary)].map(|(kind, rest)| {
                kafka::probe("streams", &self.cluster, &rest).replace("[probe.kafka.", &format!("[probe.{kind}."))
            });
        collector + &canary
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.abort();
        }
    }
}

/// Some records a second, until it is aborted. Those that a broker's end takes along are nobody's concern.
async fn produce(cluster: std::sync::Arc<Cluster>) {
    loop {
        let _ = cluster.produce(TOPIC, (0..6).map(|partition| Record::new(partition).size(200))).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// WireGuard with something inside, and ocserv, which shows a certificate.
pub struct Tunnel {
    pub server: WireguardServer,
    pub ocserv: Ocserv,
    peer: Peer,
    relays: [Relay; 2],
    _inside: Inside,
    // Last: all of that is within.
    pub network: Network,
}

impl Tunnel {
    async fn start() -> Self {
        let network = Network::new().unwrap();
        let server = WireguardServer::start(&network.server, Implementation::Go).await.unwrap();
        let inside = Inside::serve(&network.server, IpAddr::from(WireguardServer::INSIDE)).unwrap();
        let peer = server.add_peer("10.88.0.2/32", false).unwrap();
        let ocserv = Ocserv::start(&network.server, time::Duration::days(60)).await.unwrap();
        let at = |port| SocketAddr::new(Network::SERVER.0.into(), port);
        let relays = [
            Relay::udp(&network.server, at(WireguardServer::PORT)).await,
            Relay::tcp(&network.server, at(Ocserv::PORT)).await,
        ];
        Self { server, ocserv, peer, relays, _inside: inside, network }
    }

    /// Where midwatch finds both: WireGuard, and ocserv.
    pub fn addresses(&self) -> [String; 2] {
        self.relays.each_ref().map(Relay::address)
    }

    fn probes(&self) -> String {
        let inside = "attempts = 1\ninside_address = \"10.88.0.2\"\ninside = [{ icmp = \"10.88.0.1\", count = 3 }, { tcp = \"10.88.0.1:8080\" }]\n";
        let [udp, tcp] = &self.relays;
        let key = self.server.public_key();
        let tunnel = vpn::wireguard_at("office", &udp.address(), key, &self.peer, &(common() + inside));
        let rest = format!("interval = \"20s\"\ntimeout = \"5s\"\n{OWNER}{}", vpn::trusting(self.ocserv.ca_file()));
        tunnel + &vpn::probe("road", "anyconnect", &tcp.address(), &rest)
    }
}

/// Jobs of several sources: `nightly` and its restore test are told over HTTP, `dump` wraps a command, `files` is a directory, and `oplog`
/// is Percona's tool.
pub struct Backups {
    /// Where a job that is not told otherwise runs.
    pub node: String,
    probes: String,
    pbm: Option<Pbm>,
}

impl Backups {
    async fn lay_out(place: &Place, set: Option<&ReplicaSet>) -> Self {
        let node = set.map_or_else(|| "db-1:27017".to_owned(), |set| set.hosts()[1].clone());
        place.write("token", TOKEN);
        place.write("backups/first.tar", &"x".repeat(1000));
        let job = |name: &str, source: &str, keys: &str| {
            format!("[probe.backup.{name}]\nsource = \"{source}\"\nnode = \"{node}\"\n{}{keys}\n", common())
        };
        let token = "token = { file = \"token\" }\n";
        let files = place.folder.path().join("backups");
        let files = format!("path = \"{}\"\npattern = \"*.tar\"\nsettle = \"1s\"\n", files.display());
        let mut probes = [
            job("nightly", "push", &format!("{token}schedule = \"1h\"\n")),
            job("restored", "push", &format!("{token}restores = \"nightly\"\n")),
            job("dump", "exec", token),
            job("files", "directory", &files),
        ]
        .concat();
        let mut pbm = None;
        if let Some(set) = set {
            let written = Pbm::by(set, Some(&User::admin())).await;
            written.show_all(&set.hosts()).await;
            let password = set.folder().join("admin's password");
            std::fs::write(&password, &User::admin().password).unwrap();
            let login = format!(
                "tls.ca_file = \"{}\"\nusername = \"admin\"\npassword = {{ file = \"{}\" }}\n{OWNER}",
                set.ca_path().display(),
                password.display()
            );
            probes += &pbm::job("oplog", &set.hosts(), &login);
            pbm = Some(written);
        }
        Self { node, probes, pbm }
    }

    /// Tells the daemon of a run of a job, such as `nightly/start` or `nightly/fail`.
    pub async fn tell(&self, daemon: &Midwatch, what: &str) {
        let (job, event) = what.split_once('/').unwrap_or((what, ""));
        let path = format!("/ping/{TOKEN}/{job}/{event}");
        tell(&daemon.address, path.trim_end_matches('/')).await;
    }

    /// The job `dump`, wrapped around a line of shell.
    pub fn dump(&self, daemon: &Midwatch, script: &str) -> Command {
        let mut command = Command::new(program());
        command.args(["backup", "run", "dump", "--config"]).arg(daemon.config()).args(["--", "sh", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A backup by Percona's tool, of which the daemon has seen the beginning, ends.
    pub async fn finish(&self, daemon: &Midwatch, opid: &str) {
        let pbm = self.pbm.as_ref().expect("backups with MongoDB");
        let start = now() - 30;
        pbm.begin(opid, &self.node, start).await;
        let running = [("probe", "oplog"), ("node", self.node.as_str())];
        let is_running = |m: &crate::support::Metrics| m.get("midwatch_backup_running", &running) == Some(1.0);
        daemon.until("a backup to run", |m| is_running(m).then_some(())).await;
        pbm.turn(opid, "running", (start, 10), doc! {}).await;
        let size = doc! { "size": 2_000_i64, "size_uncompressed": 9_000_i64 };
        pbm.turn(opid, "done", (start, 20), size).await;
    }
}
