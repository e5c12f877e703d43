//! Real mongod processes: a replica set, a standalone server, one that was never initiated.
//!
//! ```no_run
//! # async fn example() -> lab::Result<()> {
//! use lab::mongodb::{Options, ReplicaSet, Tls};
//! let set = ReplicaSet::start(3).await?;
//! set.kill(set.primary().await?);
//! set.wait_primary().await?;
//!
//! let set = ReplicaSet::with(Options::default().arbiter().auth().tls(Tls::Server)).await?;
//! # Ok(()) }
//! ```

mod access;
mod admin;
mod member;
mod options;
mod set;
mod single;

pub use access::{Access, Files, Mechanism, PROBE_DATABASE, Tls, User};
pub use admin::Connections;
pub use options::Options;
pub use set::ReplicaSet;
pub use single::{Standalone, Uninitialised};

/// The driver that the lab uses, for tests that want to talk to a server themselves.
pub use ::mongodb as driver;
