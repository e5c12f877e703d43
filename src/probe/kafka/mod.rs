//! Kafka: a collector of what a cluster and its consumer groups do, and a canary that behaves like a client.

pub(super) mod client;
mod moves;
mod skew;
mod timeline;
