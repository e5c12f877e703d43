//! Random bytes.

use crate::probe::{Failure, Reason};

/// So many of them.
///
/// # Errors
/// `local` if the system has none.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// As many as there is room for.
///
/// # Errors
/// Those of [`random`].
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|error| Failure::new(Reason::Local, format!("no random numbers: {error}")))
}
