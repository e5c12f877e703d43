//! Logging in on a fresh connection, with the first step inside `hello` (speculative authentication).
//!
//! A login takes three calls, so that each can be timed, or not, by itself: [`Auth::begin`] before `hello`,
//! [`Attempt::prepare`] after it (our own arithmetic, part of no phase), and [`Attempt::finish`], which is one round trip
//! when the server took up the first step and the whole conversation when it did not (unknown user, mechanism switched
//! off, MongoDB before 4.4).
//!
//! Source: "Authentication" of the driver specifications.

use std::fmt;

use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use bson::spec::BinarySubtype;
use bson::{Binary, rawdoc};
use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::hello::Hello;
use super::wire::Connection;
use crate::probe::sasl::scram::{ClientFirst, Credentials, Hash, Proof};
use crate::probe::{Failure, Reason};

/// Where users that are known by their certificate live.
const EXTERNAL: &str = "$external";

/// How to log in.
#[derive(Debug)]
pub(super) struct Auth(Method);

#[derive(Debug)]
enum Method {
    None,
    Scram { credentials: Credentials, source: String },
    X509,
}

impl Auth {
    /// Do not log in.
    pub(super) fn none() -> Self {
        Self(Method::None)
    }

    /// With a password; `source` is the database that holds the user, usually `admin`.
    ///
    /// # Errors
    /// What is wrong with the name or the password, in words and without either.
    pub(super) fn scram(hash: Hash, username: &str, password: &str, source: &str) -> Result<Self, String> {
        let credentials = Credentials::new(hash, username, prepare(hash, username, password)?)?;
        Ok(Self(Method::Scram { credentials, source: source.to_owned() }))
    }

    /// With the certificate that the TLS handshake showed (MONGODB-X509).
    pub(super) fn x509() -> Self {
        Self(Method::X509)
    }

    /// Whether there is anybody to log in as: without, there is no such phase.
    pub(super) fn is_needed(&self) -> bool {
        !matches!(self.0, Method::None)
    }

    /// Starts a login.
    ///
    /// # Errors
    /// `local` if the system has no random numbers.
    pub(super) fn begin(&self) -> Result<Attempt<'_>, Failure> {
        let (first, speculative) = match &self.0 {
            Method::None => (None, None),
            Method::Scram { credentials, source } => {
                let first = credentials.begin()?;
                let mut document = sasl_start(credentials, &first);
                document.append(bson::raw::cstr!("db"), source.as_str());
                (Some(first), Some(document))
            }
            Method::X509 => {
                let mut document = authenticate();
                document.append(bson::raw::cstr!("db"), EXTERNAL);
                (None, Some(document))
            }
        };
        Ok(Attempt { method: &self.0, first, speculative, step: Step::Start })
    }
}

/// A login under way on one connection.
pub(super) struct Attempt<'a> {
    method: &'a Method,
    first: Option<ClientFirst>,
    speculative: Option<RawDocumentBuf>,
    step: Step,
}

/// How far a login has come.
enum Step {
    /// The server knows nothing of it.
    Start,
    /// The server waits for the proof.
    Proven { conversation: i32, proof: Proof },
    /// The first step was enough.
    Done,
    /// The first step went wrong in a way that shows when the login is finished.
    Failed(Failure),
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attempt").field(self.method).finish()
    }
}

impl Attempt<'_> {
    /// What goes into `hello`.
    pub(super) fn speculative(&self) -> Option<&RawDocument> {
        self.speculative.as_deref()
    }

    /// Takes the server's answer to the first step and computes the second: the costly derivation of keys happens here,
    /// off the runtime's workers and only when they are not known yet. Errors come out of [`finish`](Self::finish).
    pub(super) async fn prepare(&mut self, hello: &Hello) {
        let Some(reply) = &hello.speculative else { return };
        self.step = match (self.method, &self.first) {
            (Method::Scram { credentials, .. }, Some(first)) => match prove(credentials, first, reply).await {
                Ok((conversation, proof)) => Step::Proven { conversation, proof },
                Err(failure) => Step::Failed(failure),
            },
            (Method::X509, _) => Step::Done,
            _ => Step::Start,
        };
    }

    /// Completes the login.
    ///
    /// # Errors
    /// `auth` if the server refuses or cannot prove who it is; those of [`Connection::command`].
    pub(super) async fn finish<S>(self, conn: &mut Connection<S>) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match (self.method, self.step, &self.first) {
            (Method::None, ..) | (_, Step::Done, _) => Ok(()),
            (_, Step::Failed(failure), _) => Err(failure),
            (Method::X509, ..) => {
                let mut command = authenticate();
                command.append(bson::raw::cstr!("$db"), EXTERNAL);
                conn.command(&command).await.map(|_| ())
            }
            (Method::Scram { source, .. }, Step::Proven { conversation, proof }, _) => {
                conclude(conn, source, conversation, &proof).await
            }
            (Method::Scram { credentials, source }, Step::Start, Some(first)) => {
                let mut command = sasl_start(credentials, first);
                command.append(bson::raw::cstr!("$db"), source.as_str());
                let reply = conn.command(&command).await?;
                let (conversation, proof) = prove(credentials, first, reply).await?;
                conclude(conn, source, conversation, &proof).await
            }
            (Method::Scram { .. }, Step::Start, None) => {
                Err(Failure::new(Reason::Internal, "a SCRAM login without its first message"))
            }
        }
    }
}

/// A password as MongoDB wants it: SASLprep for SHA-256, its own digest for SHA-1 ("Authentication" of the driver
/// specifications; the name itself is used as it is in both).
fn prepare(hash: Hash, username: &str, password: &str) -> Result<Zeroizing<String>, String> {
    match hash {
        Hash::Sha1 => {
            let clear = Zeroizing::new(format!("{username}:mongo:{password}"));
            Ok(Zeroizing::new(Md5::digest(clear.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()))
        }
        _ => match stringprep::saslprep(password) {
            Ok(prepared) => Ok(Zeroizing::new(prepared.into_owned())),
            Err(_) => Err("the password has characters that SASLprep (RFC 4013) forbids".to_owned()),
        },
    }
}

fn sasl_start(credentials: &Credentials, first: &ClientFirst) -> RawDocumentBuf {
    rawdoc! {
        "saslStart": 1,
        "mechanism": credentials.hash().mechanism(),
        "payload": payload(first.message.as_bytes()),
        // Saves a round trip in which neither side says anything (MongoDB 4.4).
        "options": { "skipEmptyExchange": true },
    }
}

fn authenticate() -> RawDocumentBuf {
    rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509" }
}

async fn prove(credentials: &Credentials, first: &ClientFirst, reply: &RawDocument) -> Result<(i32, Proof), Failure> {
    let proof = credentials.prove(first, message_of(reply)?).await?;
    let conversation = reply.get("conversationId").ok().flatten().and_then(RawBsonRef::as_i32).unwrap_or(1);
    Ok((conversation, proof))
}

/// Sends the proof and checks the server's.
async fn conclude<S>(conn: &mut Connection<S>, source: &str, conversation: i32, proof: &Proof) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let next = |message: &[u8]| {
        rawdoc! { "saslContinue": 1, "conversationId": conversation, "payload": payload(message), "$db": source }
    };
    let is_done = |reply: &RawDocument| reply.get_bool("done").unwrap_or(false);
    let reply = conn.command(&next(proof.message.as_bytes())).await?;
    proof.verify(message_of(reply)?)?;
    // MongoDB before 4.4 does not know `skipEmptyExchange`.
    if is_done(reply) || is_done(conn.command(&next(b"")).await?) {
        return Ok(());
    }
    Err(Failure::new(Reason::Protocol, "SCRAM: the server does not come to an end"))
}

fn payload(message: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: message.to_vec() }
}

fn message_of(reply: &RawDocument) -> Result<&[u8], Failure> {
    match reply.get("payload") {
        Ok(Some(RawBsonRef::Binary(binary))) => Ok(binary.bytes),
        _ => Err(Failure::new(Reason::Protocol, "SCRAM: the server's answer has no payload")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SHA-1 users' passwords are is in the example of MongoDB's specification of SCRAM-SHA-1: the server's messages
    /// there are answered with the proof that is printed there.
    #[tokio::test]
    async fn sha_1_passwords_are_digests() {
        let password = prepare(Hash::Sha1, "user", "pencil").unwrap();
        let user = Credentials::new(Hash::Sha1, "user", password).unwrap();
        let first = user.begin_with("fyko+d2lbbFgONRv9qkxdawL".to_owned());
        let server_first =
            "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000";
        let proof = user.prove(&first, server_first.as_bytes()).await.unwrap();
        assert_eq!(proof.message.rsplit_once(",p=").unwrap().1, "MC2T8BvbmWRckDw8oWl5IVghwCY=");
        proof.verify(b"v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=").unwrap();
    }

    #[test]
    fn other_passwords_are_normalized() {
        assert_eq!(*prepare(Hash::Sha256, "user", "\u{2168}\u{ad}").unwrap(), "IX");
        assert!(prepare(Hash::Sha256, "user", "bell\u{7}").is_err());
    }

    #[test]
    fn broken_messages_are_survived() {
        crate::corpus::each("scram", |bytes| match super::super::fuzz::scram(bytes) {
            Ok(_) => true,
            Err(failure) => {
                assert!(matches!(failure.reason, Reason::Auth | Reason::Protocol), "{failure}");
                false
            }
        });
    }
}
