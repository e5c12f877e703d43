//! What is shipped besides the program, dashboards and alerts, against a platform that a real midwatch watches.

pub mod platform;
mod queries;
mod relay;
