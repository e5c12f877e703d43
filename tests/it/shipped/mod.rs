//! What is shipped besides the program, dashboards and alerts, against a platform that a real midwatch watches.

mod faults;
mod fire;
mod night;
pub mod platform;
mod queries;
mod relay;
