//! What is remembered of the runs of a probe, for people: the last ones, and of those before them the ones that went
//! badly.
//!
//! Most runs of a probe tell the same story with other times: the same targets, phases and failures. So a run is kept in
//! two parts, its times and its story, and runs with one story share it.

mod trim;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::verdict::{Run, Standing};
use crate::failure::{Failure, Reason};
use crate::metrics::RunId;
use crate::metrics::trace::{PhaseTrace, TargetTrace, Trace};

/// How many of the last runs are remembered, whatever they were.
pub const RECENT: usize = 16;
/// How many runs that failed or were slow are remembered beyond those.
pub const NOTEWORTHY: usize = 16;

/// What a target and a phase take without texts: their parts of the story and of the times.
const TARGET: usize = size_of::<Told>() + size_of::<f32>();
const PHASE: usize = size_of::<Step>() + size_of::<f32>();

/// A run that is over, as it is remembered.
#[derive(Clone, Debug)]
pub struct PastRun {
    /// What the run is called.
    pub id: RunId,
    /// The name of its cycle.
    pub cycle: &'static str,
    /// When it ended.
    pub ended: SystemTime,
    /// How long it took, to seven significant digits, as all times here.
    pub duration: Duration,
    /// How it went: as its worst target did.
    pub standing: Standing,
    /// What the run said of itself; its targets have verdicts of their own.
    pub result: Result<(), Failure>,
    /// What happened in it. Every target has its verdict.
    pub trace: Trace,
    /// How much of the trace was too much to remember.
    pub left_out: LeftOut,
}

/// How much of a run is not remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Targets, with all their phases.
    pub targets: usize,
    /// Phases of targets that are remembered.
    pub phases: usize,
}

/// The remembered runs of one probe. Outlives the probe's task: a reload does not forget them.
#[derive(Debug, Default)]
pub struct History(Mutex<Rings>);

/// Both oldest first.
#[derive(Debug, Default)]
struct Rings {
    recent: VecDeque<Entry>,
    /// All older than the recent ones: a run comes here when it is recent no more.
    noteworthy: VecDeque<Entry>,
}

/// One run.
#[derive(Clone, Debug)]
struct Entry {
    id: RunId,
    ended: SystemTime,
    duration: f32,
    standing: Standing,
    story: Arc<Story>,
    /// Seconds: of every target, then of every phase.
    times: Box<[f32]>,
}

/// What runs have in common that differ by their times only.
#[derive(Debug)]
struct Story {
    cycle: &'static str,
    failure: Option<Why>,
    targets: Box<[Told]>,
    /// Shared with the story before if equal: what fails often tells every time in other words why.
    phases: Arc<[Step]>,
    left_out: LeftOut,
}

#[derive(Debug)]
struct Told {
    name: Arc<str>,
    note: Arc<str>,
    failure: Option<Why>,
}

#[derive(Debug)]
struct Why {
    reason: Reason,
    detail: Arc<str>,
}

#[derive(Debug, PartialEq)]
struct Step {
    name: &'static str,
    target: u32,
    failure: Option<Reason>,
}

impl History {
    /// Remembers a run that ended just now, and forgets one for it.
    pub(super) fn remember(&self, mut run: Run, standing: Standing) {
        let left_out = trim::trim(&mut run);
        let ended = SystemTime::now();
        let times = run.trace.targets.iter().map(|target| target.duration);
        let times = times.chain(run.trace.phases.iter().map(|phase| phase.duration)).map(|time| time.as_secs_f32());
        let (times, duration) = (times.collect(), run.duration.as_secs_f32());
        let mut rings = self.lock();
        let story = rings.story(&run, left_out);
        rings.push(Entry { id: run.id, ended, duration, standing, story, times });
    }

    /// Every remembered run, newest first.
    pub fn runs(&self) -> Vec<PastRun> {
        // Told in full only when others can record again.
        let entries: Vec<_> = self.lock().newest_first().cloned().collect();
        entries.iter().map(Entry::told).collect()
    }

    /// The last run; `None` before the first one ended.
    pub fn last(&self) -> Option<PastRun> {
        let last = self.lock().recent.back().cloned();
        last.as_ref().map(Entry::told)
    }

    /// What the runs take, in bytes, with an allocator's usual share for each piece of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        const PIECE: usize = 16;
        let rings = self.lock();
        let mut pieces = std::collections::HashMap::new();
        let mut count = |place: *const u8, bytes: usize| pieces.insert(place, bytes + PIECE);
        for (nth, ring) in [&rings.recent, &rings.noteworthy].into_iter().enumerate() {
            count(std::ptr::without_provenance(nth + 1), ring.capacity() * size_of::<Entry>());
        }
        for Entry { times, story, .. } in rings.newest_first() {
            count(times.as_ptr().cast(), size_of_val(&**times));
            count(Arc::as_ptr(story).cast(), size_of::<Story>() + 16);
            count(story.targets.as_ptr().cast(), size_of_val(&*story.targets));
            count(story.phases.as_ptr().cast(), size_of_val(&*story.phases) + 16);
            let details = story.targets.iter().filter_map(|told| told.failure.as_ref()).chain(&story.failure);
            let texts = story.targets.iter().flat_map(|told| [&told.name, &told.note]);
            for text in texts.chain(details.map(|why| &why.detail)) {
                count(text.as_ptr(), text.len() + 16);
            }
        }
        size_of::<Self>() + pieces.values().sum::<usize>()
    }

    /// How many different stories there are.
    #[cfg(test)]
    pub(super) fn stories(&self) -> usize {
        let rings = self.lock();
        let places: std::collections::HashSet<_> =
            rings.newest_first().map(|entry| Arc::as_ptr(&entry.story)).collect();
        places.len()
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.recent.iter().rev().chain(self.noteworthy.iter().rev())
    }

    /// The story of a run: that of an earlier run if one told the same.
    fn story(&self, run: &Run, left_out: LeftOut) -> Arc<Story> {
        let same = self.newest_first().find(|entry| entry.story.tells(run, left_out));
        let new = || Arc::new(Story::new(run, left_out, self.recent.back().map(|entry| &*entry.story)));
        same.map_or_else(new, |entry| Arc::clone(&entry.story))
    }

    fn push(&mut self, entry: Entry) {
        if self.recent.len() == RECENT
            && let Some(old) = self.recent.pop_front()
            && old.standing != Standing::Good
        {
            if self.noteworthy.len() == NOTEWORTHY {
                self.noteworthy.pop_front();
            }
            self.noteworthy.push_back(old);
        }
        self.recent.push_back(entry);
    }
}

impl Story {
    fn new(run: &Run, left_out: LeftOut, before: Option<&Story>) -> Self {
        let known = |name: &str| before.and_then(|story| story.targets.iter().find(|told| *told.name == *name));
        let target = |target: &TargetTrace| {
            let known = known(&target.name);
            let failure = target.verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
            Told {
                name: shared(&target.name, known.map(|known| &known.name)),
                note: shared(&target.note, known.map(|known| &known.note)),
                failure: failure.map(|failure| Why::new(failure, known.and_then(|known| known.failure.as_ref()))),
            }
        };
        let own = run.result.as_ref().err();
        let phases = &run.trace.phases;
        let known_phases = before.filter(|story| story.has(phases));
        Self {
            cycle: run.cycle.name,
            failure: own.map(|failure| Why::new(failure, before.and_then(|story| story.failure.as_ref()))),
            targets: run.trace.targets.iter().map(target).collect(),
            phases: known_phases
                .map_or_else(|| phases.iter().map(Step::of).collect(), |known| Arc::clone(&known.phases)),
            left_out,
        }
    }

    /// Whether the run would tell this story.
    fn tells(&self, run: &Run, left_out: LeftOut) -> bool {
        let Trace { targets, phases, .. } = &run.trace;
        self.cycle == run.cycle.name
            && self.left_out == left_out
            && self.targets.len() == targets.len()
            && same(self.failure.as_ref(), run.result.as_ref().err())
            && self.has(phases)
            && self.targets.iter().zip(targets).all(|(told, target)| told.is(target))
    }

    fn has(&self, phases: &[PhaseTrace]) -> bool {
        self.phases.len() == phases.len()
            && self.phases.iter().zip(phases).all(|(step, phase)| *step == Step::of(phase))
    }
}

impl Told {
    fn is(&self, target: &TargetTrace) -> bool {
        let failure = target.verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
        *self.name == *target.name && *self.note == *target.note && same(self.failure.as_ref(), failure)
    }
}

impl Step {
    fn of(phase: &PhaseTrace) -> Self {
        // There are far fewer targets than that.
        let target = u32::try_from(phase.target).unwrap_or(u32::MAX);
        Self { name: phase.name, target, failure: phase.failure }
    }
}

impl Why {
    fn new(failure: &Failure, known: Option<&Self>) -> Self {
        Self { reason: failure.reason, detail: shared(&failure.detail, known.map(|known| &known.detail)) }
    }

    fn failure(&self) -> Failure {
        Failure::new(self.reason, self.detail.to_string())
    }
}

fn same(why: Option<&Why>, failure: Option<&Failure>) -> bool {
    match (why, failure) {
        (Some(why), Some(failure)) => why.reason == failure.reason && *why.detail == *failure.detail,
        (None, None) => true,
        _ => false,
    }
}

/// The text, in the memory of the known one if that is the same.
fn shared(text: &str, known: Option<&Arc<str>>) -> Arc<str> {
    known.filter(|known| &***known == text).map_or_else(|| text.into(), Arc::clone)
}

impl Entry {
    fn told(&self) -> PastRun {
        let story = &*self.story;
        let mut times = self.times.iter().copied().map(time_of);
        let mut time = || times.next().unwrap_or_default();
        let target = |told: &Told| TargetTrace {
            name: told.name.to_string(),
            duration: time(),
            verdict: Some(told.failure.as_ref().map_or(Ok(()), |why| Err(why.failure()))),
            note: told.note.to_string(),
        };
        let targets = story.targets.iter().map(target).collect();
        let phase = |step: &Step| PhaseTrace {
            target: step.target as usize,
            name: step.name,
            duration: time(),
            failure: step.failure,
        };
        let phases = story.phases.iter().map(phase).collect();
        PastRun {
            id: self.id,
            cycle: story.cycle,
            ended: self.ended,
            duration: time_of(self.duration),
            standing: self.standing,
            result: story.failure.as_ref().map_or(Ok(()), |why| Err(why.failure())),
            trace: Trace { targets, phases, gone: Vec::new() },
            left_out: story.left_out,
        }
    }
}

/// The time that was so many seconds.
fn time_of(seconds: f32) -> Duration {
    Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX)
}
