//! Sizes such as `"1MiB"`.

use std::fmt;

use super::value::{Invalid, Item, Value};

const EXPECTED: &str = "a size such as \"1MiB\"";

/// Units with their size in bytes.
const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A number of bytes, written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

impl Value for Size {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let Some(text) = item.str() else { return Err(item.expected(EXPECTED)) };
        parse(text)
            .map(Self)
            .ok_or_else(|| Invalid::new(format!("expected {EXPECTED}; the units are B, kB, MB, GB, KiB, MiB and GiB")))
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("1MiB", Some(1 << 20)),
            ("64 KiB", Some(64 << 10)),
            ("10kB", Some(10_000)),
            ("0B", Some(0)),
            ("7", None),
            ("", None),
            ("MiB", None),
            ("-1B", None),
            ("1.5MiB", None),
            ("1mib", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text), bytes, "{text}");
        }
        assert_eq!(Size(8 << 20).to_string(), "8 MiB");
        assert_eq!(Size(1000).to_string(), "1000 B");
    }
}
