//! Reads one file: the main one, or an included one with its restrictions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::server::Server;
use super::{Built, Running, Spec, clash, web};
use crate::probe::{AnyConfig, Common, Defaults, Kind, OPTIONAL, ProbeId, Shared};
use crate::settings::{Files, Labels, MAX_CONFIG_BYTES, Problem, Rules, Section, Source, escape, nearest};

/// What reading needs besides the file.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) kinds: &'static [Kind],
    pub(super) shared: &'a Shared,
    pub(super) files: &'a Files,
    pub(super) running: &'a dyn Running,
}

/// One `[[include]]`: the files that its pattern found, and what they are allowed.
#[derive(Clone)]
pub(super) struct Include {
    /// The pattern, resolved.
    pub(super) pattern: String,
    /// What the pattern found, in order.
    pub(super) found: Vec<PathBuf>,
    secret_dirs: Arc<[PathBuf]>,
    types: Option<Vec<String>>,
}

impl Include {
    /// What its files may refer to.
    pub(super) fn rules(&self) -> Rules {
        Rules::Fragment { secret_dirs: self.secret_dirs.clone() }
    }
}

/// A probe with its place in the file.
#[derive(Clone)]
pub(super) struct Defined {
    pub(super) spec: Spec,
    pub(super) offset: usize,
    /// What will not work well, though it is right; none if it is in force already.
    pub(super) concerns: Vec<String>,
}

/// A file that was read without problems.
#[derive(Clone)]
pub(super) struct Parsed {
    pub(super) file: Arc<Path>,
    pub(super) text: Arc<str>,
    pub(super) probes: Vec<Defined>,
}

impl Parsed {
    /// Probes that are already built, with no places.
    pub(super) fn of(file: &Arc<Path>, text: &Arc<str>, probes: &[Spec]) -> Self {
        let probes =
            probes.iter().map(|spec| Defined { spec: spec.clone(), offset: 0, concerns: Vec::new() }).collect();
        Self { file: file.clone(), text: text.clone(), probes }
    }
}

/// The main file. Also there when it has problems, as far as it goes, so that the included files can be checked too.
pub(super) struct Main {
    pub(super) server: Server,
    pub(super) defaults: Defaults,
    pub(super) labels: Labels,
    pub(super) includes: Vec<Include>,
    pub(super) parsed: Parsed,
}

/// The text of a configuration file.
pub(super) fn text(files: &Files, file: &Arc<Path>) -> Result<Arc<str>, Problem> {
    let content = files
        .read(file, MAX_CONFIG_BYTES)
        .map_err(|error| Problem::of_file(file, format!("cannot read the file: {error}")))?;
    utf8(file, content.bytes()).map(Arc::from)
}

/// The bytes of a file as text, or where they cease to be one.
pub(super) fn utf8<'b>(file: &Arc<Path>, bytes: &'b [u8]) -> Result<&'b str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = 1 + String::from_utf8_lossy(last).chars().count();
        Problem { line, column, ..Problem::of_file(file, "the file is not UTF-8 text") }
    })
}

/// What the files that match a pattern are. Hidden ones are left out: editors keep their copies there.
pub(super) fn expand(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
    let paths = glob::glob_with(pattern, options).map_err(|error| format!("not a pattern: {}", error.msg))?;
    let mut found = paths
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("cannot read a directory: {}", error.error().kind()))?;
    found.sort();
    Ok(found)
}

impl Reader<'_> {
    /// Reads the main file.
    pub(super) fn main(&self, file: &Arc<Path>, text: &Arc<str>) -> (Option<Main>, Vec<Problem>) {
        let source = Source::new(file, text, Rules::Main, self.files);
        let mut main = source.parse().map(|table| {
            let mut root = Section::root(&source, table.get_ref());
            let server = root.section("server", |section| Some(Server::read(section))).unwrap_or_default();
            self.shared.state.set_dir(server.state_dir.as_deref());
            let labels = root.optional::<Labels>("labels").unwrap_or_default();
            let defaults = Defaults::new(labels.0.clone());
            let defaults = match root.section("defaults", |section| Some(defaults.clone().read(section))) {
                Some(read) => read,
                None => defaults,
            };
            let includes = root.sections("include", |section| self.include(file, section)).unwrap_or_default();
            let mut probes = Vec::new();
            let used = self.probes(&mut root, (&defaults, file), None, &mut probes);
            clash::in_all(&mut root, &used);
            root.finish();
            Main {
                server,
                defaults,
                labels,
                includes,
                parsed: Parsed { file: file.clone(), text: text.clone(), probes },
            }
        });
        let mut problems = source.into_problems();
        if let Some(server) = main.as_mut().map(|main| &mut main.server)
            && let Some(file) = &server.web_config_file
        {
            match web::read(file, self.files) {
                Ok(web) => server.web = web.map(Arc::new),
                Err(more) => problems.extend(more),
            }
        }
        (main, problems)
    }

    /// Reads an included file.
    pub(super) fn fragment(
        &self,
        file: &Arc<Path>,
        text: &Arc<str>,
        main: &Main,
        include: &Include,
    ) -> Result<Parsed, Vec<Problem>> {
        let source = Source::new(file, text, include.rules(), self.files);
        let mut probes = Vec::new();
        if let Some(table) = source.parse() {
            let mut root = Section::root(&source, table.get_ref());
            for key in ["server", "labels", "defaults", "include"] {
                if root.has(key) {
                    root.problem(
                        Some(key),
                        format!("`{key}`: belongs in the main file; an included file holds only probes"),
                    );
                    root.ignore(key);
                }
            }
            self.probes(&mut root, (&main.defaults, file), Some((include, &main.labels)), &mut probes);
            root.finish();
        }
        let problems = source.into_problems();
        if problems.is_empty() { Ok(Parsed { file: file.clone(), text: text.clone(), probes }) } else { Err(problems) }
    }

    pub(super) fn include(&self, main: &Path, section: &mut Section<'_>) -> Option<Include> {
        let files = section.required::<String>("files");
        let secret_dirs = section.optional::<Vec<PathBuf>>("secret_dirs").unwrap_or_default().into();
        let types = section.checked("types", |types: &Vec<String>| {
            let known = types.iter().all(|name| self.kind(name).is_some() || OPTIONAL.contains(&name.as_str()));
            if known { Ok(()) } else { Err(format!("holds an unknown probe type; known are {}", self.known())) }
        });
        let dir = main.parent().unwrap_or(Path::new(""));
        let dir = PathBuf::from(glob::Pattern::escape(&dir.to_string_lossy()));
        let pattern = dir.join(files?).to_string_lossy().into_owned();
        let found = expand(&pattern).map_err(|why| section.problem(Some("files"), format!("`files`: {why}"))).ok()?;
        Some(Include { pattern, found, secret_dirs, types })
    }

    /// Reads every `[probe.<type>.<name>]`, and says which types there are.
    fn probes(
        &self,
        root: &mut Section<'_>,
        inherited: (&Defaults, &Arc<Path>),
        include: Option<(&Include, &Labels)>,
        probes: &mut Vec<Defined>,
    ) -> Vec<&'static Kind> {
        let mut used = Vec::new();
        let types = include.and_then(|(include, _)| include.types.as_deref());
        root.tables("probe", |name, section| {
            let allowed = types.is_none_or(|types| types.iter().any(|allowed| allowed == name));
            let Some(kind) = self.kind(name).filter(|_| allowed) else {
                section.problem(None, self.no_kind(name, allowed));
                section.ignore_rest();
                return;
            };
            used.push(kind);
            if let Some((_, labels)) = include {
                clash::in_included(section, kind, &labels.0);
            }
            section.each(|name, section| probes.extend(self.probe(kind, name, inherited, section)));
        });
        used
    }

    fn kind(&self, name: &str) -> Option<&'static Kind> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    fn known(&self) -> String {
        let names: Vec<_> = self.kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
        names.join(", ")
    }

    fn no_kind(&self, name: &str, allowed: bool) -> String {
        let shown = escape(name);
        if self.kind(name).is_some() && !allowed {
            return format!("the [[include]] of this file does not allow probes of type `{shown}`");
        }
        if OPTIONAL.contains(&name) {
            return format!("probe type `{shown}` is not in this build");
        }
        match nearest(name, self.kinds.iter().map(|kind| kind.name)) {
            Some(near) => format!("unknown probe type `{shown}`, did you mean `{near}`?"),
            None => format!("unknown probe type `{shown}`; known are {}", self.known()),
        }
    }

    /// Reads and builds one probe. `None` if it is disabled or has problems.
    fn probe(
        &self,
        kind: &'static Kind,
        name: &str,
        (defaults, file): (&Defaults, &Arc<Path>),
        section: &mut Section<'_>,
    ) -> Option<Defined> {
        let before = section.problems();
        if !is_probe_name(name) {
            section.problem(None, "a probe's name consists of 1 to 64 ASCII letters, digits, `_`, `-` and `.`");
        }
        let enabled = section.or("enabled", true);
        let common = Common::read(section, defaults);
        clash::in_probe(section, kind);
        let config = kind.read(section)?;
        if let Some(floor) = config.floor().filter(|floor| common.interval < floor.interval) {
            let key = if section.has("interval") { "`interval`" } else { "the default `interval`" };
            let least = floor.interval.as_secs_f64();
            let problem = format!("{key}: must be at least {least}s here, because {}", floor.why);
            section.problem(section.has("interval").then_some("interval"), problem);
        }
        if section.problems() > before {
            return None;
        }
        let id = ProbeId { kind: kind.name, name: name.into() };
        let ((config, probe), is_new) = self.build(&id, config).map_err(|why| report(section, &why)).ok()?;
        let concerns = if is_new && enabled { probe.concerns() } else { Vec::new() };
        let spec = Spec { id, kind, common: Arc::new(common), config, probe, file: file.clone() };
        enabled.then_some(Defined { spec, offset: section.offset(), concerns })
    }

    /// Builds the probe, unless it runs already; the last value says which.
    fn build(&self, id: &ProbeId, config: Arc<dyn AnyConfig>) -> Result<(Built, bool), String> {
        let running = self.running.find(id);
        if let Some((old, probe)) = &running
            && old.same(&*config)
        {
            return Ok(((old.clone(), probe.clone()), false));
        }
        let previous = running.as_ref().map(|(_, probe)| &**probe);
        let probe = config.build(self.shared, previous)?;
        Ok(((config, probe), true))
    }
}

/// A problem for each line that the probe's constructor says.
fn report(section: &mut Section<'_>, why: &str) {
    for line in why.lines().filter(|line| !line.trim().is_empty()) {
        section.problem(None, line);
    }
    if why.trim().is_empty() {
        section.problem(None, "the probe cannot be built");
    }
}

/// Whether a probe can have that name.
pub fn is_probe_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}
