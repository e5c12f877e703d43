//! What the collector records. The names of kafka_exporter are kept, with its labels among ours, so that dashboards, alerts and
//! autoscalers made for it go on working.

mod cluster;
mod collector;
mod groups;
mod moves;
mod topics;

use crate::metrics::Desc;

pub(super) use cluster::*;
pub(super) use collector::*;
pub(super) use groups::*;
pub(super) use moves::*;
pub(super) use topics::*;

/// All of them.
pub(super) const ALL: &[&Desc] = &[
    CONNECT_DURATION.desc(),
    CONNECT_FAILURES.desc(),
    GROUP_OFFSET.desc(),
    GROUP_OFFSET_SUM.desc(),
    GROUP_LAG.desc(),
    GROUP_LAG_SUM.desc(),
    GROUP_LAG_MAX.desc(),
    GROUP_LAG_SECONDS.desc(),
    GROUP_LAG_SECONDS_MAX.desc(),
    GROUP_LOST.desc(),
    GROUP_HEADROOM.desc(),
    GROUP_DRAIN.desc(),
    GROUP_UNCOMMITTED.desc(),
    GROUP_UNASSIGNED.desc(),
    GROUP_AHEAD.desc(),
    GROUP_PROGRESS.desc(),
    GROUP_MEMBERS.desc(),
    GROUP_STATE.desc(),
    GROUP_INFO.desc(),
    TOPIC_PARTITIONS.desc(),
    PARTITION_END.desc(),
    PARTITION_START.desc(),
    PARTITION_LEADER.desc(),
    PARTITION_REPLICAS.desc(),
    PARTITION_ISR.desc(),
    PARTITION_PREFERRED.desc(),
    PARTITION_URP.desc(),
    PARTITION_OFFLINE.desc(),
    PARTITION_UNDER_MIN_ISR.desc(),
    PARTITION_HOT.desc(),
    LEADER_CHANGES.desc(),
    COUNT_CHANGES.desc(),
    COUNT_CHANGED.desc(),
    REPLICATION.desc(),
    TOPIC_SIZE.desc(),
    HOT_RATIO.desc(),
    HOT_ID.desc(),
    RATE_CV.desc(),
    BROKERS.desc(),
    BROKER_INFO.desc(),
    CLUSTER_PARTITIONS.desc(),
    CLUSTER_OFFLINE.desc(),
    CLUSTER_URP.desc(),
    CLUSTER_UNDER_MIN_ISR.desc(),
    CLUSTER_NOT_PREFERRED.desc(),
    CONTROLLER.desc(),
    BROKER_LEADERS.desc(),
    BROKER_REPLICAS.desc(),
    LEADER_SKEW.desc(),
    REPLICA_SKEW.desc(),
    IMBALANCE.desc(),
    DIR_SIZE.desc(),
    DIR_TOTAL.desc(),
    DIR_USABLE.desc(),
    DIR_OFFLINE.desc(),
    MOVING.desc(),
    MOVE_BROKER_REMAINING.desc(),
    MOVE_BROKER_RATE.desc(),
    MOVE_ETA.desc(),
    MOVE_REMAINING.desc(),
    MOVE_RECORDS.desc(),
    MOVE_PARTITION_ETA.desc(),
    MOVE_STALLED.desc(),
    MOVE_STARTED.desc(),
    MOVES_STARTED.desc(),
    MOVES_COMPLETED.desc(),
    MOVES_CANCELLED.desc(),
    SOURCE_SUCCESS.desc(),
    SOURCE_TIME.desc(),
    SOURCE_DURATION.desc(),
    SOURCE_PARTIAL.desc(),
    REQUESTS.desc(),
    REQUEST_ERRORS.desc(),
    BROKER_UP.desc(),
    SERIES_DROPPED.desc(),
    ADDRESSES.desc(),
];
