//! Ways to log in that more than one protocol has (SASL, RFC 4422).

pub(super) mod scram;
