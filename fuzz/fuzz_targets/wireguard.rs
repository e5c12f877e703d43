//! What a WireGuard server sends, and what comes through its tunnel.
//!
//! `cargo +nightly fuzz run wireguard fuzz/corpus/wireguard tests/fixtures/wireguard`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::vpn_fuzz::wireguard(bytes);
});
