//! See `entries/packed.rs`.
#![no_main]

#[path = "../entries/packed.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
