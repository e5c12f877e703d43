//! A document of Percona Backup for MongoDB: every reader of one.
//!
//! `cargo +nightly fuzz run pbm_document fuzz/corpus/pbm_document tests/fixtures/pbm_document`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (runs, _) = midwatch::probe::pbm_fuzz::document(bytes);
    for run in runs {
        assert!(!run.id.is_empty() && run.id.len() <= 256 && run.note.len() <= 2048);
        assert!(run.started.is_some_and(|started| started > 0.0 && started < 1e12));
        assert!(run.phases.iter().all(|(_, seconds)| *seconds >= 0.0 && *seconds < 1e12));
        assert!(run.nodes().count() <= 64);
    }
});
