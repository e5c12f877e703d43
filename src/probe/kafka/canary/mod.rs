//! Sends records through every broker that leads a partition of its topic, and waits for them to come back: what a client
//! of the cluster would see, by broker.
//!
//! Built on librdkafka, because a canary must behave like a client: batches, idempotence, leaders that move, logins. One
//! record for each partition and run; the run waits for them as long as `sla` allows. What comes later is accounted for all
//! the same, because the clients work beside the runs, see [`session`]. All times are of the monotonic clock.
//!
//! The time of a connection is taken with sockets of our own ([`connect`]): librdkafka has one connection to a broker and
//! keeps it, so it cannot say what a new one takes.

mod books;
mod clients;
mod config;
mod connect;
mod errors;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod metrics;
mod payload;
mod session;
#[cfg(test)]
mod tests;
mod topic;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout, timeout_at};

use self::books::{LiveSlot, Sent};
use self::config::{Config, Manage};
use self::metrics::{AVAILABLE, CONNECT_LATENCY, start_counters};
use self::session::Session;
use self::view::{Partition, State, View};
use crate::metrics::{Desc, Live, Recorder, Target};
use crate::probe::kafka::client::connect::Dialer;
use crate::probe::{Cycle, Failure, Probe, Reason, Shared};
use crate::settings::HostPort;

/// The probe type `kafka_canary`.
pub(in crate::probe) struct KafkaCanary {
    config: Arc<Config>,
    dialer: Arc<Dialer>,
    live: LiveSlot,
    session: Mutex<Option<Arc<Session>>>,
    memory: Arc<Mutex<Memory>>,
}

/// What is remembered from run to run, and by the probe that takes this one's place.
#[derive(Debug, Default)]
struct Memory {
    /// The brokers that have series, each with the address that it advertised last.
    brokers: BTreeMap<i32, Option<HostPort>>,
    /// Whether a run has waited for the consumer before: later ones go on with what is there.
    settled: bool,
}

impl Probe for KafkaCanary {
    const TYPE: &'static str = "kafka_canary";
    const METRICS: &'static [&'static Desc] = metrics::ALL;
    const REASONS: &'static [Reason] = &[
        Reason::Resolve,
        Reason::Refused,
        Reason::Unreachable,
        Reason::Closed,
        Reason::Tls,
        Reason::Certificate,
        Reason::Auth,
        Reason::Protocol,
        Reason::Rejected,
        Reason::NotPrimary,
        Reason::Overload,
        Reason::Local,
    ];
    type Config = Config;

    fn new(config: &Arc<Config>, shared: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        let dialer = Arc::new(Dialer::new(&config.access, &shared.net)?);
        let live = previous.map(|previous| Arc::clone(&previous.live)).unwrap_or_default();
        let brokers = previous.map(|previous| previous.memory().brokers.clone()).unwrap_or_default();
        let memory = Arc::new(Mutex::new(Memory { brokers, settled: false }));
        Ok(Self { config: Arc::clone(config), dialer, live, session: Mutex::default(), memory })
    }

    async fn run(&self, _cycle: Cycle, rec: &mut Recorder) -> Result<(), Failure> {
        let rec = &*rec;
        let session = self.session()?;
        let view = self.view(&session).await?;
        if view.partitions.is_empty() {
            let none = || Failure::new(Reason::Rejected, "the topic has no partitions");
            return Err(view.problem.clone().unwrap_or_else(none));
        }
        let everyone = view.everyone();
        self.remember(&view, &everyone, rec);
        let reading = session.state().borrow().reading.clone();
        let visits = everyone.iter().map(|broker| {
            Visit { canary: self, session: &session, view: &view, reading: &reading, rec, broker: *broker }.run()
        });
        visits.collect::<FuturesUnordered<_>>().collect::<()>().await;
        Ok(())
    }

    async fn serve(&self, live: Live) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
        std::future::pending::<()>().await;
    }

    fn expected(&self, label: &str) -> Vec<String> {
        match label {
            "broker" | "target" => self.memory().brokers.keys().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }
}

impl KafkaCanary {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that runs, or a new one.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut current = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = current.as_ref().filter(|session| !session.state().borrow().over) {
            return Ok(Arc::clone(session));
        }
        let session = Session::start(&self.config, &self.dialer, &self.live)?;
        let session = Arc::new(session);
        *current = Some(Arc::clone(&session));
        self.memory().settled = false;
        Ok(session)
    }

    /// What the session knows of the cluster. The first run of a session waits until the consumer reads all that can be
    /// read, so that nothing is sent that it would miss.
    async fn view(&self, session: &Session) -> Result<Arc<View>, Failure> {
        let deadline = Instant::now() + self.config.sla;
        let mut states = session.state();
        let settled = self.memory().settled;
        let is_ready = |state: &State| {
            // A topic that is just being created is worth waiting for.
            let is_missing = state.view.as_ref().is_some_and(|view| view.problem.is_some());
            let is_hopeless = is_missing && self.config.manage == Manage::None;
            state.over || state.is_complete() || (settled && state.view.is_some()) || is_hopeless
        };
        let ready = async {
            let _ = timeout_at(deadline, states.wait_for(is_ready)).await;
        };
        let unreachable = connect::despair(&self.dialer, &self.config.access.bootstrap, deadline);
        tokio::select! {
            biased;
            () = ready => {}
            failure = unreachable => return Err(failure),
        }
        let state = session.state().borrow().clone();
        if state.over {
            return Err(state.problem.unwrap_or_else(|| Failure::new(Reason::Internal, "the session ended")));
        }
        match (state.view, state.problem) {
            (Some(view), _) => {
                self.memory().settled |= !view.partitions.is_empty();
                Ok(view)
            }
            (None, Some(problem)) => Err(problem),
            (None, None) => {
                let words = format!("the cluster did not answer within {:?}", self.config.sla);
                Err(Failure::new(Reason::Timeout, words))
            }
        }
    }

    /// Remembers who there is, and forgets who is no part of the cluster any more.
    fn remember(&self, view: &View, everyone: &BTreeSet<i32>, rec: &Recorder) {
        let mut memory = self.memory();
        let gone: Vec<i32> = memory.brokers.keys().filter(|id| !everyone.contains(id)).copied().collect();
        for id in gone {
            memory.brokers.remove(&id);
            rec.forget(&["broker"], &id.to_string());
        }
        for id in everyone {
            let known = memory.brokers.entry(*id).or_default();
            if let Some(address) = view.brokers.get(id) {
                *known = Some(address.clone());
            }
        }
    }
}

/// What a run does with one broker.
struct Visit<'v> {
    canary: &'v KafkaCanary,
    session: &'v Session,
    view: &'v View,
    reading: &'v BTreeSet<i32>,
    rec: &'v Recorder,
    broker: i32,
}

impl Visit<'_> {
    async fn run(self) {
        let label = self.broker.to_string();
        let target = self.rec.target(&label);
        start_counters(self.rec, &label);
        let partitions: Vec<_> = self.view.of(self.broker).collect();
        let is_up = self.view.brokers.contains_key(&self.broker);
        let is_judged = !partitions.is_empty() || !is_up;
        if is_judged {
            // Until the run knows better: it may be cut off before it does.
            self.rec.set(&AVAILABLE, [&label], 0.0);
        }
        let (connected, delivered) = join(self.connect(&target, &label), self.deliver(&target, &partitions)).await;
        if is_judged && is_up && connected.is_ok() && delivered.is_ok() {
            self.rec.set(&AVAILABLE, [&label], 1.0);
        }
        if partitions.is_empty() {
            target.note("leads no partition of the topic");
        }
        let listed = if is_up {
            Ok(())
        } else {
            Err(Failure::new(Reason::Unreachable, "the cluster does not list the broker as up"))
        };
        // Why a broker cannot be reached says more than that nothing came back from it.
        target.finish(connected.and(delivered).and(listed));
    }

    async fn connect(&self, target: &Target, label: &str) -> Result<(), Failure> {
        let address = self.canary.memory().brokers.get(&self.broker).cloned().flatten();
        let Some(address) = address else { return Ok(()) };
        let sla = self.canary.config.sla;
        let attempt = async {
            let silent = |_| Failure::new(Reason::Timeout, format!("{address} does not answer within {sla:?}"));
            timeout(sla, connect::connect(&self.canary.dialer, &address)).await.map_err(silent)?
        };
        let took = target.phase("connect").run(attempt).await?;
        self.rec.observe(&CONNECT_LATENCY, [label], took.as_secs_f64());
        Ok(())
    }

    /// Sends a record to each of the partitions and waits for all of them.
    async fn deliver(&self, target: &Target, partitions: &[&Partition]) -> Result<(), Failure> {
        let sent: Vec<_> = partitions.iter().map(|partition| self.send(partition)).collect();
        let waits = sent.into_iter().map(|sent| async { self.wait(target, sent?).await });
        let results: Vec<_> = waits.collect::<FuturesUnordered<_>>().collect().await;
        results.into_iter().collect()
    }

    fn send(&self, partition: &Partition) -> Result<Sent, Failure> {
        let id = partition.id;
        if partition.leader.is_none() {
            return Err(Failure::new(Reason::NotPrimary, format!("partition {id} has no leader")));
        }
        if !self.reading.contains(&id) {
            return Err(Failure::new(Reason::Timeout, format!("partition {id} cannot be read yet")));
        }
        self.session.send(id, self.broker)
    }

    async fn wait(&self, target: &Target, mut sent: Sent) -> Result<(), Failure> {
        let (sla, partition) = (self.canary.config.sla, sent.id.partition);
        let deadline = sent.at + sla;
        let over = |what: &str| Failure::new(Reason::Timeout, format!("partition {partition}: {what} within {sla:?}"));
        let gone = || Failure::new(Reason::Internal, "the session ended");
        let produce = async {
            let phase = target.phase("produce");
            match timeout_at(deadline, &mut sent.ack).await {
                Ok(Ok(Ok(took))) => {
                    phase.done_in(took);
                    return Ok(());
                }
                Ok(Ok(Err(failure))) => Err(failure),
                Ok(Err(_)) => Err(gone()),
                Err(_) => Err(over("not acknowledged")),
            }
            .inspect_err(|failure| phase.fail(failure))
        };
        let consume = async {
            let phase = target.phase("end_to_end");
            match timeout_at(deadline, &mut sent.sight).await {
                Ok(Ok(took)) => {
                    phase.done_in(took);
                    return Ok(());
                }
                Ok(Err(_)) => Err(gone()),
                Err(_) => Err(over("did not come back")),
            }
            .inspect_err(|failure| phase.fail(failure))
        };
        let (produced, consumed) = join(produce, consume).await;
        produced.and(consumed)
    }
}
