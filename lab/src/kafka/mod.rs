//! Real Kafka brokers, in KRaft mode: every node is broker and controller.
//!
//! ```no_run
//! # async fn example() -> lab::Result<()> {
//! use lab::kafka::{Cluster, Options, Record, Tls};
//! let cluster = Cluster::start(3).await?;
//! cluster.create_topic("orders", 6, 3, &[]).await?;
//! cluster.produce("orders", (0..100).map(|i| Record::new(i % 6).timestamp(1_700_000_000_000))).await?;
//! cluster.commit("billing", &[("orders", 0, 7)]).await?;
//! cluster.kill(2);
//! cluster.restart(2).await?;
//! cluster.wait_settled().await?;
//!
//! let cluster = Cluster::with(Options::default().brokers(1).sasl().tls(Tls::Server)).await?;
//! # Ok(()) }
//! ```
//!
//! Each broker has two listeners: one for clients, which is as secure as the options say, and an internal one that only the brokers
//! and the lab itself use, without encryption and as a superuser. So the lab's own administration works however strict the cluster is.
//!
//! [`fake`] is no such cluster: it only answers questions, for sizes that no machine here has room for.

mod access;
mod archive;
mod broker;
mod cluster;
mod data;
pub mod fake;
mod java;
mod member;
mod options;
mod properties;
mod tools;

pub use access::{Files, Mechanism, Tls, User};
pub use cluster::Cluster;
pub use data::{Record, Transaction};
pub use member::{Member, Protocol};
pub use options::{Options, Version};
pub use tools::{GroupOffset, Move, Resource};

/// librdkafka's crate, which the lab uses, for tests that want to talk to brokers themselves.
pub use ::rdkafka as driver;
