//! TLS over the control channel.
