//! Backups: how long, how big, how late, on which node.
//!
//! A job has a source that tells runs. What it tells goes through the books of the job, which count each run once, and
//! the books of all jobs are kept in the ledger, which survives restarts. A cycle reads the source, enters what is new, judges the
//! schedule, and shows all that the books say, also if the source could not be read: then nothing of it has changed.

mod books;
mod clerk;
mod clocks;
mod collect;
mod config;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod held;
mod ledger;
mod metrics;
mod push;
mod report;
mod runs;
mod schedule;
mod show;
mod source;
pub mod spool;
pub mod told;

#[cfg(feature = "kubernetes")]
pub use source::kubernetes_fuzz;

#[cfg(feature = "mongodb")]
pub use self::source::pbm::fuzz as pbm_fuzz;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use self::config::is_node;

use self::books::{Books, Counted, Event};
use self::clerk::Clerk;
use self::clocks::{Clocks, Trust};
use self::config::Config;
use self::held::Held;
use self::ledger::{Files, Ledger, Unwritten};
use self::runs::Seen;
use self::source::{Look, Source};
use super::{BoxFuture, Cycle, Elsewhere, Failure, OnFailure, Probe, Reason, Shared, State};
use crate::metrics::{Desc, Live, Recorder};
use crate::settings::{Secret, Section, Settings as _};
use crate::sync::lock;

/// The name of the probe type.
pub const KIND: &str = "backup";

/// The probe type `backup`.
pub(super) struct Backup {
    config: Arc<Config>,
    state: State,
    ledger: Arc<Ledger>,
    source: Source,
    memory: Arc<Mutex<Memory>>,
}

/// What is remembered from run to run, and is no part of the books.
#[derive(Default)]
struct Memory {
    /// What the source held when it was read last, also before a restart; its runs are in the books.
    held: Option<Seen>,
    /// Whether the last reading succeeded; `None` before there was one.
    is_up: Option<bool>,
    /// What was counted and has not been recorded yet.
    counted: Vec<Counted>,
    /// When the last reading began that succeeded, in unix seconds.
    heard: f64,
    /// Both clocks as the schedule was judged last.
    clocks: Clocks,
}

impl Memory {
    /// Takes what the source held from the books, as long as it has not been read, and if it is the one that they were kept of.
    fn remember(&mut self, books: &Books, source: &str) {
        if self.held.is_none() && books.are_of(source) {
            self.held = books.held().map(|(_, held)| held.seen());
        }
    }
}

/// The cycle that reads a source which is expensive to read.
const LISTING: &str = "listing";

impl Probe for Backup {
    const TYPE: &'static str = KIND;
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
        Reason::Mismatch,
        Reason::NotPrimary,
        Reason::Overload,
        Reason::Local,
    ];
    type Config = Config;

    fn new(config: &Arc<Config>, shared: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        let source = Source::new(&config.source, &config.job, shared)?;
        let of_the_same = previous.filter(|previous| previous.config.source == config.source);
        let memory = of_the_same.map_or_else(Arc::default, |previous| Arc::clone(&previous.memory));
        let (state, ledger) = (shared.state.clone(), Ledger::of(shared));
        Ok(Self { config: Arc::clone(config), state, ledger, source, memory })
    }

    fn cycles(&self) -> Vec<Cycle> {
        let main = Cycle::MAIN.on_failure(OnFailure::Freeze);
        let listing = self
            .config
            .source
            .pace()
            .map(|pace| Cycle::named(LISTING).every(pace.interval).soon().within(pace.timeout));
        listing.into_iter().chain([main]).collect()
    }

    async fn run(&self, cycle: Cycle, rec: &mut Recorder) -> Result<(), Failure> {
        let rec = &*rec;
        let is_listing = cycle.name == LISTING;
        let read = if is_listing || self.config.source.pace().is_none() { self.read(rec).await } else { Ok(()) };
        if is_listing {
            return read;
        }
        let judged = self.commit(|job: &Job<'_>| job.judge()).await;
        self.show(rec, &judged);
        read.and(judged)
    }

    async fn serve(&self, _live: Live) {
        match &self.source {
            // What is told is entered at once, not when a cycle is due.
            Source::Exec(told) | Source::Push(told) => told.listen(&self.clerk()).await,
            source => source.serve().await,
        }
    }

    fn refer(&self, to: &Elsewhere) -> Option<BoxFuture<'static, ()>> {
        match &self.source {
            Source::Exec(told) | Source::Push(told) => Some(told.refer(&self.config.job, &self.state, to)),
            _ => None,
        }
    }

    fn concerns(&self) -> Vec<String> {
        let state = self.state.dir().is_none().then(|| {
            "there is no state directory: runs that end while midwatch is down are not counted, and a restart forgets what it was told"
                .to_owned()
        });
        state.into_iter().chain(self.source.concerns()).collect()
    }

    fn story(&self) -> String {
        self.ledger.read(&self.state, &self.config.job, |books| {
            let mut memory = lock(&self.memory);
            memory.remember(books, self.config.history());
            report::job(&self.config, books, memory.held.as_ref(), now())
        })
    }
}

impl Backup {
    fn clerk(&self) -> Clerk {
        let (config, state) = (Arc::clone(&self.config), self.state.clone());
        Clerk { config, state, ledger: Arc::clone(&self.ledger), memory: Arc::clone(&self.memory) }
    }

    /// Reads the source and enters what it tells.
    async fn read(&self, rec: &Recorder) -> Result<(), Failure> {
        // What is left is for entering and showing it.
        let ends = Instant::now() + rec.time_left() * 9 / 10;
        let open = self.open().await;
        let look = Look { now: now(), ends, open: &open };
        let late = |_| Failure::new(Reason::Timeout, "the source was not read in time");
        let read = async {
            let mut seen = self.source.read(look).await?;
            if self.config.source.told().is_some() {
                seen.notes.extend(self.collect().await?);
            }
            Ok(seen)
        };
        let seen = tokio::time::timeout_at(ends, read).await.map_err(late).and_then(|read| read);
        lock(&self.memory).is_up = Some(seen.is_ok());
        let mut seen = seen?;
        for run in &mut seen.runs {
            *run = std::mem::take(run).plausible(look.now);
            if run.node.is_none() {
                run.node.clone_from(&self.config.node);
            }
        }
        let heard = look.now;
        self.commit(move |job| {
            let events = job.heard(&seen);
            let mut memory = lock(job.memory);
            (memory.held, memory.heard) = (Some(Seen { runs: Vec::new(), ..seen }), heard);
            events
        })
        .await
    }

    /// Enters what waits in the spool. Returns what a person should know of it.
    async fn collect(&self) -> Result<Vec<String>, Failure> {
        let clerk = self.clerk();
        self.ledger.beside(Files::Spool, move || collect::collect(&clerk)).await?
    }

    /// The ids of the runs that go on, beside the runtime: the ledger reads a file at first.
    async fn open(&self) -> Vec<String> {
        let (ledger, state, config) = (Arc::clone(&self.ledger), self.state.clone(), Arc::clone(&self.config));
        let ids = |books: &Books| books.open().map(|run| run.id.clone()).collect();
        let read = move || ledger.read(&state, &config.job, ids);
        self.ledger.beside(Files::Journal, read).await.unwrap_or_default()
    }

    /// Enters what `plan` finds, beside the runtime: the ledger writes to a disk.
    async fn commit(&self, plan: impl FnOnce(&Job<'_>) -> Vec<Event> + Send + 'static) -> Result<(), Failure> {
        let (ledger, state) = (Arc::clone(&self.ledger), self.state.clone());
        let (config, memory) = (Arc::clone(&self.config), Arc::clone(&self.memory));
        let commit = move || {
            let plan = |books: &Books| {
                lock(&memory).remember(books, config.history());
                plan(&Job { books, config: &config, memory: &memory, now: now() })
            };
            let entered = ledger.commit(&state, &config.job, Unwritten::Enter, plan);
            entered.and_then(|(counted, written)| {
                lock(&memory).counted.extend(counted);
                written
            })
        };
        let done = self.ledger.beside(Files::Journal, commit).await?;
        done.map_err(|error| Failure::new(Reason::Local, format!("the state directory cannot be written: {error}")))
    }

    /// Records all that is known.
    fn show(&self, rec: &Recorder, written: &Result<(), Failure>) {
        let mut memory = lock(&self.memory);
        let schedule = self.config.schedule(memory.held.as_ref());
        self.ledger.read(&self.state, &self.config.job, |books| {
            show::books(rec, &self.config, books, (schedule.as_ref(), now()));
        });
        show::counted(rec, &std::mem::take(&mut memory.counted));
        if let Some(held) = &memory.held {
            show::holdings(rec, held);
        }
        if let Some(is_up) = memory.is_up {
            rec.set(&metrics::SOURCE_UP, [], show::flag(is_up));
        }
        rec.set(&metrics::STATE_WRITABLE, [], show::flag(written.is_ok() && self.state.own_dir().is_some()));
        // Whatever else the run comes to: what is not shown any more is no more.
        rec.complete();
    }
}

/// Why the journal of backups cannot be read, although there is one; known once a job's [story](Probe::story) has been told.
pub fn unread(shared: &Shared) -> Option<String> {
    Ledger::of(shared).unread()
}

/// What the configuration of a job says to those who tell of its runs.
#[derive(Debug)]
pub struct Sender {
    /// Where its runs are.
    pub node: Option<String>,
    /// What a message over HTTP shows; `None` if there is none, or it cannot be read.
    pub token: Option<Secret>,
    /// Whether its runs are told at all, and not looked up.
    pub takes_messages: bool,
}

/// Reads that of `[probe.backup.<job>]`. `None` if it is none that can be used.
pub fn sender(section: &mut Section<'_>) -> Option<Sender> {
    let config = Config::read(section)?;
    let told = config.source.told();
    let token = told.and_then(|told| told.token.clone()).filter(|token| !token.is_placeholder());
    Some(Sender { node: config.node, token, takes_messages: told.is_some() })
}

/// A job as plans are made for it.
struct Job<'j> {
    books: &'j Books,
    config: &'j Config,
    memory: &'j Mutex<Memory>,
    /// By the wall clock, in unix seconds.
    now: f64,
}

impl Job<'_> {
    /// What a reading of the source means.
    fn heard(&self, seen: &Seen) -> Vec<Event> {
        let (was_suspended, is_sure) = {
            let memory = lock(self.memory);
            let was_suspended = memory.held.as_ref().is_some_and(|held| held.is_suspended);
            (was_suspended, memory.clocks.trusts(self.now, Instant::now()))
        };
        let set_back = self.books.ahead(self.now).filter(|_| is_sure);
        let first = self.books.sourced(self.config.history(), self.now).into_iter().chain(set_back);
        let mut events = self.books.after(first, |books| books.plan(seen, (self.now, is_sure), self.config.longest));
        // What was due while nobody wanted it is not judged once somebody does again.
        events.extend(self.books.skip(self.now).filter(|_| was_suspended && !seen.is_suspended));
        let held = Held::of(seen);
        if held.is_due(self.books.held().map(|(at, known)| (self.now - at, known))) {
            events.push(Event::Held { at: self.now, held: Box::new(held) });
        }
        events
    }

    /// The verdict on due times, unless it cannot be known just now: the source is not read, or the clock was set.
    fn judge(&self) -> Vec<Event> {
        let mut memory = lock(self.memory);
        let schedule = self.config.schedule(memory.held.as_ref());
        let is_suspended = memory.held.as_ref().is_some_and(|held| held.is_suspended);
        let hold = Duration::from_secs_f64(self.config.grace.clamp(30.0, 3600.0));
        let trust = memory.clocks.look(self.now, Instant::now(), hold);
        let set_back = self.books.ahead(self.now).filter(|_| trust == Trust::Sure);
        let judge = |books: &Books| {
            let schedule = schedule.as_ref()?;
            match trust {
                Trust::Jumped => books.skip(self.now),
                Trust::Sure if memory.is_up == Some(true) => books.judge(schedule, self.now, memory.heard),
                Trust::Sure | Trust::Unsure => None,
            }
        };
        let excused = |event| match event {
            // Nobody wanted those runs.
            Event::Judged { until, .. } if is_suspended => Event::Judged { until, missed: 0 },
            event => event,
        };
        self.books.after(set_back, |books| judge(books).map(excused).into_iter().collect())
    }
}

/// The wall clock, in unix seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
