//! Everything that reads a peer's bytes, callable without a peer: for the fuzz targets in `fuzz/` and for the test that
//! feeds their seeds and mutations of them.

use futures_util::FutureExt;
use tokio::io::{join, sink};

use super::hello::{Hello, hello};
use super::wire::Connection;
use crate::probe::sasl::scram::{Proof, ServerFirst};
use crate::probe::{Failure, Reason};

/// What `hello` makes of a peer that answers with these bytes.
///
/// # Errors
/// Those of `hello`.
pub fn op_msg(bytes: &[u8]) -> Result<Hello, Failure> {
    let mut conn = Connection::new(join(bytes, sink()));
    hello(&mut conn, None)
        .now_or_never()
        .unwrap_or_else(|| Err(Failure::new(Reason::Internal, "reading from memory had to wait")))
}

/// What SCRAM makes of these bytes as the server's first and as its final message. The client's nonce is `nonce`.
///
/// # Errors
/// `protocol` for a first message that breaks the rules, else what checking its proof says.
pub fn scram(bytes: &[u8]) -> Result<(), Failure> {
    ServerFirst::parse(bytes, "nonce").map(|_| ()).or_else(|_| Proof::unprovable().verify(bytes))
}
