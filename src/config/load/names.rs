//! Whose a name is that several files define.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::{Candidate, Loader, Version};
use crate::config::read::{Main, Parsed, Reader};
use crate::config::state::Saved;
use crate::probe::ProbeId;
use crate::settings::{Files, Problem, Rules, Source};

/// A name that is another file's.
struct Duplicate {
    /// Where the name is in the file that it does not belong to.
    offset: usize,
    id: ProbeId,
    other: Arc<Path>,
}

/// A file, by its index or `None` for the main one, with the names that are not its own.
type Conflict = (Option<usize>, Vec<Duplicate>);

impl Loader {
    /// Resolves names that several files define, until none is left. False if the main file has to be refused.
    pub(super) fn settle(
        &self,
        reader: &Reader<'_>,
        main: &Main,
        saved: Option<&Saved>,
        (candidates, problems): (&mut Vec<Candidate<'_>>, &mut Vec<Problem>),
    ) -> bool {
        loop {
            let conflicts = self.conflicts(main, candidates);
            if conflicts.is_empty() {
                return true;
            }
            for (loser, names) in conflicts {
                let Some(candidate) = loser.and_then(|index| candidates.get_mut(index)) else {
                    problems.extend(duplicates(reader.files, &main.parsed, &names));
                    return false;
                };
                if let Some(parsed) = candidate.parsed.as_ref().filter(|_| candidate.version == Version::Present) {
                    problems.extend(duplicates(reader.files, parsed, &names));
                }
                self.fall_back(reader, main, saved, candidate);
            }
        }
    }

    /// The files that define a name which is not theirs.
    fn conflicts(&self, main: &Main, candidates: &[Candidate<'_>]) -> Vec<Conflict> {
        let mut holders: HashMap<&ProbeId, Vec<(Option<usize>, usize)>> = HashMap::new();
        let fragments =
            candidates.iter().enumerate().map(|(index, candidate)| (Some(index), candidate.parsed.as_ref()));
        for (holder, parsed) in std::iter::once((None, Some(&main.parsed))).chain(fragments) {
            for probe in parsed.iter().flat_map(|parsed| &parsed.probes) {
                holders.entry(&probe.spec.id).or_default().push((holder, probe.offset));
            }
        }
        let file = |holder: Option<usize>| self.file(holder, candidates);
        let mut losers: BTreeMap<Option<usize>, Vec<Duplicate>> = BTreeMap::new();
        for (id, holders) in holders.into_iter().filter(|(_, holders)| holders.len() > 1) {
            let owner = self.owner(id, &holders, candidates);
            for (holder, offset) in holders.iter().filter(|(holder, _)| Some(*holder) != owner) {
                // Whose the name is, or else any other one.
                let other = owner.or_else(|| holders.iter().map(|(other, _)| *other).find(|other| other != holder));
                let other = other.and_then(file).unwrap_or(&self.main).clone();
                losers.entry(*holder).or_default().push(Duplicate { offset: *offset, id: id.clone(), other });
            }
        }
        losers.into_iter().collect()
    }

    /// Whose a name is: of the file whose probe runs; at start, of the main file, or of the only one that had the name
    /// when it was last good. `None`: of nobody.
    fn owner(
        &self,
        id: &ProbeId,
        holders: &[(Option<usize>, usize)],
        candidates: &[Candidate<'_>],
    ) -> Option<Option<usize>> {
        let running = self.owners.get(id);
        let runs = holders
            .iter()
            .map(|(holder, _)| *holder)
            .find(|holder| running.is_some() && self.file(*holder, candidates) == running);
        let in_main = || holders.iter().any(|(holder, _)| holder.is_none()).then_some(None);
        let restored = |holder: &Option<usize>| {
            holder
                .and_then(|index| candidates.get(index))
                .is_some_and(|candidate| candidate.version == Version::LastGood)
        };
        let mut earlier = holders.iter().map(|(holder, _)| *holder).filter(restored);
        runs.or_else(in_main).or_else(|| earlier.next().filter(|_| earlier.next().is_none()))
    }

    fn file<'a>(&'a self, holder: Option<usize>, candidates: &'a [Candidate<'_>]) -> Option<&'a Arc<Path>> {
        match holder {
            None => Some(&self.main),
            Some(index) => candidates.get(index).map(|candidate| &candidate.file),
        }
    }
}

/// The problem of each name that another file has.
fn duplicates(files: &Files, parsed: &Parsed, names: &[Duplicate]) -> Vec<Problem> {
    let source = Source::new(&parsed.file, &parsed.text, Rules::Main, files);
    for Duplicate { offset, id, other } in names {
        let other = other.to_string_lossy();
        let message = format!("{} defines a probe of this type and name, too", other.escape_debug());
        source.record(*offset, &format!("probe.{id}"), message);
    }
    source.into_problems()
}
