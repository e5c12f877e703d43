//! For tests: reads the text exposition back, line by line and as strictly as its specification allows, so that tests
//! see what Prometheus would see.

use std::collections::BTreeMap;

use super::exposition::{Format, Writer};
use super::{SeriesSet, Snapshot, Store};

/// A label set.
pub(crate) type Labels = BTreeMap<String, String>;

/// One line that carries a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// What one scrape returned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) samples: Vec<Sample>,
    /// The names of the families, in the order in which their headers came.
    pub(crate) families: Vec<String>,
}

/// The whole text of a snapshot.
pub(crate) fn text(snapshot: impl Into<Snapshot>) -> String {
    String::from_utf8(Writer::new(snapshot.into(), Format::Text).rest()).expect("the exposition is UTF-8")
}

impl From<&Store> for Scrape {
    fn from(store: &Store) -> Self {
        Self::parse(&text(store.snapshot())).expect("the exposition is well-formed")
    }
}

impl From<&SeriesSet> for Scrape {
    fn from(set: &SeriesSet) -> Self {
        Self::parse(&text(set)).expect("the exposition is well-formed")
    }
}

impl Scrape {
    /// Reads a whole text. Besides broken lines, refuses samples without a header before them, a family that comes
    /// twice, and a series that comes twice.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut scrape = Self::default();
        let mut help = None;
        let mut seen = std::collections::HashSet::new();
        for line in text.strip_suffix('\n').into_iter().flat_map(|text| text.split('\n')) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split(' ').next();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, _) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
                if help.take() != Some(name) || scrape.families.iter().any(|family| family == name) {
                    return Err(format!("header without help, or twice: {line}"));
                }
                scrape.families.push(name.to_owned());
            } else {
                let sample = sample(line).ok_or_else(|| format!("broken line: {line:?}"))?;
                let family = scrape.families.last().ok_or("a sample before any header")?;
                let suffix = sample.name.strip_prefix(family.as_str());
                if !matches!(suffix, Some("" | "_bucket" | "_sum" | "_count")) {
                    return Err(format!("under the header of {family}: {line}"));
                }
                if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                    return Err(format!("a series that comes twice: {line:?}"));
                }
                scrape.samples.push(sample);
            }
        }
        if text.is_empty() || text.ends_with('\n') { Ok(scrape) } else { Err("no line break at the end".into()) }
    }

    /// The value of the series with exactly these labels, written `a=1 b=2`; the label `type` may be left out.
    pub(crate) fn get(&self, name: &str, labels: &str) -> Option<f64> {
        let wanted: Labels = labels.split_whitespace().filter_map(|pair| pair.split_once('=')).map(owned).collect();
        let is = |sample: &&Sample| {
            let ours = || sample.labels.iter().filter(|(name, _)| *name != "type" || wanted.contains_key("type"));
            sample.name == name && ours().eq(wanted.iter())
        };
        self.samples.iter().find(is).map(|sample| sample.value)
    }

    /// The sum of all series of that name which have at least these labels.
    pub(crate) fn sum(&self, name: &str, labels: &str) -> f64 {
        let wanted: Labels = labels.split_whitespace().filter_map(|pair| pair.split_once('=')).map(owned).collect();
        let has = |sample: &&Sample| {
            sample.name == name && wanted.iter().all(|(name, value)| sample.labels.get(name) == Some(value))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// The values that the label takes in the series of that name, sorted.
    pub(crate) fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let series = self.samples.iter().filter(|sample| sample.name == name);
        let mut values: Vec<_> = series.filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect();
        values.sort_unstable();
        values
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Reads `name{label="value",…} value`.
fn sample(line: &str) -> Option<Sample> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Labels::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inside.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            if let Some(after) = after.strip_prefix(',') {
                inside = after;
            } else {
                rest = after.strip_prefix('}')?;
                break;
            }
        }
    }
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok().filter(|number: &f64| number.is_finite())?,
    };
    is_name(name).then(|| Sample { name: name.to_owned(), labels, value })
}

/// Reads an escaped value up to its closing quote, and says what comes after that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\n' => return None,
            '\\' => value.push(match characters.next()? {
                '\\' => '\\',
                '"' => '"',
                'n' => '\n',
                _ => return None,
            }),
            other => value.push(other),
        }
    }
}

mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let scrape = Scrape::parse("# HELP a A.\n# TYPE a gauge\na{x=\"1\",y=\"\\\"\\\\\\n\"} +Inf\na 2\n").unwrap();
        assert_eq!(scrape.get("a", ""), Some(2.0));
        assert_eq!(scrape.samples[0].labels["y"], "\"\\\n");
        assert_eq!(scrape.get("a", "x=1"), None);
    }

    #[test]
    fn broken_texts_are_refused() {
        let header = "# HELP a A.\n# TYPE a gauge\n";
        for broken in ["a 1", "a{} 1\n", "a{x=\"1} 1\n", "a{x=\"\\t\"} 1\n", "a  1\n", "b 1\n", "a inf\n", "a 1\na 2\n"]
        {
            Scrape::parse(&format!("{header}{broken}")).unwrap_err();
        }
        Scrape::parse(&format!("{header}a 1\n{header}")).unwrap_err();
        Scrape::parse("a 1\n").unwrap_err();
    }
}
