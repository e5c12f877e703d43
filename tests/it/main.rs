//! Tests of the real program against real servers from the lab.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::too_many_lines, reason = "a scenario is read from top to bottom")]

mod backup;
mod banner;
mod command;
mod contract;
mod daemon;
mod kafka;
mod mongodb;
mod prometheus;
mod reload;
mod shard;
mod shipped;
mod soak;
mod support;
mod vpn;
mod web;
