//! What the fuzzer found, and the fixtures it starts from, through the entries of `fuzz/`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::duplicate_mod, reason = "two entries share a file; a fuzz target has one entry alone")]

mod common;

use std::path::Path;

#[path = "../../../fuzz/entries"]
mod entries {
    pub(crate) mod cifar_binary;
    pub(crate) mod cifar_pickle;
    pub(crate) mod decode;
    pub(crate) mod idx;
    pub(crate) mod packed;
    pub(crate) mod tables;
    pub(crate) mod tar;
    pub(crate) mod tar_gz;
    pub(crate) mod transforms;
    pub(crate) mod webdataset;
}

/// Name of the target, its entry, and folders of fixtures under `parity/goldens` that are seeds as well.
type Target = (&'static str, fn(&[u8]), &'static [&'static str]);

const TARGETS: &[Target] = &[
    ("cifar_binary", entries::cifar_binary::run, &[]),
    ("cifar_pickle", entries::cifar_pickle::run, &["binary"]),
    ("decode", entries::decode::run, &["images/files"]),
    ("idx", entries::idx::run, &[]),
    ("packed", entries::packed::run, &[]),
    ("tables", entries::tables::run, &[]),
    ("tar", entries::tar::run, &["binary"]),
    ("tar_gz", entries::tar_gz::run, &["binary"]),
    ("transforms", entries::transforms::run, &[]),
    ("webdataset", entries::webdataset::run, &["binary"]),
];

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
        let corpus = files(&fuzz().join("corpus").join(name));
        assert!(!corpus.is_empty(), "{name}: no files");
        for path in corpus.into_iter().chain(seeds.iter().flat_map(|seeds| files(&common::goldens().join("..").join(seeds)))) {
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
