//! A Hugging Face data set that `datasets` itself wrote (`parity/parquet.py`).
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use timburn_data::dataset::{ParquetImages, ParquetOptions};
use timburn_data::{Dataset, DecodeOptions, open};

fn goldens() -> PathBuf {
    common::goldens().join("../parquet")
}

fn check(set: &dyn Dataset, split: &str) {
    for index in 0..set.len() {
        assert_eq!(set.label(index), (index * 2 + 1) % 3);
        let image = set.read(index).unwrap().decode(&set.name(index), &DecodeOptions::default()).unwrap();
        assert_eq!((image.width, image.height), (4, 3));
        assert_eq!(image.pixels, common::noise(&format!("parquet {split} {index}"), 36), "{}", set.name(index));
    }
}

#[test]
fn splits_shards_and_class_names() {
    let data = open(goldens()).unwrap();
    assert_eq!(data.classes().names, ["rose", "tulip", "daisy"]);
    assert_eq!((data.train.len(), data.test.as_ref().unwrap().len()), (9, 4));
    assert!(data.validation.is_none());
    check(&data.train, "train");
    check(&data.test.unwrap(), "test");
    assert!(data.train.name(6).ends_with("train-00001-of-00002.parquet:1"), "{}", data.train.name(6));
    assert!(data.train.read(9).is_err());
}

#[test]
fn any_order_and_any_number_of_threads_with_hardly_any_cache() {
    let options = ParquetOptions { cache_bytes: 1, ..ParquetOptions::default() };
    let set = ParquetImages::splits(goldens(), &options).unwrap().train;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let set = &set;
            scope.spawn(move || {
                for step in 0..50 {
                    let index = (step * 7 + thread * 3) % 9;
                    let image = set.read(index).unwrap().decode("", &DecodeOptions::default()).unwrap();
                    assert_eq!(image.pixels, common::noise(&format!("parquet train {index}"), 36));
                }
            });
        }
    });
}

#[test]
fn a_missing_shard_and_a_wrong_column_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let name = "train-00000-of-00002.parquet";
    let whole = std::fs::read(goldens().join("data").join(name)).unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, &whole).unwrap();
    let error = open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("expected 2 shards of a split, found 1"), "{error}");
    let options = ParquetOptions { label: Some("class".into()), ..ParquetOptions::default() };
    let error = ParquetImages::open(std::slice::from_ref(&file), &options).err().unwrap().to_string();
    assert!(error.contains("expected a column of labels"), "{error}");
    assert_eq!(open(&file).unwrap().train.len(), 5, "a shard named by itself is a data set");
}

#[test]
fn garbled_files_are_errors_and_never_panics() {
    let whole = std::fs::read(goldens().join("data/test-00000-of-00001.parquet")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.parquet");
    let read_all = |bytes: &[u8], file: &Path| {
        std::fs::write(file, bytes).unwrap();
        let set = ParquetImages::open(&[file.to_path_buf()], &ParquetOptions::default())?;
        (0..set.len()).try_for_each(|index| set.read(index).map(drop))
    };
    assert!(read_all(&whole, &file).is_ok());
    for cut in (0..whole.len()).step_by(97) {
        assert!(read_all(&whole[..cut], &file).is_err(), "cut at {cut}");
    }
    for (step, value) in (0..whole.len()).step_by(13).zip([0u8, 0xFF, 0x80, 7].into_iter().cycle()) {
        let mut garbled = whole.clone();
        garbled[step] ^= value | 1;
        let _ = read_all(&garbled, &file);
    }
}
