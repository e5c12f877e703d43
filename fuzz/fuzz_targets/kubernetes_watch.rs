//! Lines of a watch, as an API server of Kubernetes tells them.
//!
//! `cargo +nightly fuzz run kubernetes_watch fuzz/corpus/kubernetes_watch tests/fixtures/kubernetes_watch`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    midwatch::probe::kubernetes_fuzz::watch(bytes);
});
