//! Type erasure of probes and their configurations, written once: nothing outside this file names a probe's type.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Cycle, Elsewhere, Failure, Floor, Probe, Reason, Shared};
use crate::metrics::{Desc, Live, Recorder};
use crate::settings::{Section, Settings};

/// A boxed future of a probe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who a probe is: `[probe.<kind>.<name>]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId {
    /// The probe type.
    pub kind: &'static str,
    /// The name that the operator gave it.
    pub name: Arc<str>,
}

impl fmt::Display for ProbeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.name)
    }
}

/// A probe type as a value.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The probe type's name.
    pub name: &'static str,
    /// Every metric it may record.
    pub metrics: &'static [&'static Desc],
    /// The reasons its runs can fail for, besides `timeout` and `internal`.
    pub reasons: &'static [Reason],
    read: fn(&mut Section<'_>) -> Option<Arc<dyn AnyConfig>>,
}

impl Kind {
    /// The value for a probe type.
    pub const fn of<P: Probe>() -> Self {
        Self { name: P::TYPE, metrics: P::METRICS, reasons: P::REASONS, read: read::<P> }
    }

    /// Every reason that a run can fail for.
    pub fn all_reasons(&self) -> impl Iterator<Item = Reason> {
        self.reasons.iter().copied().chain([Reason::Timeout, Reason::Internal])
    }

    /// Reads the type's own keys. `None` if there is no usable value; the section then holds the problems.
    pub fn read(&self, section: &mut Section<'_>) -> Option<Arc<dyn AnyConfig>> {
        (self.read)(section)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kind").field(&self.name).finish()
    }
}

fn read<P: Probe>(section: &mut Section<'_>) -> Option<Arc<dyn AnyConfig>> {
    P::Config::read(section).map(erase::<P>)
}

/// Forgets of which type the configuration is.
pub fn erase<P: Probe>(config: P::Config) -> Arc<dyn AnyConfig> {
    Arc::new(Typed::<P>(Arc::new(config)))
}

/// The configuration of a probe whose type is not known here.
pub trait AnyConfig: Any + Send + Sync {
    /// Whether both are of one type and equal.
    fn same(&self, other: &dyn AnyConfig) -> bool;

    /// See [`Probe::floor`].
    fn floor(&self) -> Option<Floor>;

    /// Builds the probe; `previous` is ignored unless it is of the same type.
    ///
    /// # Errors
    /// What is wrong with the configuration, in words.
    fn build(&self, shared: &Shared, previous: Option<&dyn AnyProbe>) -> Result<Arc<dyn AnyProbe>, String>;
}

struct Typed<P: Probe>(Arc<P::Config>);

impl<P: Probe> AnyConfig for Typed<P> {
    fn same(&self, other: &dyn AnyConfig) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| self.0 == other.0)
    }

    fn floor(&self) -> Option<Floor> {
        P::floor(&self.0)
    }

    fn build(&self, shared: &Shared, previous: Option<&dyn AnyProbe>) -> Result<Arc<dyn AnyProbe>, String> {
        let previous = previous.and_then(|probe| (probe as &dyn Any).downcast_ref::<P>());
        P::new(&self.0, shared, previous).map(|probe| Arc::new(probe) as Arc<dyn AnyProbe>)
    }
}

/// A probe whose type is not known here; the methods are those of [`Probe`].
pub trait AnyProbe: Any + Send + Sync {
    /// See [`Probe::cycles`].
    fn cycles(&self) -> Vec<Cycle>;
    /// See [`Probe::run`].
    fn run<'a>(&'a self, cycle: Cycle, rec: &'a mut Recorder) -> BoxFuture<'a, Result<(), Failure>>;
    /// See [`Probe::serve`].
    fn serve(&self, live: Live) -> BoxFuture<'_, ()>;
    /// See [`Probe::refer`].
    fn refer(&self, to: &Elsewhere) -> Option<BoxFuture<'static, ()>>;
    /// See [`Probe::reconsider`].
    fn reconsider(&self);
    /// See [`Probe::concerns`].
    fn concerns(&self) -> Vec<String>;
    /// See [`Probe::story`].
    fn story(&self) -> String;
    /// See [`Probe::expected`].
    fn expected(&self, label: &str) -> Vec<String>;
}

impl<P: Probe> AnyProbe for P {
    fn cycles(&self) -> Vec<Cycle> {
        Probe::cycles(self)
    }

    fn run<'a>(&'a self, cycle: Cycle, rec: &'a mut Recorder) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(Probe::run(self, cycle, rec))
    }

    fn serve(&self, live: Live) -> BoxFuture<'_, ()> {
        Box::pin(Probe::serve(self, live))
    }

    fn refer(&self, to: &Elsewhere) -> Option<BoxFuture<'static, ()>> {
        Probe::refer(self, to)
    }

    fn reconsider(&self) {
        Probe::reconsider(self);
    }

    fn concerns(&self) -> Vec<String> {
        Probe::concerns(self)
    }

    fn story(&self) -> String {
        Probe::story(self)
    }

    fn expected(&self, label: &str) -> Vec<String> {
        Probe::expected(self, label)
    }
}
