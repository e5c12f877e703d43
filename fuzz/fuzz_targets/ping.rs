//! A message about a backup: path, query and body.
//!
//! `cargo +nightly fuzz run ping fuzz/corpus/ping tests/fixtures/ping`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::backup_fuzz::ping(bytes);
});
