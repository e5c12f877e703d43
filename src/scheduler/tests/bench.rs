//! A scheduler with its store, and a probe whose behaviour a test writes down as closures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::{Changes, Scheduler, Spec};
use crate::metrics::testing::Scrape;
use crate::metrics::{
    BucketRule, Counter, Desc, Gauge, Histogram, Live, MOST_SERIES, NativeRule, Phases, Recorder, SeriesSet, Store,
};
use crate::probe::{Common, Cycle, Failure, Kind, Probe, ProbeId, Reason, Require, Shared, erase};
use crate::settings::{Section, Settings};

pub(super) static VALUE: Gauge<1> = Gauge::new("made_value", "A value.", &["of"]);
pub(super) static EVENTS: Counter<1> = Counter::new("made_events_total", "Events.", &["of"]);
pub(super) static SIZES: Histogram<1> = Histogram::new("made_sizes", "Sizes.", &["of"], &[1.0, 2.0]);
pub(super) static FIXED: Histogram<1> = Histogram::new("made_fixed", "Sizes.", &["of"], &[1.0, 2.0]).fixed();
static PHASE_SECONDS: Histogram<2> =
    Histogram::new("made_phase_seconds", "Phases.", &["target", "phase"], &[0.1, 1.0, 10.0]);
static PHASE_FAILURES: Counter<3> =
    Counter::new("made_phase_failures_total", "Failures.", &["target", "phase", "reason"]).known(&[
        &["one", "timeout"],
        &["two", "timeout"],
        &["three", "timeout"],
    ]);
pub(super) static PHASES: Phases = Phases { duration: &PHASE_SECONDS, failures: &PHASE_FAILURES };

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A boxed future, as the closures of a script return it.
pub(super) type Boxed<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type RunFn = dyn for<'a> Fn(&'a Made, Cycle, &'a mut Recorder) -> Boxed<'a, Result<(), Failure>> + Send + Sync;
type ServeFn = dyn for<'a> Fn(&'a Made, Live) -> Boxed<'a, ()> + Send + Sync;

/// What a made-up probe does. Two scripts are equal when their versions are.
#[derive(Clone)]
pub(super) struct Script {
    version: u32,
    cycles: Vec<Cycle>,
    targets: Vec<String>,
    before: fn(&Made),
    run: Arc<RunFn>,
    serve: Arc<ServeFn>,
    /// How many probes were built from this script or a changed version of it.
    pub(super) builds: Arc<AtomicU32>,
}

impl Script {
    pub(super) fn new(
        run: impl for<'a> Fn(&'a Made, Cycle, &'a mut Recorder) -> Boxed<'a, Result<(), Failure>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            version: 0,
            cycles: vec![Cycle::MAIN],
            targets: Vec::new(),
            before: |_| {},
            run: Arc::new(run),
            serve: Arc::new(|_, _| Box::pin(std::future::pending())),
            builds: Arc::default(),
        }
    }

    /// A probe that does nothing, with success.
    pub(super) fn idle() -> Self {
        Self::new(|_, _, _| Box::pin(async { Ok(()) }))
    }

    /// A probe whose run records at once and waits for nothing.
    pub(super) fn sync(run: impl Fn(&Made, Cycle, &Recorder) -> Result<(), Failure> + Send + Sync + 'static) -> Self {
        Self::new(move |made, cycle, rec| {
            let result = run(made, cycle, rec);
            Box::pin(async { result })
        })
    }

    pub(super) fn cycles(mut self, cycles: &[Cycle]) -> Self {
        self.cycles = cycles.to_vec();
        self
    }

    pub(super) fn targets(mut self, targets: &[&str]) -> Self {
        self.targets = targets.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// What happens in a run before it is a future.
    pub(super) fn before(mut self, before: fn(&Made)) -> Self {
        self.before = before;
        self
    }

    pub(super) fn serve(
        mut self,
        serve: impl for<'a> Fn(&'a Made, Live) -> Boxed<'a, ()> + Send + Sync + 'static,
    ) -> Self {
        self.serve = Arc::new(serve);
        self
    }

    /// The same script as a changed configuration.
    pub(super) fn version(&self, version: u32) -> Self {
        Self { version, ..self.clone() }
    }
}

impl PartialEq for Script {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Settings for Script {
    fn read(_: &mut Section<'_>) -> Option<Self> {
        None
    }
}

/// The made-up probe.
pub(super) struct Made {
    script: Arc<Script>,
    /// Counts up from one probe to the one that replaces it.
    pub(super) generation: u32,
    /// Survives a reload, if it is taken over.
    pub(super) state: AtomicU32,
}

impl Probe for Made {
    const TYPE: &'static str = "made";
    const METRICS: &'static [&'static Desc] = &[];
    const REASONS: &'static [Reason] = &[Reason::Refused, Reason::Resolve];
    type Config = Script;

    fn new(config: &Arc<Script>, _: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        config.builds.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            script: Arc::clone(config),
            generation: previous.map_or(0, |previous| previous.generation + 1),
            state: AtomicU32::new(previous.map_or(0, |previous| previous.state.load(Ordering::Relaxed))),
        })
    }

    fn cycles(&self) -> Vec<Cycle> {
        self.script.cycles.clone()
    }

    // Not `async fn`: `before`, and what `serve` does before it returns its future, happen before the probe has one.
    fn run(&self, cycle: Cycle, rec: &mut Recorder) -> impl Future<Output = Result<(), Failure>> + Send {
        (self.script.before)(self);
        async move { (self.script.run)(self, cycle, rec).await }
    }

    fn serve(&self, live: Live) -> impl Future<Output = ()> + Send {
        (self.script.serve)(self, live)
    }

    fn expected(&self, label: &str) -> Vec<String> {
        if label == "target" { self.script.targets.clone() } else { Vec::new() }
    }
}

static KIND: Kind = Kind::of::<Made>();

/// The common keys of a probe that runs every second, for half a second at most.
pub(super) fn common() -> Common {
    Common {
        interval: SECOND,
        timeout: SECOND / 2,
        owner: "me".into(),
        runbook: String::new(),
        info: BTreeMap::new(),
        labels: BTreeMap::new(),
        slo: None,
        buckets: None,
        native: Some(NativeRule::DEFAULT),
        max_series: MOST_SERIES,
        require: Require::All,
    }
}

pub(super) fn id(name: &str) -> ProbeId {
    ProbeId { kind: Made::TYPE, name: name.into() }
}

pub(super) fn failure(reason: Reason) -> Failure {
    Failure::new(reason, "made up")
}

/// A scheduler with its store.
pub(super) struct Bench {
    pub(super) store: Arc<Store>,
    pub(super) scheduler: Scheduler,
    pub(super) start: Instant,
}

impl Bench {
    pub(super) fn new() -> Self {
        let store = Arc::<Store>::default();
        let engine = SeriesSet::new([], BucketRule::default());
        store.add(&engine);
        let scheduler = Scheduler::new(Arc::clone(&store), engine, Shared::default());
        Self { store, scheduler, start: Instant::now() }
    }

    /// A scheduler that runs one probe named `p`.
    pub(super) fn with(script: Script) -> Self {
        let mut bench = Self::new();
        bench.apply(&[("p", common(), script)]);
        bench
    }

    /// Builds the probes as a loaded configuration is built, and makes them run.
    pub(super) fn apply(&mut self, probes: &[(&str, Common, Script)]) -> Changes {
        let specs = probes.iter().map(|(name, common, script)| self.spec(name, common, script)).collect();
        self.scheduler.apply(specs)
    }

    pub(super) fn spec(&self, name: &str, common: &Common, script: &Script) -> Spec {
        let id = id(name);
        let config = erase::<Made>(script.clone());
        let probe = match self.scheduler.find(&id) {
            Some((old, probe)) if old.same(&*config) => probe,
            Some((_, previous)) => config.build(&Shared::default(), Some(&*previous)).unwrap(),
            None => config.build(&Shared::default(), None).unwrap(),
        };
        Spec {
            id,
            kind: &KIND,
            common: common.clone().into(),
            config,
            probe,
            file: std::path::Path::new("test.toml").into(),
        }
    }

    pub(super) fn scrape(&self) -> Scrape {
        Scrape::from(&*self.store)
    }

    /// Waits until the probe `p` has ended so many runs, and returns what a scrape shows then.
    pub(super) async fn runs(&self, count: u32) -> Scrape {
        self.until(|scrape| scrape.get("midwatch_probe_runs_total", "probe=p") >= Some(f64::from(count))).await
    }

    /// Waits until a scrape shows what is asked for, and returns that scrape.
    pub(super) async fn until(&self, shows: impl Fn(&Scrape) -> bool) -> Scrape {
        for _ in 0..6_000 {
            let scrape = self.scrape();
            if shows(&scrape) {
                return scrape;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a minute; a scrape shows {:#?}", self.scrape().samples);
    }
}
