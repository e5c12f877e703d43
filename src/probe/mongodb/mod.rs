//! Times a *new* connection to every member of a MongoDB deployment, phase by phase, and says what each member is.
//!
//! Tells a starved member from a slow network: when the phase `tcp`, which the kernel answers, stays flat while `hello`
//! grows, the process does not get the CPU; when `tcp` grows too, it is the network. Needs its own sockets: a driver has
//! no hook between the phases, opens several connections at once and reports failures after its own time-outs.
//!
//! One connection for each member and run, closed when the run ends.

mod access;
mod auth;
mod census;
#[cfg(test)]
mod census_tests;
mod config;
mod connect;
pub mod fuzz;
mod hello;
mod metrics;
mod session;
mod wire;

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

pub(in crate::probe) use self::access::Access;
use self::access::{Login, Seeds};
use self::census::{Census, SharedMemory};
use self::config::Config;
use self::connect::Connector;
pub(in crate::probe) use self::session::{Deployment, Find, Session, number};
use super::{Cycle, Failure, Probe, Reason, Shared, net};
use crate::metrics::{Desc, Recorder};

/// The probe type `mongodb`.
pub(super) struct Mongodb {
    config: Arc<Config>,
    net: net::Net,
    connector: Connector,
    memory: SharedMemory,
}

impl Probe for Mongodb {
    const TYPE: &'static str = "mongodb";
    const METRICS: &'static [&'static Desc] = metrics::ALL;
    const REASONS: &'static [Reason] = &[
        Reason::Resolve,
        Reason::Refused,
        Reason::Unreachable,
        Reason::Closed,
        Reason::Tls,
        Reason::Certificate,
        Reason::Auth,
        Reason::Protocol,
        Reason::Rejected,
        Reason::NotPrimary,
        Reason::Overload,
        Reason::Local,
    ];
    type Config = Config;

    fn new(config: &Arc<Config>, shared: &Shared, previous: Option<&Self>) -> Result<Self, String> {
        let connector = Connector::new(&config.access, &shared.net)?;
        // Another deployment shares no history with this one.
        let memory = previous.filter(|previous| previous.config.access.seeds.overlap(&config.access.seeds));
        let memory = memory.map_or_else(SharedMemory::default, |previous| Arc::clone(&previous.memory));
        Ok(Self { config: Arc::clone(config), net: shared.net.clone(), connector, memory })
    }

    async fn run(&self, _cycle: Cycle, rec: &mut Recorder) -> Result<(), Failure> {
        let rec = &*rec;
        let configured = self.configured();
        let census = Census::new(rec, &self.memory, configured.clone(), self.config.discover);
        let mut visits = FuturesUnordered::new();
        let visit = |members: Vec<String>, visits: &mut FuturesUnordered<_>| {
            let new = members.into_iter().filter(|member| census.expect(member));
            visits.extend(new.map(|member| self.connector.probe(member, rec, &census)));
        };
        visit(configured.clone(), &mut visits);
        if self.config.discover {
            visit(self.memory.discovered(&configured), &mut visits);
        }
        // Nobody waits for anybody: neither members for a name server that is silent, nor members that are named just
        // now for one that hangs.
        let mut lookup = pin!(self.look_up());
        let mut looked_up = None;
        loop {
            tokio::select! {
                Some(()) = visits.next() => {}
                result = &mut lookup, if looked_up.is_none() => looked_up = Some(result.map(|hosts| census.list(hosts))),
                else => break,
            }
            visit(census.unvisited(), &mut visits);
        }
        looked_up.unwrap_or(Ok(()))
    }

    fn expected(&self, label: &str) -> Vec<String> {
        match (label, &self.config.access.seeds) {
            ("member" | "target", Seeds::Hosts(hosts)) => hosts.iter().map(ToString::to_string).collect(),
            // Only the name server knows those that SRV records list.
            ("member" | "target", Seeds::Srv(_)) => self.memory.listed(),
            ("phase", _) => self.phases().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

impl Mongodb {
    /// The phases that a new connection goes through.
    fn phases(&self) -> impl Iterator<Item = &'static str> {
        let tls = self.config.access.tls.as_ref().map(|_| metrics::TLS);
        let auth = (self.config.access.login != Login::None).then_some(metrics::AUTH);
        let always = [metrics::RESOLVE, metrics::TCP, metrics::HELLO, metrics::COMMAND, metrics::TOTAL];
        always.into_iter().chain(tls).chain(auth)
    }

    /// The members that the operator named, or that the SRV records listed last.
    fn configured(&self) -> Vec<String> {
        match &self.config.access.seeds {
            Seeds::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect(),
            Seeds::Srv(_) => self.memory.listed(),
        }
    }

    /// The members that the operator named, or that the SRV records list now.
    async fn look_up(&self) -> Result<Vec<String>, Failure> {
        let hosts = self.config.access.seeds.look_up(&self.net).await?;
        if matches!(self.config.access.seeds, Seeds::Srv(_)) {
            self.memory.set_listed(&hosts);
        }
        Ok(hosts)
    }
}
