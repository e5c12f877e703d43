//! What a clock that was ahead left in the books.

use super::{Books, Event, Run};
use crate::probe::backup::runs::{AHEAD, CLOCK_SET};

/// What ended so many seconds from now, ended by a clock that has been set back since. Less is no harm for long.
const LATER: f64 = 60.0;

impl Books {
    /// That the clock has been set back to `now`, if the books have times that have not come yet: nothing that ends would be the
    /// last run before they have. `None` if there are none. The clock must be right now.
    pub fn ahead(&self, now: f64) -> Option<Event> {
        let end = |run: &Option<Run>| run.as_ref().and_then(|run| run.end).map(|end| end.at);
        let ends = [end(&self.last_success), end(&self.last_ended), self.last_failure, self.forgotten_until];
        let is_ahead =
            ends.into_iter().flatten().any(|at| at > now + LATER) || self.last_start.is_some_and(|at| at > now + AHEAD);
        (is_ahead && now >= CLOCK_SET).then_some(Event::SetBack { at: now })
    }

    /// Whatever has a later time happened by `now`.
    pub(super) fn set_back(&mut self, now: f64) {
        let earlier = |time: &mut f64| *time = time.min(now);
        let lasts = [&mut self.last_success, &mut self.last_ended];
        for run in self.recent.iter_mut().chain(lasts.into_iter().flatten()) {
            run.started.iter_mut().for_each(earlier);
            run.end.iter_mut().map(|end| &mut end.at).for_each(earlier);
        }
        for started in self.open.values_mut().filter_map(|run| run.started.as_mut()).filter(|at| **at > now + AHEAD) {
            *started = now;
        }
        let times = [&mut self.last_failure, &mut self.last_start, &mut self.watched_since];
        times.into_iter().flatten().chain(self.known.values_mut()).chain(self.nodes.values_mut()).for_each(earlier);
        // What ends at this very moment is news.
        self.forgotten_until.iter_mut().for_each(|until| *until = until.min(now - 1.0));
        self.spans.cut(now + AHEAD);
    }
}
