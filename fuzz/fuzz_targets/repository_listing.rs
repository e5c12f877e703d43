//! What restic, Borg and pgBackRest print about a repository.
//!
//! `cargo +nightly fuzz run repository_listing fuzz/corpus/repository_listing tests/fixtures/repository_listing`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::backup_fuzz::listing(bytes);
});
