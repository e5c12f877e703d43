//! midwatch
pub mod failure;
pub mod http;
pub mod metrics;
pub mod probe;
pub mod scheduler;
pub mod settings;
