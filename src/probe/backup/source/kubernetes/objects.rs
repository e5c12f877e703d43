//! Jobs, Pods and CronJobs as the API server tells them, reduced to what is needed: the rest is skipped while it is read.
//!
//! Source: the Kubernetes API reference, `batch/v1` Job and CronJob, `core/v1` Pod.

use std::borrow::Cow;
use std::fmt::Debug;

use chrono::DateTime;
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::probe::backup::runs::{End, Outcome, Run};
use crate::probe::net::clean;

/// A kind of object.
pub trait Kind: Clone + Debug + Send + Sync + 'static {
    /// Its name, such as `Job`.
    const KIND: &'static str;
    /// Its API group; empty for the core.
    const GROUP: &'static str;
    /// How paths name it, such as `jobs`.
    const PLURAL: &'static str;
    /// What is read of `spec`.
    type Spec: Clone + Debug + Default + DeserializeOwned + Send + Sync;
    /// What is read of `status`.
    type Status: Clone + Debug + Default + DeserializeOwned + Send + Sync;
}

/// Jobs of `batch/v1`.
#[derive(Clone, Debug)]
pub struct Job;

/// Pods of `core/v1`.
#[derive(Clone, Debug)]
pub struct Pod;

/// CronJobs of `batch/v1`.
#[derive(Clone, Debug)]
pub struct CronJob;

impl Kind for Job {
    const KIND: &'static str = "Job";
    const GROUP: &'static str = "batch";
    const PLURAL: &'static str = "jobs";
    type Spec = IgnoredAny;
    type Status = JobStatus;
}

impl Kind for Pod {
    const KIND: &'static str = "Pod";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "pods";
    type Spec = PodSpec;
    type Status = IgnoredAny;
}

impl Kind for CronJob {
    const KIND: &'static str = "CronJob";
    const GROUP: &'static str = "batch";
    const PLURAL: &'static str = "cronjobs";
    type Spec = CronJobSpec;
    type Status = IgnoredAny;
}

/// What is read of a Job's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    start_time: Option<String>,
    completion_time: Option<String>,
    conditions: Option<Vec<Condition>>,
}

/// A condition of a Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    r#type: String,
    status: String,
    last_transition_time: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

/// What is read of a Pod's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Where it runs; nothing until that is decided.
    pub node_name: Option<String>,
}

/// What is read of a CronJob's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobSpec {
    /// Five fields, or a word such as `@daily`.
    pub schedule: String,
    /// The schedule's time zone; without one it is that of the cluster's controller.
    pub time_zone: Option<String>,
    /// Whether it starts nothing until further notice.
    pub suspend: Option<bool>,
}

/// What is read of an object's metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Its name, for people.
    pub name: String,
    /// Tells it from all others, also from later ones of its name.
    pub uid: String,
    resource_version: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    owner_references: Option<Vec<Owner>>,
}

/// Whose object it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// The owner's kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// An object.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw<K>", bound(deserialize = "K: Kind"))]
pub struct Object<K: Kind> {
    /// What the watch needs of it.
    metadata: ObjectMeta,
    /// What it says of itself.
    pub meta: Meta,
    /// What is wanted.
    pub spec: K::Spec,
    /// What is.
    pub status: K::Status,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "K: Kind"))]
struct Raw<K: Kind> {
    metadata: Meta,
    #[serde(default)]
    spec: Option<K::Spec>,
    #[serde(default)]
    status: Option<K::Status>,
}

impl<K: Kind> From<Raw<K>> for Object<K> {
    fn from(raw: Raw<K>) -> Self {
        let metadata = ObjectMeta { resource_version: raw.metadata.resource_version.clone(), ..ObjectMeta::default() };
        let (spec, status) = (raw.spec.unwrap_or_default(), raw.status.unwrap_or_default());
        Self { metadata, meta: raw.metadata, spec, status }
    }
}

impl<K: Kind> Resource for Object<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Meta {
    /// When it was made, in unix seconds.
    pub fn created(&self) -> Option<f64> {
        time(self.creation_timestamp.as_deref())
    }

    /// When somebody asked to delete it, in unix seconds.
    pub fn deleted(&self) -> Option<f64> {
        time(self.deletion_timestamp.as_deref())
    }

    /// Its owners of that kind.
    pub fn owners(&self, kind: &str) -> impl Iterator<Item = &Owner> {
        self.owner_references.iter().flatten().filter(move |owner| owner.kind == kind)
    }
}

impl Object<Job> {
    /// The Job as a run: one, however many Pods it needs. `None` as long as it has not been started, and for a Job without a uid.
    pub fn run(&self) -> Option<Run> {
        let started = time(self.status.start_time.as_deref());
        let (end, note) = match (self.condition("Complete"), self.condition("Failed")) {
            (Some(complete), _) => {
                let at = time(self.status.completion_time.as_deref()).or_else(|| complete.since()).or(started)?;
                (Some(End { at, outcome: Outcome::Success }), String::new())
            }
            (None, Some(failed)) => {
                let at = failed.since().or(started)?;
                (Some(End { at, outcome: Outcome::Failure }), failed.words())
            }
            (None, None) => (None, String::new()),
        };
        let is_run = !self.meta.uid.is_empty() && (started.is_some() || end.is_some());
        let note = if note.is_empty() { clean(&self.meta.name) } else { format!("{}: {note}", clean(&self.meta.name)) };
        is_run.then(|| Run { id: self.meta.uid.clone(), started, end, note, ..Run::default() }.trimmed())
    }

    /// A condition that is met.
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|condition| condition.r#type == kind && condition.status == "True")
    }
}

impl Condition {
    /// Since when it is as it is, in unix seconds.
    fn since(&self) -> Option<f64> {
        time(self.last_transition_time.as_deref())
    }

    /// Why, for a person.
    fn words(&self) -> String {
        let words = [self.reason.as_deref(), self.message.as_deref()];
        let words: Vec<_> = words.into_iter().flatten().filter(|words| !words.is_empty()).map(clean).collect();
        words.join(": ")
    }
}

/// A time as the API writes it (RFC 3339), in unix seconds; `None` for what is none.
fn time(text: Option<&str>) -> Option<f64> {
    let time = DateTime::parse_from_rfc3339(text?).ok()?;
    Some(time.timestamp() as f64 + f64::from(time.timestamp_subsec_millis().min(999)) / 1000.0)
}
