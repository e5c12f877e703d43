//! Basic authentication with bcrypt, whose very point is to take long: a scrape whose credentials were verified once
//! must not pay for it again, and those who guess must not keep it waiting.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::credentials::Credentials;

/// How many verified credentials are remembered. More than there are clients with different ones; each takes 32 bytes,
/// and all are compared with each request.
const MOST_KNOWN: usize = 128;

/// How many passwords are hashed at once: each keeps a core busy for as long as the hash's cost asks.
const AT_ONCE: usize = 1;

type Tag = [u8; 32];

/// Who may log in, with the bcrypt hashes of their passwords.
#[derive(Default)]
pub struct Users(Vec<(String, Arc<Zeroizing<String>>)>);

impl Users {
    /// From names and hashes. A hash that is none lets nobody in.
    pub fn new(users: impl IntoIterator<Item = (String, Zeroizing<String>)>) -> Self {
        Self(users.into_iter().map(|(name, hash)| (name, Arc::new(hash))).collect())
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many there are, and nothing else.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Accepted,
    Refused,
    /// Its turn did not come in time.
    Busy,
}

/// Verifies logins, for all connections of a server.
#[derive(Clone)]
pub(super) struct Verifier(Arc<State>);

struct State {
    /// Of this process only, so that nobody can compute a tag, and what is remembered tells nothing of passwords.
    key: Zeroizing<Tag>,
    known: Mutex<VecDeque<Tag>>,
    turns: Arc<Semaphore>,
    /// For each address that waits, its place among the others. Only one of an address waits for a turn, so that many
    /// guesses from one address do not keep a login from another waiting for longer than a few of them take.
    places: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Knows nobody yet.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut key[..]).map_err(std::io::Error::other)?;
        let (known, places) = (Mutex::default(), Mutex::default());
        let state = State { key, known, turns: Arc::new(Semaphore::new(AT_ONCE)), places };
        Ok(Self(Arc::new(state)))
    }

    /// Whether the credentials are those of one of the users, if they were found right before; a comparison of hashes,
    /// which takes microseconds.
    pub(super) fn remembers(&self, users: &Users, credentials: &Credentials) -> bool {
        let (hash, is_known) = self.find(users, credentials);
        hash.is_some_and(|hash| self.0.knows(&self.0.tag(credentials, &hash)) & is_known)
    }

    /// Whether the credentials are those of one of the users. Waits for the turn of `peer` for as long as `patience`, and
    /// works on a thread of its own. What was begun goes on when the future is dropped, and still counts.
    pub(super) async fn verify(
        &self,
        users: &Users,
        credentials: Credentials,
        peer: IpAddr,
        patience: Duration,
    ) -> Login {
        let (Some(hash), is_known) = self.find(users, &credentials) else { return Login::Refused };
        let place = self.0.place(peer);
        let turn = async {
            let place = place.acquire_owned().await.ok()?;
            Some((place, Arc::clone(&self.0.turns).acquire_owned().await.ok()?))
        };
        let Ok(Some(turn)) = timeout(patience, turn).await else { return Login::Busy };
        let state = Arc::clone(&self.0);
        let work = move || {
            let _turn = turn;
            let tag = state.tag(&credentials, &hash);
            // Somebody else with the same credentials may have been before.
            if state.knows(&tag) & is_known {
                return true;
            }
            let right = bcrypt::verify(&credentials.password[..], &hash).unwrap_or(false) & is_known;
            if right {
                state.remember(tag);
            }
            right
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(true) => Login::Accepted,
            Ok(false) | Err(_) => Login::Refused,
        }
    }

    /// The hash to compare with, and whether it is that of the named user. Somebody who does not exist gets the hash of
    /// one who does, always the same, so that it takes as long to refuse them. `None` only if there are no users.
    fn find(&self, users: &Users, credentials: &Credentials) -> (Option<Arc<Zeroizing<String>>>, bool) {
        let wanted = self.0.digest([&credentials.user[..]]);
        let mut found = None;
        for (name, hash) in &users.0 {
            // Digests, because the time of comparing texts would tell how long the right one is.
            if bool::from(self.0.digest([name.as_bytes()]).ct_eq(&wanted)) {
                found = Some(Arc::clone(hash));
            }
        }
        let is_known = found.is_some();
        let stranger = || {
            let number = wanted.iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
            users.0.get(number.checked_rem(users.0.len())?).map(|(_, hash)| Arc::clone(hash))
        };
        (found.or_else(stranger), is_known)
    }
}

impl State {
    /// Stands for a user, the hash in force and a password that was found to fit: with a new hash nothing is known.
    fn tag(&self, credentials: &Credentials, hash: &str) -> Tag {
        self.digest([&credentials.user[..], hash.as_bytes(), &credentials.password[..]])
    }

    /// A keyed hash of the parts and their lengths.
    fn digest<const N: usize>(&self, parts: [&[u8]; N]) -> Tag {
        // Cannot fail: a key of any length will do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key[..]) else { return Tag::default() };
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The place of an address among those that wait.
    fn place(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| place.strong_count() > 0);
        if let Some(place) = places.get(&peer).and_then(Weak::upgrade) {
            return place;
        }
        let place = Arc::new(Semaphore::new(1));
        places.insert(peer, Arc::downgrade(&place));
        place
    }

    fn knows(&self, tag: &Tag) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().fold(false, |found, known| found | bool::from(known.ct_eq(tag)))
    }

    fn remember(&self, tag: Tag) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(MOST_KNOWN - 1);
        known.push_front(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn somebody(user: &str) -> Credentials {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        Credentials { user: bytes(user), password: bytes("secret") }
    }

    fn users() -> Users {
        let user = |n: usize| (format!("user{n}"), Zeroizing::new(format!("hash{n}")));
        Users::new((0..5).map(user))
    }

    #[test]
    fn a_stranger_is_compared_with_the_hash_of_a_user_and_always_the_same() {
        let (verifier, users) = (Verifier::new().unwrap(), users());
        let mut chosen = std::collections::HashSet::new();
        for n in 0..200 {
            let stranger = somebody(&format!("stranger{n}"));
            let (first, is_known) = verifier.find(&users, &stranger);
            let first = first.unwrap();
            assert!(!is_known);
            assert!(Arc::ptr_eq(&first, &verifier.find(&users, &stranger).0.unwrap()));
            chosen.insert(first.to_string());
        }
        assert_eq!(chosen.len(), 5, "each of the hashes");
        let (hash, is_known) = verifier.find(&users, &somebody("user3"));
        assert!(is_known && hash.unwrap().as_str() == "hash3");
        assert!(verifier.find(&Users::default(), &somebody("user3")).0.is_none());
    }

    #[tokio::test]
    async fn a_stranger_with_the_right_password_of_another_is_no_user() {
        let hash = Zeroizing::new(bcrypt::hash("secret", 4).unwrap());
        let (verifier, users) = (Verifier::new().unwrap(), Users::new([("alice".to_owned(), hash)]));
        for _ in 0..2 {
            assert_eq!(verifier.verify(&users, somebody("carol"), PEER, Duration::MAX).await, Login::Refused);
            assert!(!verifier.remembers(&users, &somebody("carol")));
        }
        assert_eq!(verifier.verify(&users, somebody("alice"), PEER, Duration::MAX).await, Login::Accepted);
        assert!(verifier.remembers(&users, &somebody("alice")) && !verifier.remembers(&users, &somebody("carol")));
    }

    #[test]
    fn what_is_remembered_has_an_end_and_is_of_one_process() {
        let verifier = Verifier::new().unwrap();
        let tag = |n: usize| verifier.0.tag(&somebody(&n.to_string()), "hash");
        for n in 0..MOST_KNOWN + 10 {
            verifier.0.remember(tag(n));
        }
        let known = (0..MOST_KNOWN + 10).filter(|n| verifier.0.knows(&tag(*n))).count();
        assert_eq!(known, MOST_KNOWN);
        assert!(verifier.0.knows(&tag(MOST_KNOWN + 9)), "the latest");
        assert_ne!(Verifier::new().unwrap().0.tag(&somebody("1"), "hash"), tag(1));
        // The lengths are part of it.
        assert_ne!(verifier.0.digest([b"a", b"bc"]), verifier.0.digest([b"ab", b"c"]));
    }

    #[tokio::test]
    async fn many_guesses_of_one_peer_are_one_before_the_login_of_another() {
        let hash = Zeroizing::new(bcrypt::hash("secret", 4).unwrap());
        let (verifier, users) = (Verifier::new().unwrap(), Users::new([("alice".to_owned(), hash)]));
        let other = IpAddr::from([127, 0, 0, 2]);
        let turn = Arc::clone(&verifier.0.turns).acquire_owned().await.unwrap();
        let guesses: Vec<_> =
            (0..50).map(|_| Box::pin(verifier.verify(&users, somebody("bob"), PEER, Duration::MAX))).collect();
        let mut guesses = futures_util::future::join_all(guesses);
        let mut login = Box::pin(verifier.verify(&users, somebody("alice"), other, Duration::MAX));
        assert!(futures_util::poll!(&mut guesses).is_pending() && futures_util::poll!(&mut login).is_pending());
        drop(turn);
        let ((), login) = tokio::select! {
            biased;
            login = &mut login => ((), login),
            all = &mut guesses => panic!("the login of another waits for {} guesses", all.len()),
        };
        assert_eq!(login, Login::Accepted);
        assert!(guesses.await.iter().all(|guess| *guess == Login::Refused));
        drop(verifier.0.place(other));
        assert!(verifier.0.places.lock().unwrap().len() <= 1, "who does not wait has no place");
    }
}
