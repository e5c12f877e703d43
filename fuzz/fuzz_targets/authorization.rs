//! A client's header `Authorization`.
//!
//! `cargo +nightly fuzz run authorization fuzz/corpus/authorization tests/fixtures/authorization`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::http::fuzz::authorization(bytes);
});
