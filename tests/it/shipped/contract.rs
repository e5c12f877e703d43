//! What dashboards and alerts ask for is what midwatch records, and what it records somebody sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use midwatch::catalog;
use midwatch::metrics::{Desc, Type};
use serde_json::Value;

use super::boards::{Board, list, text};
use super::lint::{leads_somewhere, target};
use super::platform::rules;
use super::promql::{self, Expression, Selector};
use super::yaml;

/// What Prometheus says itself of every target.
const OF_PROMETHEUS: [&str; 1] = ["up"];
/// Labels that Prometheus, or who configures it, gives to every series.
const OF_SCRAPES: [&str; 4] = ["job", "instance", "pod", "namespace"];
/// Metrics that neither a dashboard nor an alert uses, with the reason.
const UNUSED: [(&str, &str); 1] = [(
    "kafka_consumergroup_current_offset",
    "for what was made for kafka_exporter: lag and the ends of logs say the same",
)];
/// Gauges that grow like counters: a rate of them is the rate of records.
const GROWING: [&str; 1] = ["kafka_topic_partition_current_offset"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A rule of the shipped files.
struct Rule {
    file: String,
    json: Value,
}

impl Rule {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for path in rules() {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            for group in list(&yaml::read(&path), "groups") {
                all.extend(list(group, "rules").iter().map(|json| Self { file: file.clone(), json: json.clone() }));
            }
        }
        assert!(all.len() > 40);
        all
    }

    /// The name of an alert; nothing for a recording rule.
    fn alert(&self) -> Option<&str> {
        self.json["alert"].as_str()
    }

    fn expression(&self) -> &str {
        text(&self.json, "expr")
    }
}

/// What is known of the series of a name.
struct Known {
    desc: &'static Desc,
    labels: BTreeSet<&'static str>,
    /// Whether the name is that of a classic histogram's buckets, sum or count.
    is_part: bool,
}

/// All names that may be asked for. Labels of the configuration are none that shipped files may rely on.
fn known() -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for chapter in catalog::chapters() {
        let identity: &[&str] = if chapter.title == "The daemon" { &[] } else { &["probe", "type"] };
        for desc in chapter.metrics {
            let labels: BTreeSet<_> = desc.labels.iter().chain(identity).chain(&OF_SCRAPES).copied().collect();
            if let Type::Histogram { .. } = desc.kind {
                for part in ["bucket", "sum", "count"] {
                    let more = (part == "bucket").then_some("le");
                    let labels = labels.iter().copied().chain(more).collect();
                    known.insert(format!("{}_{part}", desc.name), Known { desc, labels, is_part: true });
                }
            }
            known.insert(desc.name.to_owned(), Known { desc, labels, is_part: false });
        }
    }
    known
}

/// Every expression that is shipped, with where it is.
fn expressions() -> Vec<(String, Expression)> {
    let mut all = Vec::new();
    for rule in Rule::all() {
        let name = rule.alert().unwrap_or_else(|| text(&rule.json, "record"));
        all.push((format!("{}: {name}", rule.file), promql::read(rule.expression())));
    }
    for board in Board::all() {
        for query in board.queries() {
            all.push((format!("{}: {}", board.name, query.place), promql::read(query.text)));
        }
        for (name, query) in board.asked() {
            let series = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(", ")).unwrap().0;
            all.push((format!("{}: ${name}", board.name), promql::read(series)));
        }
    }
    all
}

/// Values that a matcher admits, if it says them one by one.
fn values(value: &str) -> Option<Vec<&str>> {
    let is_plain = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let parts: Vec<_> = value.split('|').collect();
    (!value.is_empty() && parts.iter().all(is_plain)).then_some(parts)
}

fn check_selector(of: &str, selector: &Selector, known: &Known) {
    let desc = known.desc;
    for (label, _, value) in &selector.matchers {
        assert!(known.labels.contains(label.as_str()), "{of}: {} has no label {label}", selector.name);
        let arity = desc.known.first().map_or(0, |tuple| tuple.len());
        let place = desc.labels[desc.labels.len() - arity..].iter().position(|tail| tail == label);
        if let (Some(place), Some(values)) = (place, values(value)) {
            let of_label: BTreeSet<_> = desc.known.iter().map(|tuple| tuple[place]).collect();
            assert!(
                values.iter().all(|value| of_label.contains(value)),
                "{of}: {label} of {} is never {value}",
                desc.name
            );
        }
    }
    let over_time = selector.innermost(&["rate", "irate", "increase", "changes"]);
    match desc.kind {
        Type::Counter => assert!(over_time.is_some(), "{of}: {} only ever grows", desc.name),
        Type::Gauge if GROWING.contains(&desc.name) => {}
        Type::Gauge => {
            assert!(over_time.is_none_or(|function| function == "changes"), "{of}: {} is no counter", desc.name);
        }
        Type::Histogram { .. } => assert!(over_time.is_some(), "{of}: {} only ever grows", desc.name),
    }
}

#[test]
fn what_is_asked_for_is_recorded() {
    let known = known();
    let rules = Rule::all();
    let recorded: BTreeSet<_> = rules.iter().filter_map(|rule| rule.json["record"].as_str()).collect();
    for (of, expression) in expressions() {
        let mut labels: BTreeSet<&str> = OF_SCRAPES.into();
        labels.extend(expression.made.iter().map(String::as_str));
        for selector in &expression.selectors {
            if let Some(found) = known.get(&selector.name) {
                check_selector(&of, selector, found);
                labels.extend(&found.labels);
            } else if recorded.contains(selector.name.as_str()) {
                // What is recorded has the labels of what it is recorded from, and these are looked at there.
                labels.extend(known.values().flat_map(|known| &known.labels));
            } else {
                assert!(OF_PROMETHEUS.contains(&selector.name.as_str()), "{of}: nobody records {}", selector.name);
            }
        }
        for label in &expression.labels {
            assert!(labels.contains(label.as_str()), "{of}: no metric of it has the label {label}");
        }
    }
    let asked: BTreeSet<_> = expressions().into_iter().flat_map(|(_, all)| all.selectors).map(|all| all.name).collect();
    for name in recorded {
        assert!(asked.contains(name), "nobody asks for {name}");
    }
}

#[test]
fn what_is_recorded_is_shown_or_watched() {
    let known = known();
    let asked: BTreeSet<_> = expressions()
        .into_iter()
        .flat_map(|(_, expression)| expression.selectors)
        .filter_map(|selector| known.get(&selector.name).map(|known| known.desc.name))
        .collect();
    for name in known.values().map(|known| known.desc.name) {
        let is_excused = UNUSED.iter().any(|(unused, _)| *unused == name);
        assert_ne!(
            asked.contains(name),
            is_excused,
            "{name} is in no dashboard and no alert, or excused although it is"
        );
    }
}

/// Prometheus 3 writes a bound of 1 as `1.0`, so that `le="1"` finds nothing.
#[test]
fn no_bound_is_a_whole_number() {
    for (of, expression) in expressions() {
        for (_, operator, bound) in
            expression.selectors.iter().flat_map(|all| &all.matchers).filter(|all| all.0 == "le")
        {
            assert_eq!(operator, "=", "{of}: which bounds a pattern finds, the version decides");
            let bound: f64 = bound.parse().unwrap();
            assert!(bound.is_infinite() || bound.fract() != 0.0, "{of}: le=\"{bound}\"");
        }
    }
}

/// Replicas of midwatch that watch the same must not count twice: what they agree on is joined before it is added up.
#[test]
fn what_replicas_agree_on_is_not_added_up() {
    let known = known();
    for board in Board::all().into_iter().filter(|board| board.name != "midwatch") {
        for query in board.queries() {
            for selector in promql::read(query.text).selectors {
                let is_gauge = known.get(&selector.name).is_some_and(|known| known.desc.kind == Type::Gauge);
                let first =
                    selector.innermost(&["max", "min", "sum", "avg", "count", "quantile", "count_values", "topk"]);
                assert!(!is_gauge || first != Some("sum"), "{}: {}: {}", board.name, query.place, query.text);
            }
        }
    }
}

/// The native form of a histogram is in rows of its own, and its classic form is in no such row.
#[test]
fn forms_of_histograms_are_not_mixed() {
    let known = known();
    for board in Board::all() {
        for query in board.queries() {
            for selector in promql::read(query.text).selectors {
                let Some(found) = known.get(&selector.name) else { continue };
                let is_native = matches!(found.desc.kind, Type::Histogram { .. }) && !found.is_part;
                assert_eq!(is_native, query.is_native, "{}: {}: {}", board.name, query.place, query.text);
            }
        }
    }
    for rule in Rule::all() {
        let all = promql::read(rule.expression()).selectors;
        let is_native = |selector: &Selector| {
            known.get(&selector.name).is_some_and(|all| matches!(all.desc.kind, Type::Histogram { .. }) && !all.is_part)
        };
        assert!(!all.iter().any(is_native), "{}", rule.expression());
    }
}

#[test]
fn every_alert_says_what_to_do_and_where_to_look() {
    let boards = Board::all();
    let mut runbooks = BTreeSet::new();
    for rule in Rule::all() {
        let Some(alert) = rule.alert() else { continue };
        let (labels, annotations) = (&rule.json["labels"], &rule.json["annotations"]);
        assert!(["critical", "warning", "info"].contains(&text(labels, "severity")), "{alert}");
        for key in ["summary", "description"] {
            assert!(!text(annotations, key).is_empty(), "{alert}: {key}");
        }
        let runbook = text(annotations, "runbook_url");
        assert_eq!(runbook, format!("docs/runbooks/{alert}.md"));
        let page = fs::read_to_string(root().join(runbook)).unwrap_or_else(|error| panic!("{runbook}: {error}"));
        assert!(page.starts_with(&format!("# {alert}\n")), "{runbook}");
        runbooks.insert(format!("{alert}.md"));
        let url = text(annotations, "dashboard_url");
        assert!(leads_somewhere(&boards, url), "{alert}: {url}");
        // Alerts about a probe name it, and who owns it.
        let is_of_probe = rule.expression().contains("group_left (owner) midwatch:probe_owner:info");
        assert_eq!(target(url).1.contains(&"probe"), is_of_probe, "{alert}: {url}");
        assert!(is_of_probe || rule.file == "midwatch.yml", "{alert} has no owner");
    }
    let there = fs::read_dir(root().join("docs/runbooks")).unwrap();
    let there: BTreeSet<_> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, runbooks, "runbooks, and alerts");
}

/// The labels with which the rules of one alert differ, such as a window.
fn own_labels(labels: &Value) -> BTreeMap<&str, &str> {
    let pairs = labels.as_object().unwrap().iter().map(|(label, value)| (label.as_str(), value.as_str().unwrap()));
    pairs.filter(|(_, value)| !value.contains("{{")).collect()
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_is_silent() {
    let (mut silent, mut firing) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(root().join("alerts/tests")).unwrap() {
        let file = yaml::read(&entry.unwrap().path());
        for case in list(&file, "tests").iter().flat_map(|test| list(test, "alert_rule_test")) {
            let name = text(case, "alertname").to_owned();
            let expected = list(case, "exp_alerts");
            if expected.is_empty() {
                silent.insert(name);
            } else {
                firing.extend(expected.iter().map(|alert| (name.clone(), alert["exp_labels"].clone())));
            }
        }
    }
    for rule in Rule::all() {
        let Some(alert) = rule.alert() else { continue };
        let own = own_labels(&rule.json["labels"]);
        let is_of_rule = |(name, labels): &(String, Value)| {
            name == alert && own.iter().all(|(label, value)| labels[label].as_str() == Some(*value))
        };
        assert!(firing.iter().any(is_of_rule), "{alert} with {own:?} is never seen to fire");
        assert!(silent.contains(alert), "{alert} is never seen to be silent");
    }
}
