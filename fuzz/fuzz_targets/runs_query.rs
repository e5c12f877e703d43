//! The query of `/runs`: pairs, percent-escapes, ids.
//!
//! `cargo +nightly fuzz run runs_query fuzz/corpus/runs_query tests/fixtures/runs_query`
#![no_main]

use libfuzzer_sys::fuzz_target;
use midwatch::http::RunsQuery;

fuzz_target!(|query: &str| {
    match RunsQuery::parse(query) {
        Ok(read) => {
            let values = [&read.probe, &read.kind, &read.target];
            assert!(values.into_iter().flatten().all(|value| (1..=512).contains(&value.len())));
        }
        Err(problem) => {
            assert!(!problem.chars().any(char::is_control));
            assert!(problem.chars().count() <= 1_000);
        }
    }
});
