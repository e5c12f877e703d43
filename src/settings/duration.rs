//! Durations such as `"250ms"` or `"1h30m"`.

use std::time::Duration;

use super::value::{Invalid, Item, Value};

const EXPECTED: &str = "a duration such as \"250ms\"";

/// Units with their length in nanoseconds, largest first.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

impl Value for Duration {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let Some(text) = item.str() else { return Err(item.expected(EXPECTED)) };
        parse(text).map_err(|hint| Invalid::new(format!("expected {EXPECTED}{hint}")))
    }
}

/// One or more numbers, each with its unit, larger units first: `"1h30m"`, `"1.5s"`.
///
/// # Errors
/// What is wrong, as the end of a sentence; may be empty.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text.trim();
    let mut nanos: u128 = 0;
    let mut smallest = u64::MAX;
    if rest.starts_with('-') {
        return Err("; it cannot be negative");
    }
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("");
    }
    while !rest.is_empty() {
        let number = split(&mut rest, |c| c.is_ascii_digit() || c == '.');
        let name = split(&mut rest, char::is_alphabetic);
        if name.is_empty() {
            return Err("; a unit is missing: ns, us, ms, s, m, h or d");
        }
        let unit = UNITS.iter().find(|(unit, _)| *unit == name).ok_or("; the units are ns, us, ms, s, m, h and d")?.1;
        if unit >= smallest {
            return Err("; larger units come first, each once");
        }
        smallest = unit;
        nanos += scaled(number, unit).ok_or("; the number is malformed or too large")?;
        rest = rest.trim_start();
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "; it is too long")
}

/// Takes what matches from the front.
fn split<'t>(rest: &mut &'t str, matches: impl Fn(char) -> bool) -> &'t str {
    let (head, tail) = rest.split_at(rest.find(|c| !matches(c)).unwrap_or(rest.len()));
    *rest = tail;
    head
}

/// A decimal number times the unit, exactly; digits below a nanosecond are cut.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(unit);
    let Some(fraction) = fraction else { return Some(whole) };
    if fraction.len() > 15 {
        return None;
    }
    let digits = u128::from(fraction.parse::<u64>().ok()?);
    Some(whole + digits * u128::from(unit) / 10u128.pow(u32::try_from(fraction.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("250ms", Some(250_000_000)),
            ("1s", Some(1_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("0.25ms", Some(250_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1d 2h", Some(93_600_000_000_000)),
            ("10us", Some(10_000)),
            ("10µs", Some(10_000)),
            ("7ns", Some(7)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1 s", None),
            ("1x", None),
            ("30m1h", None),
            ("1s1s", None),
            ("1..5s", None),
            ("1.s", None),
            (".5s", None),
            ("1e3s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (text, nanos) in table {
            assert_eq!(parse(text).ok(), nanos.map(Duration::from_nanos), "{text}");
        }
    }
}
