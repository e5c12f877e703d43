"""Objectives: what is left of them, and how fast it is spent."""

from panels import Board, steps

BOARD = board = Board("slo", "midwatch / Objectives", "What probes promise, and what is left of it.", probe="")

GOOD = 'sum by (type, probe) (increase(midwatch_probe_slo_events_total{@, result="good"}[%s]))'
ALL = "sum by (type, probe) (increase(midwatch_probe_slo_events_total{@}[%s]))"
BUDGET = "(1 - max by (type, probe) (midwatch_probe_slo_objective_ratio{@}))"


def burn(window):
    return f"(1 - {GOOD % window} / {ALL % window}) / {BUDGET}"


def left(window):
    return f"1 - {burn(window)}"


board.row("Objectives")
board.table("Probes", [
    ("objective", "max by (type, probe) (midwatch_probe_slo_objective_ratio{@})", "percentunit"),
    ("good", f"{GOOD % '30d'} / {ALL % '30d'}", "percentunit"),
    ("budget left", left("30d"), "percentunit"),
], "What each probe promises, its share of good events within 30 days, and what is left of the failures that this allows.", size=(24, 8),
    link=("probe", "this probe alone", "/d/midwatch-slo?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.series("Error budget left", {"{{type}} {{probe}}": left("30d")}, "percentunit",
             "Of 30 days: 100 % is untouched, 0 % is spent, less is a broken promise.", thresholds=steps("red", (0, "green")), decimals=1)
board.series("Events by result", {"{{result}}": "sum by (result) (rate(midwatch_probe_slo_events_total{@}[$__rate_interval]))"}, "ops", stack=True)
board.row("Burn rate")
for window, factor in (("1h", 14.4), ("6h", 6), ("3d", 1)):
    board.series(f"Burn rate over {window}", {"{{type}} {{probe}}": burn(window)}, "none",
                 f"How many times too fast the budget is spent. From {factor} on, and if it goes on, an alert fires.",
                 size=(8, 8), thresholds=steps("green", (factor, "red")), least=0)
board.row("Where it is spent")
board.series("Failed and slow events by target", {"{{type}} {{probe}} {{target}} {{result}}":
             'sum by (type, probe, target, result) (increase(midwatch_probe_slo_events_total{@, result!="good"}[$__rate_interval]))'}, "short", size=(12, 8))
board.series("Duration against the objective", {
    "p99 {{type}} {{probe}}": "histogram_quantile(0.99, sum by (type, probe, le) (rate(midwatch_probe_duration_seconds_bucket{@}[$__rate_interval])))",
    "limit {{type}} {{probe}}": "max by (type, probe) (midwatch_probe_slo_latency_seconds{@})"}, "s", size=(12, 8), exemplars=True,
    about="The duration that a hundredth of the runs exceeds, and the latency beyond which a success is not good.")
