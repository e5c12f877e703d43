//! Tests of the real program against real servers from the lab.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod mongodb;
mod support;
