//! How many packets that cost a server memory it gets from this process, whichever probes send them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::probe::{Failure, Reason};
use crate::sync::lock;

/// How many in which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    /// How many.
    pub(super) count: usize,
    /// In any span of this length.
    pub(super) span: Duration,
    /// Whether all ports of a host share them.
    pub(super) is_of_host: bool,
}

/// A fifth of what an OpenVPN server answers, everybody's together (`--connect-freq-initial 100 10`).
pub(super) const OPENVPN: Rule = Rule { count: 20, span: Duration::from_secs(10), is_of_host: false };
/// Half of what wireguard-go takes from one address in a second before it answers with cookies (`packetsPerSecond` in ratelimiter.go).
pub(super) const WIREGUARD: Rule = Rule { count: 10, span: Duration::from_secs(1), is_of_host: false };
/// Packets that leave no state on an IKE server.
pub(super) const IKE: Rule = Rule { count: 5, span: Duration::from_secs(1), is_of_host: false };
/// Knocks that leave a half-open SA for 30 seconds: strongSwan falls silent at five of one address (`block_threshold`).
pub(super) const IKE_HALF_OPEN: Rule = Rule { count: 4, span: Duration::from_secs(31), is_of_host: true };
/// Three quarters of the connections after which ocserv shuts an address out (`max-ban-score = 80` within `ban-reset-time = 1200`
/// seconds in the file that comes with it; a connection is a point).
pub(super) const ANYCONNECT: Rule = Rule { count: 60, span: Duration::from_secs(1_200), is_of_host: false };
/// TLS handshakes.
pub(super) const TLS: Rule = Rule { count: 5, span: Duration::from_secs(1), is_of_host: false };

/// When each address got, or will get, its last packets. An address that has got none for a while is forgotten.
static SPENT: LazyLock<Mutex<Spent>> = LazyLock::new(Mutex::default);

/// By address and rule, because several servers may listen on one port: OpenVPN over UDP, and something else over TCP.
type Spent = HashMap<(SocketAddr, Rule), VecDeque<Instant>>;

/// Beyond so many addresses, those that have room again are forgotten.
const MANY: usize = 1_000;

/// Waits for room. Turns are given in the order of asking.
///
/// # Errors
/// `rate_limited` if there will be none before `ends`; nothing is spent then.
pub(super) async fn permit(address: SocketAddr, rule: Rule, ends: Instant) -> Result<(), Failure> {
    let turn = reserve(&mut lock(&SPENT), address, rule, (Instant::now(), ends))?;
    sleep_until(turn).await;
    Ok(())
}

fn reserve(
    spent: &mut Spent,
    address: SocketAddr,
    rule: Rule,
    (now, ends): (Instant, Instant),
) -> Result<Instant, Failure> {
    if spent.len() > MANY {
        spent.retain(|(_, rule), turns| turns.back().is_some_and(|last| *last + rule.span > now));
    }
    // No server listens on port 0, so what all ports share has a place of its own.
    let place = if rule.is_of_host { SocketAddr::new(address.ip(), 0) } else { address };
    let turns = spent.entry((place, rule)).or_default();
    while turns.front().is_some_and(|first| *first + rule.span <= now) {
        turns.pop_front();
    }
    let turn = match turns.len().checked_sub(rule.count) {
        None => now,
        Some(place) => turns.get(place).map_or(now, |earlier| *earlier + rule.span),
    };
    if turn > ends {
        let words = format!(
            "not asked: {address} has been asked {} times within {} s by this process, which is all that it may be without harm; \
             longer intervals or fewer probes leave room",
            rule.count,
            rule.span.as_secs()
        );
        return Err(Failure::new(Reason::RateLimited, words));
    }
    turns.push_back(turn);
    Ok(turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_span_holds_more_than_the_rule_allows() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let (rule, mut spent) = (Rule { count: 3, span: Duration::from_secs(10), is_of_host: false }, HashMap::new());
        let start = Instant::now();
        let mut turns = Vec::new();
        for step in 0..200_u64 {
            let now = start + Duration::from_millis(step * 300);
            let ends = now + Duration::from_secs(4);
            if let Ok(turn) = reserve(&mut spent, address, rule, (now, ends)) {
                assert!(turn >= now && turn <= ends);
                turns.push(turn);
            }
        }
        assert!(turns.len() >= 18, "{}", turns.len());
        for four in turns.windows(4) {
            assert!(four[3] - four[0] >= rule.span, "{four:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_do_not_share_a_budget_and_are_forgotten() {
        let (rule, mut spent) = (Rule { count: 1, span: Duration::from_secs(1), is_of_host: false }, HashMap::new());
        let now = Instant::now();
        for port in 1..=2_000 {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(reserve(&mut spent, address, rule, (now, now)).unwrap(), now);
            let again = reserve(&mut spent, address, rule, (now, now)).unwrap_err();
            assert_eq!(again.reason, Reason::RateLimited);
        }
        let later = now + rule.span;
        reserve(&mut spent, SocketAddr::from(([127, 0, 0, 1], 1)), rule, (later, later)).unwrap();
        assert_eq!(spent.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn rules_at_one_address_do_not_spend_each_others_turns() {
        let (address, mut spent) = (SocketAddr::from(([127, 0, 0, 1], 443)), HashMap::new());
        let mut now = Instant::now();
        for _ in 0..ANYCONNECT.count {
            reserve(&mut spent, address, ANYCONNECT, (now, now)).unwrap();
            reserve(&mut spent, address, OPENVPN, (now, now)).unwrap();
            now += Duration::from_secs(1);
        }
        assert!(reserve(&mut spent, address, ANYCONNECT, (now, now)).is_err());
        reserve(&mut spent, address, OPENVPN, (now, now)).unwrap();
    }
}
