//! What every probe type, every metric and every page of the documentation has to keep to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lab::net::Refused;
use midwatch::catalog;
use midwatch::metrics::{Desc, Type};
use midwatch::probe::{KINDS, Kind};

use crate::mongodb::probe;
use crate::support::{Midwatch, Place, midwatch};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn example(kind: &Kind) -> String {
    read(format!("config/examples/{}.toml", kind.name))
}

/// What `check --without-secrets` says of a text.
fn check(place: &Place, text: &str) -> String {
    let file = place.write("example.toml", text);
    let output = midwatch(&["check", "--without-secrets", file.to_str().unwrap()]);
    assert_eq!(output.status.success(), output.stderr.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn every_type_has_an_example_that_is_accepted() {
    let place = Place::new();
    for kind in KINDS {
        let text = example(kind);
        assert!(text.contains(&format!("[probe.{}.", kind.name)));
        assert_eq!(check(&place, &text), "", "{}", kind.name);
    }
    for shipped in ["config/midwatch.toml", "deploy/base/midwatch.toml", "deploy/compose/midwatch/midwatch.toml"] {
        assert_eq!(check(&place, &read(shipped)), "", "{shipped}");
    }
}

/// A label that a metric has itself would be twice on its series, and Prometheus would refuse the whole scrape.
#[test]
fn no_label_of_a_metric_can_be_configured() {
    let place = Place::new();
    let used: String = KINDS.iter().map(|kind| format!("[probe.{}.x]\n", kind.name)).collect();
    let chapters = catalog::chapters();
    let labels: BTreeSet<_> =
        chapters.iter().flat_map(|chapter| &chapter.metrics).flat_map(|desc| desc.labels).collect();
    assert!(labels.len() > 5, "{labels:?}");
    for label in labels {
        let said = check(&place, &format!("[labels]\n{label} = \"x\"\n{used}"));
        let of_label: Vec<_> = said.lines().filter(|line| line.contains(":2:1: `labels`: ")).collect();
        assert!(of_label.len() == 1 && of_label[0].contains(&format!("`{label}`")), "{label}: {said}");
    }
    for kind in KINDS {
        for label in kind.metrics.iter().flat_map(|desc| desc.labels) {
            let said = check(&place, &format!("[probe.{}.x]\nlabels.{label} = \"x\"\n", kind.name));
            let of_label = said.lines().filter(|line| line.contains(&format!("`labels`: `{label}`: ")));
            assert_eq!(of_label.count(), 1, "{label}: {said}");
        }
    }
}

#[test]
fn every_key_that_an_example_only_shows_is_a_key() {
    let place = Place::new();
    for kind in KINDS {
        let text = example(kind);
        let lines: Vec<_> = text.lines().collect();
        let mut shown = 0;
        for (at, line) in lines.iter().enumerate() {
            let Some(code) = line.strip_prefix("# ").filter(|code| key_of(code).is_some()) else { continue };
            shown += 1;
            let mut edited = lines.clone();
            edited[at] = code;
            // It may contradict another key or repeat it, but is neither unknown nor malformed.
            let said = check(&place, &edited.join("\n"));
            assert!(!said.contains("unknown field") && !said.contains("not TOML"), "{}: {code}\n{said}", kind.name);
        }
        assert!(shown > 0);
    }
}

/// The key of a line `key = value`.
fn key_of(line: &str) -> Option<&str> {
    let key = line.split_once(" = ")?.0;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
}

#[test]
fn an_example_shows_every_key_that_is_documented() {
    let page = read("docs/CONFIGURATION.md");
    let sections: BTreeMap<_, _> =
        page.split("\n## ").map(|part| part.split_once('\n').unwrap_or((part, ""))).collect();
    let documented = |heading: &str| {
        let section = sections.get(heading).unwrap_or_else(|| panic!("no section {heading}"));
        let tables = section.split("\n| Key |").skip(1);
        let rows = tables.flat_map(|table| table.lines().take_while(|line| !line.is_empty()));
        let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split(" | ").next());
        cells.flat_map(|cell| cell.split("`, `")).map(|key| key.trim_end_matches('`').to_owned()).collect::<Vec<_>>()
    };
    let common = documented("`[probe.<type>.<name>]`");
    assert!(common.len() >= 8, "{common:?}");
    for kind in KINDS {
        let text = example(kind);
        let keys: BTreeSet<_> = text.lines().filter_map(|line| key_of(line.trim_start_matches("# "))).collect();
        for key in documented(&format!("Probe type {}", kind.name)).iter().chain(&common) {
            let last = key.rsplit('.').next().unwrap();
            let table = text.contains(&format!(".{key}]\n"));
            assert!(keys.contains(last) || table, "{}: `{key}` is not in the example", kind.name);
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let place = Place::new();
    for kind in KINDS {
        let text = example(kind);
        let at = text.lines().position(|line| line.starts_with("interval = ")).expect("an interval") + 1;
        let said = check(&place, &text.replace("\ninterval = ", "\nintervall = "));
        let file = place.folder.path().join("example.toml");
        let expected = format!("{}:{at}:1: probe.{}.", file.display(), kind.name);
        assert!(said.starts_with(&expected), "{expected} in {said}");
        assert!(said.contains("unknown field `intervall`, did you mean `interval`?"), "{said}");
    }
}

/// A probe of that type whose target is an address that refuses.
fn at_closed_port(kind: &Kind, address: &str) -> String {
    match kind.name {
        "backup" => format!(
            "[probe.backup.closed]\nsource = \"s3\"\nendpoint = \"http://{address}\"\nbucket = \"b\"\npattern = \"*\"\n\
             listing_interval = \"5s\"\nlisting_timeout = \"4s\"\n"
        ),
        "kafka" | "kafka_canary" => {
            let head = format!("[probe.{}.closed]\nbootstrap = [\"{address}\"]", kind.name);
            format!("{head}\ninterval = \"5s\"\ntimeout = \"4s\"\n")
        }
        "mongodb" => probe("closed", &[address.to_owned()], "interval = \"500ms\"\ntimeout = \"400ms\""),
        "vpn" => format!("[probe.vpn.closed]\nprotocol = \"ikev2\"\nserver = \"{address}\"\ninterval = \"1s\"\n"),
        other => panic!("how is a probe of type {other} pointed at an address?"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_ends_in_a_reason_of_the_type() {
    let refused = Refused::pick().unwrap();
    for kind in KINDS {
        let daemon = Midwatch::start(&at_closed_port(kind, &refused.address().to_string())).await;
        let of = [("type", kind.name)];
        let reason = daemon
            .until("a failure", |m| {
                let mut failures = m.all("midwatch_probe_failures_total", &of).filter(|sample| sample.value > 0.0);
                failures.next().map(|sample| sample.labels["reason"].clone())
            })
            .await;
        assert!(kind.reasons.iter().any(|known| known.label() == reason), "{}: {reason}", kind.name);
    }
}

fn all_metrics() -> Vec<&'static Desc> {
    catalog::chapters().into_iter().flat_map(|chapter| chapter.metrics).collect()
}

/// The names that a metric has on the wire.
fn wire_names(desc: &Desc) -> Vec<String> {
    match desc.kind {
        Type::Histogram { .. } => {
            ["_bucket", "_sum", "_count"].iter().map(|suffix| format!("{}{suffix}", desc.name)).collect()
        }
        Type::Counter | Type::Gauge => vec![desc.name.to_owned()],
    }
}

#[test]
fn metrics_are_well_named() {
    let mut names = BTreeSet::new();
    for desc in all_metrics() {
        let name = desc.name;
        let snake = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && !name.contains("__")
        };
        assert!(snake(name), "{name}");
        assert!(["midwatch_", "kafka_", "process_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
        for wire in wire_names(desc).into_iter().chain([name.to_owned()]).collect::<BTreeSet<_>>() {
            assert!(names.insert(wire.clone()), "{wire} is there twice");
        }
        assert_eq!(name.ends_with("_total"), desc.kind == Type::Counter, "{name}: _total is for counters");
        for word in name.split('_') {
            let units =
                ["ms", "us", "ns", "milliseconds", "minutes", "hours", "days", "kb", "mb", "kib", "mib", "percent"];
            assert!(!units.contains(&word), "{name}: {word} is no base unit");
        }
        let reserved = ["bucket", "count", "sum"];
        // Two names are older than the rule: autoscalers and dashboards made for kafka_exporter ask for them.
        let is_custom = ["kafka_consumergroup_current_offset_sum", "kafka_consumergroup_lag_sum"].contains(&name);
        assert!(is_custom || !reserved.contains(&name.rsplit('_').next().unwrap()), "{name} ends as histograms do");
        if let Type::Histogram { buckets, .. } = desc.kind {
            assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name}: a histogram has a unit");
            assert!(buckets.is_sorted_by(|a, b| a < b) && buckets.iter().all(|bound| bound.is_finite()), "{name}");
        }

        let help = desc.help;
        assert!(help.ends_with('.') && help.starts_with(|first: char| first.is_uppercase()), "{name}: {help}");
        assert!(!help.contains(['\\', '\n', '|']) && !help[..help.len() - 1].contains(". "), "{name}: {help}");

        for label in desc.labels {
            assert!(snake(label) && !["le", "quantile", "job", "instance"].contains(label), "{name}: {label}");
        }
        let distinct: BTreeSet<_> = desc.labels.iter().collect();
        assert_eq!(distinct.len(), desc.labels.len(), "{name}: {:?}", desc.labels);
        let arity = desc.known.first().map_or(0, |tuple| tuple.len());
        assert!(arity <= desc.labels.len(), "{name}");
        assert!(desc.known.iter().all(|tuple| tuple.len() == arity), "{name}: known tuples differ in length");
        assert_eq!(desc.known.iter().collect::<BTreeSet<_>>().len(), desc.known.len(), "{name}: a tuple twice");
    }
}

#[test]
fn identity_labels_are_the_engines() {
    for desc in KINDS.iter().flat_map(|kind| kind.metrics) {
        assert!(desc.labels.iter().all(|label| !["probe", "type"].contains(label)), "{}", desc.name);
    }
}

#[test]
fn the_page_of_metrics_is_up_to_date() {
    let output = midwatch(&["metrics"]);
    assert!(output.status.success());
    assert!(read("docs/METRICS.md").as_bytes() == output.stdout, "docs/METRICS.md is out of date; run: make docs");
}

/// Every page of documentation, and its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().to_owned(), root().join("docs")];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.starts_with(root().join("docs")) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push((path, text));
            }
        }
    }
    assert!(pages.len() >= 3, "{pages:?}");
    pages
}

#[test]
fn every_metric_that_the_documentation_names_exists() {
    let known: BTreeSet<_> =
        all_metrics().iter().flat_map(|desc| [wire_names(desc), vec![desc.name.to_owned()]]).flatten().collect();
    for (path, text) in pages() {
        // Rust in the documentation shows how a metric is declared, with one that is made up.
        let text = text.split("```rust").enumerate().map(|(n, part)| match n {
            0 => part,
            _ => part.split_once("\n```\n").map_or("", |(_, rest)| rest),
        });
        let text = text.collect::<String>();
        let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        for word in words.filter(|word| ["midwatch_", "kafka_"].iter().any(|prefix| word.starts_with(prefix))) {
            // `midwatch_` and `midwatch_probe_` stand for what begins so.
            let begins = word.ends_with('_') && known.iter().any(|name| name.starts_with(word));
            // Another program, and types of probes.
            let is_other = word == "kafka_exporter" || KINDS.iter().any(|kind| kind.name == word);
            assert!(known.contains(word) || begins || word == "kafka_" || is_other, "{}: {word}", path.display());
        }
    }
}

#[test]
fn every_make_target_that_the_documentation_names_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<_> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(target, _)| target).collect();
    for (path, text) in pages() {
        for after in text.split("`make ").skip(1).chain(text.split("\nmake ").skip(1)) {
            let target = after.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap();
            assert!(targets.contains(target), "{}: make {target}", path.display());
        }
    }
}

/// The name by which a link refers to a heading, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn every_link_within_the_documentation_resolves() {
    for (path, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|after| after.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| slug(line.trim_start_matches('#').trim()) == anchor);
                assert!(found, "{}: {link}", path.display());
            }
        }
    }
}
