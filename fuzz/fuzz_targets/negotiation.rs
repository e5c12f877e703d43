//! A client's headers `Accept` and `Accept-Encoding`, a line each.
//!
//! `cargo +nightly fuzz run negotiation fuzz/corpus/negotiation tests/fixtures/negotiation`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::http::fuzz::negotiation(bytes);
});
