//! A peer's answer to `hello`: framing, BSON, fields.
//!
//! `cargo +nightly fuzz run op_msg fuzz/corpus/op_msg tests/fixtures/op_msg`
#![no_main]

use libfuzzer_sys::fuzz_target;
use midwatch::probe::Reason;

fuzz_target!(|bytes: &[u8]| {
    match midwatch::probe::mongodb_fuzz::op_msg(bytes) {
        Ok(hello) => assert!(hello.hosts.len() <= 100 && hello.hosts.iter().all(|host| host.len() <= 261)),
        Err(failure) => {
            assert_ne!(failure.reason, Reason::Internal);
            assert!(failure.detail.chars().count() <= 300);
        }
    }
});
