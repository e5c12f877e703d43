//! Kafka: a collector of what a cluster and its consumer groups do, and a canary that behaves like a client.

mod access;
mod canary;
pub(super) mod client;

pub(super) use canary::KafkaCanary;
