//! A backup's manifest: a small JSON object that a script wrote.
//!
//! `cargo +nightly fuzz run manifest fuzz/corpus/manifest tests/fixtures/manifest`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::backup_fuzz::manifest(bytes);
});
