//! A made-up probe type, and a folder to load from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Built, Config, Loaded, Loader, Running, Spec};
use crate::metrics::{Desc, Gauge, Recorder};
use crate::probe::{Cycle, Failure, Kind, Probe, ProbeId, Reason, Shared};
use crate::settings::{Endpoint, FileContent, HostPort, Problems, Secret, Section, Settings, Size};

static ANSWER: Gauge<1> = Gauge::new("test_answer", "An answer.", &["member"]);

/// A probe with a key of every kind.
pub(in crate::config) struct Made {
    /// How many probes came before this one under its name.
    pub(in crate::config) generation: usize,
}

#[derive(Debug, PartialEq)]
pub(in crate::config) struct MadeConfig {
    hosts: Vec<Endpoint<27017>>,
    target: Option<HostPort>,
    count: u16,
    limit: Option<Size>,
    wait: Option<Duration>,
    ratio: Option<f64>,
    verbose: bool,
    password: Option<Secret>,
    ca_file: Option<FileContent>,
    word: Option<String>,
}

impl Settings for MadeConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let hosts = section.required("hosts");
        let config = Self {
            hosts: Vec::new(),
            target: section.optional("target"),
            count: section.or("count", 1),
            limit: section.optional("limit"),
            wait: section.optional("wait"),
            ratio: section.optional("ratio"),
            verbose: section.or("verbose", false),
            password: section.optional("password"),
            ca_file: section.optional("ca_file"),
            word: section.optional("word"),
        };
        Some(Self { hosts: hosts?, ..config })
    }
}

impl Probe for Made {
    const TYPE: &'static str = "made";
    const METRICS: &'static [&'static Desc] = &[ANSWER.desc()];
    const REASONS: &'static [Reason] = &[];
    type Config = MadeConfig;

    fn new(config: &Arc<MadeConfig>, _: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        if config.count == 13 {
            return Err("`count`: brings bad luck\nand a second line".into());
        }
        Ok(Self { generation: previous.map_or(0, |previous| previous.generation + 1) })
    }

    async fn run(&self, _: Cycle, _: &mut Recorder) -> Result<(), Failure> {
        Ok(())
    }
}

/// A type that no include of the tests allows.
pub(in crate::config) struct Other;

#[derive(PartialEq)]
pub(in crate::config) struct Nothing;

impl Settings for Nothing {
    fn read(_: &mut Section<'_>) -> Option<Self> {
        Some(Self)
    }
}

impl Probe for Other {
    const TYPE: &'static str = "other";
    const METRICS: &'static [&'static Desc] = &[];
    const REASONS: &'static [Reason] = &[];
    type Config = Nothing;

    fn new(_: &Arc<Nothing>, _: &Shared, _: Option<&Self>) -> Result<Self, String> {
        Ok(Self)
    }

    async fn run(&self, _: Cycle, _: &mut Recorder) -> Result<(), Failure> {
        Ok(())
    }
}

pub(in crate::config) const KINDS: &[Kind] = &[Kind::of::<Made>(), Kind::of::<Other>()];

/// What a scheduler would run.
#[derive(Default)]
pub(in crate::config) struct Scheduled(Vec<Spec>);

impl Running for Scheduled {
    fn find(&self, id: &ProbeId) -> Option<Built> {
        self.0.iter().find(|spec| spec.id == *id).map(|spec| (spec.config.clone(), spec.probe.clone()))
    }
}

/// A folder with a main file, a loader, and what runs.
pub(in crate::config) struct World {
    pub(in crate::config) dir: tempfile::TempDir,
    pub(in crate::config) loader: Loader,
    pub(in crate::config) running: Scheduled,
}

impl World {
    pub(in crate::config) fn new(main: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("conf.d")).expect("a folder");
        fs::create_dir(dir.path().join("secrets")).expect("a folder");
        let loader = Loader::new(&dir.path().join("midwatch.toml"), KINDS);
        let world = Self { dir, loader, running: Scheduled::default() };
        world.write("midwatch.toml", main);
        world
    }

    pub(in crate::config) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(in crate::config) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("written");
    }

    pub(in crate::config) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    /// The same folder after a restart of the program.
    pub(in crate::config) fn restart(&mut self) {
        self.loader = Loader::new(&self.path("midwatch.toml"), KINDS);
        self.running = Scheduled::default();
    }

    pub(in crate::config) fn load(&mut self) -> Loaded {
        let loaded = self.loader.load(&Shared::default(), &self.running);
        if let Loaded::New { config, .. } = &loaded {
            self.running = Scheduled(config.probes.clone());
        }
        loaded
    }

    /// Loads; there must be something new without any problem.
    pub(in crate::config) fn good(&mut self) -> Config {
        let (config, problems) = self.new_config();
        assert!(problems.is_empty(), "{problems}");
        config
    }

    /// Loads; there must be something new, with these problems.
    pub(in crate::config) fn new_config(&mut self) -> (Config, String) {
        match self.load() {
            Loaded::New { config, problems } => (*config, self.relative(&problems)),
            other => panic!("{other:?}"),
        }
    }

    /// Loads; it must be refused.
    pub(in crate::config) fn refused(&mut self) -> String {
        match self.load() {
            Loaded::Refused(problems) => self.relative(&problems),
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::config) fn check(&self, without_secrets: bool) -> Result<Config, String> {
        Loader::check(&self.path("midwatch.toml"), KINDS, &Shared::default(), without_secrets)
            .map_err(|problems| self.relative(&problems))
    }

    fn relative(&self, problems: &Problems) -> String {
        problems.to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

/// The names of the probes, in order.
pub(in crate::config) fn names(config: &Config) -> Vec<&str> {
    config.probes.iter().map(|spec| &*spec.id.name).collect()
}

/// The generation of a probe of type `made`.
pub(in crate::config) fn generation(config: &Config, name: &str) -> usize {
    let spec = config.probes.iter().find(|spec| &*spec.id.name == name).expect("the probe");
    let probe: &dyn std::any::Any = &*spec.probe;
    probe.downcast_ref::<Made>().expect("of that type").generation
}

pub(in crate::config) fn probe(name: &str) -> String {
    format!("[probe.made.{name}]\nhosts = [\"db1\"]\n")
}

pub(in crate::config) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config")
}
