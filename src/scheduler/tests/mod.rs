//! Proves the engine with probes made up for the purpose, in paused time, by what a scrape shows.

mod bench;
mod cycles;
mod history;
mod panics;
mod reload;
mod schedule;
mod serve;
mod verdicts;
