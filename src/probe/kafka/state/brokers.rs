//! What is counted until a run records it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What is counted until a run records it.
#[derive(Debug, Default)]
pub(in super::super) struct Counters {
    /// Leader changes, by topic.
    pub(in super::super) leader_changes: BTreeMap<Arc<str>, u64>,
    /// Partition counts that grew and shrank, by topic.
    pub(in super::super) count_changes: BTreeMap<Arc<str>, (u64, u64)>,
}
