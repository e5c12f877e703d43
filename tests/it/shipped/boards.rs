//! The shipped dashboards, as Grafana reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// A dashboard.
pub struct Board {
    /// Its file's name without `.json`.
    pub name: String,
    pub json: Value,
    /// How many bytes it has without white space.
    pub size: usize,
}

/// A query of a panel or an annotation.
pub struct Query<'b> {
    /// The panel's title, or `annotation` and the annotation's name.
    pub place: String,
    pub text: &'b str,
    /// Asked for one moment only.
    pub is_instant: bool,
    /// Whether it is for those who store native histograms.
    pub is_native: bool,
}

/// A text of a value that must have it.
pub fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// A list; one that is absent is empty.
pub fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

impl Board {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
                let size = serde_json::to_string(&json).unwrap().len();
                all.push(Self { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), json, size });
            }
        }
        assert_eq!(all.len(), 7);
        all
    }

    /// The panels, also those of collapsed rows, without the rows; each with the title of its row.
    pub fn panels(&self) -> Vec<(&str, &Value)> {
        let mut panels = Vec::new();
        let mut row = "";
        for panel in list(&self.json, "panels") {
            if panel["type"] == "row" {
                row = text(panel, "title");
                panels.extend(list(panel, "panels").iter().map(|inner| (row, inner)));
            } else {
                panels.push((row, panel));
            }
        }
        panels
    }

    pub fn variables(&self) -> &[Value] {
        list(&self.json["templating"], "list")
    }

    /// The variables that are asked of the data source, with their queries.
    pub fn asked(&self) -> impl Iterator<Item = (&str, &str)> {
        let queries = self.variables().iter().filter(|variable| variable["type"] == "query");
        queries.map(|variable| (text(variable, "name"), text(&variable["query"], "query")))
    }

    pub fn annotations(&self) -> &[Value] {
        list(&self.json["annotations"], "list")
    }

    /// The queries of all panels and annotations.
    pub fn queries(&self) -> Vec<Query<'_>> {
        let annotations = self.annotations().iter().map(|annotation| Query {
            place: format!("annotation {}", text(annotation, "name")),
            text: text(annotation, "expr"),
            is_instant: false,
            is_native: false,
        });
        let panels = self.panels().into_iter().flat_map(|(row, panel)| {
            list(panel, "targets").iter().map(move |target| Query {
                place: text(panel, "title").to_owned(),
                text: text(target, "expr"),
                is_instant: target["instant"] == true,
                is_native: row.ends_with("(native histograms)"),
            })
        });
        annotations.chain(panels).collect()
    }
}

/// Takes the names of variables (`$a`, `${a}`) for their values; what is no variable of ours stays, such as the `$1` of a function.
pub fn substitute(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, after) = braced.unwrap_or((&after[..end], &after[end..]));
        if let Some(value) = values.get(name) {
            result.push_str(value);
        } else {
            assert!(name.bytes().all(|byte| byte.is_ascii_digit()), "no variable {name}: {text}");
            result.push('$');
            result.push_str(name);
        }
        rest = after;
    }
    result + rest
}

/// The chosen values of a variable within a matcher, as Grafana's Prometheus data source writes them into a query's string.
pub fn chosen(values: &[String]) -> String {
    let escape = |value: &String| {
        let mut escaped = String::new();
        for character in value.chars() {
            match character {
                '\\' => escaped.push_str("\\\\\\\\"),
                '$' | '^' | '*' | '{' | '}' | '[' | ']' | '+' | '?' | '.' | '(' | ')' | '|' => {
                    escaped.push_str("\\\\");
                    escaped.push(character);
                }
                _ => escaped.push(character),
            }
        }
        escaped
    };
    match values {
        [one] => escape(one),
        many => format!("({})", many.iter().map(escape).collect::<Vec<_>>().join("|")),
    }
}

#[test]
fn variables_are_written_as_grafana_writes_them() {
    let values = ["127.0.0.1:9", "a|b"].map(str::to_owned);
    assert_eq!(chosen(&values), "(127\\\\.0\\\\.0\\\\.1:9|a\\\\|b)");
    assert_eq!(chosen(&values[..1]), "127\\\\.0\\\\.0\\\\.1:9");
    let map = BTreeMap::from([("job".to_owned(), "x".to_owned()), ("__range".to_owned(), "9s".to_owned())]);
    assert_eq!(substitute("a{job=~\"$job\"}[$__range] ${job} \"$1\"", &map), "a{job=~\"x\"}[9s] x \"$1\"");
}
