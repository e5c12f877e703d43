//! Tests of the whole way from files to a configuration, with a made-up probe type.

mod fixtures;
mod reload;
pub(super) mod support;
mod watching;
