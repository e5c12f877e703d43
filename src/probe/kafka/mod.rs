//! Kafka: a collector of what a cluster and its consumer groups do, and a canary that behaves like a client.

mod access;
pub(super) mod client;
