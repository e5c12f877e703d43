//! A `.prom` file that a script left.
//!
//! `cargo +nightly fuzz run textfile fuzz/corpus/textfile tests/fixtures/textfile`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::backup_fuzz::textfile(bytes);
});
