//! The cluster as a person wants to read it at night: what is wrong first, then who lags, then what moves and for how long yet.

use std::fmt::Write as _;

use super::client::api::metadata::Topology;
use super::moves::MoveView;
use super::state::{GroupState, GroupTopic, State};
use crate::probe::net::clean;
use crate::probe::words::{bytes, seconds};

/// How many lines each table has; what is left out is counted.
const MOST_LINES: usize = 30;
/// The width of a progress bar, in characters.
const BAR: usize = 24;
/// The width of the column of names, in characters.
const NAMES: usize = 44;

/// Writes the report; empty when nothing is known.
pub(super) fn render(state: &State) -> String {
    let Some(topology) = &state.topology else { return String::new() };
    let mut text = String::new();
    render_cluster(&mut text, state, topology);
    render_groups(&mut text, state);
    render_moves(&mut text, state);
    for api in state.forbidden.all() {
        let _ = writeln!(text, "\nThe cluster's ACLs forbid {}: what it would tell is missing above.", api.label());
    }
    text
}

fn render_cluster(text: &mut String, state: &State, topology: &Topology) {
    let id = topology.cluster_id.as_deref().map_or(String::new(), |id| format!(" {}", clean(id)));
    let controller = state.controller.map_or(String::new(), |id| format!(", controller {id}"));
    let partitions =
        || topology.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)));
    let _ = writeln!(text, "\ncluster{id}: {}{controller}", plural(topology.brokers.len(), "broker"));
    let _ =
        writeln!(text, "{} with {}", plural(topology.topics.len(), "topic"), plural(partitions().count(), "partition"));
    let gone = state.known_brokers().into_iter().filter(|id| !topology.brokers.iter().any(|live| live.id == *id));
    for broker in gone {
        let _ = writeln!(text, "✗ broker {broker} holds replicas and is not in the cluster");
    }
    let offline = partitions().filter(|(_, partition)| partition.leader < 0).count();
    let lacking = partitions().filter(|(topic, partition)| {
        let adding = state.moves.adding(&topic.name, partition.index);
        partition.replicas.iter().any(|replica| !adding.contains(replica) && !partition.in_sync.contains(replica))
    });
    let lacking = lacking.count();
    let displaced = partitions().filter(|(_, partition)| partition.replicas.first() != Some(&partition.leader)).count();
    let verdicts =
        [(offline, "without a leader"), (lacking, "under-replicated"), (displaced, "not led by the preferred leader")];
    for (number, what) in verdicts.into_iter().filter(|(number, _)| *number > 0) {
        let _ = writeln!(text, "✗ {} {what}", plural(number, "partition"));
    }
    if verdicts.iter().all(|(number, _)| *number == 0) {
        let _ = writeln!(text, "✓ every partition has its preferred leader and all replicas in sync");
    }
}

/// A group in a topic, as a line of the table.
struct Line<'s> {
    group: &'s str,
    topic: &'s str,
    state: &'s GroupState,
    /// None while some partition is not known.
    records: Option<i64>,
    age: Option<f64>,
    lost: i64,
}

fn render_groups(text: &mut String, state: &State) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (group, known) in &state.groups {
        for (topic, commits) in known.topics.iter().filter(|(topic, _)| state.topics.contains_key(*topic)) {
            let lags =
                commits.commits.iter().map(|commit| GroupTopic::shown(commit, state.offsets_round).map(|(lag, _)| lag));
            let lags: Option<Vec<_>> = lags.collect();
            let ages: Option<Vec<_>> = commits.commits.iter().map(|commit| commit.age).collect();
            lines.push(Line {
                group,
                topic,
                state: known,
                records: lags.as_ref().map(|lags| lags.iter().fold(0, |sum: i64, lag| sum.saturating_add(lag.records))),
                age: ages.and_then(|ages| ages.into_iter().reduce(f64::max)),
                lost: lags.map_or(0, |lags| lags.iter().fold(0, |sum: i64, lag| sum.saturating_add(lag.lost))),
            });
        }
    }
    if lines.is_empty() {
        let _ = writeln!(text, "\nno group has committed anything");
        return;
    }
    // The longest behind first; what is not known comes before what is well.
    lines.sort_by(|a, b| {
        let rank = |line: &Line<'_>| (line.age.unwrap_or(f64::MAX), line.records.unwrap_or(i64::MAX));
        rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let _ = writeln!(
        text,
        "\n{:<NAMES$} {:<12} {:>7} {:>12} {:>9}",
        "group / topic", "state", "members", "records", "behind"
    );
    for line in lines.iter().take(MOST_LINES) {
        let name = fit(&format!("{} / {}", clean(line.group), clean(line.topic)));
        let members = line.state.members.map_or("?".to_owned(), |members| members.to_string());
        let records = line.records.map_or("?".to_owned(), |records| records.to_string());
        let age = line.age.map_or("?".to_owned(), seconds);
        let lost = if line.lost > 0 { format!("  ✗ {} lost records", line.lost) } else { String::new() };
        let _ =
            writeln!(text, "{name:<NAMES$} {:<12} {members:>7} {records:>12} {age:>9}{lost}", clean(&line.state.state));
    }
    if lines.len() > MOST_LINES {
        let _ = writeln!(text, "… and {} more, less behind", lines.len() - MOST_LINES);
    }
}

fn render_moves(text: &mut String, state: &State) {
    let moving = state.moves.keys().count();
    if moving == 0 {
        return;
    }
    let eta = state.moves.eta_seconds().map_or(String::new(), |eta| format!(", over in {}", seconds(eta)));
    let brokers = state.moves.brokers();
    let left: Option<f64> = brokers.iter().map(|view| view.remaining_bytes).sum();
    let rate: f64 = brokers.iter().filter_map(|view| view.rate).sum();
    let rate = if rate > 0.0 { format!(" at {}/s", bytes(rate)) } else { String::new() };
    let left = left.map_or(String::new(), |left| format!(", {} left{rate}", bytes(left)));
    let _ = writeln!(text, "\n{} being moved{eta}{left}", plural(moving, "partition"));
    let mut views: Vec<MoveView<'_>> = state.moves.each().collect();
    views.sort_by(|a, b| b.remaining_bytes.partial_cmp(&a.remaining_bytes).unwrap_or(std::cmp::Ordering::Equal));
    for view in views.iter().take(MOST_LINES) {
        let name = fit(&format!("{}/{} → broker {}", clean(view.topic), view.partition, view.broker));
        let left = view.remaining_bytes.map_or("? left".to_owned(), |left| format!("{} left", bytes(left)));
        let rate = view.rate.filter(|rate| *rate > 0.0).map_or(String::new(), |rate| format!("  {}/s", bytes(rate)));
        let end = match (view.stalled, view.eta_seconds) {
            (true, _) => "  ✗ stalled".to_owned(),
            (false, Some(eta)) => format!("  {}", seconds(eta)),
            (false, None) => String::new(),
        };
        let _ = writeln!(text, "{name:<NAMES$} {}  {left}{rate}{end}", progress(view));
    }
    if views.len() > MOST_LINES {
        let _ = writeln!(text, "… and {} more with less to move", views.len() - MOST_LINES);
    }
}

/// A bar and a percentage.
fn progress(view: &MoveView<'_>) -> String {
    let (Some(left), Some(total)) = (view.remaining_bytes, view.total_bytes) else {
        return format!("[{}]    ?", "─".repeat(BAR));
    };
    let done = if total > 0.0 { (1.0 - left / total).clamp(0.0, 1.0) } else { 1.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the width of the bar")]
    let full = (done * BAR as f64).floor() as usize;
    // All but the last byte is not all.
    let percent = (done * 100.0).floor();
    format!("[{}{}] {percent:>3} %", "█".repeat(full), "─".repeat(BAR - full))
}

/// A name cut to the width of its column.
fn fit(name: &str) -> String {
    if name.chars().count() <= NAMES { name.to_owned() } else { name.chars().take(NAMES - 1).chain(['…']).collect() }
}

fn plural(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
