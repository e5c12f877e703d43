"""Kafka: groups that fall behind, partitions that move, and what a record goes through."""

from panels import YES_NO, Board, steps

BOARD = board = Board("kafka", "midwatch / Kafka", "How far consumer groups are behind, in records and in seconds, what moves, and how fast records go through.",
                      probe="kafka|kafka_canary", variables=[
                          ("group", "Consumer group", "label_values(kafka_consumergroup_lag_sum{@}, consumergroup)"),
                          ("topic", "Topic", "label_values(kafka_topic_partitions{@}, topic)")])

G = 'consumergroup=~"$group", topic=~"$topic"'
T = 'topic=~"$topic"'


def top(labels, metric, matchers="", function="max"):
    """The value that replicas of midwatch agree on: what two of them see must not count twice."""
    return f"{function} by (probe{', ' + labels if labels else ''}) ({metric}{{@{', ' + matchers if matchers else ''}}})"


board.row("Now")
board.stat("Brokers", f"sum({top('', 'kafka_brokers')})", size=(3, 4))
board.stat("Partitions", f"sum({top('', 'kafka_cluster_partitions')})", "short", size=(3, 4))
board.stat("Partitions offline", f"sum({top('', 'kafka_cluster_offline_partitions')})", thresholds=steps("green", (1, "red")), size=(3, 4))
board.stat("Under-replicated", f"sum({top('', 'kafka_cluster_under_replicated_partitions')})", thresholds=steps("green", (1, "orange")), size=(3, 4))
board.stat("Greatest lag", f"max({top('consumergroup, topic', 'kafka_consumergroup_lag_seconds_max', G)})", "s", thresholds=steps("green", (60, "orange"), (300, "red")))
board.stat("Partitions that move", f"sum({top('', 'kafka_reassignment_partitions_in_progress')})", thresholds=steps("green", (1, "blue")))
board.stat("Records lost (canary)", "sum(max by (probe, broker) (increase(kafka_canary_records_lost_total{@}[$__range]))) or vector(0)", decimals=0, thresholds=steps("green", (1, "red")))

board.row("Lag")
board.series("Lag in seconds", {"{{consumergroup}} {{topic}}": top("consumergroup, topic", "kafka_consumergroup_lag_seconds_max", G)}, "s")
board.series("Lag in records", {"{{consumergroup}} {{topic}}": top("consumergroup, topic", "kafka_consumergroup_lag_sum", G)}, "short")
board.series("Time until caught up", {"{{consumergroup}} {{topic}}": top("consumergroup, topic", "kafka_consumergroup_drain_seconds", G)}, "s", size=(8, 8))
board.series("Room before records are lost", {"{{consumergroup}} {{topic}}": top("consumergroup, topic", "kafka_consumergroup_retention_headroom_ratio", G, "min")}, "percentunit", size=(8, 8))
board.series("Records per second", {"{{topic}}": f"sum by (topic) (max by (probe, topic, partition) (rate(kafka_topic_partition_current_offset{{@, {T}}}[$__rate_interval])))"}, "ops", size=(8, 8),
             about="How fast topics grow.")
board.table("Groups", [
    ("lag", top("consumergroup, topic", "kafka_consumergroup_lag_sum", G), "short"),
    ("seconds", top("consumergroup, topic", "kafka_consumergroup_lag_seconds_max", G), "s"),
    ("worst partition", top("consumergroup, topic", "kafka_consumergroup_lag_max", G), "short"),
    ("committed", top("consumergroup, topic", "kafka_consumergroup_current_offset_sum", G), "short"),
    ("last progress", f"time() - {top('consumergroup, topic', 'kafka_consumergroup_last_progress_timestamp_seconds', G)}", "s"),
    ("uncommitted", top("consumergroup, topic", "kafka_consumergroup_partitions_uncommitted", G), "short"),
    ("unassigned", top("consumergroup, topic", "kafka_consumergroup_partitions_unassigned", G), "short"),
    ("ahead", top("consumergroup, topic", "kafka_consumergroup_partitions_ahead", G), "short"),
], "Every group and topic: what is unread, since when, and partitions without commit or owner.", sort="lag",
    link=("consumergroup", "this group alone", "/d/midwatch-kafka?var-group=${__data.fields.consumergroup}&${datasource:queryparam}"))
board.timeline("State of groups", 'max by (probe, consumergroup) (kafka_consumergroup_state{@, consumergroup=~"$group", state="Stable"})', "{{consumergroup}}",
               [{"type": "value", "options": {"0": {"text": "not stable", "color": "orange", "index": 0}, "1": {"text": "stable", "color": "green", "index": 1}}}],
               about="Whether a group is stable: all members know what they own.", size=(12, 8))
board.series("Members of groups", {"{{consumergroup}}": top("consumergroup", "kafka_consumergroup_members", 'consumergroup=~"$group"')}, "none", size=(12, 8), decimals=0)
board.table("Coordinators", [("is", 'max by (probe, consumergroup, group_type, protocol, coordinator) (kafka_consumergroup_info{@, consumergroup=~"$group"})', "none")],
            "Which protocol each group uses, and which broker coordinates it.", size=(12, 8), hidden=("Value",),
            link=("consumergroup", "this group alone", "/d/midwatch-kafka?var-group=${__data.fields.consumergroup}&${datasource:queryparam}"))
board.table("Partitions furthest behind", [
    ("lag", f"topk(20, {top('consumergroup, topic, partition', 'kafka_consumergroup_lag', G)})", "short"),
], "The twenty partitions with most unread records.", size=(12, 8), sort="lag",
    link=("topic", "this topic alone", "/d/midwatch-kafka?var-topic=${__data.fields.topic}&${datasource:queryparam}"))
board.series("Lost records", {"{{consumergroup}} {{topic}}/{{partition}}": top("consumergroup, topic, partition", "kafka_consumergroup_lost_records", G)}, "short", size=(12, 8))
board.series("Lag of single partitions in seconds", {"{{consumergroup}} {{topic}}/{{partition}}": f"topk(10, {top('consumergroup, topic, partition', 'kafka_consumergroup_lag_seconds', G)})"}, "s", size=(12, 8))

board.row("Re-sharding")
board.series("Bytes left to move", {"broker {{broker}}": top("broker", "kafka_reassignment_remaining_bytes")}, "bytes", size=(8, 8))
board.series("Rate of moves", {"broker {{broker}}": top("broker", "kafka_reassignment_rate_bytes_per_second")}, "Bps", size=(8, 8))
board.series("Time until all moves are over", {"{{probe}}": top("", "kafka_reassignment_eta_seconds")}, "s", size=(8, 8))
board.table("Moves", [
    ("bytes left", top("topic, partition, broker", "kafka_reassignment_partition_remaining_bytes", T), "bytes"),
    ("records left", top("topic, partition, broker", "kafka_reassignment_partition_remaining_records", T), "short"),
    ("over in", top("topic, partition, broker", "kafka_reassignment_partition_eta_seconds", T), "s"),
    ("stalled", top("topic, partition, broker", "kafka_reassignment_partition_stalled", T), "none", YES_NO),
    ("since", f"time() - {top('topic, partition, broker', 'kafka_reassignment_partition_started_timestamp_seconds', T)}", "s"),
], "Every partition that is being moved to a broker.", size=(16, 8), sort="bytes left",
    link=("topic", "this topic alone", "/d/midwatch-kafka?var-topic=${__data.fields.topic}&${datasource:queryparam}"))
board.series("Moves begun, ended, cancelled", {
    "begun": "sum(max by (probe) (increase(kafka_reassignments_started_total{@}[$__rate_interval])))",
    "ended": "sum(max by (probe) (increase(kafka_reassignments_completed_total{@}[$__rate_interval])))",
    "cancelled": "sum(max by (probe) (increase(kafka_reassignments_cancelled_total{@}[$__rate_interval])))"}, "short", size=(8, 8), about="Moves of partitions that were seen to begin and to end.")
board.series("Partitions of topics", {"{{topic}}": top("topic", "kafka_topic_partitions", T)}, "none", size=(8, 8), decimals=0)
board.series("Changes of the number of partitions", {"{{topic}} {{direction}}": f"max by (probe, topic, direction) (increase(kafka_topic_partition_count_changes_total{{@, {T}}}[$__rate_interval])) > 0"}, "short", size=(8, 8), decimals=0)
board.series("Time since the number changed", {"{{topic}}": f"time() - {top('topic', 'kafka_topic_partitions_last_change_timestamp_seconds', T)}"}, "s", size=(8, 8))

board.row("Skew")
board.series("Leaders by broker, over the mean", {"broker {{broker}}": top("broker", "kafka_broker_leader_skew_ratio")}, "none", size=(8, 8))
board.series("Replicas by broker, over the mean", {"broker {{broker}}": top("broker", "kafka_broker_replica_skew_ratio")}, "none", size=(8, 8))
board.series("Leaders that are not the preferred ones", {"broker {{broker}}": top("broker", "kafka_broker_preferred_leader_imbalance_ratio")}, "percentunit", size=(8, 8))
board.series("Partitions led", {"broker {{broker}}": top("broker", "kafka_broker_leader_partitions")}, "none", size=(8, 8), decimals=0)
board.series("Replicas held", {"broker {{broker}}": top("broker", "kafka_broker_replica_partitions")}, "none", size=(8, 8), decimals=0)
board.table("Brokers", [("address", top("id, address", "kafka_broker_info"), "none")], "Where brokers listen, as they advertise.", size=(8, 8), hidden=("Value",),
            link=("id", "this cluster alone", "/d/midwatch-kafka?var-probe=${__data.fields.probe}&${datasource:queryparam}"))
board.series("Busiest partition over the mean", {"{{topic}}": top("topic", "kafka_topic_hot_partition_ratio", T)}, "none", size=(8, 8))
board.series("Spread of partitions' rates", {"{{topic}}": top("topic", "kafka_topic_partition_rate_cv", T)}, "none", size=(8, 8))
board.table("Topics", [
    ("partitions", top("topic", "kafka_topic_partitions", T), "none"),
    ("replicas of each", top("topic", "kafka_topic_replication_factor", T), "none"),
    ("size", top("topic", "kafka_topic_size_bytes", T), "bytes"),
    ("busiest partition", top("topic", "kafka_topic_hot_partition_id", T), "none"),
    ("busiest over the mean", top("topic", "kafka_topic_hot_partition_ratio", T), "none"),
], "Every topic: its partitions, and which of them receives most.", size=(16, 8), sort="size",
    link=("topic", "this topic alone", "/d/midwatch-kafka?var-topic=${__data.fields.topic}&${datasource:queryparam}"))
board.table("Hot partitions", [("hot", f"{top('topic, partition', 'kafka_topic_partition_hot', T)} == 1", "none", YES_NO)],
            "Partitions that receive far more than the others of their topic.", size=(8, 8),
            link=("topic", "this topic alone", "/d/midwatch-kafka?var-topic=${__data.fields.topic}&${datasource:queryparam}"))

board.row("Cluster")
board.series("Partitions that lack something", {
    "offline": f"sum({top('', 'kafka_cluster_offline_partitions')})",
    "under-replicated": f"sum({top('', 'kafka_cluster_under_replicated_partitions')})",
    "below min.insync": f"sum({top('', 'kafka_cluster_under_min_isr_partitions')})",
    "not led by the preferred": f"sum({top('', 'kafka_cluster_leader_not_preferred_partitions')})"}, "none", size=(8, 8), decimals=0, about="Of all partitions of all topics.")
board.series("Changes of leaders", {"{{topic}}": f"max by (probe, topic) (increase(kafka_topic_leader_changes_total{{@, {T}}}[$__rate_interval]))"}, "short", size=(8, 8), decimals=0)
board.series("Size of topics", {"{{topic}}": top("topic", "kafka_topic_size_bytes", T)}, "bytes", size=(8, 8))
board.series("Disks in use", {"broker {{broker}} {{log_dir}}":
             f"1 - {top('broker, log_dir', 'kafka_broker_log_dir_usable_bytes')} / {top('broker, log_dir', 'kafka_broker_log_dir_total_bytes')}"}, "percentunit", size=(8, 8),
             about="How full the disks of the log directories are.")
board.series("Log directories", {"broker {{broker}} {{log_dir}}": top("broker, log_dir", "kafka_broker_log_dir_size_bytes")}, "bytes", size=(8, 8))
board.series("Log directories given up", {"broker {{broker}} {{log_dir}}": top("broker, log_dir", "kafka_broker_log_dir_offline")}, "none", size=(8, 8), decimals=0)
board.series("Connection to brokers (p90)", {"broker {{broker}} {{phase}}":
             "histogram_quantile(0.9, sum by (broker, phase, le) (rate(kafka_broker_connect_duration_seconds_bucket{@}[$__rate_interval])))"}, "s", size=(8, 8), exemplars=True)
board.series("Failed connections", {"broker {{broker}} {{phase}} {{reason}}": "sum by (broker, phase, reason) (rate(kafka_broker_connect_failures_total{@}[$__rate_interval]))"}, "ops", size=(8, 8))
board.series("Addresses of advertised names", {"broker {{broker}}": top("broker", "kafka_broker_addresses")}, "none", size=(8, 8), decimals=0)

board.timeline("Controller", top("broker", "kafka_cluster_controller"), "broker {{broker}}", YES_NO, size=(16, 8))
board.row("Partitions", collapsed=True)
board.table("Partitions", [
    ("leader", top("topic, partition", "kafka_topic_partition_leader", T), "none"),
    ("preferred leads", top("topic, partition", "kafka_topic_partition_leader_is_preferred", T, "min"), "none", YES_NO),
    ("replicas", top("topic, partition", "kafka_topic_partition_replicas", T), "none"),
    ("in sync", top("topic, partition", "kafka_topic_partition_in_sync_replica", T, "min"), "none"),
    ("under-replicated", top("topic, partition", "kafka_topic_partition_under_replicated_partition", T), "none", YES_NO),
    ("records", f"{top('topic, partition', 'kafka_topic_partition_current_offset', T)} - {top('topic, partition', 'kafka_topic_partition_oldest_offset', T)}", "short"),
], "Every partition of the chosen topics: who leads, who follows, and how many records are retained.", size=(16, 12),
    link=("topic", "this topic alone", "/d/midwatch-kafka?var-topic=${__data.fields.topic}&${datasource:queryparam}"))
board.table("Partitions that cannot be used", [
    ("offline", top("topic, partition", "kafka_topic_partition_offline", T), "none", YES_NO),
    ("below min.insync", top("topic, partition", "kafka_topic_partition_under_min_isr", T), "none", YES_NO),
], "Partitions that have no leader, or too few replicas for producers with acks=all.", size=(8, 12),
    link=("topic", "this topic alone", "/d/midwatch-kafka?var-topic=${__data.fields.topic}&${datasource:queryparam}"))

board.row("Canary")
board.series("Through the cluster (p99)", {
    "produce {{broker}}": "histogram_quantile(0.99, sum by (broker, le) (rate(kafka_canary_produce_latency_seconds_bucket{@}[$__rate_interval])))",
    "end to end {{broker}}": "histogram_quantile(0.99, sum by (broker, le) (rate(kafka_canary_end_to_end_latency_seconds_bucket{@}[$__rate_interval])))",
    "connect {{broker}}": "histogram_quantile(0.99, sum by (broker, le) (rate(kafka_canary_connect_latency_seconds_bucket{@}[$__rate_interval])))"}, "s", exemplars=True)
board.series("Records that went wrong", {f"{what} {{{{broker}}}}": f"max by (probe, broker) (rate(kafka_canary_records_{what}_total{{@}}[$__rate_interval]))"
             for what in ("lost", "late", "duplicated", "failed")}, "ops")
board.series("Records sent and back", {f"{what} {{{{broker}}}}": f"max by (probe, broker) (rate(kafka_canary_records_{what}_total{{@}}[$__rate_interval]))"
             for what in ("produced", "consumed")}, "ops")
board.timeline("Available", top("broker", "kafka_canary_available"), "broker {{broker}}", size=(12, 8))
board.heatmaps("Canary, every record", "kafka_canary_end_to_end_latency_seconds", ("End to end", "", 24))

board.row("The collector", collapsed=True)
board.timeline("Sources", top("source", "kafka_collector_success"), "{{source}}", size=(12, 8))
board.timeline("Brokers that answer", top("broker", "kafka_collector_broker_up"), "broker {{broker}}", size=(12, 8))
board.series("Duration of rounds", {"{{source}}": top("source", "kafka_collector_duration_seconds")}, "s", size=(8, 8))
board.series("Requests", {"{{api}}": "sum by (api) (rate(kafka_collector_requests_total{@}[$__rate_interval]))"}, "reqps", size=(8, 8))
board.series("Requests that failed", {"broker {{broker}} {{api}}": "sum by (broker, api) (rate(kafka_collector_request_errors_total{@}[$__rate_interval]))"}, "reqps", size=(8, 8))
board.series("Incomplete rounds", {"{{source}}": top("source", "kafka_collector_partial")}, "none", size=(8, 8), decimals=0)
board.series("Age of what is known", {"{{source}}": f"time() - {top('source', 'kafka_collector_last_success_timestamp_seconds')}"}, "s", size=(8, 8))
board.series("Values left out", {"{{family}}": "max by (probe, family) (increase(kafka_collector_series_dropped_total{@}[$__rate_interval]))"}, "short", size=(8, 8))
