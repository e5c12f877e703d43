//! A packet of an OpenVPN server, however it is wrapped, and the beginning of a connection.
//!
//! `cargo +nightly fuzz run openvpn_packet fuzz/corpus/openvpn_packet tests/fixtures/openvpn_packet`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::vpn_fuzz::openvpn(bytes);
});
