//! Logging in on a connection that is being opened.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::api::Api;
use super::api::api_versions::Versions;
use super::api::sasl::{Authenticate, Handshake, Step};
use super::connect::Wire;
use super::error::ErrorCode;
use super::token::Tokens;
use crate::probe::kafka::access::{Sasl, ScramHash};
use crate::probe::net::{Net, clean};
use crate::probe::sasl::scram::{Credentials, Hash};
use crate::probe::{Failure, Reason};
use crate::settings::Secret;

/// How to log in.
pub(super) enum Login {
    /// Name and password as they are (RFC 4616).
    Plain { username: String, password: Secret },
    /// With a proof that both sides know the password.
    Scram(Credentials),
    /// With a token (RFC 7628).
    Bearer(Box<Tokens>),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, …)", self.mechanism())
    }
}

impl Login {
    /// No I/O.
    ///
    /// # Errors
    /// What is wrong with the credentials, in words and without them.
    pub(super) fn new(sasl: &Sasl, net: &Net) -> Result<Self, String> {
        Ok(match sasl {
            Sasl::Plain { username, password } => {
                if username.contains('\0') || password.expose().contains('\0') {
                    return Err("PLAIN has no way to send a zero byte in a name or password".to_owned());
                }
                Self::Plain { username: username.clone(), password: password.clone() }
            }
            Sasl::Scram { hash, username, password } => {
                let hash = match hash {
                    ScramHash::Sha256 => Hash::Sha256,
                    ScramHash::Sha512 => Hash::Sha512,
                };
                // Brokers take the password's UTF-8 as it is, without SASLprep (Kafka's ScramFormatter).
                let password = Zeroizing::new(password.expose().to_owned());
                Self::Scram(Credentials::new(hash, username, password)?)
            }
            Sasl::Bearer(source) => Self::Bearer(Box::new(Tokens::new(source, net)?)),
        })
    }

    /// The mechanism's name on the wire.
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram(credentials) => credentials.hash().mechanism(),
            Self::Bearer(_) => "OAUTHBEARER",
        }
    }

    /// Logs in. Says for how long that holds, if not for ever.
    ///
    /// # Errors
    /// `auth` with the broker's words if it refuses; whatever keeps us from asking it.
    pub(super) async fn run(&self, wire: &mut Wire<'_>, versions: &Versions) -> Result<Option<Duration>, Failure> {
        self.choose(wire, versions).await?;
        let last = match self {
            Self::Plain { username, password } => {
                let message = Zeroizing::new(format!("\0{username}\0{}", password.expose()));
                send(wire, versions, message.as_bytes()).await?
            }
            Self::Scram(credentials) => {
                let first = credentials.begin()?;
                let answer = send(wire, versions, first.message.as_bytes()).await?;
                let proof = credentials.prove(&first, &answer.message).await?;
                let answer = send(wire, versions, proof.message.as_bytes()).await?;
                proof.verify(&answer.message)?;
                answer
            }
            Self::Bearer(tokens) => {
                // Asking a token server takes much more room than all other logins.
                let token = Box::pin(tokens.current()).await?;
                let message = Zeroizing::new(format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.as_str()));
                let result = bear(wire, versions, message.as_bytes()).await;
                if result.as_ref().is_err_and(|failure| failure.reason == Reason::Auth) {
                    // It may have been withdrawn.
                    tokens.forget().await;
                }
                result?
            }
        };
        Ok(u64::try_from(last.lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis))
    }

    async fn choose(&self, wire: &mut Wire<'_>, versions: &Versions) -> Result<(), Failure> {
        let version = pick(versions, Api::SaslHandshake)?;
        let mechanism = self.mechanism();
        let offer = wire.ask(&Handshake { mechanism }, version).await?;
        match offer.error {
            ErrorCode::NONE => Ok(()),
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let offered = clean(&offer.mechanisms.join(", "));
                Err(Failure::new(Reason::Auth, format!("the listener has no {mechanism}; it has {offered}")))
            }
            ErrorCode::ILLEGAL_SASL_STATE => {
                Err(Failure::new(Reason::Auth, "the listener knows no logins; is `sasl` meant for another port?"))
            }
            other => Err(other.failure("SaslHandshake")),
        }
    }
}

/// Sends a message of the mechanism.
async fn send(wire: &mut Wire<'_>, versions: &Versions, message: &[u8]) -> Result<Step, Failure> {
    let version = pick(versions, Api::SaslAuthenticate)?;
    let step = wire.ask(&Authenticate { message: Bytes::copy_from_slice(message) }, version).await?;
    if step.error.is_ok() {
        return Ok(step);
    }
    let failure = step.error.failure("SaslAuthenticate");
    match &step.explanation {
        Some(words) => Err(Failure::new(failure.reason, format!("the broker refuses the login: {}", clean(words)))),
        None => Err(failure),
    }
}

/// The exchange of OAUTHBEARER: a token that is refused is answered with why, and only what we say to that with the error.
async fn bear(wire: &mut Wire<'_>, versions: &Versions, message: &[u8]) -> Result<Step, Failure> {
    let step = send(wire, versions, message).await?;
    if step.message.is_empty() {
        return Ok(step);
    }
    let why = clean(&String::from_utf8_lossy(&step.message));
    match send(wire, versions, b"\x01").await {
        Err(failure) if failure.reason != Reason::Auth => Err(failure),
        _ => Err(Failure::new(Reason::Auth, format!("the broker refuses the token: {why}"))),
    }
}

fn pick(versions: &Versions, api: Api) -> Result<i16, Failure> {
    let words = || Failure::new(Reason::Rejected, format!("the broker does not speak {} as we do", api.label()));
    versions.pick(api).ok_or_else(words)
}
