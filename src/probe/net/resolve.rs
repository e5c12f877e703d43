//! Names to addresses, as the system would but without a cache.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Failure, Reason, clean};

/// How old the knowledge of the system's configuration may be.
const RECHECK: Duration = Duration::from_secs(5);

/// The files that the system's resolver is configured by.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// How many addresses of a name are used, and how many hosts of an SRV record: a hostile zone can hold thousands.
const MAX_ADDRESSES: usize = 16;
const MAX_HOSTS: usize = 100;

/// A resolver that follows the system's configuration.
#[derive(Default)]
pub(super) struct Resolver(Mutex<Option<Loaded>>);

/// The configuration of a moment.
#[derive(Clone)]
struct Loaded {
    resolver: Arc<TokioResolver>,
    stamp: Stamp,
    checked: Instant,
}

/// What tells one version of [`FILES`] from another: time of change and length.
type Stamp = [Option<(SystemTime, u64)>; FILES.len()];

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// The addresses of a name, IPv6 and IPv4 by turns (RFC 8305, section 4).
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let answer = self.current().await?.lookup_ip(host).await.map_err(|error| failure(host, &error))?;
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = answer.iter().partition(IpAddr::is_ipv6);
        let addresses = by_turns(&six, &four);
        if addresses.is_empty() {
            return Err(Failure::new(Reason::Resolve, clean(&format!("{host} has no address"))));
        }
        Ok(addresses)
    }

    /// See [`Net::resolve_srv`](super::Net::resolve_srv).
    pub(super) async fn mongodb_hosts(&self, name: &str) -> Result<Vec<(String, u16)>, Failure> {
        let name = name.trim_end_matches('.');
        // The closing dot keeps the search domains out: a seed list is never relative.
        let query = format!("_mongodb._tcp.{name}.");
        let resolver = self.current().await?;
        let answer = resolver.lookup(query.as_str(), RecordType::SRV).await.map_err(|error| failure(&query, &error))?;
        let mut hosts = Vec::new();
        for record in answer.answers() {
            let RData::SRV(srv) = &record.data else { continue };
            let host = srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            if !within_domain(&host, name) {
                let detail = format!("{query} points to {host}, which is outside of the domain of {name}");
                return Err(Failure::new(Reason::Resolve, clean(&detail)));
            }
            hosts.push((host, srv.port));
        }
        if hosts.is_empty() {
            return Err(Failure::new(Reason::Resolve, clean(&format!("{query} has no SRV record"))));
        }
        hosts.sort_unstable();
        hosts.dedup();
        hosts.truncate(MAX_HOSTS);
        Ok(hosts)
    }

    /// The resolver for the system's configuration as it is now, give or take [`RECHECK`].
    pub(super) async fn current(&self) -> Result<Arc<TokioResolver>, Failure> {
        let mut slot = self.0.lock().await;
        if let Some(loaded) = &*slot
            && loaded.checked.elapsed() < RECHECK
        {
            return Ok(loaded.resolver.clone());
        }
        let known = slot.clone();
        let loaded = spawn_blocking(move || reload(known))
            .await
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?
            .map_err(|error| Failure::new(Reason::Resolve, clean(&format!("cannot make a resolver: {error}"))))?;
        Ok(slot.insert(loaded).resolver.clone())
    }
}

/// Reads the configuration again if its files changed. Blocks.
fn reload(known: Option<Loaded>) -> Result<Loaded, NetError> {
    let stamp = FILES.map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    });
    let checked = Instant::now();
    if let Some(loaded) = known
        && loaded.stamp == stamp
    {
        return Ok(Loaded { checked, ..loaded });
    }
    // resolv.conf(5): without the file, the name server of this host is asked.
    let (config, mut options) = read_system_conf().unwrap_or_else(|_| {
        let here = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_parts(None, Vec::new(), vec![here]), ResolverOpts::default())
    });
    options.cache_size = 0;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    Ok(Loaded { resolver: Arc::new(builder.with_options(options).build()?), stamp, checked })
}

/// One from each list in turn, starting with the first, no more than [`MAX_ADDRESSES`].
fn by_turns(first: &[IpAddr], second: &[IpAddr]) -> Vec<IpAddr> {
    (0..first.len().max(second.len()))
        .flat_map(|i| first.get(i).into_iter().chain(second.get(i)))
        .copied()
        .take(MAX_ADDRESSES)
        .collect()
}

/// Whether a seed list's host is one that its name may speak for: below the name's domain, and for a name of fewer than
/// three labels below the name itself ("Initial DNS Seedlist Discovery" of the MongoDB driver specifications).
fn within_domain(host: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let domain = match name.split_once('.') {
        Some((_, parent)) if parent.contains('.') => parent,
        _ => &name,
    };
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// What went wrong, in words that tell a missing name from a broken name server.
fn failure(name: &str, error: &NetError) -> Failure {
    let words = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => "there is no such name (NXDOMAIN)".to_owned(),
            ResponseCode::NoError => "the name exists but has no record of the kind asked for".to_owned(),
            code => format!("the name server answered {}", code_name(code)),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server answered {}", code_name(*code)),
        NetError::Timeout => "no name server answered in time".to_owned(),
        NetError::NoConnections => "no name server could be reached".to_owned(),
        NetError::Io(error) => {
            let failure = Failure::io("the name server cannot be asked", error);
            if failure.reason == Reason::Local {
                return failure;
            }
            failure.detail.into_owned()
        }
        other => other.to_string(),
    };
    Failure::new(Reason::Resolve, clean(&format!("{name}: {words}")))
}

/// The name of a response code as DNS tools print it.
fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let addresses = Resolver::default().addresses("localhost").await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[test]
    fn families_take_turns() {
        let six: Vec<IpAddr> = (1..=3u16).map(|i| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, i])).collect();
        let four: Vec<IpAddr> = vec![IpAddr::from([192, 0, 2, 1])];
        assert_eq!(by_turns(&six, &four), [six[0], four[0], six[1], six[2]]);
        assert_eq!(by_turns(&vec![four[0]; 1_000], &[]).len(), MAX_ADDRESSES);
    }

    #[test]
    fn seed_lists_stay_in_their_domain() {
        for (host, name, allowed) in [
            ("db1.example.org", "cluster.example.org", true),
            ("db1.deep.example.org", "cluster.example.org", true),
            ("db1.evil.org", "cluster.example.org", false),
            ("db1.notexample.org", "cluster.example.org", false),
            ("example.org", "cluster.example.org", false),
            (".example.org", "cluster.example.org", false),
            ("db1.cluster.local", "cluster.local", true),
            ("db1.local", "cluster.local", false),
            ("db1.cluster", "cluster", true),
            ("cluster", "cluster", false),
            ("db1.example.org", "Cluster.Example.ORG", true),
        ] {
            assert_eq!(within_domain(host, name), allowed, "{host} of {name}");
        }
    }
}
