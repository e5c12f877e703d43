"""midwatch itself: whether anybody watches, and what that costs."""

from panels import YES_NO, Board, steps

BOARD = board = Board("midwatch", "midwatch / midwatch", "Whether midwatch runs as it should, and what it costs.", probe="")

board.row("Now")
board.stat("Instances", "count(midwatch_build_info{#})", about="Instances of midwatch that are scraped.", thresholds=steps("red", (1, "green")))
board.stat("Configurations in force", "count(count by (midwatch_config_hash) (count_values(\"midwatch_config_hash\", midwatch_config_hash{#})))",
           about="More than one: replicas differ.", thresholds=steps("green", (2, "orange")))
board.stat("Last reload", "min(midwatch_config_last_reload_successful{#})", mappings=[{"type": "value", "options": {
    "0": {"text": "bad", "color": "red", "index": 0}, "1": {"text": "good", "color": "green", "index": 1}}}], thresholds=steps("red", (1, "green")))
board.stat("Series", "sum(midwatch_series{#})", "short")
board.stat("Probes", "count(count by (type, probe) (midwatch_probe_info{@}))", about="Probes that run.")
board.stat("Missed runs", "sum(increase(midwatch_probe_missed_total{@}[$__range]))", decimals=0, thresholds=steps("green", (1, "orange")))
board.table("Every instance", [
    ("version", "max by (job, instance, version) (midwatch_build_info{#})", "none"),
    ("configuration", "0 * max by (job, instance, version) (midwatch_build_info{#}) + on (job, instance) group_left () midwatch_config_hash{#}", "none"),
    ("up for", "0 * max by (job, instance, version) (midwatch_build_info{#}) + on (job, instance) group_left () (time() - process_start_time_seconds{#})", "s"),
    ("last good load", "0 * max by (job, instance, version) (midwatch_build_info{#}) + on (job, instance) group_left () (time() - midwatch_config_last_reload_success_timestamp_seconds{#})", "s"),
    ("threads", "0 * max by (job, instance, version) (midwatch_build_info{#}) + on (job, instance) group_left () process_threads{#}", "none"),
], "Every instance, its version and configuration.", size=(24, 7), hidden=("Value #A",), link=("instance", "this instance alone", "/d/midwatch-midwatch?var-instance=${__data.fields.instance}&${datasource:queryparam}"))
board.series("Probes by instance", {"{{instance}}": "midwatch_probes_owned{#}", "of the configuration": "max(midwatch_probes_loaded{#})"}, "none",
             "How many probes each instance runs, and how many there are: shards have them between them, full replicas all of them each.",
             size=(12, 7), decimals=0)
board.table("Missing shards", [
    ("missing", "max by (job, namespace, shard, shards) (midwatch_shard_expected{#}) unless on (job, namespace, shard, shards) max by (job, namespace, shard, shards) (midwatch_shard_info{#})", "none"),
], "Shards that others know of, and that no chosen instance is. Empty while all is well, and without shards.", size=(12, 7), hidden=("missing",),
    link=("job", "this job alone", "/d/midwatch-midwatch?var-job=${__data.fields.job}&${datasource:queryparam}"))
board.row("Configuration")
board.series("Reloads", {"{{instance}} {{result}}": "sum by (instance, result) (increase(midwatch_config_reloads_total{#}[$__rate_interval]))"}, "short", size=(8, 8), decimals=0)
board.timeline("Files", "min by (instance, file) (midwatch_config_file_ok{#})", "{{instance}} {{file}}", YES_NO, size=(16, 8))
board.row("Runs")
board.series("Delay of starts (p50, p99)", {f"p{q} {{{{type}}}}": f"histogram_quantile({q / 100}, sum by (type, le) (rate(midwatch_probe_start_delay_seconds_bucket{{#}}[$__rate_interval])))" for q in (50, 99)}, "s")
board.series("Runs", {"{{type}}": "sum by (type) (rate(midwatch_probe_runs_total{@}[$__rate_interval]))"}, "ops")
board.series("Missed runs by probe", {"{{type}} {{probe}}": "sum by (type, probe) (increase(midwatch_probe_missed_total{@}[$__rate_interval])) > 0"}, "short", size=(12, 8), decimals=0)
board.table("Probes", [
    ("interval", "max by (type, probe) (midwatch_probe_interval_seconds{@})", "s"),
    ("last run", "time() - max by (type, probe) (midwatch_probe_last_run_timestamp_seconds{@})", "s"),
    ("took", "max by (type, probe) (midwatch_probe_last_duration_seconds{@})", "s"),
    ("last success", "time() - max by (type, probe) (midwatch_probe_last_success_timestamp_seconds{@})", "s"),
    ("whole run", "min by (type, probe) (midwatch_probe_run_success{@})", "none", YES_NO),
    ("dropped", "max by (type, probe) (increase(midwatch_series_dropped_total{@}[$__range]))", "short"),
], "How often probes run, and how their last run was.", size=(12, 8), link=("probe", "its objective", "/d/midwatch-slo?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.row("What it costs")
board.series("Duration of scrapes (p99)", {"{{instance}}": "histogram_quantile(0.99, sum by (instance, le) (rate(midwatch_scrape_duration_seconds_bucket{#}[$__rate_interval])))"}, "s", size=(8, 8))
board.series("Series", {"{{instance}}": "midwatch_series{#}"}, "short", size=(8, 8))
board.series("Values dropped", {"{{type}} {{probe}}": "sum by (type, probe) (increase(midwatch_series_dropped_total{@}[$__rate_interval]))"}, "short", size=(8, 8))
board.series("Memory", {"{{instance}}": "process_resident_memory_bytes{#}", "virtual {{instance}}": "process_virtual_memory_bytes{#}"}, "bytes", size=(8, 8))
board.series("Processor", {"{{instance}}": "rate(process_cpu_seconds_total{#}[$__rate_interval])"}, "percentunit", "Share of a core.", size=(8, 8))
board.series("File descriptors", {"{{instance}}": "process_open_fds{#}", "limit {{instance}}": "process_max_fds{#}"}, "none", size=(8, 8), decimals=0)
