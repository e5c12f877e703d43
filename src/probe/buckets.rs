//! The keys `buckets` and `native`: how a probe's latency histograms count.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::metrics::{BACKUP, LAN, NativeRule, VPN, WAN};
use crate::settings::{Invalid, Item, Section, Value};

/// The most bounds a histogram may have: each is a series.
const MAX_BOUNDS: u16 = 200;
/// The largest bound that is generated, in seconds: a year. More is a slip of factor or count.
const MAX_GENERATED: f64 = 366.0 * 86_400.0;
/// The fewest buckets a native histogram can be limited to: fewer tell too little.
const MIN_BUCKETS: u16 = 8;
/// The most buckets a native histogram can be allowed: they are memory and bytes of each scrape.
const MAX_BUCKETS: u16 = 1000;
/// What the key `native` may be.
const NATIVE: &str = "\"off\" or a table such as { factor = 1.1 }";

/// The bounds of a histogram: the name of a preset, a list of seconds or durations, or a rule that makes them.
pub(super) struct Bounds(pub(super) Arc<[f64]>);

impl Value for Bounds {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        match item.toml() {
            DeValue::String(_) => {
                let preset = item.choice(&[("lan", LAN), ("wan", WAN), ("vpn", VPN), ("backup", BACKUP)])?;
                Ok(Self(preset.into()))
            }
            DeValue::Array(_) => listed(item).map(Self),
            DeValue::Table(_) => item.table(generated).map(Self),
            _ => Err(item.expected("the name of a preset, a list of bounds, or { start, factor, count }")),
        }
    }
}

fn listed(item: &Item<'_>) -> Result<Arc<[f64]>, Invalid> {
    let bounds: Vec<f64> = Vec::<Bound>::read(item)?.into_iter().map(|bound| bound.0).collect();
    if bounds.is_empty() || bounds.len() > usize::from(MAX_BOUNDS) {
        return Err(Invalid::new(format!("expected 1 to {MAX_BOUNDS} bounds")));
    }
    if let Some(at) = bounds.windows(2).position(|pair| pair[0] >= pair[1]) {
        let (one, next) = (at + 1, at + 2);
        return Err(Invalid::new(format!("the bounds must ascend: element {next} is not more than element {one}")));
    }
    Ok(bounds.into())
}

/// `{ start, factor, count }`: `count` bounds, each `factor` times the one before, in six significant digits.
fn generated(section: &mut Section<'_>) -> Option<Arc<[f64]>> {
    let start = section.required::<Bound>("start");
    let factor = section.required::<Factor>("factor");
    let count = section.required::<Whole<1, MAX_BOUNDS>>("count");
    let (start, factor, count) = (start?.0, factor?.0, count?.0);
    let bounds: Vec<f64> = (0..count).map(|nth| in_six_digits(start * factor.powi(nth.into()))).collect();
    if bounds.last().is_some_and(|last| *last > MAX_GENERATED) {
        section.problem(None, "the last bound is more than a year; lower `start`, `factor` or `count`");
        return None;
    }
    if !bounds.is_sorted_by(|one, next| one < next) {
        section.problem(Some("factor"), "`factor`: too near to 1: bounds are the same in six significant digits");
        return None;
    }
    Some(bounds.into())
}

/// The number as it is written with six significant digits, so that no `le` ends like 0.0015000000000000002.
fn in_six_digits(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

/// What each generated bound is of the one before.
struct Factor(f64);

impl Value for Factor {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let factor = f64::read(item)?;
        if factor > 1.0 { Ok(Self(factor)) } else { Err(Invalid::new("must be more than 1")) }
    }
}

/// A whole number from `MIN` to `MAX`.
struct Whole<const MIN: u16, const MAX: u16>(u16);

impl<const MIN: u16, const MAX: u16> Value for Whole<MIN, MAX> {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let expected = || item.expected(&format!("a whole number from {MIN} to {MAX}"));
        item.toml().as_integer().ok_or_else(expected)?;
        let number = u16::read(item).ok().filter(|number| (MIN..=MAX).contains(number));
        number.map(Self).ok_or_else(|| Invalid::new(format!("must be from {MIN} to {MAX}")))
    }
}

/// One bound: a number of seconds, or a duration.
struct Bound(f64);

impl Value for Bound {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let seconds = seconds(item, "a positive number of seconds, or a duration")?;
        if seconds > 0.0 { Ok(Self(seconds)) } else { Err(Invalid::new("must be more than 0")) }
    }
}

/// A number of seconds, or a duration.
fn seconds(item: &Item<'_>, what: &str) -> Result<f64, Invalid> {
    match item.toml() {
        DeValue::String(_) => Ok(Duration::read(item)?.as_secs_f64()),
        DeValue::Integer(_) | DeValue::Float(_) => f64::read(item),
        _ => Err(item.expected(what)),
    }
}

/// How native histograms count: `"off"`, or a table of which every key may be left out.
pub(super) struct Native(pub(super) Option<NativeRule>);

impl Value for Native {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        match item.toml() {
            DeValue::Table(_) => item.table(|section| Some(Self(Some(rule(section))))),
            DeValue::String(text) if text == "off" => Ok(Self(None)),
            DeValue::String(_) => Err(Invalid::new(format!("expected {NATIVE}, found another string"))),
            _ => Err(item.expected(NATIVE)),
        }
    }
}

fn rule(section: &mut Section<'_>) -> NativeRule {
    let factor = section.checked("factor", |factor: &f64| match *factor {
        factor if factor <= 1.0 => Err("must be more than 1".to_owned()),
        factor if factor < NativeRule::MIN_FACTOR => Err(format!("must be at least {}", NativeRule::MIN_FACTOR)),
        factor if factor > NativeRule::MAX_FACTOR => Err(format!("must be at most {}", NativeRule::MAX_FACTOR)),
        _ => Ok(()),
    });
    let max_buckets = section.optional::<Whole<MIN_BUCKETS, MAX_BUCKETS>>("max_buckets").map(|most| most.0);
    let threshold = section.optional::<Threshold>("zero_threshold").map(|threshold| threshold.0);
    NativeRule::new(
        factor.unwrap_or(NativeRule::FACTOR),
        max_buckets.unwrap_or(NativeRule::MAX_BUCKETS),
        threshold.unwrap_or(NativeRule::ZERO_THRESHOLD),
    )
}

/// How wide a zero bucket is: a number of seconds, or a duration.
struct Threshold(f64);

impl Value for Threshold {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let seconds = seconds(item, "a number of seconds, or a duration")?;
        if seconds >= 0.0 { Ok(Self(seconds)) } else { Err(Invalid::new("must not be negative")) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Buckets;
    use crate::settings::{Files, Rules, Source};

    /// The value of the key `a`, or the problems.
    fn read<T: Value>(value: &str) -> Result<T, String> {
        let (file, files): (Arc<Path>, _) = (Path::new("m.toml").into(), Files::new(false));
        let text = format!("a = {value}");
        let source = Source::new(&file, &text, Rules::Main, &files);
        let table = source.parse().expect("TOML");
        let mut root = Section::root(&source, table.get_ref());
        let value = root.optional("a");
        if source.count() == 0 { Ok(value.expect("a value")) } else { Err(format!("{} problems", source.count())) }
    }

    fn labels(value: &str) -> Vec<String> {
        let bounds = read::<Bounds>(value).expect("bounds").0;
        let line =
            |line: &[u8]| String::from_utf8_lossy(line).trim_start_matches("le=\"").trim_end_matches("\"} ").to_owned();
        Buckets::of(&bounds, None).lines(false).map(line).collect()
    }

    #[test]
    fn generated_bounds_are_as_short_as_written_ones() {
        assert_eq!(
            labels("{ start = \"100us\", factor = 1.5, count = 8 }"),
            [
                "0.0001",
                "0.00015",
                "0.000225",
                "0.0003375",
                "0.00050625",
                "0.000759375",
                "0.00113906",
                "0.00170859",
                "+Inf"
            ]
        );
        assert_eq!(labels("{ start = 1, factor = 10, count = 4 }"), ["1", "10", "100", "1000", "+Inf"]);
        assert_eq!(labels("{ start = 0.1, factor = 3, count = 1 }"), ["0.1", "+Inf"]);
        assert_eq!(
            labels("{ start = 0.0000123456789, factor = 2, count = 2 }"),
            ["0.0000123457", "0.0000246914", "+Inf"]
        );
    }

    #[test]
    fn presets_and_lists_are_taken_as_they_are() {
        for (name, preset) in [("lan", LAN), ("wan", WAN), ("vpn", VPN), ("backup", BACKUP)] {
            assert_eq!(*read::<Bounds>(&format!("\"{name}\"")).expect("a preset").0, *preset);
        }
        assert_eq!(labels("[0.0001, \"2.5ms\", 1, \"1h30m\"]"), ["0.0001", "0.0025", "1", "5400", "+Inf"]);
    }

    #[test]
    fn what_is_left_out_of_native_is_the_default() {
        let (default, zero) = (NativeRule::DEFAULT, NativeRule::ZERO_THRESHOLD);
        for (value, rule) in [
            ("\"off\"", None),
            ("{}", Some(default)),
            ("{ factor = 1.02 }", Some(NativeRule::new(1.02, 160, zero))),
            ("{ max_buckets = 8 }", Some(NativeRule::new(1.1, 8, zero))),
            ("{ zero_threshold = \"1ms\" }", Some(NativeRule::new(1.1, 160, 0.001))),
            ("{ factor = 2, max_buckets = 1000, zero_threshold = 0 }", Some(NativeRule::new(2.0, 1000, 0.0))),
        ] {
            assert_eq!(read::<Native>(value).map(|native| native.0), Ok(rule), "{value}");
        }
    }

    proptest! {
        #[test]
        fn generated_bounds_are_near_what_was_asked_for(start in 1e-9..1e3f64, factor in 1.000_02..100.0f64, count in 1..=200u16) {
            let bounds = read::<Bounds>(&format!("{{ start = {start:e}, factor = {factor}, count = {count} }}"));
            let exact: Vec<f64> = (0..count).map(|nth| start * factor.powi(nth.into())).collect();
            match bounds {
                Ok(bounds) => {
                    prop_assert_eq!(bounds.0.len(), exact.len());
                    prop_assert!(bounds.0.is_sorted_by(|one, next| one < next));
                    for (bound, exact) in bounds.0.iter().zip(exact) {
                        prop_assert!((bound / exact - 1.0).abs() <= 5.1e-6);
                        let written = format!("{bound:e}");
                        let digits = written.split('e').next().unwrap_or_default();
                        prop_assert!(digits.chars().filter(char::is_ascii_digit).count() <= 6, "{}", bound);
                    }
                }
                Err(_) => prop_assert!(exact.iter().any(|bound| *bound > 0.999 * MAX_GENERATED)),
            }
        }
    }
}
