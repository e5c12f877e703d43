//! What `make bench` measures; docs/PERFORMANCE.md records what it printed.
//!
//! Sections run one after the other: first those that need no server, then those against real replica sets. Arguments
//! choose sections by name: `cargo bench --bench midwatch -- start reload`.
//!
//! Machines that run this are seldom quiet. So what can be is measured in CPU time and allocations rather than on a clock,
//! things that are compared take turns within one section, and a figure that is read from a histogram says so.

mod accuracy;
mod backup_bucket;
mod backup_files;
mod child;
mod clients;
mod compression;
mod contenders;
mod content;
mod cost;
mod counted;
mod daemon;
mod delay;
mod driver;
mod endpoint;
mod exposition;
mod kafka;
mod kafka_peers;
mod memory;
mod pbm;
mod peers;
mod reload;
mod report;
mod scrape;
mod scrapes;
mod served;
mod sets;
mod start;
mod story;
mod usage;

use std::error::Error;
use std::process::ExitCode;

use self::sets::Set;

/// What a section comes to. Nothing here recovers from a failure: it is shown and ends the benchmark.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Without servers, then with them. The story is last because it pins the members of the set to cores.
const SECTIONS: [&str; 17] = [
    "exposition",
    "compression",
    "http",
    "start",
    "load",
    "delay",
    "scrape",
    "stop",
    "kafka",
    "directory",
    "bucket",
    "pbm",
    "accuracy",
    "memory",
    "cost",
    "driver",
    "story",
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.split_first() {
        Some((child, arguments)) if child == counted::CHILD => counted::child(arguments),
        Some((child, arguments)) if child == exposition::CHILD => exposition::child(arguments),
        Some((child, arguments)) if child == served::CHILD => served::child(arguments),
        Some((child, _)) if child == kafka::CHILD => kafka::child(),
        Some((child, _)) if child == accuracy::CHILD => accuracy::child(),
        _ => chosen(&arguments).and_then(|sections| runtime()?.block_on(all(&sections))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "there is nobody else to tell")]
            {
                eprintln!("bench: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn chosen(arguments: &[String]) -> Outcome<Vec<&str>> {
    if let Some(unknown) = arguments.iter().find(|argument| !SECTIONS.contains(&argument.as_str())) {
        return Err(format!("there is no section {unknown}; sections are {}", SECTIONS.join(", ")).into());
    }
    let all = arguments.is_empty();
    Ok(SECTIONS.into_iter().filter(|section| all || arguments.iter().any(|argument| argument == section)).collect())
}

/// What tells of backups.
async fn backups(wanted: &impl Fn(&'static str) -> bool) -> Outcome<()> {
    if wanted("directory") {
        backup_files::measure().await?;
    }
    if wanted("bucket") {
        backup_bucket::measure().await?;
    }
    if wanted("pbm") {
        pbm::measure().await?;
    }
    Ok(())
}

async fn all(sections: &[&str]) -> Outcome<()> {
    let wanted = |section| sections.contains(&section);
    report::machine();
    if wanted("exposition") {
        exposition::measure().await?;
    }
    if wanted("compression") {
        compression::measure()?;
    }
    if wanted("http") {
        endpoint::measure().await?;
    }
    if wanted("start") {
        start::measure().await?;
    }
    if wanted("load") {
        reload::measure().await?;
    }
    if wanted("delay") {
        delay::measure().await?;
        delay::measure_scraped().await?;
    }
    if wanted("scrape") {
        scrapes::measure().await?;
    }
    if wanted("stop") {
        start::measure_stop().await?;
    }
    if wanted("kafka") {
        kafka::measure().await?;
    }
    backups(&wanted).await?;
    if wanted("accuracy") {
        accuracy::measure().await?;
    }
    if !["memory", "cost", "driver", "story"].into_iter().any(wanted) {
        return Ok(());
    }
    let secure = Set::secure().await?;
    if wanted("memory") {
        memory::measure(&secure).await?;
    }
    if wanted("cost") {
        cost::measure(&secure, &Set::plain().await?).await?;
    }
    if wanted("driver") {
        driver::measure(&secure).await?;
    }
    if wanted("story") {
        story::measure(&secure).await?;
    }
    Ok(())
}
