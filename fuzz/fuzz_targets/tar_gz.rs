//! See `entries/tar_gz.rs`.
#![no_main]

#[path = "../entries/tar_gz.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
