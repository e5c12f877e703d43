//! A small client of Kafka's protocol for asking brokers about themselves.

pub mod api;
mod error;
mod reader;

pub use error::ErrorCode;
pub use reader::{Malformed, Reader};
