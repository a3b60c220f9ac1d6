//! See `entries/tar.rs`.
#![no_main]

#[path = "../entries/tar.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
