//! Which of the configured probes this process runs, if it is one of several shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::Error;
use crate::cli::Sharding;
use crate::host;
use crate::probe::net::Net;
use crate::probe::{AnyConfig, Elsewhere, Peers, ProbeId};
use crate::scheduler::Spec;
use crate::shard::{Shard, Wanted};

/// What this process is among the shards, and how it reaches the others.
#[derive(Debug)]
pub(super) struct Role {
    /// Which one; `None` if there is one only.
    pub(super) shard: Option<Shard>,
    peers: Option<Arc<Peers>>,
}

impl Role {
    /// What the command line says of it.
    ///
    /// # Errors
    /// The host's name does not say which shard this is; the others cannot be reached at such a URL.
    pub(super) fn of(arguments: &Sharding, net: &Net) -> Result<Self, Error> {
        let Sharding { shard, peers } = arguments;
        let shard = settle(*shard)?;
        let peers = peers.as_deref().map(|peers| Peers::new(peers, net)).transpose();
        let peers = peers.map_err(|why| Error::Usage(format!("--peers: {why}")))?;
        if let Some(shard) = shard {
            let last = shard.count - 1;
            let peers = arguments.peers.as_deref().unwrap_or("none");
            tracing::info!(peers, "this is {shard}, counted from 0 to {last}");
        }
        Ok(Self { shard, peers: peers.map(Arc::new) })
    }
}

/// The shard that is meant on this host.
///
/// # Errors
/// The host's name does not say which one it is.
pub(super) fn settle(wanted: Option<Wanted>) -> Result<Option<Shard>, Error> {
    wanted.map_or(Ok(None), |wanted| wanted.settle(host::name)).map_err(Error::Usage)
}

/// The probes of other shards, with what is done here for each.
pub(super) struct Others {
    role: Role,
    referred: BTreeMap<ProbeId, Referred>,
}

struct Referred {
    config: Arc<dyn AnyConfig>,
    /// What is done, if anything.
    task: Option<JoinHandle<()>>,
}

impl Drop for Referred {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Others {
    pub(super) fn new(role: Role) -> Self {
        Self { role, referred: BTreeMap::new() }
    }

    /// Takes those of other shards out of the probes of a configuration, and does from now on what is done for them. For one that is as it
    /// was, that goes on untouched.
    pub(super) fn split(&mut self, probes: Vec<Spec>) -> Vec<Spec> {
        let Some(shard) = self.role.shard else { return probes };
        let (own, others): (Vec<_>, Vec<_>) =
            probes.into_iter().partition(|spec| shard.owns(spec.id.kind, &spec.id.name));
        let mut before = std::mem::take(&mut self.referred);
        for spec in others {
            let same = before.remove(&spec.id).filter(|referred| referred.config.same(&*spec.config));
            let new = || {
                let owner = shard.owner(spec.id.kind, &spec.id.name);
                let work = spec.probe.refer(&Elsewhere { owner, peers: self.role.peers.clone() });
                Referred { config: Arc::clone(&spec.config), task: work.map(tokio::spawn) }
            };
            let referred = same.unwrap_or_else(new);
            self.referred.insert(spec.id.clone(), referred);
        }
        own
    }

    /// This shard; `None` if there is one only.
    pub(super) fn shard(&self) -> Option<Shard> {
        self.role.shard
    }

    /// The probes of other shards.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ProbeId> {
        self.referred.keys()
    }
}

/// What a person is told of a shard's share, as a sentence.
pub(super) fn sentence(shard: Shard, others: usize) -> String {
    let last = shard.count - 1;
    format!("This is {shard}, counted from 0 to {last}; probes of other shards: {others}.")
}
