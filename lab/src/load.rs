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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::until;

    /// The status of every live process called gzip in a process group.
    fn compressors(group: u32) -> Vec<String> {
        let of_group = |stat: &str| {
            // After the name, which may hold anything: state, parent, group.
            let fields: Vec<&str> =
                stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().take(3).collect();
            stat.contains("(gzip)") && fields[0] != "Z" && fields[2] == group.to_string()
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let stats = processes.filter_map(|path| Some((fs::read_to_string(path.join("stat")).ok()?, path)));
        stats
            .filter_map(|(stat, path)| of_group(&stat).then(|| fs::read_to_string(path.join("status")).ok())?)
            .collect()
    }

    #[tokio::test]
    async fn compressors_keep_to_their_cpu_and_end_with_their_owner() {
        let hog = Hog::start(3, 0).unwrap();
        let group = hog.pid();
        let count = |wanted: usize| {
            until("the compressors", Duration::from_secs(10), async move || match compressors(group) {
                found if found.len() == wanted => Ok(found),
                found => Err(format!("{} of {wanted}", found.len())),
            })
        };
        let found = count(3).await.unwrap();
        assert!(found.iter().all(|status| status.contains("Cpus_allowed_list:\t0\n")), "{found:?}");
        drop(hog);
        count(0).await.unwrap();
    }
}
