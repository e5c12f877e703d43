//! Loopback ports for servers that cannot be told to listen on port 0.
//!
//! A port picked by binding port 0 and letting go again may be given to an outgoing connection before the server binds it. So the
//! lab's ports come from below the range that Linux uses for those, and a locked file per port keeps two labs apart. The lock ends
//! with the process that holds it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

/// Up to 26 006: clear of 27 017, MongoDB's own, and of the demo's after it.
const FIRST: u32 = 20_000;
/// A prime, so that the step below visits every port.
const COUNT: u32 = 6_007;
const STEP: u32 = 1_009;

/// A port that is kept from every other lab of this user until dropped, also while no server listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Option<File>,
}

impl Port {
    /// Picks a free port.
    pub fn pick() -> Result<Port> {
        static PICKED: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!("midwatch-lab-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&folder).map_err(Error::io(folder.display().to_string()))?;
        for _ in 0..COUNT {
            let turn = std::process::id().wrapping_add(PICKED.fetch_add(STEP, Ordering::Relaxed));
            let Ok(number) = u16::try_from(FIRST + turn % COUNT) else { continue };
            let path = folder.join(number.to_string());
            let lock = File::options().create(true).truncate(false).write(true).open(&path);
            let lock = lock.map_err(Error::io(path.display().to_string()))?;
            if lock.try_lock().is_ok() && is_free(number) {
                return Ok(Port { number, _lock: Some(lock) });
            }
        }
        Err(Error::Unexpected("no free port".to_owned()))
    }

    /// A given port, for what has to be where people expect it. Fails if it is in use.
    pub fn fixed(number: u16) -> Result<Port> {
        if is_free(number) { Ok(Port { number, _lock: None }) } else { Err(Error::PortTaken(number)) }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_a_taken_one_is_refused() {
        let ports: Vec<Port> = (0..20).map(|_| Port::pick().unwrap()).collect();
        let distinct: std::collections::BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(distinct.len(), ports.len());

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0].number())).unwrap();
        let error = Port::fixed(listener.local_addr().unwrap().port()).unwrap_err();
        assert!(matches!(error, Error::PortTaken(number) if number == ports[0].number()), "{error}");
    }
}
