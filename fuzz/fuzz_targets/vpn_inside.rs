//! What a name server or a web server inside a tunnel answers.
//!
//! `cargo +nightly fuzz run vpn_inside fuzz/corpus/vpn_inside tests/fixtures/vpn_inside`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::vpn_fuzz::inside(bytes);
});
