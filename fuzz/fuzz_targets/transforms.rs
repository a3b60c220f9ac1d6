//! See `entries/transforms.rs`.
#![no_main]

#[path = "../entries/transforms.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
