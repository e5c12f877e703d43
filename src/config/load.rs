//! Loads a configuration of several files, each of which may be bad.

mod names;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing::warn;

use super::read::{Include, Main, Parsed, Reader, expand, text};
use super::state::Saved;
use super::{Built, Config, FileStatus, Spec};
use crate::probe::{Kind, ProbeId, Shared};
use crate::settings::{Files, Problem, Problems, Seen};

/// The probes that run while a configuration is loaded.
pub trait Running {
    /// The probe of that identity, with the configuration it was built from.
    fn find(&self, id: &ProbeId) -> Option<Built>;
}

/// Nothing runs.
impl Running for () {
    fn find(&self, _: &ProbeId) -> Option<Built> {
        None
    }
}

/// What came of a load.
#[derive(Debug)]
pub enum Loaded {
    /// No file is different from what the last load saw. What that load said still holds.
    Unchanged {
        /// The problems that it found.
        problems: Problems,
        /// Whether it was refused.
        refused: bool,
    },
    /// There is a configuration to switch to.
    New {
        /// The configuration.
        config: Box<Config>,
        /// Why included files are not in effect in their present version.
        problems: Problems,
    },
    /// The main file is bad, or cannot be read: nothing is to change. All problems of all files.
    Refused(Problems),
}

/// Loads a configuration again and again, and remembers what an included file was when it was last good.
pub struct Loader {
    main: Arc<Path>,
    kinds: &'static [Kind],
    without_secrets: bool,
    /// Whether the state directory is used: not when a file is only checked.
    persistent: bool,
    warned: bool,
    last: Option<Last>,
    /// The file of every probe in effect, to know who owns a name.
    owners: HashMap<ProbeId, Arc<Path>>,
    /// The version in effect of every included file.
    good: HashMap<Arc<Path>, Good>,
}

/// What the last load saw and said.
struct Last {
    seen: Vec<(PathBuf, Seen)>,
    found: Vec<(String, Vec<PathBuf>)>,
    problems: Problems,
    refused: bool,
}

struct Good {
    text: Arc<str>,
    probes: Vec<Spec>,
}

/// Which version of an included file is a candidate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Present,
    LastGood,
    None,
}

struct Candidate<'a> {
    file: Arc<Path>,
    include: &'a Include,
    version: Version,
    parsed: Option<Parsed>,
}

impl Loader {
    /// A loader of that main file, for the given probe types.
    pub fn new(main: &Path, kinds: &'static [Kind]) -> Self {
        Self {
            main: main.into(),
            kinds,
            without_secrets: false,
            persistent: true,
            warned: false,
            last: None,
            owners: HashMap::new(),
            good: HashMap::new(),
        }
    }

    /// Checks the file as a load at start would, without the state directory: a bad included file is an error, not a
    /// reason to fall back. `without_secrets`: the files and variables it refers to may be missing.
    ///
    /// # Errors
    /// All problems of all files.
    pub fn check(
        main: &Path,
        kinds: &'static [Kind],
        shared: &Shared,
        without_secrets: bool,
    ) -> Result<Config, Problems> {
        match Self::once(main, kinds, shared, without_secrets) {
            Loaded::New { config, problems } if problems.is_empty() => Ok(*config),
            Loaded::New { problems, .. } | Loaded::Unchanged { problems, .. } | Loaded::Refused(problems) => {
                Err(problems)
            }
        }
    }

    /// One load without the state directory, for commands that run beside a daemon and leave its state alone.
    pub fn once(main: &Path, kinds: &'static [Kind], shared: &Shared, without_secrets: bool) -> Loaded {
        Self { without_secrets, persistent: false, ..Self::new(main, kinds) }.load(shared, &())
    }

    /// Loads the configuration; reads files, so not for an asynchronous thread. The caller switches to what it
    /// returns: the loader takes a [`Loaded::New`] to be in effect from then on.
    pub fn load(&mut self, shared: &Shared, running: &dyn Running) -> Loaded {
        let files = Files::new(self.without_secrets);
        if let Some(last) = self.last.as_ref().filter(|last| last.still(&files)) {
            return Loaded::Unchanged { problems: last.problems.clone(), refused: last.refused };
        }
        let reader = Reader { kinds: self.kinds, shared, files: &files, running };
        let mut problems = Vec::new();
        let mut found = Vec::new();
        let state_dir = shared.state.dir();
        let config = self.assemble(&reader, &mut problems, &mut found);
        if config.is_none() {
            // What runs goes on with its own.
            shared.state.set_dir(state_dir.as_deref());
        }
        let problems: Problems = problems.into_iter().collect();
        let refused = config.is_none();
        self.last = Some(Last { seen: files.seen(), found, problems: problems.clone(), refused });
        match config {
            Some(config) => Loaded::New { config: Box::new(config), problems },
            None => Loaded::Refused(problems),
        }
    }

    /// The directories in which a change may change the configuration: of every file that the last load wanted to
    /// read, and, where that is a link, of what it leads to.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let parent = |path: &Path| match path.parent() {
            Some(dir) if dir.as_os_str().is_empty() => Some(PathBuf::from(".")),
            other => other.map(Path::to_owned),
        };
        let mut dirs = BTreeSet::from_iter(parent(&self.main));
        if let Some(last) = &self.last {
            for (path, _) in &last.seen {
                dirs.extend(parent(path));
                dirs.extend(path.canonicalize().ok().as_deref().and_then(parent));
            }
            for (pattern, _) in &last.found {
                // Up to the first part with a wildcard; what lies below it is watched once a file is found there.
                let fixed =
                    Path::new(pattern).iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '[']));
                let base: PathBuf = fixed.collect();
                dirs.insert(if base.as_os_str().is_empty() { ".".into() } else { base });
            }
        }
        dirs
    }

    fn assemble(
        &mut self,
        reader: &Reader<'_>,
        problems: &mut Vec<Problem>,
        found: &mut Vec<(String, Vec<PathBuf>)>,
    ) -> Option<Config> {
        let text = text(reader.files, &self.main).map_err(|problem| problems.push(problem)).ok()?;
        let (main, own) = reader.main(&self.main, &text);
        let refused = !own.is_empty();
        problems.extend(own);
        let main = main?;
        found.extend(main.includes.iter().map(|include| (include.pattern.clone(), include.found.clone())));
        let mut candidates = self.candidates(&main);
        for candidate in &mut candidates {
            match present(reader, &main, candidate) {
                Ok(parsed) => candidate.parsed = Some(parsed),
                Err(own) => problems.extend(own),
            }
        }
        if refused {
            return None;
        }
        let saved = main.server.state_dir.as_deref().filter(|_| self.persistent).map(Saved::new);
        for candidate in candidates.iter_mut().filter(|candidate| candidate.parsed.is_none()) {
            self.fall_back(reader, &main, saved.as_ref(), candidate);
        }
        if !self.settle(reader, &main, saved.as_ref(), (&mut candidates, problems)) {
            return None;
        }
        Some(self.adopt(main.server.clone(), &main, saved.as_ref(), &candidates))
    }

    /// The included files. One that two patterns match belongs to the first. One that a pattern finds by several ways,
    /// as links make them, has the shortest.
    fn candidates<'m>(&self, main: &'m Main) -> Vec<Candidate<'m>> {
        let mut known = HashSet::from([real(&self.main)]);
        let mut candidates = Vec::new();
        for include in &main.includes {
            let mut found: Vec<_> = include.found.iter().collect();
            found.sort_by_key(|file| file.components().count());
            found.retain(|file| known.insert(real(file)));
            found.sort();
            candidates.extend(found.into_iter().map(|file| Candidate {
                file: file.as_path().into(),
                include,
                version: Version::Present,
                parsed: None,
            }));
        }
        candidates
    }

    /// Replaces a version that cannot be used by the one that was good last, and that one by nothing.
    fn fall_back(&self, reader: &Reader<'_>, main: &Main, saved: Option<&Saved>, candidate: &mut Candidate<'_>) {
        let was = candidate.version;
        (candidate.version, candidate.parsed) = (Version::None, None);
        if was != Version::Present {
            return;
        }
        let good = self.good.get(&candidate.file);
        let text = match good {
            Some(good) => Some(good.text.clone()),
            // Only at the first sight of a file: later on, the loader itself knows what was good.
            None => saved.and_then(|saved| saved.get(&candidate.file)).map(Arc::from),
        };
        let Some(text) = text else { return };
        let again = reader.fragment(&candidate.file, &text, main, candidate.include).ok();
        // What runs goes on even when its text could not be read again, because a secret is missing for a moment.
        let as_it_is = || good.map(|good| Parsed::of(&candidate.file, &good.text, &good.probes));
        candidate.parsed = again.or_else(as_it_is);
        if candidate.parsed.is_some() {
            candidate.version = Version::LastGood;
        }
    }

    /// Makes the result, and remembers it as what is in effect.
    fn adopt(
        &mut self,
        server: super::Server,
        main: &Main,
        saved: Option<&Saved>,
        candidates: &[Candidate<'_>],
    ) -> Config {
        let parsed = || std::iter::once(&main.parsed).chain(candidates.iter().filter_map(|c| c.parsed.as_ref()));
        let mut probes: Vec<Spec> =
            parsed().flat_map(|parsed| parsed.probes.iter().map(|probe| probe.spec.clone())).collect();
        probes.sort_by(|a, b| a.id.cmp(&b.id));
        self.owners = probes.iter().map(|spec| (spec.id.clone(), spec.file.clone())).collect();
        self.good = candidates
            .iter()
            .filter_map(|candidate| candidate.parsed.as_ref())
            .map(|parsed| (parsed.file.clone(), Good::of(parsed)))
            .collect();
        if let Some(saved) = saved {
            self.save(saved, candidates);
        }
        let mut files = vec![FileStatus { path: self.main.clone(), ok: true }];
        let status = |c: &Candidate<'_>| FileStatus { path: c.file.clone(), ok: c.version == Version::Present };
        files.extend(candidates.iter().map(status));
        let texts: Vec<_> = parsed().map(|parsed| (parsed.file.clone(), parsed.text.clone())).collect();
        let concerns = parsed()
            .flat_map(|parsed| parsed.probes.iter())
            .flat_map(|probe| probe.concerns.iter().map(|concern| (probe.spec.id.clone(), concern.clone())));
        let concerns = concerns.collect();
        Config { server, labels: main.labels.0.clone(), probes, concerns, hash: hash(&texts), files, texts }
    }

    /// Keeps good versions for the next start. Without a place for them everything else goes on.
    fn save(&mut self, saved: &Saved, candidates: &[Candidate<'_>]) {
        let present = candidates.iter().filter(|candidate| candidate.version == Version::Present);
        let result = present
            .filter_map(|candidate| candidate.parsed.as_ref())
            .try_for_each(|parsed| saved.put(&parsed.file, &parsed.text))
            .and_then(|()| saved.retain(candidates.iter().map(|candidate| &*candidate.file)));
        match result {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                warn!(%error, "cannot keep included files in the state directory; one that is bad at the next start will have no fall-back");
            }
            Err(_) => {}
        }
    }
}

impl Last {
    fn still(&self, files: &Files) -> bool {
        self.seen.iter().all(|(path, seen)| files.still(path, seen))
            && self.found.iter().all(|(pattern, found)| expand(pattern).is_ok_and(|now| now == *found))
    }
}

impl Good {
    fn of(parsed: &Parsed) -> Self {
        Self { text: parsed.text.clone(), probes: parsed.probes.iter().map(|probe| probe.spec.clone()).collect() }
    }
}

/// The file without links. Those of its directory are followed first: at the end of a loop of links, one more would be
/// one too many.
fn real(file: &Path) -> PathBuf {
    let followed = || file.parent()?.canonicalize().ok()?.join(file.file_name()?).canonicalize().ok();
    file.canonicalize().ok().or_else(followed).unwrap_or_else(|| file.to_owned())
}

fn present(reader: &Reader<'_>, main: &Main, candidate: &Candidate<'_>) -> Result<Parsed, Vec<Problem>> {
    let text = text(reader.files, &candidate.file).map_err(|problem| vec![problem])?;
    reader.fragment(&candidate.file, &text, main, candidate.include)
}

fn hash(texts: &[(Arc<Path>, Arc<str>)]) -> u64 {
    let mut hash = Sha256::new();
    for (path, text) in texts {
        for part in [path.as_os_str().as_encoded_bytes(), text.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let digest = hash.finalize();
    digest.iter().take(6).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
