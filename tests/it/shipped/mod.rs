//! What is shipped besides the program, dashboards and alerts, against a platform that a real midwatch watches.

mod boards;
mod contract;
mod faults;
mod fire;
mod lint;
mod night;
pub mod platform;
mod promql;
mod queries;
mod relay;
mod yaml;
