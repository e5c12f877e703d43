//! Reads the query of `/runs`: bytes of the network, so nothing is guessed and everything is bounded.

use crate::metrics::RunId;
use crate::settings::escape;

/// The longest value, in bytes: the address of a target is a host of 255 bytes with a port, and shorter than this.
const MAX_VALUE: usize = 512;

/// What `/runs` is asked for. Nothing narrows the answer but what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsQuery {
    /// The name of a probe; without it, all of them are meant and nothing else is given.
    pub probe: Option<String>,
    /// Its type: probes of several types may have one name.
    pub kind: Option<String>,
    /// One run.
    pub id: Option<RunId>,
    /// One target.
    pub target: Option<String>,
}

impl RunsQuery {
    /// Reads what comes after the question mark of an address: pairs as forms send them (`application/x-www-form-urlencoded`
    /// of the URL Standard), but for what that lets pass: an escape that is none, bytes that are not UTF-8, a key that
    /// is unknown or given twice, an empty value.
    ///
    /// # Errors
    /// What is wrong, in a sentence that is fit to be shown.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut read = Self::default();
        let mut id = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            let place = match &*key {
                "probe" => &mut read.probe,
                "type" => &mut read.kind,
                "id" => &mut id,
                "target" => &mut read.target,
                _ => return Err(format!("There is no `{}` to ask for here.", escape(&key))),
            };
            if value.is_empty() {
                return Err(format!("`{key}` is empty."));
            }
            if place.replace(value).is_some() {
                return Err(format!("`{key}` is given twice."));
            }
        }
        let not_an_id = |id: &str| format!("`{}` is not the id of a run: 16 hexadecimal digits.", escape(id));
        read.id = id.map(|id| id.parse().map_err(|()| not_an_id(&id))).transpose()?;
        if read.probe.is_none() && (read.kind.is_some() || read.id.is_some() || read.target.is_some()) {
            return Err("Of which `probe`?".to_owned());
        }
        Ok(read)
    }
}

/// Undoes the escapes of a key or value.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len().min(MAX_VALUE));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if bytes.len() == MAX_VALUE {
            return Err(format!("A value is longer than {MAX_VALUE} bytes."));
        }
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit(), digit());
                let byte = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
                byte.ok_or_else(|| "A percent sign is not followed by two hexadecimal digits.".to_owned())?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| "A value is not UTF-8.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn pairs_are_read_in_any_order() {
        assert_eq!(RunsQuery::parse(""), Ok(RunsQuery::default()));
        assert_eq!(RunsQuery::parse("&&"), Ok(RunsQuery::default()));
        let id = RunId::next();
        let query = format!("target=%5B%3a%3A1%5D:27017&id={id}&probe=or+der%73&type=mongodb");
        let read = RunsQuery::parse(&query).unwrap();
        let kind = some("mongodb");
        assert_eq!(read, RunsQuery { probe: some("or ders"), kind, id: Some(id), target: some("[::1]:27017") });
        // Only the first sign separates.
        assert_eq!(RunsQuery::parse("probe=a=b").unwrap().probe, some("a=b"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("probe={}", "%41".repeat(513));
        for (query, problem) in [
            ("probe=%", "A percent sign is not followed by two hexadecimal digits."),
            ("probe=%4", "A percent sign is not followed by two hexadecimal digits."),
            ("probe=%+1", "A percent sign is not followed by two hexadecimal digits."),
            ("probe=%ff", "A value is not UTF-8."),
            ("%ff=x", "A value is not UTF-8."),
            (&long, "A value is longer than 512 bytes."),
            ("probe", "`probe` is empty."),
            ("probe=", "`probe` is empty."),
            ("probe=a&probe=a", "`probe` is given twice."),
            ("probe=a&name=b", "There is no `name` to ask for here."),
            ("%1b[2J=b", "There is no `\\u{1b}[2J` to ask for here."),
            ("probe=a&id=1", "`1` is not the id of a run: 16 hexadecimal digits."),
            ("probe=a&id=%0a", "`\\u{a}` is not the id of a run: 16 hexadecimal digits."),
            ("id=0123456789abcdef", "Of which `probe`?"),
            ("type=mongodb", "Of which `probe`?"),
            ("target=a", "Of which `probe`?"),
        ] {
            assert_eq!(RunsQuery::parse(query), Err(problem.to_owned()), "{query}");
        }
    }

    #[test]
    fn broken_queries_are_survived() {
        let (_, good) = crate::corpus::each("runs_query", survives);
        assert!(good >= 3, "only {good} inputs are valid queries");
    }

    /// Whether it is a query; if not, whatever is said of it is fit for a terminal.
    fn survives(bytes: &[u8]) -> bool {
        let Ok(query) = std::str::from_utf8(bytes) else { return false };
        match RunsQuery::parse(query) {
            Ok(_) => true,
            Err(problem) => {
                assert!(!problem.chars().any(char::is_control), "{problem:?}");
                assert!(problem.chars().count() <= 1_000, "{problem}");
                false
            }
        }
    }
}
