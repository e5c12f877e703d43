//! What a run is called, in exemplars and on /runs.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names one run of this process. Written as 16 hexadecimal digits, of which the first eight are the process's: an
/// exemplar that Prometheus keeps from before a restart names no run of today's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(u64);

impl RunId {
    /// The next one of this process. They repeat after four billion runs, long after anybody remembers the first.
    pub fn next() -> Self {
        static PROCESS: OnceLock<u32> = OnceLock::new();
        static RUNS: AtomicU32 = AtomicU32::new(0);
        // Without randomness, ids are told apart by their order only.
        let process = *PROCESS.get_or_init(|| getrandom::u32().unwrap_or_default());
        Self(u64::from(process) << 32 | u64::from(RUNS.fetch_add(1, Ordering::Relaxed)))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // `from_str_radix` accepts a sign.
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { u64::from_str_radix(text, 16).map(Self).map_err(drop) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_read_back() {
        let (one, other) = (RunId::next(), RunId::next());
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 16);
        assert_eq!(one.to_string().parse(), Ok(one));
        for wrong in ["", "+000000000000001", "00000000000000001", "000000000000000g", "0x00000000000001"] {
            assert_eq!(wrong.parse::<RunId>(), Err(()), "{wrong}");
        }
    }
}
