"""The wall screen: what is down, and how all probes are."""

from panels import UP_DOWN, Board, steps

BOARD = board = Board("overview", "midwatch / Overview", "What is down now, and how every probe has been.", probe="")

# Replicas of one vantage agree if one of them succeeds; of several vantages, or jobs, the worst is shown, as alerts see it.
STATE = "min by (type, probe, target) (max without (instance, pod) (midwatch_probe_success{@}))"
DETAIL = 'label_replace(label_replace({}, "detail", "$1", "type", "(.+)"), "detail", "kafka", "type", "kafka_canary")'

board.row("Now")
board.stat("Down", f"count({STATE} == 0) or vector(0)", about="Targets whose last run failed at every replica of midwatch.",
           thresholds=steps("green", (1, "red")))
board.stat("Targets", f"count({STATE})", about="Targets that are watched.")
board.stat("Availability", "avg(sum_over_time(midwatch_probe_success{@}[$__range])) / avg(count_over_time(midwatch_probe_success{@}[$__range]))", "percentunit",
           "The share of the chosen time for which targets were up, every measurement alike.", steps("red", (0.99, "orange"), (0.999, "green")), decimals=3)
board.stat("Least error budget left",
           "min(1 - (1 - sum by (type, probe) (increase(midwatch_probe_slo_events_total{@, result=\"good\"}[$__range])) "
           "/ sum by (type, probe) (increase(midwatch_probe_slo_events_total{@}[$__range]))) "
           "/ (1 - max by (type, probe) (midwatch_probe_slo_objective_ratio{@})))", "percentunit",
           "Of the probe that has least: what is left of the failures that its objective allows within the chosen time.",
           steps("red", (0, "orange"), (0.25, "green")), decimals=1)
board.stat("Slowest (p95)", "max(histogram_quantile(0.95, sum by (type, probe, target, le) (rate(midwatch_probe_duration_seconds_bucket{@}[$__rate_interval]))))", "s",
           "Of the probe that is slowest, the duration that a twentieth of its runs exceeds.")
board.stat("Backups running", "sum(max by (probe) (midwatch_backup_runs_in_progress{#})) or vector(0)", about="Runs of backups that go on.")
board.table("Probes", [
    ("state", DETAIL.format(STATE), "none", UP_DOWN),
    ("p95", DETAIL.format("histogram_quantile(0.95, sum by (type, probe, target, le) (rate(midwatch_probe_duration_seconds_bucket{@}[$__rate_interval])))"), "s"),
    ("age", DETAIL.format(f"0 * {STATE} + on (type, probe) group_left () (time() - max by (type, probe) (midwatch_probe_last_run_timestamp_seconds{{@}}))"), "s"),
    ("owned", DETAIL.format(f"0 * {STATE} + on (type, probe) group_left (owner) topk by (type, probe) (1, max by (type, probe, owner) (midwatch_probe_info{{@}}))"), "none"),
], "Every target: whether it is up, how long a twentieth of its runs takes at least, when it ran last, and who owns it.", size=(24, 10),
    link=("probe", "its dashboard", "/d/midwatch-${__data.fields.detail}?var-probe=${__data.fields.probe}&${datasource:queryparam}"), hidden=("Value #D",))
board.table("Failures by reason", [
    ("failures", "max by (type, probe, target, reason) (increase(midwatch_probe_failures_total{@}[$__range])) > 0", "short"),
], "Why runs failed within the chosen time.", size=(12, 8), sort="failures",
    link=("probe", "its objective", "/d/midwatch-slo?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.alerts("Alerts", "Alerts that fire, or are about to.")
board.row("Over time")
board.timeline("State", STATE, "{{type}} {{probe}} {{target}}")
board.series("Duration of runs (p95)", {"{{type}} {{probe}} {{target}}":
             "histogram_quantile(0.95, sum by (type, probe, target, le) (rate(midwatch_probe_duration_seconds_bucket{@}[$__rate_interval])))"}, "s", exemplars=True)
board.series("Duration of all runs", {
    f"p{q}": f"histogram_quantile({q / 100}, sum by (le) (rate(midwatch_probe_duration_seconds_bucket{{@}}[$__rate_interval])))" for q in (50, 90, 99)}, "s", exemplars=True)
board.heatmaps("How long runs take", "midwatch_probe_duration_seconds", ("Duration of runs", "", 24))
