//! midwatch
pub mod failure;
pub mod metrics;
pub mod probe;
pub mod scheduler;
pub mod settings;
