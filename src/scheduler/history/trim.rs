//! Makes of what happened in a run what is worth remembering, within bounds.

use std::borrow::Cow;

use super::super::verdict::{Run, on_target};
use super::{LeftOut, PHASE, TARGET};
use crate::failure::Failure;
use crate::metrics::trace::{TargetTrace, Trace};

/// The most that one story may take, in bytes: targets, phases and texts. Enough for a replica set of 50 members, each
/// with six phases; whatever a peer makes up, a probe's history stays below half a megabyte.
const MAX_STORY: usize = 15 * 1024;
/// The most phases that are kept of one target.
const MAX_PHASES: usize = 64;
/// The longest text of a story, in bytes: a name, a note, a detail.
const MAX_TEXT: usize = 300;
/// Gives every target its verdict, brings phases in order, and leaves out what is too much.
pub(super) fn trim(run: &mut Run) -> LeftOut {
    settle(run);
    cut(&mut run.trace)
}

/// Gives every target its verdict, cuts texts, and brings phases in the order of targets: in which order targets that are
/// visited at once end their phases is chance.
fn settle(run: &mut Run) {
    let Run { trace, result, duration, .. } = run;
    for target in &mut trace.targets {
        if target.verdict.is_none() {
            let (took, verdict) = on_target(target, result, *duration);
            (target.duration, target.verdict) = (took, Some(verdict.map_err(Failure::clone)));
        }
        shorten(&mut target.name);
        shorten(&mut target.note);
        if let Some(Err(failure)) = &mut target.verdict {
            shorten_detail(failure);
        }
    }
    if let Err(failure) = result {
        shorten_detail(failure);
    }
    trace.phases.sort_by_key(|phase| phase.target);
}

fn shorten_detail(failure: &mut Failure) {
    if failure.detail.len() > MAX_TEXT
        && let Cow::Owned(detail) = &mut failure.detail
    {
        shorten(detail);
    }
}

fn shorten(text: &mut String) {
    const END: &str = "…";
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - END.len()));
        text.push_str(END);
    }
}

/// Leaves out what is more than a story may hold. Those that failed are kept first.
fn cut(trace: &mut Trace) -> LeftOut {
    let phases = trace.phases.len() * PHASE;
    if phases + trace.targets.iter().map(size).sum::<usize>() <= MAX_STORY {
        return LeftOut::default();
    }
    let mut of_target = vec![0; trace.targets.len()];
    trace.phases.iter().for_each(|phase| of_target[phase.target] += 1);
    let failed = |target: &TargetTrace| matches!(target.verdict, Some(Err(_)));
    let mut order: Vec<_> = (0..trace.targets.len()).collect();
    order.sort_by_key(|index| !failed(&trace.targets[*index]));
    // How many phases are kept of each target that is kept.
    let mut kept = vec![None; trace.targets.len()];
    let mut room = MAX_STORY;
    for index in order {
        let Some(rest) = room.checked_sub(size(&trace.targets[index])) else { continue };
        let phases = of_target[index].min(MAX_PHASES).min(rest / PHASE);
        kept[index] = Some(phases);
        room = rest - phases * PHASE;
    }
    let left_out = LeftOut {
        targets: kept.iter().filter(|kept| kept.is_none()).count(),
        phases: kept.iter().zip(&of_target).filter_map(|(kept, all)| Some(all - (*kept)?)).sum(),
    };
    keep(trace, &kept);
    left_out
}

/// Keeps so many phases of each target, and no target without a number.
fn keep(trace: &mut Trace, kept: &[Option<usize>]) {
    let places = kept.iter().scan(0, |next, kept| {
        let place = *next;
        *next += usize::from(kept.is_some());
        Some(place)
    });
    let places: Vec<_> = places.collect();
    let mut left = kept.to_vec();
    trace.phases.retain_mut(|phase| {
        let left = left[phase.target].get_or_insert(0);
        let keeps = *left > 0;
        *left = left.saturating_sub(1);
        phase.target = places[phase.target];
        keeps
    });
    let mut kept = kept.iter();
    trace.targets.retain(|_| kept.next().is_some_and(Option::is_some));
}

/// What a target takes in a story, without its phases.
fn size(target: &TargetTrace) -> usize {
    let detail = match &target.verdict {
        Some(Err(failure)) => failure.detail.len(),
        _ => 0,
    };
    TARGET + target.name.len() + target.note.len() + detail
}
