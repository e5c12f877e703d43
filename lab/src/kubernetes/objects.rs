//! Objects as the API has them.

use serde_json::{Value, json};

use super::NAMESPACE;

/// A Job with that uid in that state of its life. `owner` is its CronJob.
pub fn job(name: &str, uid: &str, owner: Option<&str>, life: &Life<'_>) -> Value {
    let condition = |kind: &str, at: &str, reason: &str, message: &str| json!([{"type": kind, "status": "True", "lastProbeTime": at, "lastTransitionTime": at, "reason": reason, "message": message}]);
    let status = match life {
        Life::Pending => json!({}),
        Life::Running { started } => json!({"startTime": started, "active": 1, "ready": 1}),
        Life::Complete { started, ended } => json!({
            "startTime": started, "completionTime": ended, "succeeded": 1,
            "conditions": condition("Complete", ended, "CompletionsReached", "Reached expected number of succeeded pods"),
        }),
        Life::Failed { started, ended, reason } => json!({
            "startTime": started, "failed": 4, "conditions": condition("Failed", ended, reason, "Job has failed"),
        }),
    };
    let owners = owner.map(|owner| json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": owner, "uid": format!("uid-of-{owner}"), "controller": true}]));
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "labels": {"app": "backup"}, "ownerReferences": owners,
            "creationTimestamp": "2026-11-21T01:59:59Z", "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}}]},
        "spec": {"backoffLimit": 3, "template": {"spec": {"containers": [{"name": "dump", "image": "mongo", "env": [{"name": "PASSWORD", "value": "from-the-spec"}]}]}}},
        "status": status,
    })
}

/// The life of a Job.
#[derive(Clone, Copy, Debug)]
pub enum Life<'t> {
    /// Made, and not begun.
    Pending,
    /// Begun.
    Running {
        /// When.
        started: &'t str,
    },
    /// Done.
    Complete {
        /// When it began.
        started: &'t str,
        /// When it ended.
        ended: &'t str,
    },
    /// Given up.
    Failed {
        /// When it began.
        started: &'t str,
        /// When it ended.
        ended: &'t str,
        /// Why, such as `BackoffLimitExceeded`.
        reason: &'t str,
    },
}

/// A Pod of the Job with that uid, on that node; without one it waits for a place.
pub fn pod(name: &str, job: &str, created: &str, node: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}"), "labels": {"job-name": "a-job"},
            "creationTimestamp": created, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "a-job", "uid": job, "controller": true}]},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running"},
    })
}

/// A CronJob.
pub fn cron_job(name: &str, schedule: &str, zone: Option<&str>, is_suspended: bool) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}")},
        "spec": {"schedule": schedule, "timeZone": zone, "suspend": is_suspended, "jobTemplate": {"spec": {}}},
        "status": {"lastScheduleTime": "2026-11-21T02:00:00Z"},
    })
}

/// A moment as Kubernetes writes it.
pub fn minutes_ago(minutes: i64) -> String {
    let at = time::OffsetDateTime::now_utc() - time::Duration::minutes(minutes);
    let (date, time) = (at.date(), at.time());
    let (month, day) = (u8::from(date.month()), date.day());
    format!("{}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", date.year(), time.hour(), time.minute(), time.second())
}
