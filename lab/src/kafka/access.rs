//! Who may connect, and how.

/// How connections of clients are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// Always.
    Server,
    /// Always, and clients need a certificate.
    Mutual,
}

/// Authentication and TLS of the listener for clients.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Access {
    pub(super) sasl: bool,
    pub(super) tls: Tls,
}
