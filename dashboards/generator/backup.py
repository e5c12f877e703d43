"""Backups: when, how long, how large, on which node, and whether they slowed anything."""

from panels import UP_DOWN, YES_NO, Board, steps

RESULT = [{"type": "value", "options": {"0": {"text": "failed", "color": "red", "index": 0}, "1": {"text": "good", "color": "green", "index": 1}}}]

BOARD = board = Board("backup", "midwatch / Backups", "When the last good backup was, how long it took, where it ran, and what else was slow meanwhile.", probe="backup", since="7d")


def top(metric, labels="", matchers=""):
    """The value that replicas of midwatch agree on."""
    return f"max by (probe{', ' + labels if labels else ''}) (midwatch_backup_{metric}{{@{', ' + matchers if matchers else ''}}})"


board.row("Now")
board.stat("Oldest last success", f"time() - min({top('last_success_timestamp_seconds')})", "s", "Of the job whose last good backup is oldest, how long ago that ended.")
board.stat("Last runs that failed", f"count({top('last_run_success')} == 0) or vector(0)", about="Jobs whose last run was no success.", thresholds=steps("green", (1, "red")))
board.stat("Running", f"sum({top('runs_in_progress')})", thresholds=steps("green", (1, "blue")))
board.stat("Missed runs", "sum(max by (probe) (increase(midwatch_backup_missed_runs_total{@}[$__range])))", decimals=0, thresholds=steps("green", (1, "red")))
board.stat("Stored", f"sum({top('stored_bytes')})", "bytes", "All complete backups of all jobs.")
board.stat("Sources that cannot be read", f"count({top('source_up')} == 0) or vector(0)", about="Jobs of which nothing new is known.", thresholds=steps("green", (1, "orange")))
board.table("Jobs", [
    ("last success", f"time() - {top('last_success_timestamp_seconds')}", "s"),
    ("last start", f"time() - {top('last_start_timestamp_seconds')}", "s"),
    ("expected every", top("expected_interval_seconds"), "s"),
    ("grace", top("grace_seconds"), "s"),
    ("took", top("last_duration_seconds"), "s"),
    ("size", top("last_size_bytes"), "bytes"),
    ("uncompressed", top("last_uncompressed_bytes"), "bytes"),
    ("memory", top("last_peak_memory_bytes"), "bytes"),
    ("last run", top("last_run_success"), "none", RESULT),
    ("kept", top("retained"), "short"),
    ("oldest kept", f"time() - {top('oldest_timestamp_seconds')}", "s"),
    ("source", top("source_up"), "none", UP_DOWN),
    ("state kept", top("state_writable"), "none", YES_NO),
], "Every job, and what is known of it.", size=(24, 9), sort="last success",
    link=("probe", "this job alone", "/d/midwatch-backup?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.table("Where runs are learnt from", [("is", top("info", "source, restores"), "none")], "The source of each job; restore tests name the job whose backups they restore.", size=(8, 8), hidden=("Value",),
            link=("probe", "this job alone", "/d/midwatch-backup?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.table("Restore tests", [
    ("last success", f"time() - {top('restore_test_last_success_timestamp_seconds', 'restores')}", "s"),
    ("took", top("restore_test_last_duration_seconds", "restores"), "s"),
], "When a backup was last seen to be good for something.", size=(8, 8),
    link=("probe", "this job alone", "/d/midwatch-backup?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.series("Last failure", {"{{probe}}": f"time() - {top('last_failure_timestamp_seconds')}"}, "s", size=(8, 8), about="How long ago the last run ended that was no success.")
board.row("Was it the backup that slowed the database?")
board.timeline("Running", top("running", "node"), "{{probe}} {{node}}", [{"type": "value", "options": {
    "0": {"text": "idle", "color": "transparent", "index": 0}, "1": {"text": "running", "color": "purple", "index": 1}}}], size=(24, 6))
board.series("MongoDB hello by member (p90)", {"{{member}}":
             'histogram_quantile(0.9, sum by (member, le) (rate(midwatch_mongodb_connect_duration_seconds_bucket{#, phase="hello"}[$__rate_interval])))'}, "s", exemplars=True,
             about="How long members take to greet a client. A node of the panel above is spelled as the member here.")
board.series("Duration of all other probes (p90)", {"{{type}}": 'histogram_quantile(0.9, sum by (type, le) (rate(midwatch_probe_duration_seconds_bucket{#, type!="backup"}[$__rate_interval])))'}, "s", exemplars=True,
             about="Whether anything else was slow meanwhile.")
board.row("Runs")
board.series("Duration", {
    "{{probe}}": top("last_duration_seconds"),
    "{{probe}} usual": "max by (probe) (quantile_over_time(0.5, midwatch_backup_last_duration_seconds{@}[14d]))",
    "{{probe}} high": "max by (probe) (quantile_over_time(0.9, midwatch_backup_last_duration_seconds{@}[14d]))"}, "s", "Of the last run, with the median and the ninth decile of two weeks.")
board.series("Size", {"{{probe}}": top("last_size_bytes"), "{{probe}} usual": "max by (probe) (quantile_over_time(0.5, midwatch_backup_last_size_bytes{@}[14d]))"}, "bytes",
             "Of the last good backup, with the median of two weeks.")
board.timeline("Last run", top("last_run_success"), "{{probe}}", RESULT, size=(24, 6))
board.series("Results", {"{{probe}} {{outcome}}": "max by (probe, outcome) (increase(midwatch_backup_runs_total{@}[$__rate_interval])) > 0"}, "short", size=(8, 8), decimals=0)
board.series("Duration by outcome (p90)", {"{{probe}} {{outcome}}": "histogram_quantile(0.9, sum by (probe, outcome, le) (increase(midwatch_backup_duration_seconds_bucket{@}[$__range])))"}, "s", size=(8, 8))
board.series("Phases (mean)", {"{{probe}} {{phase}}": "sum by (probe, phase) (increase(midwatch_backup_phase_duration_seconds_sum{@}[$__range])) / sum by (probe, phase) (increase(midwatch_backup_phase_duration_seconds_count{@}[$__range]))"}, "s", size=(8, 8))
board.series("Processor time", {"{{probe}}": "max by (probe) (increase(midwatch_backup_cpu_seconds_total{@}[$__rate_interval]))"}, "s", size=(8, 8))
board.series("Missed and overlapping runs", {
    "missed {{probe}}": "max by (probe) (increase(midwatch_backup_missed_runs_total{@}[$__rate_interval]))",
    "overlapping {{probe}}": "max by (probe) (increase(midwatch_backup_overlaps_total{@}[$__rate_interval]))"}, "short", size=(8, 8), about="Due times at which no run began, and runs that began while another one went on.")
board.series("Running for", {"{{probe}}": f"time() - {top('running_start_timestamp_seconds')}"}, "s", size=(8, 8), about="How long the oldest of the runs that go on has been running; empty while none does.")
board.row("What is kept")
board.series("Complete backups", {"{{probe}}": top("retained")}, "short", size=(8, 8), decimals=0)
board.series("Stored", {"{{probe}}": top("stored_bytes")}, "bytes", size=(8, 8))
board.series("Age of the oldest", {"{{probe}}": f"time() - {top('oldest_timestamp_seconds')}"}, "s", size=(8, 8), about="How far back one can go.")
board.row("Point-in-time recovery")
board.timeline("Oplog being saved", top("pitr_running", "rs"), "{{probe}} {{rs}}", size=(12, 7))
board.timeline("Agents", top("agent_up", "node"), "{{probe}} {{node}}", size=(12, 7))
board.series("Behind now", {"{{probe}} {{rs}}": top("pitr_lag_seconds", "rs")}, "s", size=(6, 8))
board.series("Gaps", {"{{probe}}": top("pitr_gaps")}, "short", size=(6, 8), decimals=0)
board.series("Duration of gaps", {"{{probe}}": top("pitr_gap_seconds")}, "s", size=(6, 8))
board.table("Restorable", [
    ("enabled", top("pitr_enabled"), "none", YES_NO),
    ("from", f"{top('pitr_earliest_timestamp_seconds')} * 1000", "dateTimeAsIso"),
    ("until", f"{top('pitr_latest_timestamp_seconds')} * 1000", "dateTimeAsIso"),
], "To which moments everything can be restored.", size=(6, 8),
    link=("probe", "this job alone", "/d/midwatch-backup?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
