//! One visit to one address: what protocols and targets inside record of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::budget;
use super::config::Config;
use super::metrics::{self, Ignored, Reply};
use crate::metrics::{Phase, Recorder, Target};
use crate::probe::net::{CertInfo, Clock};
use crate::probe::{Failure, Reason};
use crate::sync::lock;

/// A visit to one address.
pub(super) struct Knock<'r> {
    rec: &'r Recorder,
    target: &'r Target,
    /// The label of everything that is recorded.
    name: &'r str,
    /// The server as it was configured: the name that certificates are for.
    pub(super) host: &'r str,
    /// Where to knock.
    pub(super) address: SocketAddr,
    /// How many times a packet is sent that nobody answers.
    pub(super) attempts: u32,
    window: usize,
    ends: Instant,
    losses: &'r Losses,
    notes: Mutex<String>,
    /// How many packets were not taken for an answer, in the order of [`Ignored::ALL`]. Counted here, because a flood of them must
    /// not fill the recorder.
    ignored: [AtomicU64; Ignored::ALL.len()],
}

impl<'r> Knock<'r> {
    /// A visit that has until the end of the run.
    pub(super) fn new(
        (rec, target): (&'r Recorder, &'r Target),
        (name, host, address): (&'r str, &'r str, SocketAddr),
        config: &Config,
        losses: &'r Losses,
    ) -> Self {
        rec.start(&metrics::IGNORED, &[name]);
        rec.start(&metrics::CLOCK, &[name]);
        rec.add(&metrics::RETRIES, [name], 0.0);
        losses.know(name);
        let ends = Instant::now() + rec.time_left();
        let (attempts, window) = (config.attempts, config.loss_window);
        Self {
            rec,
            target,
            name,
            host,
            address,
            attempts,
            window,
            ends,
            losses,
            notes: Mutex::default(),
            ignored: Default::default(),
        }
    }

    /// The same visit with another end.
    pub(super) fn until(mut self, ends: Instant) -> Self {
        self.ends = ends;
        self
    }

    /// How much time is left.
    pub(super) fn time_left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Begins a stage; its end is observed, and whether it went well.
    pub(super) fn stage(&self, name: &'static str) -> Stage<'_> {
        Stage { knock: self, name, phase: Some(self.target.phase(name)) }
    }

    /// Waits until the server's [budget] has room for one more packet that costs it memory.
    ///
    /// # Errors
    /// `rate_limited` if that would take longer than there is time.
    pub(super) async fn permit(&self, rule: budget::Rule) -> Result<(), Failure> {
        budget::permit(self.address, rule, self.ends).await
    }

    /// Counts a packet that was sent to be answered, and whether it was.
    pub(super) fn sent(&self, stage: &'static str, is_answered: bool) {
        self.rec.add(&metrics::SENT, [self.name, stage], 1.0);
        self.rec.add(&metrics::LOST, [self.name, stage], f64::from(u8::from(!is_answered)));
        let ratio = self.losses.count((self.name, stage), is_answered, self.window);
        self.rec.set(&metrics::LOSS_RATIO, [self.name, stage], ratio);
    }

    /// Counts a packet that is sent again.
    pub(super) fn retried(&self) {
        self.rec.add(&metrics::RETRIES, [self.name], 1.0);
    }

    /// Begins to count, at 0, what the server may answer with.
    pub(super) fn expects(&self, replies: &[Reply]) {
        for reply in replies {
            self.rec.add(&metrics::REPLIES, [self.name, reply.label()], 0.0);
        }
    }

    /// Counts what the server answered with.
    pub(super) fn replied(&self, reply: Reply) {
        self.rec.add(&metrics::REPLIES, [self.name, reply.label()], 1.0);
    }

    /// Counts a packet that is not taken for an answer.
    pub(super) fn ignored(&self, why: Ignored) {
        if let Some(count) =
            Ignored::ALL.iter().zip(&self.ignored).find_map(|(each, count)| (*each == why).then_some(count))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts whose clock timed a round trip.
    pub(super) fn timed(&self, clock: Clock) {
        self.rec.add(&metrics::CLOCK, [self.name, clock.label()], 1.0);
    }

    /// Shows the server's certificate.
    pub(super) fn certificate(&self, leaf: &CertInfo) {
        #[allow(clippy::cast_precision_loss, reason = "a time in seconds")]
        self.rec.set(&metrics::CERTIFICATE_EXPIRY, [self.name], leaf.not_after as f64);
    }

    /// Shows which version of TLS was agreed on.
    pub(super) fn tls_version(&self, version: &str) {
        self.rec.set(&metrics::TLS_INFO, [self.name, version], 1.0);
    }

    /// Shows the beginning of the public key we came with.
    pub(super) fn key(&self, beginning: &str) {
        self.rec.set(&metrics::KEY_INFO, [self.name, beginning], 1.0);
    }

    /// Says what the server, or a target inside, turned out to be, for a person.
    pub(super) fn note(&self, note: impl AsRef<str>) {
        let mut notes = lock(&self.notes);
        if !notes.is_empty() {
            notes.push_str("; ");
        }
        notes.push_str(note.as_ref());
        self.target.note(notes.as_str());
    }

    /// Records a round trip to a target inside.
    pub(super) fn inside_round_trip(&self, inside: &str, time: Duration) {
        self.rec.observe(&metrics::INSIDE_DURATION, [self.name, inside], time.as_secs_f64());
    }

    /// Records what became of a question to a target inside.
    pub(super) fn inside_verdict(&self, inside: &str, result: &Result<(), Failure>) {
        self.rec.set(&metrics::INSIDE_SUCCESS, [self.name, inside], f64::from(u8::from(result.is_ok())));
        if let Err(failure) = result {
            self.rec.add(&metrics::INSIDE_FAILURES, [self.name, inside, failure.reason.label()], 1.0);
        }
    }

    /// Records the verdict on the whole visit.
    pub(super) fn verdict(&self, result: &Result<(), Failure>) {
        if says_something(result.as_ref().err()) {
            self.rec.set(&metrics::UP, [self.name], f64::from(u8::from(result.is_ok())));
        }
    }
}

/// Nothing is known of a server that was not asked.
fn says_something(failure: Option<&Failure>) -> bool {
    !failure.is_some_and(|failure| matches!(failure.reason, Reason::RateLimited | Reason::Local))
}

impl Drop for Knock<'_> {
    fn drop(&mut self) {
        for (why, count) in Ignored::ALL.iter().zip(&self.ignored) {
            #[allow(clippy::cast_precision_loss, reason = "a count")]
            self.rec.add(&metrics::IGNORED, [self.name, why.label()], count.load(Ordering::Relaxed) as f64);
        }
    }
}

/// A stage of a visit; one that is dropped unfinished has timed out.
pub(super) struct Stage<'k> {
    knock: &'k Knock<'k>,
    name: &'static str,
    phase: Option<Phase<'k>>,
}

impl<'k> Stage<'k> {
    /// Ends the stage well, with our own clock's time.
    pub(super) fn done(mut self) {
        if let Some(phase) = self.end(1.0) {
            phase.done();
        }
    }

    /// Ends the stage well, with the time of the packet that was answered.
    pub(super) fn done_in(mut self, time: Duration) {
        if let Some(phase) = self.end(1.0) {
            phase.done_in(time);
        }
    }

    /// Ends the stage badly.
    pub(super) fn fail(mut self, failure: Failure) -> Failure {
        let phase = if says_something(Some(&failure)) { self.end(0.0) } else { self.phase.take() };
        if let Some(phase) = phase {
            phase.fail(&failure);
        }
        failure
    }

    fn end(&mut self, success: f64) -> Option<Phase<'k>> {
        let phase = self.phase.take()?;
        self.knock.rec.set(&metrics::STAGE_SUCCESS, [self.knock.name, self.name], success);
        Some(phase)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // The phase says that the time is over when it is dropped.
        self.end(0.0);
    }
}

/// What became of the last packets of each server and stage. Outlives runs, and probes that replace each other.
#[derive(Debug, Default)]
pub(super) struct Losses(Mutex<BTreeMap<String, BTreeMap<&'static str, Window>>>);

/// The last packets, oldest first: whether each was answered.
#[derive(Debug, Default)]
struct Window {
    answered: VecDeque<bool>,
    lost: usize,
}

impl Losses {
    /// Remembers that there is such a server.
    fn know(&self, name: &str) {
        let mut all = lock(&self.0);
        if !all.contains_key(name) {
            all.insert(name.to_owned(), BTreeMap::new());
        }
    }

    /// Counts a packet. Gives the share of the last `window` ones that was lost.
    fn count(&self, (name, stage): (&str, &'static str), is_answered: bool, window: usize) -> f64 {
        let mut all = lock(&self.0);
        let Some(of_stage) = all.get_mut(name).map(|stages| stages.entry(stage).or_default()) else { return 0.0 };
        of_stage.answered.push_back(is_answered);
        of_stage.lost += usize::from(!is_answered);
        while of_stage.answered.len() > window {
            of_stage.lost -= usize::from(of_stage.answered.pop_front() == Some(false));
        }
        #[allow(clippy::cast_precision_loss, reason = "small counts")]
        let ratio = of_stage.lost as f64 / of_stage.answered.len() as f64;
        ratio
    }

    /// Forgets all servers but these, with their series: addresses that a name no longer has.
    pub(super) fn retain(&self, names: &[String], rec: &Recorder) {
        lock(&self.0).retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                rec.forget(&["server"], name);
            }
            stays
        });
    }
}
