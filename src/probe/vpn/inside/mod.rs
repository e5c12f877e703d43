//! What is asked through the tunnel: echoes, connections, a page, a name.

mod dns;
mod http;
pub(super) mod icmp;
mod interface;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use self::dns::Lookup;
use self::http::Page;
pub(super) use self::interface::Interface;
use super::knock::Knock;
use super::metrics;
use crate::probe::{Failure, Reason};
use crate::settings::{Endpoint, Invalid, Item, Section, Value};

pub use self::dns::judge as judge_dns;
pub use self::http::judge as judge_http;

/// The most echoes of a run to one target.
const MAX_ECHOES: u32 = 100;
/// The most targets of a probe.
const MAX_TARGETS: usize = 50;
const DNS_PORT: u16 = 53;

/// A target inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Inside {
    pub(super) check: Check,
    /// What it is called in series: `icmp 10.88.0.1`.
    pub(super) label: String,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::probe::vpn) enum Check {
    /// Echoes; one that is answered is success, the others are loss.
    Icmp { to: IpAddr, count: u32 },
    /// A connection.
    Tcp(SocketAddr),
    /// A page.
    Http(Page),
    /// A name.
    Dns(Lookup),
}

/// What is said of a server inside that takes a connection and then says nothing: the way there is good.
pub(super) const NO_ANSWER: &str = "it took the connection, and then no answer came";

/// What was made of the bytes that have arrived so far.
pub enum Heard {
    /// It is not all yet.
    More,
    /// It is what was expected, or not.
    All(Result<(), Failure>),
}

/// When the parts of a conversation happened, from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The handshake of the connection.
    pub(super) connect: Duration,
    /// From the connection to the first byte of the answer; nothing where nothing was asked.
    pub(super) answer: Option<Duration>,
}

/// A way inside. All of it ends at `until`, which the caller sees to by dropping the future.
pub(super) trait Way: Sync {
    /// One ICMP echo: the round trip.
    ///
    /// # Errors
    /// `unreachable` or `refused` if a router or the host said so.
    fn echo(&self, to: IpAddr, until: Instant) -> impl Future<Output = Result<Duration, Failure>> + Send;

    /// A TCP connection over which `say` is said, if it is not empty, and that is closed when `listen` has heard all.
    ///
    /// # Errors
    /// Why there is no connection, `closed` if it ended too soon, and what `listen` says.
    fn converse(
        &self,
        to: SocketAddr,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        until: Instant,
    ) -> impl Future<Output = Result<Times, Failure>> + Send;

    /// A UDP packet and its answer: the round trip. Packets for which `listen` says `More` are not the answer.
    ///
    /// # Errors
    /// `refused` or `unreachable`, and what `listen` says.
    fn question(
        &self,
        to: SocketAddr,
        say: &[u8],
        listen: &(dyn Fn(&[u8]) -> Heard + Sync),
        until: Instant,
    ) -> impl Future<Output = Result<Duration, Failure>> + Send;

    /// When all is done: whether what was sent took this way, with how many packets were meant to.
    ///
    /// # Errors
    /// `wrong_interface` if it did not.
    fn prove(&self) -> Result<(), Failure>;
}

/// Asks all targets one after the other, each with an equal share of the time left.
///
/// # Errors
/// The first failure; what a target does not answer at all is `data_plane_timeout`.
pub(super) async fn ask<W: Way>(knock: &Knock<'_>, way: &W, targets: &[Inside]) -> Result<(), Failure> {
    let stage = knock.stage(metrics::INSIDE);
    let mut first = Ok(());
    for (place, target) in targets.iter().enumerate() {
        let left = u32::try_from(targets.len() - place).unwrap_or(u32::MAX);
        let until = Instant::now() + knock.time_left() / left;
        let result = one(knock, way, target, until).await;
        knock.inside_verdict(&target.label, &result);
        if let Err(failure) = result {
            let told = Failure::new(failure.reason, format!("{} inside: {}", target.label, failure.detail));
            first = first.and(Err(told));
        }
    }
    // Of packets that went elsewhere, silence says nothing.
    let is_silent = |failure: &Failure| failure.reason == Reason::DataPlaneTimeout;
    let result = match (first, way.prove()) {
        (Ok(()), proof) => proof,
        (Err(failure), Err(proof)) if is_silent(&failure) => Err(proof),
        (Err(failure), _) => Err(failure),
    };
    match result {
        Ok(()) => {
            stage.done();
            Ok(())
        }
        Err(failure) => Err(stage.fail(failure)),
    }
}

async fn one<W: Way>(knock: &Knock<'_>, way: &W, target: &Inside, until: Instant) -> Result<(), Failure> {
    let silent = || Failure::new(Reason::DataPlaneTimeout, "nothing came back through the tunnel");
    let told = |time: Duration| {
        knock.inside_round_trip(&target.label, time);
        knock.note(format!("{} in {:.3} ms", target.label, time.as_secs_f64() * 1e3));
    };
    match &target.check {
        Check::Icmp { to, count } => echoes(knock, way, (&target.label, *to, *count), until).await,
        Check::Tcp(to) => {
            let talk = way.converse(*to, &[], &|_| Heard::All(Ok(())), until);
            let times = timeout_at(until, talk).await.map_err(|_| silent())??;
            told(times.connect);
            Ok(())
        }
        Check::Http(page) => {
            let request = page.request();
            let listen = |bytes: &[u8]| http::judge(bytes, page.status());
            let talk = way.converse(page.to(), request.as_bytes(), &listen, until);
            let times = timeout_at(until, talk).await.map_err(|_| silent())??;
            told(times.answer.unwrap_or(times.connect));
            Ok(())
        }
        Check::Dns(lookup) => {
            for attempt in 0..knock.attempts {
                let now = Instant::now();
                let share = now + until.saturating_duration_since(now) / (knock.attempts - attempt);
                let (id, query) = lookup.query()?;
                let listen = |bytes: &[u8]| dns::judge(bytes, id);
                if let Ok(answer) = timeout_at(share, way.question(lookup.server(), &query, &listen, share)).await {
                    told(answer?);
                    return Ok(());
                }
            }
            Err(silent())
        }
    }
}

/// Echoes one after the other. What one does not use of its share of the time is left to those after it.
async fn echoes<W: Way>(
    knock: &Knock<'_>,
    way: &W,
    (label, to, count): (&str, IpAddr, u32),
    until: Instant,
) -> Result<(), Failure> {
    let mut failure =
        Failure::new(Reason::DataPlaneTimeout, format!("none of {count} echoes came back through the tunnel"));
    let mut times = Vec::new();
    for turn in 0..count {
        let now = Instant::now();
        let share = now + until.saturating_duration_since(now) / (count - turn);
        let result = timeout_at(share, way.echo(to, share)).await;
        knock.sent(metrics::INSIDE, matches!(result, Ok(Ok(_))));
        match result {
            Ok(Ok(time)) => {
                times.push(time);
                knock.inside_round_trip(label, time);
            }
            // What this machine lacks, it will lack for the next echo.
            Ok(Err(own)) if own.reason == Reason::Local => return Err(own),
            Ok(Err(told)) => failure = told,
            Err(_) => {}
        }
    }
    let Some(shortest) = times.iter().min() else { return Err(failure) };
    let longest = times.iter().max().unwrap_or(shortest);
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let answered = times.len();
    knock.note(format!("{label}: {answered} of {count} echoes in {:.3} to {:.3} ms", ms(shortest), ms(longest)));
    Ok(())
}

impl Inside {
    /// Whom it asks.
    pub(super) fn ip(&self) -> IpAddr {
        match &self.check {
            Check::Icmp { to, .. } => *to,
            Check::Tcp(to) => to.ip(),
            Check::Http(page) => page.to().ip(),
            Check::Dns(lookup) => lookup.server().ip(),
        }
    }

    /// Reads the key `inside`: an array of tables.
    pub(super) fn read_all(section: &mut Section<'_>) -> Option<Vec<Self>> {
        let all = section.sections("inside", Self::read)?;
        if all.len() > MAX_TARGETS {
            section.problem(Some("inside"), format!("`inside`: expected at most {MAX_TARGETS} targets"));
        }
        for (place, target) in all.iter().enumerate() {
            if all.iter().take(place).any(|other| other.label == target.label) {
                section.problem(Some("inside"), "`inside`: names a target twice");
                break;
            }
        }
        Some(all)
    }

    fn read(section: &mut Section<'_>) -> Option<Self> {
        let icmp = section.optional::<Ip>("icmp");
        let count = section.checked("count", |count| {
            if (1..=MAX_ECHOES).contains(count) { Ok(()) } else { Err(format!("must be from 1 to {MAX_ECHOES}")) }
        });
        let tcp = section.optional::<Address>("tcp");
        let page = Page::read(section);
        let lookup = Lookup::read(section);
        let kinds = ["icmp", "tcp", "http", "dns"];
        if kinds.iter().filter(|key| section.has(key)).count() != 1 {
            section.problem(None, "expected exactly one of `icmp`, `tcp`, `http` and `dns`");
            return None;
        }
        if section.has("count") && !section.has("icmp") {
            section.problem(Some("count"), "`count`: has a meaning only with `icmp`");
        }
        let icmp = icmp.map(|Ip(to)| (Check::Icmp { to, count: count.unwrap_or(1) }, format!("icmp {to}")));
        let tcp = tcp.map(|Address(to)| (Check::Tcp(to), format!("tcp {to}")));
        let page = page.map(|page| (Check::Http(page.clone()), format!("http {}", page.label())));
        let lookup = lookup.map(|lookup| (Check::Dns(lookup.clone()), format!("dns {}", lookup.label())));
        let (check, label) = icmp.or(tcp).or(page).or(lookup)?;
        Some(Self { check, label })
    }
}

/// An address inside; names are not looked up, because the outer network's name servers know nothing of it.
struct Ip(IpAddr);

impl Value for Ip {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let text = item.text("an IP address")?;
        text.parse().map(Self).map_err(|_| Invalid::new("expected an IP address; names inside are not looked up"))
    }
}

/// The same with a port.
struct Address(SocketAddr);

impl Value for Address {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let text = item.text("an IP address with a port")?;
        let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
        address.map(Self).ok_or_else(|| Invalid::new("expected an IP address with a port, such as \"10.8.0.1:22\""))
    }
}

/// The same with a port that may be left out.
fn with_port(endpoint: &Endpoint<DNS_PORT>) -> Option<SocketAddr> {
    endpoint.0.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, endpoint.0.port))
}
