//! See `entries/cifar_pickle.rs`.
#![no_main]

#[path = "../entries/cifar_pickle.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
