//! What is recorded of the books.

use super::books::{Books, Counted};
use super::config::Config;
use super::metrics;
use super::runs::{Outcome, Pitr, Seen};
use super::schedule::Schedule;
use crate::metrics::{Gauge, Recorder};

/// Records everything that the books say, and when runs are to be.
pub(super) fn books(rec: &Recorder, config: &Config, books: &Books, (schedule, now): (Option<&Schedule>, f64)) {
    rec.set(&metrics::INFO, [config.source.name().label(), config.restores.as_deref().unwrap_or_default()], 1.0);
    counts(rec, books);
    let set = |gauge: &'static Gauge<0>, value: Option<f64>| {
        if let Some(value) = value {
            rec.set(gauge, [], value);
        }
    };
    let last = books.last_ended();
    set(&metrics::LAST_FAILURE, books.last_failure());
    set(&metrics::LAST_START, books.last_start());
    set(&metrics::LAST_DURATION, last.and_then(super::runs::Run::seconds));
    set(&metrics::LAST_RUN_SUCCESS, last.and_then(|run| run.end).map(|end| flag(end.outcome == Outcome::Success)));
    set(&metrics::LAST_PEAK_MEMORY, last.and_then(|run| run.peak_memory).map(number));
    set(&metrics::EXPECTED_INTERVAL, schedule.and_then(|schedule| schedule.interval(now)));
    set(&metrics::GRACE, schedule.map(|schedule| schedule.grace));
    let success = books.last_success();
    let at = success.and_then(|run| run.end).map(|end| end.at);
    match &config.restores {
        None => {
            set(&metrics::LAST_SUCCESS, at);
            set(&metrics::LAST_SIZE, success.and_then(|run| run.size).map(number));
            set(&metrics::LAST_UNCOMPRESSED, success.and_then(|run| run.uncompressed).map(number));
        }
        Some(job) => {
            if let Some(at) = at {
                rec.set(&metrics::RESTORE_LAST_SUCCESS, [job], at);
            }
            if let Some(seconds) = last.and_then(super::runs::Run::seconds) {
                rec.set(&metrics::RESTORE_LAST_DURATION, [job], seconds);
            }
        }
    }
    running(rec, config, books);
}

fn counts(rec: &Recorder, books: &Books) {
    for outcome in Outcome::ALL {
        rec.total(&metrics::RUNS, [outcome.label()], number(books.ended(*outcome)));
    }
    rec.total(&metrics::OVERLAPS, [], number(books.overlap_count()));
    rec.total(&metrics::MISSED, [], number(books.missed()));
    rec.total(&metrics::CPU, [], books.cpu_seconds());
}

/// Where runs go on, and where they did: a node keeps its 0, so that what it is joined with does not vanish.
fn running(rec: &Recorder, config: &Config, books: &Books) {
    // Of the others nobody knows whether they do.
    let going_on = || books.open().filter(|run| !run.is_silent);
    rec.set(&metrics::IN_PROGRESS, [], number(going_on().count() as u64));
    let started = going_on().filter_map(|run| run.started).min_by(f64::total_cmp);
    if let Some(started) = started {
        rec.set(&metrics::RUNNING_START, [], started);
    }
    let of_config = config.node.as_deref();
    let anywhere = |run: &super::runs::Run| run.node.is_none().then(|| of_config.unwrap_or_default().to_owned());
    let of_run = |run| super::runs::Run::nodes(run).cloned().chain(anywhere(run));
    let busy: std::collections::BTreeSet<_> = going_on().flat_map(of_run).collect();
    let nodes = books.nodes().chain(of_config).map(str::to_owned);
    let mut nodes: std::collections::BTreeSet<_> = nodes.chain(busy.iter().cloned()).collect();
    if nodes.is_empty() {
        nodes.insert(String::new());
    }
    for node in &nodes {
        rec.set(&metrics::RUNNING, [node], flag(busy.contains(node)));
    }
}

/// Records runs that have just been counted.
pub(super) fn counted(rec: &Recorder, runs: &[Counted]) {
    for Counted(run) in runs {
        let Some(end) = run.end else { continue };
        // How long a run took that nobody saw the end of is what nobody knows.
        if let Some(seconds) = run.seconds().filter(|_| end.outcome != Outcome::Lost) {
            rec.observe(&metrics::DURATION, [end.outcome.label()], seconds);
        }
        for (phase, seconds) in &run.phases {
            rec.observe(&metrics::PHASE_DURATION, [phase], *seconds);
        }
    }
}

/// Records what a source holds beside runs.
pub(super) fn holdings(rec: &Recorder, seen: &Seen) {
    if let Some(stock) = &seen.stock {
        rec.set(&metrics::RETAINED, [], number(stock.retained));
        if let Some(oldest) = stock.oldest {
            rec.set(&metrics::OLDEST, [], oldest);
        }
        if let Some(bytes) = stock.bytes {
            rec.set(&metrics::STORED, [], number(bytes));
        }
    }
    if let Some(pitr) = &seen.pitr {
        self::pitr(rec, pitr);
    }
    for (node, is_up) in &seen.agents {
        rec.set(&metrics::AGENT_UP, [node], flag(*is_up));
    }
}

fn pitr(rec: &Recorder, pitr: &Pitr) {
    rec.set(&metrics::PITR_ENABLED, [], flag(pitr.enabled));
    for set in &pitr.sets {
        if let Some(running) = set.running {
            rec.set(&metrics::PITR_RUNNING, [&set.name], flag(running));
        }
        if let Some(lag) = set.lag {
            rec.set(&metrics::PITR_LAG, [&set.name], lag);
        }
    }
    if let Some((earliest, latest)) = pitr.range {
        rec.set(&metrics::PITR_EARLIEST, [], earliest);
        rec.set(&metrics::PITR_LATEST, [], latest);
    }
    rec.set(&metrics::PITR_GAPS, [], number(pitr.gaps.0));
    rec.set(&metrics::PITR_GAP_SECONDS, [], pitr.gaps.1);
}

/// A truth as a gauge has it.
pub(super) fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[allow(clippy::cast_precision_loss, reason = "bytes beyond 2^53 are shown to the nearest number there is")]
fn number(count: u64) -> f64 {
    count as f64
}
