//! What the fuzzer found, and the fixtures it starts from, through the entries of `fuzz/`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

#[path = "../../../fuzz/entries/decode.rs"]
mod decode;

/// Name of the target, its entry, and a folder of seeds under `parity/goldens`.
type Target = (&'static str, fn(&[u8]), &'static str);

const TARGETS: &[Target] = &[("decode", decode::run, "images/files")];

fn fuzz() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_file_of_the_corpora_passes() {
    for &(name, entry, seeds) in TARGETS {
        let files = [files(&fuzz().join("corpus").join(name)), files(&common::goldens().join("..").join(seeds))].concat();
        assert!(!files.is_empty(), "{name}: no files");
        for path in files {
            // Says which file it was; the panic's own message says what.
            let bytes = std::fs::read(&path).unwrap();
            if std::panic::catch_unwind(|| entry(&bytes)).is_err() {
                panic!("{name}: {}", path.display());
            }
        }
    }
}

#[test]
fn every_corpus_and_every_target_is_replayed() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.0.to_owned()).collect();
    for path in files(&fuzz().join("corpus")) {
        assert!(names.contains(&path.file_name().unwrap().to_string_lossy().into_owned()), "{}", path.display());
    }
    for path in files(&fuzz().join("fuzz_targets")) {
        assert!(names.contains(&path.file_stem().unwrap().to_string_lossy().into_owned()), "{}", path.display());
    }
}
