//! An answer of a server of buckets: a page of a listing, or an error.
//!
//! `cargo +nightly fuzz run s3_answer fuzz/corpus/s3_answer tests/fixtures/s3_answer`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(objects) = midwatch::probe::backup_fuzz::s3_answer(bytes) {
        assert!(objects <= 10_000 && objects * 10 <= bytes.len());
    }
});
