//! Which of several replicas runs a probe. Pure: neither I/O nor a clock.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): every shard has a weight for
//! every probe, and the probe belongs to the shard with the greatest. So a shard that is added takes its probes from the others, and
//! none of those exchange any; one that is removed gives its own to the others.
//!
//! The weight of shard `i` for a probe is the first eight bytes, read as a big-endian number, of
//! `SHA-256("midwatch-shard-1" 0x00 type 0x00 name 0x00 i)`, with `i` as four big-endian bytes. Of two equal weights, the lower shard's
//! counts. This never changes: another hash would give nearly every probe to another shard with an upgrade.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::host::{digits, ordinal};

/// What the hash begins with.
const DOMAIN: &[u8] = b"midwatch-shard-1";
/// The most shards. Every one of them exposes two series for each.
const MOST: u32 = 256;

/// One of several replicas that have the probes of one configuration between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, counted from 0.
    pub index: u32,
    /// How many there are, at least 2.
    pub count: u32,
}

impl Shard {
    /// The shard of the same number of shards that runs the probe of that type and name.
    #[must_use]
    pub fn owner(self, kind: &str, name: &str) -> Self {
        Self { index: owner(kind, name, self.count), ..self }
    }

    /// Whether this is the shard that runs it.
    pub fn owns(self, kind: &str, name: &str) -> bool {
        self.owner(kind, name) == self
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.index, self.count)
    }
}

/// The shard that a probe belongs to, of so many.
fn owner(kind: &str, name: &str, count: u32) -> u32 {
    let mut probe = Sha256::new();
    // Neither a type nor a name holds the byte between them.
    for part in [DOMAIN, kind.as_bytes(), name.as_bytes()] {
        probe.update(part);
        probe.update([0]);
    }
    let weight = |index: u32| {
        let hash = probe.clone().chain_update(index.to_be_bytes()).finalize();
        hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    (0..count).max_by_key(|index| (weight(*index), std::cmp::Reverse(*index))).unwrap_or(0)
}

/// What the command line says of it: `2/5`, or `auto/5` for the number at the end of the host's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which one; `None` is what the host's name says.
    index: Option<u32>,
    count: u32,
}

impl Wanted {
    /// The shard; `None` if there is one only, which runs everything. `host` is asked for the host's name if that decides.
    ///
    /// # Errors
    /// What is wrong with the host's name.
    pub fn settle(self, host: impl FnOnce() -> Option<String>) -> Result<Option<Shard>, String> {
        let Self { index, count } = self;
        if count == 1 {
            return Ok(None);
        }
        let index = match index {
            Some(index) => index,
            None => {
                let host = host().ok_or("--shard auto: this host has no name; give the shard as a number")?;
                let found = ordinal(&host);
                let index = found.ok_or_else(|| {
                    format!("--shard auto: the host name {host:?} does not end in - and a number, as midwatch-0 does")
                })?;
                if index >= count {
                    return Err(format!(
                        "--shard auto: the host name {host:?} is that of shard {index}, and of {count} shards, counted from 0, the last is {}",
                        count - 1
                    ));
                }
                index
            }
        };
        Ok(Some(Shard { index, count }))
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected I/N such as 0/3, or auto/3".to_owned();
        let (index, count) = text.split_once('/').ok_or_else(expected)?;
        let count = digits(count).ok_or_else(expected)?;
        if !(1..=MOST).contains(&count) {
            return Err(format!("the number of shards must be from 1 to {MOST}"));
        }
        if index == "auto" {
            return Ok(Self { index: None, count });
        }
        let index = digits(index).ok_or_else(expected)?;
        if index >= count {
            let last = count - 1;
            return Err(format!(
                "there is no shard {index} of {count}: it counts from 0, so the last one is {last}/{count}"
            ));
        }
        Ok(Self { index: Some(index), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> impl Iterator<Item = String> {
        (0..6000).map(|n| format!("probe-{n}"))
    }

    #[test]
    fn one_more_shard_takes_its_share_and_moves_nothing_else() {
        for count in 1..12 {
            let mut moved = 0;
            for name in names() {
                let (before, after) = (owner("mongodb", &name, count), owner("mongodb", &name, count + 1));
                assert!(after == before || after == count, "{name}: from {before} to {after} of {}", count + 1);
                moved += usize::from(after != before);
            }
            // Six standard deviations of a fair share: the names are the same at every run.
            let share = 1.0 / f64::from(count + 1);
            let (expected, spread) = (6000.0 * share, (6000.0 * share * (1.0 - share)).sqrt());
            assert!((moved as f64 - expected).abs() < 6.0 * spread, "{moved} of {expected} moved to shard {count}");
        }
    }

    #[test]
    fn shards_have_about_as_many_probes_each() {
        for count in [2, 3, 5, 16] {
            let mut owned = vec![0_u32; count as usize];
            names().for_each(|name| owned[owner("kafka", &name, count) as usize] += 1);
            let (share, sum) = (1.0 / f64::from(count), owned.iter().sum::<u32>());
            assert_eq!(sum, 6000);
            let spread = (6000.0 * share * (1.0 - share)).sqrt();
            for count in &owned {
                assert!((f64::from(*count) - 6000.0 * share).abs() < 6.0 * spread, "{owned:?}");
            }
        }
    }

    /// A change of any of these gives probes to other shards with an upgrade.
    #[test]
    fn a_release_never_reshuffles() {
        let known = |kind, name| [2, 3, 5, 8, 16].map(|count| owner(kind, name, count));
        assert_eq!(known("mongodb", "orders"), GOLDEN[0]);
        assert_eq!(known("kafka", "events"), GOLDEN[1]);
        assert_eq!(known("backup", "nightly"), GOLDEN[2]);
        assert_eq!(known("vpn", "office"), GOLDEN[3]);
        assert_eq!(known("vpn", "orders"), GOLDEN[4]);
        assert_eq!(owner("", "", 1), 0);
        // Type and name are told apart.
        assert!(names().any(|name| owner("kafka", &name, 5) != owner("mongodb", &name, 5)));
    }

    const GOLDEN: [[u32; 5]; 5] = [[0, 0, 0, 6, 6], [0, 2, 2, 2, 8], [0, 2, 4, 4, 4], [1, 1, 1, 1, 1], [1, 1, 3, 3, 3]];

    fn settled(text: &str, host: Option<&str>) -> Result<Option<(u32, u32)>, String> {
        let shard = text.parse::<Wanted>()?.settle(|| host.map(str::to_owned))?;
        Ok(shard.map(|shard| (shard.index, shard.count)))
    }

    #[test]
    fn what_the_command_line_says() {
        assert_eq!(settled("0/3", None), Ok(Some((0, 3))));
        assert_eq!(settled("2/3", Some("midwatch-1")), Ok(Some((2, 3))));
        assert_eq!(settled("auto/3", Some("midwatch-1")), Ok(Some((1, 3))));
        assert_eq!(settled("auto/3", Some("mid-watch-2.midwatch.monitoring.svc")), Ok(Some((2, 3))));
        // One shard is no sharding, whatever the host is called.
        assert_eq!((settled("0/1", None), settled("auto/1", None)), (Ok(None), Ok(None)));
        for (text, host, problem) in [
            ("5/5", None, "there is no shard 5 of 5: it counts from 0, so the last one is 4/5"),
            ("1/0", None, "the number of shards must be from 1 to 256"),
            ("1/257", None, "the number of shards must be from 1 to 256"),
            ("", None, "expected I/N such as 0/3, or auto/3"),
            ("3", None, "expected I/N such as 0/3, or auto/3"),
            ("+1/3", None, "expected I/N such as 0/3, or auto/3"),
            ("-1/3", None, "expected I/N such as 0/3, or auto/3"),
            ("1/3/5", None, "expected I/N such as 0/3, or auto/3"),
            ("AUTO/3", None, "expected I/N such as 0/3, or auto/3"),
            ("99999999999/3", None, "expected I/N such as 0/3, or auto/3"),
            ("auto/3", None, "--shard auto: this host has no name; give the shard as a number"),
            (
                "auto/3",
                Some("watcher"),
                "--shard auto: the host name \"watcher\" does not end in - and a number, as midwatch-0 does",
            ),
            (
                "auto/3",
                Some("midwatch-3"),
                "--shard auto: the host name \"midwatch-3\" is that of shard 3, and of 3 shards, counted from 0, the last is 2",
            ),
        ] {
            assert_eq!(settled(text, host), Err(problem.to_owned()), "{text:?} at {host:?}");
        }
    }
}
