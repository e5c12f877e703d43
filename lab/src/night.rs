//! The night that midwatch exists for, as a story: a backup on a standby takes the member's processor, and people are told which
//! member, and which backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::alertmanager::Alertmanager;
use crate::mongodb::ReplicaSet;
use crate::ports::Port;
use crate::process::{self, Launch, Scratch, Server};
use crate::prometheus::{self, Prometheus, Sample};
use crate::rules::Acceleration;
use crate::webhook::{Notice, Webhook};
use crate::{Error, Result, http, until};

/// How much faster time passes for rules and for Alertmanager.
const FACTOR: u32 = 10;
/// The longest window of the rules that matter here, after acceleration: so long must it be quiet for them to know what quiet is.
const QUIET: Duration = Duration::from_secs(30);
/// After so long without the alert the demo has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long the end of the alert is waited for.
const DAWN: Duration = Duration::from_secs(90);
/// How often the numbers are said while the backup runs.
const EVERY: Duration = Duration::from_secs(10);
/// The alert that all of this is about.
const ALERT: &str = "MongoSlowDuringBackup";
const HELLO: &str = "midwatch:mongodb_hello:p90_5m";
/// What tells the daemon of a run must show it.
const TOKEN: &str = "a-token-of-the-demo-only";

/// What the backup does: it packs the member's files, eight times at once, until it is told to stop, and then once for good. `$0` is
/// the folder of the files, `$1` that of the result.
const BACKUP: &str = r#"
for worker in 1 2 3 4 5 6 7 8; do
    while [ ! -e "$1/stop" ]; do tar -c -C "$0" . 2>/dev/null | gzip -9 >/dev/null; done &
done
wait
tar -c -C "$0" . 2>/dev/null | gzip -1 >"$1/dump.gz"
"#;

/// Where the story goes, line by line.
type Say<'s> = &'s mut (dyn FnMut(&str) -> Result<()> + Send);

/// Tells the story with that midwatch program and the rules and the Alertmanager example in `alerts`. Ends by itself, within six
/// minutes; fails if nobody was told.
pub async fn run(midwatch: &Path, alerts: &Path, say: Say<'_>) -> Result<()> {
    let [quiet, hogged] = processors()?;
    let night = Night::begin(midwatch, alerts, (quiet, hogged), say).await?;
    night.is_quiet(say).await?;
    let backup = night.start_backup(hogged)?;
    let (victim, folder) = (&night.victim, night.folder.path());
    let line = format!("a backup begins at {victim}, wrapped by `midwatch backup run nightly --node {victim}`:");
    tell(say, &line)?;
    more(say, &format!("eight compressors on processor {hogged}, which is also where that mongod runs"))?;
    let told = night.is_told(say).await?;
    for (what, text) in ["summary", "description", "runbook_url"].map(|name| (name, told.annotation(name))) {
        more(say, &format!("{what}: {text}"))?;
    }
    fs::write(folder.join("stop"), "").map_err(Error::io("stopping the backup"))?;
    night.is_over(&backup, say).await?;
    say(&night.guide(alerts))
}

/// Two processors that this process may use: one for the backup and its victim, one for everything else.
fn processors() -> Result<[usize; 2]> {
    match process::cpus()?[..] {
        [quiet, hogged, ..] => Ok([quiet, hogged]),
        _ => {
            Err(Error::Unexpected("two processors are needed: one for the backup, one for everything else".to_owned()))
        }
    }
}

/// A line with the time of day.
fn tell(say: Say<'_>, text: &str) -> Result<()> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    say(&format!("{:02}:{:02}:{:02}  {text}", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

/// A line that belongs to the one before.
fn more(say: Say<'_>, text: &str) -> Result<()> {
    say(&format!("          {text}"))
}

/// All that runs. Ends with this.
struct Night {
    program: PathBuf,
    prometheus: Prometheus,
    webhook: Webhook,
    /// The member that the backup runs at, and where its files are.
    victim: String,
    data: PathBuf,
    config: PathBuf,
    _clients: Clients,
    _alertmanager: Alertmanager,
    _midwatch: Server,
    _set: ReplicaSet,
    folder: Scratch,
}

impl Night {
    async fn begin(program: &Path, alerts: &Path, (quiet, hogged): (usize, usize), say: Say<'_>) -> Result<Night> {
        let program =
            program.canonicalize().map_err(|source| Error::Io { what: program.display().to_string(), source })?;
        let set = ReplicaSet::start(3).await?;
        let primary = set.wait_settled().await?;
        let (victim, hosts) = ((primary + 1) % 3, set.hosts());
        for member in 0..hosts.len() {
            set.pin(member, if member == victim { hogged } else { quiet })?;
        }
        let clients = Clients::start(&set, primary).await?;
        tell(say, &format!("a replica set: {}; the primary is {}", hosts.join(", "), hosts[primary]))?;
        more(say, "clients write orders to it and read them, on its primary")?;

        let (folder, port) = (Scratch::new()?, Port::pick()?);
        let config = folder.path().join("midwatch.toml");
        let text = configuration(&port.address(), folder.path(), &hosts);
        for (path, text) in [(config.clone(), text.as_str()), (folder.path().join("token"), TOKEN)] {
            fs::write(&path, text).map_err(Error::io(path.display().to_string()))?;
        }
        let log = folder.path().join("midwatch.log");
        let launch = Launch::new("midwatch", &program).arg("run").arg("--config").arg(&config).log(log);
        let midwatch = launch.cpu(quiet).start()?;
        wait_for_metrics(&midwatch, &port.address()).await?;
        tell(say, &format!("midwatch connects to every member twice a second: http://{}/metrics", port.address()))?;

        let webhook = Webhook::open().await?;
        let fast = Acceleration::new(FACTOR);
        let files = fast.copy(alerts, folder.path())?;
        let example = alerts.join("alertmanager/alertmanager.yml");
        let example = fs::read_to_string(&example).map_err(Error::io(example.display().to_string()))?;
        let example = fast.alertmanager(&example).replace("https://alerts.example", &webhook.url());
        let alertmanager = Alertmanager::start(&example).await?;
        let options = prometheus::Options::new([port.address()], Duration::from_secs(1)).job("midwatch");
        let options = files.into_iter().fold(options, prometheus::Options::rules).alertmanager(alertmanager.address());
        let prometheus = Prometheus::with(options).await?;
        tell(say, &format!("Prometheus, with the rules of {}/: {}/alerts", alerts.display(), prometheus.url()))?;
        more(say, &format!("Alertmanager, with the example beside them: {}", alertmanager.url()))?;
        more(say, &format!("time passes {FACTOR} times faster for both: five minutes of a rule are 30 seconds here"))?;
        Ok(Night {
            program,
            prometheus,
            webhook,
            victim: hosts[victim].clone(),
            data: set.data(victim),
            config,
            _clients: clients,
            _alertmanager: alertmanager,
            _midwatch: midwatch,
            _set: set,
            folder,
        })
    }

    /// Half a minute of an ordinary night.
    async fn is_quiet(&self, say: Say<'_>) -> Result<()> {
        self.prometheus.wait_for(HELLO).await?;
        sleep(QUIET).await;
        let greetings = self.greetings().await?;
        tell(say, &format!("all is quiet. Nine of ten members' greetings (phase `hello`) come within {greetings}"))
    }

    /// Within which time nine of ten greetings came, at the victim and elsewhere.
    async fn greetings(&self) -> Result<String> {
        let mut samples = self.prometheus.query(HELLO).await?;
        let is_victim = |sample: &Sample| sample.labels.get("member") == Some(&self.victim);
        samples.sort_by_key(|sample| !is_victim(sample));
        let each: Vec<_> = samples.iter().map(|sample| format!("{:.1}", sample.value * 1000.0)).collect();
        let (victim, others) = each.split_first().map_or(("-", &[][..]), |(first, rest)| (first.as_str(), rest));
        Ok(format!("{victim} ms at {}, {} ms elsewhere", self.victim, others.join(" and ")))
    }

    fn start_backup(&self, hogged: usize) -> Result<Server> {
        let launch = Launch::new("the backup", &self.program)
            .args(["backup", "run", "nightly", "--node", &self.victim, "--config"])
            .arg(&self.config)
            .args(["--", "/bin/sh", "-c", BACKUP])
            .arg(&self.data)
            .arg(self.folder.path())
            .log(self.folder.path().join("backup.log"));
        launch.cpu(hogged).start()
    }

    /// Says what happens until somebody is told.
    async fn is_told(&self, say: Say<'_>) -> Result<Notice> {
        // What is said once, when the query has an answer for the first time.
        let running = format!("midwatch_backup_running{{node=\"{}\"}} == 1", self.victim);
        let slow = "midwatch:mongodb_hello_slow:p90_5m".to_owned();
        let state = |state| format!("ALERTS{{alertname=\"{ALERT}\",alertstate=\"{state}\"}}");
        let mut milestones = vec![
            (running, format!("midwatch knows of the backup: midwatch_backup_running at {} is 1", self.victim)),
            (slow, format!("{} is slow: three times as slow as the others, and more than 5 ms", self.victim)),
            (state("pending"), format!("{ALERT} is pending: slow, and a backup runs there")),
            (state("firing"), format!("{ALERT} fires")),
        ];
        let (end, mut next) = (Instant::now() + PATIENCE, Instant::now() + EVERY);
        loop {
            let mut left = Vec::new();
            for (query, text) in milestones {
                if self.prometheus.query(&query).await?.is_empty() {
                    left.push((query, text));
                } else {
                    tell(say, &text)?;
                }
            }
            milestones = left;
            let is_it = |notice: &Notice| {
                notice.is_firing && notice.label("alertname") == ALERT && notice.label("member") == self.victim
            };
            if let Some(notice) = self.webhook.notices().into_iter().find(is_it) {
                let to = &notice.receiver;
                tell(say, &format!("Alertmanager tells `{to}`, who own the probe, by webhook:"))?;
                return Ok(notice);
            }
            if Instant::now() >= end {
                let last = format!(
                    "greetings within {}. If all members are slow, something else uses this machine: try again when it is idle",
                    self.greetings().await?
                );
                return Err(Error::Late { what: format!("{ALERT} to be told"), seconds: PATIENCE.as_secs(), last });
            }
            if Instant::now() >= next {
                next += EVERY;
                tell(say, &format!("greetings: {}", self.greetings().await?))?;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// The backup ends, and with it the alert.
    async fn is_over(&self, backup: &Server, say: Say<'_>) -> Result<()> {
        let has_ended = || backup.check_alive().err().map(|_| ()).ok_or_else(|| "it runs".to_owned());
        until("the backup to end", DAWN, async || has_ended()).await?;
        tell(say, "the backup has ended")?;
        let firing = format!("ALERTS{{alertname=\"{ALERT}\",alertstate=\"firing\"}}");
        until("the alert to end", DAWN, async || match self.prometheus.query(&firing).await {
            Ok(samples) if samples.is_empty() => Ok(()),
            Ok(_) => Err("it fires".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        tell(say, &format!("{ALERT} is over: no backup runs any more"))
    }

    fn guide(&self, alerts: &Path) -> String {
        let told = self.webhook.notices();
        let others: Vec<_> =
            told.iter().map(|notice| notice.label("alertname")).filter(|name| *name != ALERT).collect();
        let others = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
        format!(
            "
Nobody had to compare the clock of a cron job with a graph of latencies: the alert has both names. Told besides: {others}.
MongoConnectionSlow, which says less, would fire three minutes later (here 18 s), and the example's inhibition holds it back.

Look at
  docs/runbooks/{ALERT}.md     what to do about it
  dashboards/mongodb.json                    backups as annotations over the heatmap of latencies
  {alerts}/mongodb.yml, {alerts}/alertmanager/   the rules and the routes
  docs/ALERTS.md                             how to make them your own
  make demo                                  the same without a story, until Ctrl-C

All that was started ends now.",
            alerts = alerts.display()
        )
    }
}

/// midwatch's configuration.
fn configuration(listen: &str, folder: &Path, hosts: &[String]) -> String {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    format!(
        "[server]\nlisten = \"{listen}\"\nstate_dir = \"{}\"\n\n\
         [probe.mongodb.orders]\nhosts = [{}]\nowner = \"databases\"\ninterval = \"500ms\"\ntimeout = \"490ms\"\n\n\
         [probe.backup.nightly]\nsource = \"exec\"\ntoken = {{ file = \"token\" }}\nowner = \"databases\"\ninterval = \"1s\"\n\
         timeout = \"900ms\"\n",
        folder.join("state").display(),
        hosts.join(", "),
    )
}

async fn wait_for_metrics(midwatch: &Server, address: &str) -> Result<()> {
    until("midwatch to answer /metrics", Duration::from_secs(30), async || {
        if let Err(error) = midwatch.check_alive() {
            return Ok(Err(error));
        }
        match http::get(address, "/metrics").await {
            Ok(answer) if answer.status == 200 => Ok(Ok(())),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?
}

/// Those who use the replica set. They stop when this is dropped.
struct Clients(JoinHandle<()>);

impl Clients {
    /// Fills the set with some megabytes, and goes on writing and reading.
    async fn start(set: &ReplicaSet, primary: usize) -> Result<Clients> {
        let orders = set.client(primary, None)?.database("shop").collection::<Document>("orders");
        orders.insert_many((0..2_000).map(order)).await?;
        Ok(Clients(tokio::spawn(use_up(orders))))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn order(number: i64) -> Document {
    // Text that takes a compressor some work.
    doc! { "number": number, "text": format!("{:x}", number.wrapping_mul(0x9e37_79b9)).repeat(100) }
}

async fn use_up(orders: Collection<Document>) {
    for number in 2_000.. {
        // What fails once is tried again with the next order.
        let _ = orders.insert_one(order(number)).await;
        let _ = orders.find_one(doc! { "number": number / 2 }).await;
        sleep(Duration::from_millis(20)).await;
    }
}
