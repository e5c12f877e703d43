//! What the JSON listings of repositories have in common. Unknown fields are skipped; what is kept of a listing is bounded, however long it is.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;

use chrono::{DateTime, NaiveDateTime};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use crate::probe::backup::runs::{Run, Stock};

/// So many of the newest backups become runs: more than the books look back.
const NEWEST: usize = 2048;
/// The longest text that is kept, in bytes.
const LONGEST: usize = 1024;

/// A text, whatever bytes it has, cut where it is long.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                self.visit_bytes(text.as_bytes())
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned()))
            }
        }
        // Tools copy names of files, and what they took for a file's content, as they are.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A moment, in unix seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment(pub f64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        moment(&text).map(Self).ok_or_else(|| D::Error::custom("a time that is none"))
    }
}

/// RFC 3339, or the same without an offset: then it is UTC, in which the tools are made to print.
fn moment(text: &str) -> Option<f64> {
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    let at = zoned.or_else(|| Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc()))?;
    Some(seconds(at.timestamp()) + f64::from(at.timestamp_subsec_micros()) / 1e6)
}

/// A whole number of seconds as the books have it.
#[allow(clippy::cast_precision_loss, reason = "2^53 seconds are longer than anything lasts")]
pub(super) fn seconds(whole: i64) -> f64 {
    whole as f64
}

/// A backup of a list.
pub(super) trait Backup: Into<Run> {
    /// What the repository calls it, which need not be the id of its run.
    fn id(&self) -> &str;
}

/// A list of backups: its newest as runs, and what all of them amount to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed<T> {
    /// The newest ones.
    pub runs: Vec<Run>,
    /// How many there are, the time of the oldest, and the sum of their sizes, if all of them are known.
    pub stock: Stock,
    /// Another one for other backups, or the same in another order. Of this process only.
    pub fingerprint: u64,
    of: PhantomData<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        let stock = Stock { bytes: Some(0), ..Stock::default() };
        Self { runs: Vec::new(), stock, fingerprint: 0, of: PhantomData }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, run: Run) {
        let Stock { retained, oldest, bytes } = &mut self.stock;
        *retained += 1;
        let at = run.end.map(|end| end.at);
        *oldest = [*oldest, at].into_iter().flatten().min_by(f64::total_cmp);
        *bytes = bytes.zip(run.size).map(|(sum, size)| sum.saturating_add(size));
        self.runs.push(run.trimmed());
        if self.runs.len() >= 2 * NEWEST {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let at = |run: &Run| run.end.map_or(f64::INFINITY, |end| end.at);
        self.runs.sort_by(|a, b| at(b).total_cmp(&at(a)));
        self.runs.truncate(NEWEST);
    }
}

impl<'de, T: Deserialize<'de> + Backup> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Backup> Visitor<'de> for All<T> {
            type Value = Listed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of backups")
            }

            fn visit_unit<E: Error>(self) -> Result<Listed<T>, E> {
                Ok(Listed::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Listed<T>, A::Error> {
                let (mut listed, mut hasher) = (Listed::default(), DefaultHasher::new());
                while let Some(element) = elements.next_element::<T>()? {
                    element.id().hash(&mut hasher);
                    let run: Run = element.into();
                    if run.id.is_empty() {
                        return Err(A::Error::custom("a backup without a name"));
                    }
                    listed.push(run);
                }
                listed.cut();
                listed.fingerprint = hasher.finish();
                Ok(listed)
            }
        }
        deserializer.deserialize_any(All(PhantomData))
    }
}

/// The first few of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Few<T>(pub Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Few<T>, A::Error> {
                const FEW: usize = 16;
                let mut few = Few::default();
                while few.0.len() < FEW {
                    let Some(element) = elements.next_element()? else { return Ok(few) };
                    few.0.push(element);
                }
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(few)
            }
        }
        deserializer.deserialize_seq(First(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        for (text, expected) in [
            ("2026-11-21T19:40:10.5Z", Some(1_795_290_010.5)),
            ("2026-11-21T20:40:10.500000123+01:00", Some(1_795_290_010.5)),
            ("2026-11-21T19:40:10.500000", Some(1_795_290_010.5)),
            ("2026-11-21T19:40:10", Some(1_795_290_010.0)),
            ("2026-11-21", None),
            ("", None),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_have_any_bytes_and_are_cut() {
        let read = |json: &[u8]| serde_json::from_slice::<Text>(json).map(|text| text.0);
        assert_eq!(read(b"\"a\xff\x01b\\n\"").unwrap(), "a\u{fffd}\u{1}b\n");
        assert_eq!(read(format!("\"{}\"", "x".repeat(5000)).as_bytes()).unwrap().len(), LONGEST);
        assert!(read(b"5").is_err());
    }
}
