//! What the probe records.

use super::runs::Outcome;
use crate::metrics::{BACKUP, Counter, Desc, Gauge, Histogram};

/// Every outcome, as tuples of the label.
const OUTCOMES: &[&[&str]] =
    &[&[Outcome::Success.label()], &[Outcome::Failure.label()], &[Outcome::Canceled.label()], &[Outcome::Lost.label()]];

/// Declares gauges and counters without further labels, or with those given.
macro_rules! declare {
    ($($(#[$doc:meta])* $static:ident: $type:ident<$n:literal> = $name:literal $labels:tt, $help:literal;)*) => {
        $($(#[$doc])* pub(super) static $static: $type<$n> = $type::new(concat!("midwatch_backup_", $name), $help, &$labels);)*
    };
}

declare! {
    INFO: Gauge<2> = "info" ["source", "restores"],
        "Always 1; says where the job's runs are learnt from, and for a restore test the job whose backups it restores.";
    SOURCE_UP: Gauge<0> = "source_up" [],
        "Whether the source of the job's runs could be read; while it cannot, all other values stay as they were.";
    STATE_WRITABLE: Gauge<0> = "state_writable" [],
        "Whether what must survive a restart was written to the state directory.";
    LAST_SUCCESS: Gauge<0> = "last_success_timestamp_seconds" [],
        "When the last successful backup ended; absent before there was one, and for restore tests.";
    LAST_FAILURE: Gauge<0> = "last_failure_timestamp_seconds" [],
        "When the last run that was no success ended.";
    LAST_START: Gauge<0> = "last_start_timestamp_seconds" [],
        "When the last run began that is known to have begun.";
    LAST_DURATION: Gauge<0> = "last_duration_seconds" [],
        "Duration of the last run that ended, where it is known when it began.";
    LAST_RUN_SUCCESS: Gauge<0> = "last_run_success" [],
        "Whether the last run that ended was a success.";
    LAST_SIZE: Gauge<0> = "last_size_bytes" [],
        "Size of the last successful backup as it is stored.";
    LAST_UNCOMPRESSED: Gauge<0> = "last_uncompressed_bytes" [],
        "Size of the last successful backup before compression.";
    LAST_PEAK_MEMORY: Gauge<0> = "last_peak_memory_bytes" [],
        "The most memory that a process of the last run had.";
    RUNNING: Gauge<1> = "running" ["node"],
        "Whether a run goes on at the node, which is spelled as the MongoDB probe's member; 0 for nodes where one did.";
    RUNNING_START: Gauge<0> = "running_start_timestamp_seconds" [],
        "When the oldest of the runs that go on began.";
    IN_PROGRESS: Gauge<0> = "runs_in_progress" [],
        "Runs that go on.";
    EXPECTED_INTERVAL: Gauge<0> = "expected_interval_seconds" [],
        "Time between two runs by the job's schedule, as it is just now.";
    GRACE: Gauge<0> = "grace_seconds" [],
        "How much later than its due time a run may begin before it counts as missed.";
    RETAINED: Gauge<0> = "retained" [],
        "Complete backups that are there.";
    OLDEST: Gauge<0> = "oldest_timestamp_seconds" [],
        "When the oldest complete backup that is there was made.";
    STORED: Gauge<0> = "stored_bytes" [],
        "Size of all complete backups that are there.";
    RESTORE_LAST_SUCCESS: Gauge<1> = "restore_test_last_success_timestamp_seconds" ["restores"],
        "When the last successful restore test ended.";
    RESTORE_LAST_DURATION: Gauge<1> = "restore_test_last_duration_seconds" ["restores"],
        "Duration of the last restore test that ended.";
    PITR_ENABLED: Gauge<0> = "pitr_enabled" [],
        "Whether point-in-time recovery is switched on.";
    PITR_RUNNING: Gauge<1> = "pitr_running" ["rs"],
        "Whether the replica set's oplog is being saved for point-in-time recovery.";
    PITR_LAG: Gauge<1> = "pitr_lag_seconds" ["rs"],
        "How far the last moment to which the replica set can be restored is behind.";
    PITR_EARLIEST: Gauge<0> = "pitr_earliest_timestamp_seconds" [],
        "The first moment from which on everything can be restored to any point.";
    PITR_LATEST: Gauge<0> = "pitr_latest_timestamp_seconds" [],
        "The last moment to which everything can be restored.";
    PITR_GAPS: Gauge<0> = "pitr_gaps" [],
        "Gaps within the saved oplog, into which nothing can be restored.";
    PITR_GAP_SECONDS: Gauge<0> = "pitr_gap_seconds" [],
        "Duration of all gaps within the saved oplog together.";
    AGENT_UP: Gauge<1> = "agent_up" ["node"],
        "Whether the agent that makes backups at this node is there and well.";
    OVERLAPS: Counter<0> = "overlaps_total" [],
        "Runs that began while another one of the job went on.";
    MISSED: Counter<0> = "missed_runs_total" [],
        "Due times of the job's schedule at which no run began within its grace.";
    CPU: Counter<0> = "cpu_seconds_total" [],
        "Processor time of all runs that ended, where it is known.";
}

pub(super) static RUNS: Counter<1> = Counter::new(
    "midwatch_backup_runs_total",
    "Runs that ended, each counted once, also across restarts of midwatch.",
    &["outcome"],
)
.known(OUTCOMES);

pub(super) static DURATION: Histogram<1> = Histogram::new(
    "midwatch_backup_duration_seconds",
    "Duration of the runs that ended since midwatch began, where it is known when they did.",
    &["outcome"],
    BACKUP,
)
.known(OUTCOMES);

pub(super) static PHASE_DURATION: Histogram<1> = Histogram::new(
    "midwatch_backup_phase_duration_seconds",
    "Duration of each phase of the runs that ended since midwatch began, where the source tells phases.",
    &["phase"],
    BACKUP,
);

/// All of them.
pub(super) const ALL: &[&Desc] = &[
    INFO.desc(),
    SOURCE_UP.desc(),
    STATE_WRITABLE.desc(),
    LAST_SUCCESS.desc(),
    LAST_FAILURE.desc(),
    LAST_START.desc(),
    LAST_DURATION.desc(),
    LAST_RUN_SUCCESS.desc(),
    LAST_SIZE.desc(),
    LAST_UNCOMPRESSED.desc(),
    LAST_PEAK_MEMORY.desc(),
    RUNNING.desc(),
    RUNNING_START.desc(),
    IN_PROGRESS.desc(),
    EXPECTED_INTERVAL.desc(),
    GRACE.desc(),
    RETAINED.desc(),
    OLDEST.desc(),
    STORED.desc(),
    RESTORE_LAST_SUCCESS.desc(),
    RESTORE_LAST_DURATION.desc(),
    PITR_ENABLED.desc(),
    PITR_RUNNING.desc(),
    PITR_LAG.desc(),
    PITR_EARLIEST.desc(),
    PITR_LATEST.desc(),
    PITR_GAPS.desc(),
    PITR_GAP_SECONDS.desc(),
    AGENT_UP.desc(),
    OVERLAPS.desc(),
    MISSED.desc(),
    CPU.desc(),
    RUNS.desc(),
    DURATION.desc(),
    PHASE_DURATION.desc(),
];
