//! SCRAM with SHA-1, SHA-256 and SHA-512 (RFC 5802, RFC 7677): the messages and the arithmetic, no I/O.
//!
//! Deriving the keys from the password is meant to be slow: 15 000 rounds take 1.7 ms of our own CPU, more than the rest
//! of a login. They are kept per salt and number of rounds, so that a prober derives them once and not at every run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
#[cfg(feature = "mongodb")]
use sha1::Sha1;
#[cfg(feature = "kafka")]
use sha2::Sha512;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::probe::net::clean;
use crate::probe::{Failure, Reason};

/// RFC 7677, section 4, wants at least 4096 rounds. The maximum bounds what a hostile peer can make us compute: some
/// tenths of a second.
const ROUNDS: std::ops::RangeInclusive<u32> = 4_096..=1_000_000;
/// The longest message that a server sends; a real one has about 100 bytes.
const MAX_MESSAGE: usize = 4_096;
/// For how many salts the keys are kept. All members of a replica set share one, as do all brokers of a cluster.
const MAX_KEPT: usize = 8;
/// "No channel binding", which is all that MongoDB and Kafka know: the header of the client's first message, and its base64.
const GS2_HEADER: &str = "n,,";
const GS2_HEADER_BASE64: &str = "biws";

type Bytes = Zeroizing<Vec<u8>>;

/// The hash function of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::probe) enum Hash {
    /// SCRAM-SHA-1.
    #[cfg(feature = "mongodb")]
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    #[cfg(feature = "kafka")]
    Sha512,
}

impl Hash {
    /// The name of the mechanism.
    pub(in crate::probe) const fn mechanism(self) -> &'static str {
        match self {
            #[cfg(feature = "mongodb")]
            Hash::Sha1 => "SCRAM-SHA-1",
            Hash::Sha256 => "SCRAM-SHA-256",
            #[cfg(feature = "kafka")]
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn digest(self, data: &[u8]) -> Bytes {
        Zeroizing::new(match self {
            #[cfg(feature = "mongodb")]
            Hash::Sha1 => Sha1::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            #[cfg(feature = "kafka")]
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Bytes {
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
            // HMAC takes keys of every length; the error cannot occur.
            <M as Mac>::new_from_slice(key)
                .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
                .unwrap_or_default()
        }
        Zeroizing::new(match self {
            #[cfg(feature = "mongodb")]
            Hash::Sha1 => mac::<Hmac<Sha1>>(key, data),
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, data),
            #[cfg(feature = "kafka")]
            Hash::Sha512 => mac::<Hmac<Sha512>>(key, data),
        })
    }

    /// `Hi` of RFC 5802: PBKDF2 with a single block.
    fn stretch(self, password: &[u8], salt: &[u8], rounds: u32) -> Bytes {
        match self {
            #[cfg(feature = "mongodb")]
            Hash::Sha1 => Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, salt, rounds).to_vec()),
            Hash::Sha256 => Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, rounds).to_vec()),
            #[cfg(feature = "kafka")]
            Hash::Sha512 => Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, rounds).to_vec()),
        }
    }
}

/// A user and a password, ready for one mechanism.
pub(in crate::probe) struct Credentials {
    hash: Hash,
    /// Escaped as a `saslname`.
    username: String,
    /// Prepared as the mechanism wants it.
    password: Zeroizing<String>,
    kept: Mutex<Vec<Kept>>,
}

/// The keys for one salt and number of rounds.
struct Kept {
    salt: Vec<u8>,
    rounds: u32,
    keys: Arc<Keys>,
}

/// What both sides prove that they can compute.
struct Keys {
    client: Bytes,
    stored: Bytes,
    server: Bytes,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, {:?}, <redacted>)", self.hash.mechanism(), self.username)
    }
}

impl Credentials {
    /// A user with a password that is prepared as the protocol wants it.
    ///
    /// # Errors
    /// The name is empty.
    pub(in crate::probe) fn new(hash: Hash, username: &str, password: Zeroizing<String>) -> Result<Self, String> {
        if username.is_empty() {
            return Err("the user name is empty".to_owned());
        }
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Ok(Self { hash, username, password, kept: Mutex::default() })
    }

    /// The mechanism's hash.
    pub(in crate::probe) fn hash(&self) -> Hash {
        self.hash
    }

    /// The client's first message, with a fresh nonce.
    ///
    /// # Errors
    /// `local` if the system has no random numbers.
    pub(in crate::probe) fn begin(&self) -> Result<ClientFirst, Failure> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::new(Reason::Local, format!("random numbers: {error}")))?;
        // Base64 has no comma, which is all that a nonce must not have.
        Ok(self.begin_with(BASE64.encode(random)))
    }

    /// The same with a nonce that is known.
    pub(in crate::probe) fn begin_with(&self, nonce: String) -> ClientFirst {
        ClientFirst { message: format!("{GS2_HEADER}n={},r={nonce}", self.username), nonce }
    }

    /// The client's proof as the answer to the server's first message. Derives the keys on a thread of its own unless they
    /// are known.
    ///
    /// # Errors
    /// `protocol` if the server's message breaks the rules.
    pub(in crate::probe) async fn prove(&self, first: &ClientFirst, server_first: &[u8]) -> Result<Proof, Failure> {
        let server = ServerFirst::parse(server_first, &first.nonce)?;
        let keys = self.keys(&server).await?;
        let bare = &first.message[GS2_HEADER.len()..];
        let without_proof = format!("c={GS2_HEADER_BASE64},r={}", server.nonce);
        let signed = format!("{bare},{},{without_proof}", server.message);
        let mut proof = self.hash.hmac(&keys.stored, signed.as_bytes());
        proof.iter_mut().zip(keys.client.iter()).for_each(|(byte, key)| *byte ^= key);
        Ok(Proof {
            message: format!("{without_proof},p={}", BASE64.encode(&*proof)),
            signature: self.hash.hmac(&keys.server, signed.as_bytes()),
        })
    }

    async fn keys(&self, server: &ServerFirst<'_>) -> Result<Arc<Keys>, Failure> {
        if let Some(keys) = self.known(server) {
            return Ok(keys);
        }
        let (hash, password) = (self.hash, self.password.clone());
        let (salt, rounds) = (server.salt.clone(), server.rounds);
        let derived = spawn_blocking(move || {
            let salted = hash.stretch(password.as_bytes(), &salt, rounds);
            let client = hash.hmac(&salted, b"Client Key");
            let keys = Keys { stored: hash.digest(&client), client, server: hash.hmac(&salted, b"Server Key") };
            Kept { salt, rounds, keys: Arc::new(keys) }
        });
        let kept = derived.await.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let keys = kept.keys.clone();
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KEPT {
            all.remove(0);
        }
        all.push(kept);
        Ok(keys)
    }

    fn known(&self, server: &ServerFirst<'_>) -> Option<Arc<Keys>> {
        let all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|kept| kept.rounds == server.rounds && kept.salt == server.salt).map(|kept| kept.keys.clone())
    }
}

/// The client's first message.
#[derive(Debug)]
pub(in crate::probe) struct ClientFirst {
    /// With its header, as it goes over the wire.
    pub(in crate::probe) message: String,
    nonce: String,
}

/// The client's final message, and what the server must answer to it.
pub(in crate::probe) struct Proof {
    /// As it goes over the wire.
    pub(in crate::probe) message: String,
    signature: Bytes,
}

impl Proof {
    /// A proof to which no server has the answer, for fuzzing.
    #[cfg(feature = "mongodb")]
    pub(in crate::probe) fn unprovable() -> Self {
        Self { message: String::new(), signature: Zeroizing::new(vec![0; 32]) }
    }

    /// Checks the server's final message: it must prove that the server knows the password's keys too.
    ///
    /// # Errors
    /// `auth` if it cannot or says that we could not, `protocol` if it says neither.
    pub(in crate::probe) fn verify(&self, server_final: &[u8]) -> Result<(), Failure> {
        let text = text(server_final)?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(Failure::new(Reason::Auth, clean(&format!("SCRAM: the server answered {error}"))));
        }
        let value = text.strip_prefix("v=").map(|rest| rest.split(',').next().unwrap_or_default());
        match value.and_then(|value| BASE64.decode(value).ok()) {
            Some(signature) if bool::from(signature.ct_eq(&self.signature)) => Ok(()),
            Some(_) => Err(Failure::new(Reason::Auth, "SCRAM: the server cannot prove that it knows the password")),
            None => Err(broken("a final message without a signature")),
        }
    }
}

/// The server's first message.
#[derive(Debug)]
pub(in crate::probe) struct ServerFirst<'a> {
    message: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    rounds: u32,
}

impl<'a> ServerFirst<'a> {
    /// Reads it; the server's nonce must continue the client's.
    ///
    /// # Errors
    /// `protocol`, naming the first thing that is wrong.
    pub(in crate::probe) fn parse(message: &'a [u8], client_nonce: &str) -> Result<Self, Failure> {
        let message = text(message)?;
        let mut fields = message.split(',');
        // A mandatory extension (`m=`) would come first and is refused with everything else that is not a nonce.
        let mut next = |key: &str| {
            let value = fields.next().and_then(|field| field.strip_prefix(key)?.strip_prefix('='));
            value.ok_or_else(|| broken(&format!("a first message without {key}=")))
        };
        let (nonce, salt, rounds) = (next("r")?, next("s")?, next("i")?);
        if nonce.len() <= client_nonce.len() || !nonce.starts_with(client_nonce) {
            return Err(broken("a nonce that does not continue ours"));
        }
        let salt = BASE64.decode(salt).map_err(|_| broken("a salt that is not base64"))?;
        if salt.is_empty() {
            return Err(broken("an empty salt"));
        }
        match rounds.parse() {
            Ok(rounds) if ROUNDS.contains(&rounds) => Ok(Self { message, nonce, salt, rounds }),
            _ => Err(broken(&format!("{rounds} rounds; accepted are {} to {}", ROUNDS.start(), ROUNDS.end()))),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    match std::str::from_utf8(message) {
        Ok(text) if message.len() <= MAX_MESSAGE => Ok(text),
        Ok(_) => Err(broken("a message that is too long")),
        Err(_) => Err(broken("a message that is not UTF-8")),
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(Reason::Protocol, clean(&format!("SCRAM: the server sent {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(hash: Hash) -> Credentials {
        Credentials::new(hash, "user", Zeroizing::new("pencil".to_owned())).unwrap()
    }

    /// A conversation whose every message is published: the messages we send must be those.
    async fn conversation(user: Credentials, nonce: &str, server_first: &str, proof: &str, server_final: &str) {
        let first = user.begin_with(nonce.to_owned());
        assert_eq!(first.message, format!("n,,n=user,r={nonce}"));
        for _ in 0..2 {
            let sent = user.prove(&first, server_first.as_bytes()).await.unwrap();
            assert_eq!(sent.message.rsplit_once(",p=").unwrap().1, proof);
            sent.verify(server_final.as_bytes()).unwrap();
            assert_eq!(sent.verify(b"v=AAAA").unwrap_err().reason, Reason::Auth);
            assert_eq!(sent.verify(b"e=other-error").unwrap_err().reason, Reason::Auth);
            assert_eq!(sent.verify(b"done").unwrap_err().reason, Reason::Protocol);
        }
        assert_eq!(user.kept.lock().unwrap().len(), 1, "derived once");
    }

    #[tokio::test]
    async fn rfc_7677_section_3() {
        conversation(
            user(Hash::Sha256),
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        )
        .await;
    }

    #[cfg(feature = "mongodb")]
    #[tokio::test]
    async fn rfc_5802_section_5() {
        conversation(
            user(Hash::Sha1),
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        )
        .await;
    }

    #[test]
    fn names_are_escaped_and_passwords_hidden() {
        let credentials = Credentials::new(Hash::Sha256, "a=b,c", Zeroizing::new("pencil".to_owned())).unwrap();
        assert_eq!(credentials.username, "a=3Db=2Cc");
        assert!(!format!("{credentials:?}").contains("pencil"));
        assert!(Credentials::new(Hash::Sha256, "", Zeroizing::new("pencil".to_owned())).is_err());
    }

    #[test]
    fn hostile_first_messages_are_refused() {
        for message in [
            "",
            "r=nonce",
            "r=nonceX",
            "r=nonce,s=AAAA,i=4096",
            "r=other,s=AAAA,i=4096",
            "r=nonceX,s=,i=4096",
            "r=nonceX,s=!!,i=4096",
            "r=nonceX,s=AAAA,i=4095",
            "r=nonceX,s=AAAA,i=1000001",
            "r=nonceX,s=AAAA,i=99999999999999999999",
            "r=nonceX,s=AAAA,i=-1",
            "m=ext,r=nonceX,s=AAAA,i=4096",
            "s=AAAA,r=nonceX,i=4096",
        ] {
            let failure = ServerFirst::parse(message.as_bytes(), "nonce").unwrap_err();
            assert_eq!(failure.reason, Reason::Protocol, "{message}");
        }
        assert!(ServerFirst::parse(b"r=nonceX,s=AAAA,i=4096,x=y", "nonce").is_ok());
        assert!(ServerFirst::parse(&[0xff; 8], "nonce").is_err());
        assert!(ServerFirst::parse(&[b'r'; 1_000_000], "nonce").is_err());
    }
}
