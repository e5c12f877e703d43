//! An answer of an AnyConnect server, or of an SSTP server.
//!
//! `cargo +nightly fuzz run tls_vpn_answer fuzz/corpus/tls_vpn_answer tests/fixtures/tls_vpn_answer`
#![no_main]

use libfuzzer_sys::fuzz_target;
use midwatch::probe::Reason;

fuzz_target!(|bytes: &[u8]| {
    if let Err(failure) = midwatch::probe::vpn_fuzz::tls_vpn(bytes) {
        assert!(matches!(failure.reason, Reason::Protocol | Reason::Mismatch | Reason::Closed));
        assert!(failure.detail.chars().count() <= 300);
    }
});
