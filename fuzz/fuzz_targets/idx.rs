//! See `entries/idx.rs`.
#![no_main]

#[path = "../entries/idx.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
