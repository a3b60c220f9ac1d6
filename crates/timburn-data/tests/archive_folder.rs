//! Class folders inside archives, read in place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};

use timburn_core::Error;
use timburn_core::error::DataError;
use timburn_data::dataset::ArchiveFolder;
use timburn_data::{Content, Dataset, DecodeOptions, FolderOptions, open};

const CAT: &[u8] = include_bytes!("../assets/chelsea.jpg");

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn splits_and_classes_are_found_below_single_folders_plain_and_gzipped() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = tar(&[
        ("./set/train/b/2.jpg", CAT),
        ("./set/train/a/1.jpg", CAT),
        ("./set/train/a/deep/3.JPEG", b"not a picture"),
        ("./set/train/a/._1.jpg", b"hidden"),
        ("./set/train/readme.txt", b"no picture"),
        ("./set/val/b/4.png", CAT),
    ]);
    for path in [
        write(folder.path(), "set.tar", &bytes),
        write(folder.path(), "set.tar.gz", &gzip(&bytes)),
        write(folder.path(), "set.tgz", &gzip(&bytes)),
    ] {
        let splits = open(&path).unwrap();
        assert_eq!(splits.classes().names, ["a", "b"]);
        let train = &splits.train;
        let named = |name: &str| format!("{}:set/{name}", path.display());
        assert_eq!(
            (0..train.len()).map(|index| train.name(index)).collect::<Vec<_>>(),
            [named("train/a/1.jpg"), named("train/a/deep/3.JPEG"), named("train/b/2.jpg")]
        );
        assert_eq!((0..3).map(|index| train.label(index)).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(train.read(0).unwrap(), Content::Encoded(CAT.to_vec()));
        assert_eq!(train.read(1).unwrap(), Content::Encoded(b"not a picture".to_vec()));
        let validation = splits.validation.unwrap();
        assert_eq!((validation.len(), validation.label(0), splits.test.is_none()), (1, 1, true));
        assert!(validation.read(0).unwrap().decode("x", &DecodeOptions::default()).is_ok());
        assert!(matches!(train.read(3), Err(Error::Argument { .. })));
        assert_eq!(train.label(3), 0);
    }
}

#[test]
fn other_archives_are_left_to_others_and_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = FolderOptions::default();
    let open = |name: &str, bytes: &[u8]| ArchiveFolder::open(write(folder.path(), name, bytes), &options);
    // Shards, loose pictures, no pictures at all.
    for members in [&[("0001.jpg", CAT), ("0001.cls", b"0")][..], &[("1.jpg", CAT), ("a/2.jpg", CAT)], &[("a/notes.txt", b"x")]] {
        assert!(open("other.tar", &tar(members)).unwrap().is_none());
        assert!(open("other.tar.gz", &gzip(&tar(members))).unwrap().is_none());
    }
    let one = open("one.tar", &tar(&[("train/a/1.jpg", CAT)]));
    assert!(matches!(one, Err(Error::Data(DataError::OneClass { .. }))));
    let unknown = open("unknown.tar", &tar(&[("train/a/1.jpg", CAT), ("train/b/1.jpg", CAT), ("test/c/1.jpg", CAT)]));
    assert!(matches!(unknown, Err(Error::Data(DataError::UnknownClass { class, .. })) if class == "c"));
    let whole = gzip(&tar(&[("a/1.jpg", CAT), ("b/1.jpg", CAT)]));
    assert!(open("whole.tar.gz", &whole).unwrap().is_some());
    for cut in [whole.len() / 2, whole.len() - 1] {
        assert!(matches!(open("cut.tar.gz", &whole[..cut]), Err(Error::Data(DataError::Malformed { .. }))), "{cut}");
    }
}

/// CIFAR-10 as its users often have it: 60,000 JPEG files in one archive.
#[test]
fn the_real_archive_is_the_data_set() {
    let data =
        std::env::var_os("TIMBURN_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = data.join("cifar10-jpeg.tar.gz");
    if !path.exists() {
        // Past the harness, which swallows what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: {} is not there (set TIMBURN_DATA to the folder that has it)", path.display());
        return;
    }
    let splits = open(&path).unwrap();
    assert_eq!((splits.train.len(), splits.test.as_ref().unwrap().len()), (50_000, 10_000));
    assert_eq!(splits.classes(), &timburn_core::Classes::cifar10());
    for index in (0..50_000).step_by(997) {
        let name = splits.train.name(index);
        let image = splits.train.read(index).unwrap().decode(&name, &DecodeOptions::default()).unwrap();
        assert_eq!((image.width, image.height, splits.train.label(index)), (32, 32, index / 5000));
    }
}
