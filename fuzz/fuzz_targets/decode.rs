//! See `entries/decode.rs`.
#![no_main]

#[path = "../entries/decode.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
