//! See `entries/cifar_binary.rs`.
#![no_main]

#[path = "../entries/cifar_binary.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
