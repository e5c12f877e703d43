//! Starving a server of its CPU, as a backup's compression does.

use crate::Result;
use crate::process::{Launch, Server};

/// Compressors at work on one CPU until this is dropped.
#[derive(Debug)]
pub struct Hog {
    server: Server,
}

impl Hog {
    /// Starts `count` compressors, all confined to `cpu`. Pin the server to starve to the same one, and everything else elsewhere.
    pub fn start(count: usize, cpu: usize) -> Result<Hog> {
        // Random data never gets easier to compress, and reading it does not wait for a disk.
        const SCRIPT: &str = "for _ in $(seq \"$0\"); do gzip -9 </dev/urandom >/dev/null & done; wait";
        let launch = Launch::new("compressors", "/bin/sh").args(["-c", SCRIPT, &count.to_string()]).cpu(cpu);
        Ok(Hog { server: launch.start()? })
    }

    /// The process group of the compressors.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
