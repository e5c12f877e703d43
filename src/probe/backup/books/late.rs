//! What is told of runs that were counted: they were given up and go on after all, have another name, or their size is known only now.

use super::{Books, Counted, Run, is_lost};

impl Books {
    /// Enters what is told of a run that was counted, which it is not again. That a run goes on which was given up, or how it
    /// ended, is news all the same.
    pub(super) fn late(&mut self, run: &Run) {
        if self.open.contains_key(&run.id) {
            // It was given up once, and went on.
            if run.end.is_some() {
                self.open.remove(&run.id);
                self.enter(run);
            } else {
                self.begin(run);
            }
            return;
        }
        if run.end.is_none() {
            if self.take_back(&run.id) {
                self.begin(run);
            }
        } else if !is_lost(run) && !self.found_again(run, &run.id) && self.lacks_size(run) {
            self.measured(run);
        }
    }

    /// Whether [`late`](Self::late) would change anything, of a run that is not known to go on.
    pub(super) fn is_late_news(&self, run: &Run) -> bool {
        let was_given_up = || self.given_up(&run.id).is_some();
        !is_lost(run) && (was_given_up() || self.lacks_size(run))
    }

    /// Whether the run is remembered without the size that it has now.
    fn lacks_size(&self, run: &Run) -> bool {
        let outcome = |run: &Run| run.end.map(|end| end.outcome);
        let is_without = |known: &Run| known.id == run.id && known.size.is_none() && outcome(known) == outcome(run);
        run.end.is_some() && run.size.is_some() && self.recent.iter().any(is_without)
    }

    /// Enters the size of a run that ended before anybody knew it.
    fn measured(&mut self, run: &Run) {
        let lasts = [&mut self.last_success, &mut self.last_ended];
        for known in self.recent.iter_mut().chain(lasts.into_iter().flatten()).filter(|known| known.id == run.id) {
            known.size = run.size;
        }
    }

    /// Takes back how the run by that id ended, if it was given up and is remembered. Says whether it was.
    fn take_back(&mut self, id: &str) -> bool {
        let was_given_up = self.given_up(id).is_some();
        if was_given_up {
            self.recent.retain(|known| known.id != id);
            if self.last_ended.as_ref().is_some_and(|last| last.id == id) {
                self.last_ended = self.recent.back().cloned();
            }
        }
        was_given_up
    }

    /// Enters how a run ended that was given up as `id`. Says whether there is one.
    fn found_again(&mut self, run: &Run, id: &str) -> bool {
        let was_lost = self.take_back(id);
        if was_lost {
            self.enter(run);
        }
        was_lost
    }

    /// A run that has another id now that it ended: what was known of it by the first one holds for it.
    pub(super) fn renamed(&mut self, run: &Run, first: &str) -> Option<Counted> {
        if let Some(open) = self.open.remove(first) {
            if self.known.contains_key(first) {
                // It was given up, and went on all the same: it has been counted.
                self.enter(run);
                return None;
            }
            let run = Run {
                started: run.started.or(open.started),
                node: run.node.clone().or_else(|| open.node.clone()),
                ..run.clone()
            };
            if self.overlapped.remove(first) {
                self.overlapped.insert(run.id.clone());
            }
            self.open.insert(run.id.clone(), Run { id: run.id.clone(), ..open });
            // Whatever is still told of it by its first id is no news.
            self.know(first, run.end.map_or(0.0, |end| end.at));
            return self.run(&run);
        }
        if self.found_again(run, first) {
            return None;
        }
        if self.known.contains_key(first) {
            // It was counted as lost so long ago that it is not remembered whole.
            self.enter(run);
            return None;
        }
        self.run(run)
    }
}
