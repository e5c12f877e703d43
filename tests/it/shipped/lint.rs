//! What makes dashboards import, provision and work everywhere. Among it are the rules of grafana/dashboard-linter 0.2.0, without exclusion
//! and for all kinds of panels, in our own words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::boards::{Board, list, text};
use super::promql::{self, Selector};

/// The kinds of panels that Grafana has built in, in version 10 and in version 13.
const KINDS: [&str; 12] = [
    "stat",
    "gauge",
    "timeseries",
    "table",
    "state-timeline",
    "status-history",
    "heatmap",
    "barchart",
    "bargauge",
    "text",
    "alertlist",
    "row",
];
/// The units that we use, as Grafana spells them.
const UNITS: [&str; 10] = ["none", "short", "s", "percentunit", "bytes", "Bps", "ops", "pps", "reqps", "dateTimeAsIso"];
/// A ConfigMap's annotation has 256 KiB, and `kubectl apply` keeps the dashboard in one.
const MAX_BYTES: usize = 200 * 1024;

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// A query whose variables inside brackets and out of quotes do not disturb.
fn selectors(query: &str) -> Vec<Selector> {
    promql::read(query).selectors
}

#[test]
fn dashboards_import_without_a_question() {
    let mut uids = BTreeSet::new();
    for Board { name, json, size } in Board::all() {
        let raw = json.to_string();
        for word in ["__inputs", "__requires", "DS_"] {
            assert!(!raw.contains(word), "{name}: {word}");
        }
        assert!(size < MAX_BYTES, "{name}: {size} bytes");
        assert_eq!(json["schemaVersion"], 39, "{name}");
        assert_eq!(json["editable"], false, "{name}");
        assert_eq!(json["graphTooltip"], 1, "{name}");
        assert_eq!(json["refresh"], "30s", "{name}");
        assert_eq!(json["tags"], json!(["midwatch"]), "{name}");
        assert!(json.get("id").is_none(), "{name}: an id is of one Grafana only");
        let uid = text(&json, "uid");
        assert_eq!(uid, format!("midwatch-{name}"));
        assert!((8..=40).contains(&uid.len()) && uids.insert(uid.to_owned()), "{name}: {uid}");
        assert!(!text(&json, "title").is_empty() && !text(&json, "description").is_empty());
        let [link] = list(&json, "links") else { panic!("{name}: one link, by tag") };
        assert_eq!(
            [&link["type"], &link["includeVars"], &link["keepTime"]],
            [&json!("dashboards"), &json!(true), &json!(true)]
        );
    }
}

#[test]
fn variables_are_those_that_everybody_knows() {
    for board in Board::all() {
        let name = &board.name;
        let names: Vec<_> = board.variables().iter().map(|variable| text(variable, "name")).collect();
        assert_eq!(names[..3], ["datasource", "job", "instance"], "{name}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{name}: {names:?}");
        let of_source = &board.variables()[0];
        assert_eq!(
            [text(of_source, "type"), text(of_source, "query"), text(of_source, "label")],
            ["datasource", "prometheus", "Data source"]
        );
        for variable in &board.variables()[1..] {
            let of = format!("{name}: {}", text(variable, "name"));
            assert_eq!(text(variable, "type"), "query", "{of}");
            assert_eq!(variable["datasource"], source(), "{of}");
            assert_eq!(variable["refresh"], 2, "{of}: asked again when the time range changes");
            assert_eq!([&variable["multi"], &variable["includeAll"]], [&json!(true), &json!(true)], "{of}");
            assert_eq!(text(variable, "allValue"), ".+", "{of}");
            assert_eq!(variable["definition"], variable["query"]["query"], "{of}");
        }
        for (at, label) in [(1, "Job"), (2, "Instance")] {
            assert_eq!(text(&board.variables()[at], "label"), label, "{name}");
        }
        // A variable that no query uses changes nothing when it is chosen.
        let asked: Vec<_> = board.asked().map(|(_, query)| query.to_owned()).collect();
        let used: String = board.queries().iter().map(|query| query.text.to_owned()).chain(asked).collect();
        for variable in &names[1..] {
            assert!(used.contains(&format!("\"${variable}\"")), "{name}: ${variable}");
        }
    }
}

#[test]
fn panels_say_what_they_show_and_in_which_unit() {
    for board in Board::all() {
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        for (row, panel) in board.panels() {
            let title = text(panel, "title");
            let of = format!("{}: {title}", board.name);
            assert!(titles.insert((row, title)), "{of}: twice in its row");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{of}: an id twice");
            assert!(KINDS.contains(&text(panel, "type")), "{of}: {}", panel["type"]);
            assert!(!title.is_empty(), "{of}");
            let about = text(panel, "description");
            assert!(about.ends_with('.') && about.starts_with(|first: char| first.is_uppercase()), "{of}: {about}");
            assert_eq!(panel["datasource"], source(), "{of}");
            assert!(UNITS.contains(&text(&panel["fieldConfig"]["defaults"], "unit")), "{of}");
            for property in
                list(&panel["fieldConfig"], "overrides").iter().flat_map(|change| list(change, "properties"))
            {
                assert!(property["id"] != "unit" || UNITS.contains(&text(property, "value")), "{of}: {property}");
            }
            let targets = list(panel, "targets");
            assert_eq!(targets.is_empty(), panel["type"] == "alertlist", "{of}");
            // Grafana puts no variables into options.
            assert!(!panel["options"].to_string().contains("${"), "{of}");
            let names: BTreeSet<_> = targets.iter().map(|target| text(target, "refId")).collect();
            assert_eq!(names.len(), targets.len(), "{of}: {names:?}");
            assert!(targets.iter().all(|target| target["datasource"] == source()), "{of}");
            if panel["type"] == "heatmap" {
                let is_whole = |target: &Value| target["format"] == "heatmap" && target["exemplar"] == true;
                assert!(targets.iter().all(is_whole) && panel["options"]["calculate"] == false, "{of}");
            }
        }
        for annotation in board.annotations() {
            assert_eq!(annotation["datasource"], source(), "{}: {annotation}", board.name);
        }
        let names: BTreeSet<_> = board.annotations().iter().map(|annotation| text(annotation, "name")).collect();
        assert_eq!(names, ["Backups", "Outages", "Reloads", "Restarts"].into(), "{}", board.name);
    }
}

#[test]
fn panels_lie_beside_each_other() {
    for board in Board::all() {
        let mut taken = BTreeSet::new();
        for panel in list(&board.json, "panels")
            .iter()
            .chain(list(&board.json, "panels").iter().flat_map(|row| list(row, "panels")))
        {
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            let (x, y, width, height) = (place("x"), place("y"), place("w"), place("h"));
            assert!(x + width <= 24 && width > 0 && height > 0, "{}: {}", board.name, panel["title"]);
            for cell in (y..y + height).flat_map(|line| (x..x + width).map(move |column| (line, column))) {
                assert!(taken.insert(cell), "{}: {} covers another panel", board.name, panel["title"]);
            }
        }
    }
}

#[test]
fn queries_keep_to_the_variables_and_to_the_interval() {
    for board in Board::all() {
        let queries = board.queries();
        let all = queries.iter().map(|query| (query.place.as_str(), query.text));
        let asked: Vec<_> = board.asked().filter(|(_, query)| query.contains('{')).collect();
        for (place, query) in all.chain(asked) {
            let of = format!("{}: {place}: {query}", board.name);
            let query = query.strip_prefix("label_values(").map_or(query, |rest| rest.rsplit_once(", ").unwrap().0);
            assert!(!query.is_empty(), "{of}");
            let found = selectors(query);
            assert!(!found.is_empty(), "{of}");
            for selector in found {
                let has = |label: &str| {
                    let wanted = (label.to_owned(), "=~".to_owned(), format!("${label}"));
                    selector.matchers.contains(&wanted)
                };
                assert!(has("job") && (has("instance") || place == "instance"), "{of}");
                let range = selector.range.as_deref();
                if let Some(function) = selector.innermost(&["rate", "irate"]) {
                    assert_eq!(range, Some("$__rate_interval"), "{function} in {of}");
                }
                if selector.name.ends_with("_total") {
                    let function = selector.innermost(&["rate", "irate", "increase"]);
                    assert!(function.is_some() && range.is_some(), "a counter as it is in {of}");
                }
            }
        }
    }
}

/// Where a link leads: the dashboard's uid and the variables that it sets.
pub fn target(url: &str) -> (&str, Vec<&str>) {
    let path = url.strip_prefix("/d/").unwrap_or_else(|| panic!("not a dashboard: {url}"));
    let (uid, query) = path.split_once('?').unwrap_or((path, ""));
    let variables = query.split('&').filter_map(|part| part.strip_prefix("var-")?.split('=').next());
    (uid, variables.collect())
}

/// Whether a link leads to a dashboard that is there and has the variables that it sets. A part of a uid may be a field of the row.
pub fn leads_somewhere(boards: &[Board], url: &str) -> bool {
    let (uid, variables) = target(url);
    let is_meant = |board: &&Board| match uid.split_once("${") {
        Some((before, _)) => text(&board.json, "uid").starts_with(before) && board.name != "overview",
        None => text(&board.json, "uid") == uid,
    };
    let has = |board: &Board, name: &&str| board.variables().iter().any(|variable| text(variable, "name") == *name);
    let meant: Vec<_> = boards.iter().filter(is_meant).collect();
    !meant.is_empty() && meant.iter().all(|board| variables.iter().all(|name| has(board, name)))
}

#[test]
fn every_row_of_a_table_links_to_more() {
    let boards = Board::all();
    for board in &boards {
        for (_, panel) in board.panels().into_iter().filter(|(_, panel)| panel["type"] == "table") {
            let of = format!("{}: {}", board.name, panel["title"]);
            let changes = list(&panel["fieldConfig"], "overrides");
            let links: Vec<_> = changes
                .iter()
                .flat_map(|change| {
                    list(change, "properties").iter().map(move |property| (&change["matcher"], property))
                })
                .filter(|(_, property)| property["id"] == "links")
                .collect();
            assert!(!links.is_empty(), "{of}");
            for (matcher, property) in links {
                let url = text(&property["value"][0], "url");
                assert!(leads_somewhere(&boards, url) && url.ends_with("&${datasource:queryparam}"), "{of}: {url}");
                // The column that is clicked on, and those that the link names, are labels of the result.
                let expression = promql::read(text(&list(panel, "targets")[0], "expr"));
                let fields = url.split("${__data.fields.").skip(1).filter_map(|rest| rest.split('}').next());
                for field in fields.chain([text(matcher, "options")]) {
                    assert!(expression.labels.contains(field) || expression.made.contains(field), "{of}: {field}");
                }
            }
        }
    }
}
