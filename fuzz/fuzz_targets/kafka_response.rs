//! A broker's answers to everything that is asked of it.
//!
//! `cargo +nightly fuzz run kafka_response fuzz/corpus/kafka_response tests/fixtures/kafka_response`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::kafka_fuzz::response(bytes);
});
