//! What it takes to write everything there is, beside the crates that others use: the same content, in processes of their
//! own, by turns.

use std::time::Duration;

use midwatch::metrics::exposition::Format;

use super::Outcome;
use super::child::{Child, answer_all};
use super::contenders::{Midwatch, contender, digest};
use super::content::Content;
use super::counted::region;
use super::report::{Table, count, mb, median, ms};
use super::usage::{reset_peak, status, thread_time};

/// The argument that makes the benchmark a contender.
pub const CHILD: &str = "contender";

const SIZES: [u64; 3] = [1_000, 50_000, 500_000];
/// The size that targets are for.
const LARGEST: u64 = 500_000;
/// Series of the contents that are compared sample by sample.
const COMPARED: u64 = 10_000;
/// What every table has: those who take the same turns.
const CONTENDERS: [&str; 6] = ["midwatch", "openmetrics", "protobuf", "prometheus", "prometheus-client", "copy"];
const COMMITS: u64 = 7;

/// All contents in all sizes.
pub async fn measure() -> Outcome<()> {
    for (name, content) in Content::ALL {
        compare(name, content).await?;
        for series in SIZES {
            side_by_side(content, series).await?;
        }
    }
    commits().await
}

/// What a contender came to.
struct Side {
    child: Child,
    /// What is resident more than before the contender was made.
    resident: f64,
    peak: f64,
    allocations: f64,
    allocated: f64,
    bytes: f64,
    times: Vec<Duration>,
}

async fn start(name: &str, content: Content, series: u64) -> Outcome<Side> {
    let rows = content.rows(series).to_string();
    let (mut child, ready) = Child::start(&[CHILD, name, content.name(), &rows]).await?;
    // The first scrape of the process: nothing of an earlier one can be used again.
    let [peak] = child.ask("peak").await?[..] else { return Err("no peak".into()) };
    let [allocations, allocated, bytes] = child.ask("count").await?[..] else { return Err("no count".into()) };
    let resident = ready.first().copied().ok_or("nothing is resident")?;
    Ok(Side { child, resident, peak, allocations, allocated, bytes, times: Vec::new() })
}

async fn side_by_side(content: Content, series: u64) -> Outcome<()> {
    let mut sides = Vec::new();
    for name in CONTENDERS {
        sides.push(start(name, content, series).await?);
    }
    let rounds = if series == LARGEST { 9 } else { 21 };
    for _ in 0..rounds {
        for side in &mut sides {
            let [seconds] = side.child.ask("time").await?[..] else { return Err("no time".into()) };
            side.times.push(Duration::from_secs_f64(seconds));
        }
    }
    let what = match content {
        Content::Whole => "gauges of whole numbers",
        Content::Fractions => "gauges of seconds",
        Content::Histograms => "series of histograms",
    };
    let title = format!("Exposition: {series} {what}");
    let columns = ["", "CPU time, median", "bytes", "allocations", "extra memory of a scrape", "resident, made"];
    let mut table = Table::with_columns(&title, &columns);
    for (name, side) in CONTENDERS.iter().zip(&mut sides) {
        table.cells(&[
            shown(name).to_owned(),
            ms(median(&mut side.times)),
            mb(side.bytes),
            format!("{}, {}", count(side.allocations), mb(side.allocated)),
            mb(side.peak),
            if *name == "copy" { String::new() } else { mb(side.resident) },
        ]);
    }
    table.print();
    ratios(content, series, &mut sides);
    for side in sides {
        side.child.end().await?;
    }
    Ok(())
}

fn shown(name: &str) -> &str {
    match name {
        "midwatch" => "midwatch, text 0.0.4",
        "openmetrics" => "midwatch, OpenMetrics",
        "protobuf" => "midwatch, protobuf",
        "prometheus" => "prometheus 0.14, text 0.0.4",
        "prometheus-client" => "prometheus-client 0.25, OpenMetrics",
        _ => "a plain copy of midwatch's text",
    }
}

/// What the targets are about. They are for the largest size; for the others the figures alone.
fn ratios(content: Content, series: u64, sides: &mut [Side]) {
    let times: Vec<f64> = sides.iter_mut().map(|side| median(&mut side.times).as_secs_f64()).collect();
    let [ours, _, _, prometheus, client, copy] = times[..] else { return };
    let (faster, slower) = (prometheus.min(client) / ours, prometheus.max(client) / ours);
    let to_copy = ours / copy;
    let ours = &sides[0];
    let (per_text, extra) = (ours.resident / ours.bytes, ours.peak.max(0.0));
    let mut table = Table::new(&format!("The same as ratios: {series} {}", content.metric()));
    let mut row = |what: &str, figure: String, target: &str, met: bool| {
        if series == LARGEST { table.target(what, figure, target, met) } else { table.figure(what, figure) }
    };
    row("the faster crate : midwatch", format!("{faster:.1}"), "≥ 15", faster >= 15.0);
    row("the slower crate : midwatch", format!("{slower:.1}"), "", true);
    row("midwatch : plain copy", format!("{to_copy:.2}"), "≤ 4", to_copy <= 4.0);
    row("extra memory of a scrape", mb(extra), "< 2 MB", extra < 2e6);
    row("resident : text", format!("{per_text:.2}"), "< 1.5", per_text < 1.5);
    table.print();
}

/// Refuses to compare what is not the same.
async fn compare(name: &str, content: Content) -> Outcome<()> {
    let mut digests = Vec::new();
    for contender in ["midwatch", "openmetrics", "prometheus", "prometheus-client"] {
        let rows = content.rows(COMPARED).to_string();
        let (mut child, _) = Child::start(&[CHILD, contender, name, &rows]).await?;
        digests.push(child.ask("digest").await?);
        child.end().await?;
    }
    if digests.iter().all(|digest| *digest == digests[0]) { Ok(()) } else { Err("contents differ".into()) }
}

/// What a run of half a million values takes at its end, without a scrape and with one that still writes.
async fn commits() -> Outcome<()> {
    let rows = LARGEST.to_string();
    let (mut child, _) = Child::start(&[CHILD, "commits", Content::Whole.name(), &rows]).await?;
    let mut table = Table::new("A run of 500 000 gauges");
    for (what, ask) in [
        ("recording the values", "record"),
        ("commit, nobody scrapes", "commit"),
        ("commit beside a scrape, which keeps the old values", "commit-beside"),
        ("snapshot", "snapshot"),
    ] {
        let mut times = Vec::new();
        for _ in 0..COMMITS {
            let [seconds] = child.ask(ask).await?[..] else { return Err("no time".into()) };
            times.push(Duration::from_secs_f64(seconds));
        }
        table.figure(&format!("{what}: CPU time, median of {COMMITS}"), ms(median(&mut times)));
    }
    table.print();
    child.end().await
}

/// The child: which contender, of which content, of how many label sets.
pub fn child(arguments: &[String]) -> Outcome<()> {
    let [name, content, rows] = arguments else { return Err("expected a contender, its content and rows".into()) };
    let (content, rows) = (Content::named(content).ok_or("no such content")?, rows.parse()?);
    if name == "commits" {
        return committer(&Midwatch::new(content, rows, Format::Text));
    }
    let before = status("RssAnon")?;
    let mut contender = contender(name, content, rows)?;
    let resident = status("RssAnon")? - before;
    let mut buffer = Vec::new();
    answer_all(&[resident], |what| match what {
        "peak" => {
            reset_peak()?;
            let (before, pages) = (status("VmRSS")?, status("RssFile")?);
            contender.scrape(&mut buffer)?;
            // The program's own pages that were touched for the first time are no memory of a scrape.
            Ok(vec![status("VmHWM")? - before - (status("RssFile")? - pages)])
        }
        "count" => {
            let (region, mut buffer) = (region(), Vec::new());
            let bytes = contender.scrape(&mut buffer)?;
            let stats = region.change();
            let allocated = stats.bytes_allocated.saturating_add_signed(stats.bytes_reallocated.max(0));
            Ok(vec![as_f64(stats.allocations + stats.reallocations), as_f64(allocated), as_f64(bytes)])
        }
        "time" => timed(|| contender.scrape(&mut buffer).map(drop)),
        "digest" => {
            let digest = digest(&String::from_utf8(contender.text()?)?)?;
            // As two numbers that an f64 holds exactly.
            Ok(vec![f64::from((digest >> 32) as u32), f64::from(digest as u32)])
        }
        _ => Err("asked for something else".into()),
    })
}

fn committer(midwatch: &Midwatch) -> Outcome<()> {
    let mut turn = 0;
    answer_all(&[], |what| {
        turn += 1;
        if what == "snapshot" {
            return timed(|| {
                drop(std::hint::black_box(midwatch.store.snapshot()));
                Ok(())
            });
        }
        let recorded = timed(|| {
            midwatch.record_all(turn);
            Ok(())
        })?;
        let snapshot = (what == "commit-beside").then(|| midwatch.store.snapshot());
        let committed = timed(|| {
            midwatch.commit();
            Ok(())
        })?;
        drop(snapshot);
        Ok(if what == "record" { recorded } else { committed })
    })
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Vec<f64>> {
    let started = thread_time();
    work()?;
    Ok(vec![(thread_time() - started).as_secs_f64()])
}

#[allow(clippy::cast_precision_loss, reason = "counts and lengths far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
