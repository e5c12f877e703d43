//! Label names and values that an operator chooses.

use std::collections::BTreeMap;

use super::problem::escape;
use super::value::{Invalid, Item, Value};

/// Label names that midwatch or Prometheus sets itself.
pub const RESERVED_LABELS: &[&str] =
    &["instance", "job", "le", "owner", "probe", "quantile", "reason", "result", "runbook", "target", "type"];
/// The longest label value, in bytes: it is repeated on every series.
const MAX_VALUE: usize = 256;
/// The most labels one table may hold.
const MAX_LABELS: usize = 32;

/// Label names with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

/// Whether Prometheus takes this as the name of a label.
pub fn is_label_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Value for Labels {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let Some(table) = item.toml().as_table() else { return Err(item.expected("a table of strings")) };
        let mut labels = BTreeMap::new();
        let mut bad = Vec::new();
        if table.len() > MAX_LABELS {
            bad.push((None, format!("at most {MAX_LABELS} labels are allowed").into()));
        }
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let shown = escape(name);
            if let Some(why) = bad_name(name) {
                bad.push((Some(key.span().start), format!("`{shown}`: {why}").into()));
            }
            match value.get_ref().as_str() {
                Some("") => bad.push((Some(value.span().start), format!("`{shown}`: the value is empty").into())),
                Some(text) if text.len() > MAX_VALUE => {
                    let message = format!("`{shown}`: the value is longer than {MAX_VALUE} bytes");
                    bad.push((Some(value.span().start), message.into()));
                }
                Some(text) => drop(labels.insert(name.to_owned(), text.to_owned())),
                None => {
                    let message = format!("`{shown}`: expected a string, found another kind of value");
                    bad.push((Some(value.span().start), message.into()));
                }
            }
        }
        if bad.is_empty() { Ok(Self(labels)) } else { Err(Invalid(bad)) }
    }
}

fn bad_name(name: &str) -> Option<&'static str> {
    if !is_label_name(name) {
        return Some("a label name consists of ASCII letters, digits and underscores, and does not begin with a digit");
    }
    if name.starts_with("__") {
        return Some("names that begin with two underscores belong to Prometheus");
    }
    RESERVED_LABELS.contains(&name).then_some("this label is set by midwatch or Prometheus")
}
