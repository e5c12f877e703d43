//! A server's messages in a SCRAM login.
//!
//! `cargo +nightly fuzz run scram fuzz/corpus/scram tests/fixtures/scram`
#![no_main]

use libfuzzer_sys::fuzz_target;
use midwatch::probe::Reason;

fuzz_target!(|bytes: &[u8]| {
    if let Err(failure) = midwatch::probe::mongodb_fuzz::scram(bytes) {
        assert!(matches!(failure.reason, Reason::Auth | Reason::Protocol));
        assert!(failure.detail.chars().count() <= 300);
    }
});
