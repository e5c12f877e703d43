//! Partitions that are being moved: the moves cycle.

use super::super::client::api::Api;
use super::super::metrics::{
    MOVE_BROKER_RATE, MOVE_BROKER_REMAINING, MOVE_ETA, MOVE_PARTITION_ETA, MOVE_RECORDS, MOVE_REMAINING, MOVE_STALLED,
    MOVE_STARTED, MOVES_CANCELLED, MOVES_COMPLETED, MOVES_STARTED, MOVING,
};
use super::super::state::{Source, State};
use super::{Sink, count, flag};

pub(super) fn show(state: &mut State, sink: &mut Sink<'_>) {
    let counts = state.moves.take_counts();
    sink.rec.add(&MOVES_STARTED, [], counts.started as f64);
    sink.rec.add(&MOVES_COMPLETED, [], counts.completed as f64);
    sink.rec.add(&MOVES_CANCELLED, [], counts.cancelled as f64);
    // None is not known to move as long as nobody could say so.
    let is_known = state.sources.has_brought(Source::Reassignments);
    if !is_known || state.forbidden.holds(Api::ListPartitionReassignments) {
        return;
    }
    sink.set(&MOVING, [], count(state.moves.keys().count()));
    sink.set_some(&MOVE_ETA, [], state.moves.eta_seconds());
    for view in state.moves.each() {
        let (mut partition, mut broker) = (itoa::Buffer::new(), itoa::Buffer::new());
        let labels = [&**view.topic, partition.format(view.partition), broker.format(view.broker)];
        sink.set_some(&MOVE_REMAINING, labels, view.remaining_bytes);
        sink.set_some(&MOVE_RECORDS, labels, view.remaining_records);
        sink.set_some(&MOVE_PARTITION_ETA, labels, view.eta_seconds);
        sink.set(&MOVE_STALLED, labels, flag(view.stalled));
        sink.set(&MOVE_STARTED, labels, view.started);
    }
    for view in state.moves.brokers() {
        let mut broker = itoa::Buffer::new();
        let labels = [broker.format(view.broker)];
        sink.set_some(&MOVE_BROKER_REMAINING, labels, view.remaining_bytes);
        sink.set_some(&MOVE_BROKER_RATE, labels, view.rate);
    }
}
