//! Why a run, a target or a phase failed: a closed set of reasons that become labels, and a detail for people.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::label_values::label_values;

label_values! {
    /// The closed set of values that the `reason` label takes. Bounded on purpose: what is free text goes into
    /// [`Failure::detail`], which reaches the log and the status page but never a label.
    pub enum Reason {
        /// The deadline passed; the phase says where the time went.
        Timeout = "timeout",
        /// A name could not be resolved.
        Resolve = "resolve",
        /// The peer answered that nothing listens there (TCP reset, ICMP port unreachable).
        Refused = "refused",
        /// The network answered that there is no way to the peer (ICMP unreachable, no route).
        Unreachable = "unreachable",
        /// The peer closed or reset an established connection.
        Closed = "closed",
        /// The TLS handshake failed for another reason than the peer's certificate.
        Tls = "tls",
        /// The peer's certificate is not acceptable: expired, unknown issuer, another name.
        Certificate = "certificate",
        /// The peer refused the credentials.
        Auth = "auth",
        /// The peer's bytes are not what its protocol allows.
        Protocol = "protocol",
        /// The peer understood the request and answered that it failed.
        Rejected = "rejected",
        /// The answer came from a member that is not the primary.
        NotPrimary = "not_primary",
        /// The answer is well-formed but not the one that was expected.
        Mismatch = "mismatch",
        /// The peer said that it is overloaded.
        Overload = "overload",
        /// The peer's pre-shared key is another one than ours.
        PskMismatch = "psk_mismatch",
        /// The peer wraps its packets in another way than we do, or not at all.
        WrapMismatch = "wrap_mismatch",
        /// A tunnel was opened, and nothing came back through it.
        DataPlaneTimeout = "data_plane_timeout",
        /// Not asked: it would be more than the peer can be asked without harm.
        RateLimited = "rate_limited",
        /// Our clock is behind what it was, and the peer remembers.
        ClockBehind = "clock_behind",
        /// The packet took another way than the one that is watched.
        WrongInterface = "wrong_interface",
        /// This process lacks something of its own: file descriptors, memory, a local address.
        Local = "local",
        /// A defect of midwatch itself: a panic, a broken invariant.
        Internal = "internal",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A failed run, target or phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Failure {
    /// What kind of failure it is; becomes a label.
    pub reason: Reason,
    /// What happened, in words, for a person. Never holds a secret.
    pub detail: Cow<'static, str>,
}

impl Failure {
    /// A failure of the given kind with its explanation.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Classifies an I/O error of a socket: `what` names the operation in the detail ("connect", "read").
    pub fn io(what: &str, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let reason = match error.kind() {
            Kind::ConnectionRefused => Reason::Refused,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Reason::Unreachable,
            Kind::TimedOut => Reason::Timeout,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => Reason::Closed,
            // Of WireGuard's interfaces: no peer has that address, or nobody knows where the peer is.
            _ if matches!(error.raw_os_error(), Some(libc::ENOKEY | libc::EDESTADDRREQ)) => Reason::Unreachable,
            _ if is_local(error) => Reason::Local,
            _ => Reason::Protocol,
        };
        Self::new(reason, format!("{what}: {error}"))
    }
}

/// Whether the error says that this process or host ran out of something, so that it is no fault of the target.
fn is_local(error: &io::Error) -> bool {
    const OWN: &[i32] = &[
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
        libc::EADDRINUSE,
        libc::EACCES,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| OWN.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_snake_case() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert!(labels.iter().all(|label| label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn io_errors_are_told_apart() {
        let reason = |code| Failure::io("connect", &io::Error::from_raw_os_error(code)).reason;
        assert_eq!(reason(libc::ECONNREFUSED), Reason::Refused);
        assert_eq!(reason(libc::EHOSTUNREACH), Reason::Unreachable);
        assert_eq!(reason(libc::ETIMEDOUT), Reason::Timeout);
        assert_eq!(reason(libc::ECONNRESET), Reason::Closed);
        assert_eq!(reason(libc::EMFILE), Reason::Local);
    }
}
