//! The packed form: written, read, damaged.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use timburn_core::error::DataError;
use timburn_core::preprocessing::Interpolation;
use timburn_core::{Classes, Error, Result};
use timburn_data::loader::{BadFiles, Sampling};
use timburn_data::packed::{PackOptions, PackSize};
use timburn_data::{Content, Dataset, DynDataset, LoaderOptions, Packed, Rgb8Image, resize};

use super::{Pictures, all, loader, picture, quiet};

/// Pictures of all sizes, with odd names.
struct Sizes(Classes);

fn sized(index: usize) -> Rgb8Image {
    let (width, height) = (1 + index * 5 % 17, 1 + index * 3 % 11);
    Rgb8Image::new(width, height, (0..width * height * 3).map(|i| (i * 11 + index) as u8).collect()).unwrap()
}

impl Dataset for Sizes {
    fn classes(&self) -> &Classes {
        &self.0
    }
    fn len(&self) -> usize {
        12
    }
    fn label(&self, index: usize) -> usize {
        index % 2
    }
    fn name(&self, index: usize) -> String {
        ["", "größe/ß.jpg", "a b\n.png", "雪"][index % 4].repeat(index)
    }
    fn read(&self, index: usize) -> Result<Content> {
        Ok(Content::Pixels(sized(index)))
    }
}

fn sizes() -> DynDataset {
    Arc::new(Sizes(Classes { names: vec!["yes".into(), "no".into()], ids: vec!["n1".into(), "n2".into()] }))
}

fn pixels(dataset: &dyn Dataset, index: usize) -> Rgb8Image {
    match dataset.read(index).unwrap() {
        Content::Pixels(image) => image,
        Content::Encoded(_) => panic!("packed pictures are decoded"),
    }
}

fn folder_names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_packed_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sizes.pack");
    let mut bytes = Vec::new();
    for workers in [1, 4] {
        let mut calls = Vec::new();
        let options = PackOptions { workers, ..PackOptions::default() };
        let report = Packed::write(&sizes(), &options, &path, |done, of| calls.push((done, of))).unwrap();
        assert_eq!((report.written, report.bad.len()), (12, 0));
        assert_eq!(report.bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!(calls, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
        bytes.push(std::fs::read(&path).unwrap());
    }
    assert_eq!(bytes[0], bytes[1], "the file does not depend on the threads");
    assert_eq!(folder_names(folder.path()), ["sizes.pack"]);
    let packed = Packed::open(&path).unwrap();
    let original = sizes();
    assert_eq!((packed.len(), packed.classes()), (12, original.classes()));
    for index in 0..12 {
        assert_eq!(pixels(&packed, index), sized(index));
        assert_eq!((packed.name(index), packed.label(index)), (original.name(index), original.label(index)));
    }
    assert!(matches!(packed.read(12), Err(Error::Argument { .. })));
    assert_eq!((packed.name(usize::MAX), packed.label(99)), (String::new(), 0));
}

#[test]
fn pictures_are_resized_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let write = |size| {
        Packed::write(&quiet(3), &PackOptions { size, ..PackOptions::default() }, &path, |_, _| {})?;
        Packed::open(&path)
    };
    // The pictures are 6×5.
    for (size, width, height) in [
        (PackSize::ShorterSide(3), 3, 3),
        (PackSize::ShorterSide(4), 4, 4),
        (PackSize::ShorterSide(8), 6, 5),
        (PackSize::Exact { width: 9, height: 2 }, 9, 2),
        (PackSize::Original, 6, 5),
    ] {
        let packed = write(size).unwrap();
        for index in 0..3 {
            assert_eq!(pixels(&packed, index), resize(&picture(index), width, height, Interpolation::Bicubic), "{size:?}");
        }
    }
    for size in [PackSize::ShorterSide(0), PackSize::Exact { width: 0, height: 5 }, PackSize::Exact { width: 5, height: 1 << 40 }] {
        assert!(matches!(write(size), Err(Error::Argument { .. })));
    }
}

#[test]
fn a_loader_makes_the_same_batches_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    Packed::write(&quiet(40), &PackOptions::default(), &path, |_, _| {}).unwrap();
    let packed: DynDataset = Arc::new(Packed::open(&path).unwrap());
    let options = || LoaderOptions { batch_size: 7, workers: 3, seed: 8, ..Default::default() };
    assert_eq!(all(loader(packed, options()).epoch(2)), all(loader(quiet(40), options()).epoch(2)));
}

#[test]
fn bad_files_are_left_out_and_failures_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let broken = |index: usize| {
        let error = || Error::Data(DataError::Unrecognised { path: "x".into(), expected: "luck".into() });
        if index == 2 { Err(error()) } else { Ok(()) }
    };
    let report = Packed::write(&Pictures::dataset(5, broken), &PackOptions::default(), &path, |_, _| {}).unwrap();
    assert_eq!((report.written, report.bad[0].index, report.bad.len()), (4, 2, 1));
    let packed = Packed::open(&path).unwrap();
    assert_eq!((0..4).map(|index| packed.name(index)).collect::<Vec<_>>(), ["picture-0", "picture-1", "picture-3", "picture-4"]);
    // A failure leaves the old file and nothing else.
    let before = std::fs::read(&path).unwrap();
    let strict = PackOptions { bad_files: BadFiles::Error, ..PackOptions::default() };
    assert!(Packed::write(&Pictures::dataset(5, broken), &strict, &path, |_, _| {}).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(folder_names(folder.path()), ["x"]);
    let nowhere = folder.path().join("no/such/folder");
    assert!(matches!(Packed::write(&quiet(5), &PackOptions::default(), nowhere, |_, _| {}), Err(Error::Io { .. })));
    assert!(matches!(Packed::open(folder.path().join("nothing")), Err(Error::Io { .. })));
}

/// Every picture, or the first error.
fn read_all(path: &Path) -> Result<Vec<Rgb8Image>> {
    let packed = Packed::open(path)?;
    let read = |index| packed.read(index)?.decode("", &timburn_data::DecodeOptions::default());
    (0..packed.len()).map(read).collect()
}

#[test]
fn every_prefix_and_every_flipped_byte_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    Packed::write(&sizes(), &PackOptions::default(), &path, |_, _| {}).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert!(read_all(&path).is_ok());
    // Changed in place: replacing a file anew each time makes some file systems wait for the disk.
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, &whole).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
    let mut put = |position: usize, bytes: &[u8]| {
        file.seek(SeekFrom::Start(position as u64)).unwrap();
        file.write_all(bytes).unwrap();
    };
    let check = |what: &str| {
        let error = read_all(&damaged).expect_err(what);
        assert!(matches!(error, Error::Data(DataError::Malformed { .. })), "{what}: {error:?}");
        assert!(error.to_string().contains("damaged"), "{error}");
    };
    for (position, byte) in whole.iter().enumerate() {
        put(position, &[byte ^ (1 << (position % 8))]);
        check(&format!("byte {position} flipped"));
        put(position, &[*byte]);
    }
    assert!(read_all(&damaged).is_ok());
    put(whole.len(), &[0]);
    check("one byte too many");
    let file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
    for length in (0..whole.len()).rev() {
        file.set_len(length as u64).unwrap();
        check(&format!("{length} bytes"));
    }
}

/// A file whose hash is right and whose numbers are not.
#[test]
fn lying_headers_and_indices_are_errors_with_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    Packed::write(&sizes(), &PackOptions::default(), &path, |_, _| {}).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let pictures = u64::from_le_bytes(whole[24..32].try_into().unwrap()) as usize;
    let tail = 88 + pictures;
    let classes = u64::from_le_bytes(whole[32..40].try_into().unwrap()) as usize;
    let lie = |bytes: &mut Vec<u8>| {
        let hash = Sha256::new().chain_update(&bytes[..56]).chain_update(bytes.get(tail..).unwrap_or_default()).finalize();
        bytes[56..88].copy_from_slice(&hash);
        std::fs::write(&path, &bytes).unwrap();
    };
    let mut refused = 0;
    // Every number of the header and of the index, replaced by extreme ones.
    let header = (8..56).step_by(8).map(|at| (at, 8));
    let index = (tail + classes..tail + classes + 12 * 20).step_by(4).map(|at| (at, 4));
    for (at, width) in header.chain(index) {
        for value in [0u64, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX, 1 << 62, 0x8000_0000] {
            let mut bytes = whole.clone();
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            let same = bytes == whole;
            lie(&mut bytes);
            match read_all(&path) {
                Err(error) => {
                    assert!(matches!(error, Error::Data(DataError::Malformed { .. })), "{error:?}");
                    refused += 1;
                }
                // Labels may be any of the classes'.
                Ok(_) => assert!(same || (at - tail - classes) % 20 == 8, "byte {at} = {value}"),
            }
        }
    }
    assert!(refused > 400, "{refused}");
    // Text that is no text, in classes and names.
    for at in [tail, tail + 5, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] = 0xFF;
        lie(&mut bytes);
        assert!(matches!(Packed::open(&path), Err(Error::Data(DataError::Malformed { .. }))));
    }
}

#[test]
#[cfg(unix)]
fn a_file_cut_short_in_use_is_an_error_and_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    Packed::write(&quiet(40), &PackOptions::default(), &path, |_, _| {}).unwrap();
    let packed: DynDataset = Arc::new(Packed::open(&path).unwrap());
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(88 + 90 * 20).unwrap();
    assert!(packed.read(19).is_ok());
    let error = packed.read(20).unwrap_err();
    assert!(matches!(&error, Error::Io { path: found, .. } if *found == path), "{error}");
    let seen = AtomicUsize::new(0);
    let options = LoaderOptions { batch_size: 10, sampling: Sampling::Sequential, bad_files: BadFiles::Error, ..Default::default() };
    let last = loader(packed, options).epoch(0).inspect(|_| _ = seen.fetch_add(1, Ordering::Relaxed)).last().unwrap();
    assert!(last.is_err() && seen.load(Ordering::Relaxed) == 3);
}

#[test]
fn a_stop_and_a_kill_leave_nothing_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.pack");
    let stopped = Packed::write_until(&quiet(40), &PackOptions::default(), &path, |done, _| {
        assert!(done <= 3, "it goes on");
        if done == 3 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Train(timburn_core::error::TrainError::Interrupted))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // As a killed process leaves it, and as a living one keeps it; the third is somebody's own.
    for name in ["train.pack.4000000001.partial", "train.pack.4000000002.partial", "train.pack.mine.partial"] {
        std::fs::write(folder.path().join(name), "half").unwrap();
    }
    let living = std::fs::OpenOptions::new().write(true).open(folder.path().join("train.pack.4000000002.partial")).unwrap();
    living.lock().unwrap();
    Packed::write(&quiet(4), &PackOptions::default(), &path, |_, _| {}).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["train.pack", "train.pack.4000000002.partial", "train.pack.mine.partial"]);
}
