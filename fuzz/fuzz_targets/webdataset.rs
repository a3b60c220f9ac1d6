//! See `entries/webdataset.rs`.
#![no_main]

#[path = "../entries/webdataset.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
