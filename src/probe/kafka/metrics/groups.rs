//! What is recorded of consumer groups.

use crate::metrics::Gauge;

pub(in super::super) static GROUP_OFFSET: Gauge<3> = Gauge::new(
    "kafka_consumergroup_current_offset",
    "Offset that the group committed.",
    &["consumergroup", "topic", "partition"],
);

pub(in super::super) static GROUP_OFFSET_SUM: Gauge<2> = Gauge::new(
    "kafka_consumergroup_current_offset_sum",
    "Sum of the offsets that the group committed in the topic.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_LAG: Gauge<3> = Gauge::new(
    "kafka_consumergroup_lag",
    "Number of records that the group has yet to read.",
    &["consumergroup", "topic", "partition"],
);

pub(in super::super) static GROUP_LAG_SUM: Gauge<2> = Gauge::new(
    "kafka_consumergroup_lag_sum",
    "Number of records that the group has yet to read in all partitions of the topic that it committed in.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_LAG_MAX: Gauge<2> = Gauge::new(
    "kafka_consumergroup_lag_max",
    "Number of records that the group has yet to read in its most lagging partition of the topic.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_LAG_SECONDS: Gauge<3> = Gauge::new(
    "kafka_consumergroup_lag_seconds",
    "Age of the first record that the group has not read, 0 if it has read all; a lower bound where timestamps are not in order.",
    &["consumergroup", "topic", "partition"],
);

pub(in super::super) static GROUP_LAG_SECONDS_MAX: Gauge<2> = Gauge::new(
    "kafka_consumergroup_lag_seconds_max",
    "The greatest age of a first record that the group has not read in the topic.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_LOST: Gauge<3> = Gauge::new(
    "kafka_consumergroup_lost_records",
    "Number of records that were deleted before the group read them; absent where there are none.",
    &["consumergroup", "topic", "partition"],
);

pub(in super::super) static GROUP_HEADROOM: Gauge<2> = Gauge::new(
    "kafka_consumergroup_retention_headroom_ratio",
    "Share of the retained records that may still be deleted before the group loses any, in the partition where it is least.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_DRAIN: Gauge<2> = Gauge::new(
    "kafka_consumergroup_drain_seconds",
    "Time until the group has caught up if it goes on as in the last minute; absent while its lag does not shrink.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_UNCOMMITTED: Gauge<2> = Gauge::new(
    "kafka_consumergroup_partitions_uncommitted",
    "Number of partitions of the topic that the group has never committed in.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_UNASSIGNED: Gauge<2> = Gauge::new(
    "kafka_consumergroup_partitions_unassigned",
    "Number of partitions of the topic that no member of the group owns.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_AHEAD: Gauge<2> = Gauge::new(
    "kafka_consumergroup_partitions_ahead",
    "Number of partitions whose commit lies beyond the end of the log: the topic was made anew, or records were lost.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_PROGRESS: Gauge<2> = Gauge::new(
    "kafka_consumergroup_last_progress_timestamp_seconds",
    "When a commit of the group in the topic last moved, or was first seen, as Unix time.",
    &["consumergroup", "topic"],
);

pub(in super::super) static GROUP_MEMBERS: Gauge<1> =
    Gauge::new("kafka_consumergroup_members", "Number of members of the group.", &["consumergroup"]);

pub(in super::super) static GROUP_STATE: Gauge<2> = Gauge::new(
    "kafka_consumergroup_state",
    "What state the group is in: 1 for its state and 0 for all others.",
    &["consumergroup", "state"],
)
.known(&[
    &["Unknown"],
    &["PreparingRebalance"],
    &["CompletingRebalance"],
    &["Stable"],
    &["Dead"],
    &["Empty"],
    &["Assigning"],
    &["Reconciling"],
    &["NotReady"],
]);

pub(in super::super) static GROUP_INFO: Gauge<4> = Gauge::new(
    "kafka_consumergroup_info",
    "Which protocol the group uses, how it assigns partitions, and which broker coordinates it.",
    &["consumergroup", "group_type", "protocol", "coordinator"],
);
