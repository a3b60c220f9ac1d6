//! See `entries/tables.rs`.
#![no_main]

#[path = "../entries/tables.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
