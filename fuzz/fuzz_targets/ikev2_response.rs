//! A responder's answer to the first message of IKEv2.
//!
//! `cargo +nightly fuzz run ikev2_response fuzz/corpus/ikev2_response tests/fixtures/ikev2_response`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::vpn_fuzz::ikev2(bytes);
});
