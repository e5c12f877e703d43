//! Starts the real servers that midwatch's tests, benchmarks and demo watch.
//!
//! Every server is a child process on a loopback port of its own, with its data in a temporary folder. All of it is gone when its
//! owner is dropped, and also when the lab's process is killed outright: see [`process`].
//!
//! # Layout
//! - [`process`], [`ports`], [`binary`]: how a server is started, where it listens, where it comes from;
//! - [`certificates`]: a certificate authority for tests;
//! - [`mongodb`], [`kafka`], [`prometheus`], [`alertmanager`], [`s3`], [`vpn`]: the servers; [`repositories`]: backups; [`openmetrics`]: a parser that is not ours;
//! - [`kubernetes`]: a made-up API server; [`net`], [`load`], [`clock`]: peers that misbehave, processes that starve a server, and a clock that steps;
//! - [`rules`], [`webhook`]: alerting rules in fast motion, and where alerts arrive;
//! - [`night`]: all of it at once, as a story;
//! - [`http`], [`until`], [`script()`]: one GET, for asking the servers, waiting for something to become true, and programs that a test makes up.

pub mod alertmanager;
pub mod binary;
pub mod certificates;
pub mod clock;
pub mod dns;
mod error;
pub mod http;
pub mod kafka;
pub mod kubernetes;
pub mod load;
pub mod mongodb;
pub mod net;
pub mod night;
pub mod openmetrics;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod repositories;
pub mod rules;
pub mod s3;
mod script;
pub mod vpn;
mod wait;
pub mod webhook;

pub use error::{Error, Result};
pub use script::script;
pub use wait::until;
