//! Proves the store and the formats, by models and oracles.

mod atomic;
mod forget;
mod model;
mod openmetrics;
mod protobuf;
mod stores;
mod text;
