//! Bad files, panics, slow and dying workers, and consumers that leave early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use timburn_core::error::{DataError, ImageError, ImageFault};
use timburn_core::seed::Draws;
use timburn_core::{Classes, Error, Result};
use timburn_data::loader::{BadFile, BadFiles, Batch, Sampling, append_bad_files};
use timburn_data::{Content, Dataset, Loader, LoaderOptions, Rgb8Image};

use super::{Pictures, all, augment, indices, loader, quiet};

/// Fails the test instead of hanging it.
fn within<T: Send + 'static>(seconds: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(seconds)).expect("it hangs, or it panicked")
}

fn bad(index: usize) -> Error {
    ImageError { name: format!("picture-{index}"), fault: ImageFault::Empty }.into()
}

fn options(workers: usize) -> LoaderOptions {
    LoaderOptions { batch_size: 8, workers, sampling: Sampling::Sequential, ..Default::default() }
}

/// Good batches, then the error; `None` if there was none.
fn outcome(loader: &Loader) -> (Vec<Batch>, Option<Error>) {
    let mut epoch = loader.epoch(0);
    let mut batches = Vec::new();
    while let Some(batch) = epoch.next() {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(error) => {
                assert!(epoch.next().is_none(), "nothing comes after an error");
                return (batches, Some(error));
            }
        }
    }
    assert_eq!(batches.len(), loader.batches());
    (batches, None)
}

#[test]
fn bad_files_leave_their_batch_and_are_named() {
    for workers in [1, 2, 8] {
        let dataset = Pictures::dataset(50, |index| if [0, 9, 15, 49].contains(&index) { Err(bad(index)) } else { Ok(()) });
        let loader = loader(dataset, LoaderOptions { bad_files: BadFiles::Skip { share: 0.1 }, ..options(workers) });
        let mut epoch = loader.epoch(0);
        let batches: Vec<Batch> = epoch.by_ref().map(|batch| batch.unwrap()).collect();
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [7, 6, 8, 8, 8, 8, 1]);
        assert_eq!(indices(&batches), (0..50).filter(|index| ![0, 9, 15, 49].contains(index)).collect::<Vec<_>>());
        let found: Vec<&BadFile> = batches.iter().flat_map(|batch| &batch.bad).collect();
        assert_eq!(found.iter().map(|bad| bad.index).collect::<Vec<_>>(), [0, 9, 15, 49]);
        assert_eq!((found[1].name.as_str(), found[1].reason.as_str()), ("picture-9", "picture-9: the file is empty"));
        assert_eq!((epoch.bad(), loader.bad_files()), (4, 4));
        // The pictures that stay are the ones they would have been, at the places of the good.
        let good = all(super::loader(quiet(50), options(1)).epoch(0));
        for (batch, whole) in batches.iter().zip(&good) {
            let expected: Vec<&[u8]> = whole
                .pixels
                .chunks(48)
                .zip(&whole.indices)
                .filter(|(_, index)| batch.indices.contains(index))
                .map(|(pixels, _)| pixels)
                .collect();
            assert_eq!(batch.pixels.chunks(48).collect::<Vec<_>>(), expected);
            assert!(batch.labels.iter().zip(&batch.indices).all(|(label, index)| *label == index % 3));
        }
    }
}

/// Photographs as files hold them, one of them cut short.
struct Cut(Classes);

impl Dataset for Cut {
    fn classes(&self) -> &Classes {
        &self.0
    }
    fn len(&self) -> usize {
        9
    }
    fn label(&self, _: usize) -> usize {
        0
    }
    fn name(&self, index: usize) -> String {
        format!("cats/{index}.jpg")
    }
    fn read(&self, index: usize) -> Result<Content> {
        let whole = timburn_data::sample_photograph();
        Ok(Content::Encoded(whole[..if index == 4 { whole.len() / 2 } else { whole.len() }].to_vec()))
    }
}

#[test]
fn a_photograph_cut_short_is_never_a_gray_one() {
    for cache_bytes in [0, usize::MAX] {
        let with = |bad_files| {
            let spec = timburn_core::Preprocessing::torchvision(32, 40);
            let options = LoaderOptions { batch_size: 4, bad_files, cache_bytes, ..options(2) };
            Loader::new(Arc::new(Cut(Classes::numbered(2))), Arc::new(spec), options).unwrap()
        };
        let skipping = with(BadFiles::default());
        for _ in 0..2 {
            let (batches, error) = outcome(&skipping);
            assert!(error.is_none());
            assert_eq!(indices(&batches), [0, 1, 2, 3, 5, 6, 7, 8]);
            assert!(
                batches.iter().flat_map(|batch| batch.pixels.chunks(32 * 32 * 3)).all(|pixels| *pixels == batches[0].pixels[..32 * 32 * 3])
            );
            assert!(batches[1].bad[0].reason.starts_with("cats/4.jpg: truncated JPEG"), "{:?}", batches[1].bad);
        }
        assert_eq!(skipping.bad_files(), 2);
        let (batches, error) = outcome(&with(BadFiles::Error));
        assert_eq!(batches.len(), 1);
        assert!(error.unwrap().to_string().starts_with("cats/4.jpg: truncated JPEG"));
    }
}

#[test]
fn a_batch_of_bad_files_is_empty_and_not_missing() {
    let dataset = Pictures::dataset(24, |index| if (8..16).contains(&index) { Err(bad(index)) } else { Ok(()) });
    let loader = loader(dataset, LoaderOptions { bad_files: BadFiles::Skip { share: 1.0 }, ..options(2) });
    let batches = all(loader.epoch(0));
    assert_eq!(batches.iter().map(|batch| (batch.len(), batch.bad.len())).collect::<Vec<_>>(), [(8, 0), (0, 8), (8, 0)]);
    assert!(batches[1].is_empty() && batches[1].pixels.is_empty());
}

#[test]
fn the_cap_is_exact() {
    // One bad file is always allowed, unless none is.
    for (len, share, allowed) in [(2000, 0.001, 2), (40, 0.001, 1), (40, 0.0, 0), (40, 0.1, 4), (1999, 0.001, 1)] {
        let policy = BadFiles::Skip { share };
        assert_eq!(policy.allowed(len), allowed);
        for count in [allowed, allowed + 1] {
            let dataset = Pictures::dataset(len, move |index| if index % 8 == 3 && index / 8 < count { Err(bad(index)) } else { Ok(()) });
            let loader = loader(dataset, LoaderOptions { bad_files: policy, ..options(3) });
            let (batches, error) = outcome(&loader);
            if count == allowed {
                assert!(error.is_none(), "{error:?}");
                assert_eq!(loader.bad_files(), count);
                continue;
            }
            let Some(Error::Data(DataError::TooManyBadFiles { bad, seen, allowed: cap, first })) = error else { panic!("{error:?}") };
            assert_eq!((bad, seen, cap), (count, count * 8, allowed));
            assert_eq!((first.as_str(), batches.len()), ("picture-3: the file is empty", count - 1));
        }
    }
}

#[test]
fn the_strict_policy_stops_at_the_first() {
    for workers in [1, 2, 8] {
        let dataset = Pictures::dataset(50, |index| if index == 21 || index == 19 { Err(bad(index)) } else { Ok(()) });
        let (batches, error) = outcome(&loader(dataset, LoaderOptions { bad_files: BadFiles::Error, ..options(workers) }));
        assert_eq!(indices(&batches), (0..16).collect::<Vec<_>>());
        assert_eq!(error.unwrap().to_string(), "picture-19: the file is empty");
    }
}

#[test]
fn a_panic_is_an_error_that_names_the_sample() {
    for workers in [1, 2, 8] {
        let in_read = Pictures::dataset(50, |index| if index == 30 { panic!("no such luck") } else { Ok(()) });
        let (batches, error) = within(20, move || outcome(&loader(in_read, options(workers))));
        assert_eq!(batches.len(), 3);
        let Some(Error::Data(DataError::Worker { name, reason })) = error else { panic!("{error:?}") };
        assert_eq!((name.as_str(), reason.as_str()), ("picture-30", "no such luck"));
    }
    let in_prepare = |image: Rgb8Image, _: &mut Draws| -> Result<Rgb8Image> {
        let first = image.pixels[0];
        assert!(first != 13 * 5, "out of range");
        Ok(image)
    };
    let loader = Loader::new(quiet(50), Arc::new(in_prepare), options(2)).unwrap();
    let (batches, error) = within(20, move || outcome(&loader));
    assert!(batches.is_empty());
    assert_eq!(error.unwrap().to_string(), "preparing sample picture-5 failed: out of range");
}

/// A panic's payload that panics again when it is dropped: it gets past any `catch_unwind` and kills its thread.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the thread dies");
        }
    }
}

#[test]
fn a_thread_that_dies_is_an_error_after_all_that_came_before() {
    for workers in [1, 2, 8] {
        for dying in [vec![30], vec![30, 31, 40, 47], (0..50).collect()] {
            let first = dying[0];
            let dataset = Pictures::dataset(50, move |index| {
                if dying.contains(&index) {
                    std::panic::panic_any(Bomb);
                }
                Ok(())
            });
            let (batches, error) = within(20, move || outcome(&loader(dataset, options(workers))));
            assert_eq!(indices(&batches), (0..first / 8 * 8).collect::<Vec<_>>());
            assert!(matches!(error, Some(Error::Data(DataError::Worker { .. }))), "{error:?}");
            assert!(error.unwrap().to_string().contains("worker thread died"));
        }
    }
}

#[test]
fn slow_samples_are_waited_for() {
    let dataset = Pictures::dataset(40, |index| {
        // The first of each batch is by far the last to be ready.
        std::thread::sleep(Duration::from_millis(if index % 8 == 0 { 150 } else { index as u64 % 3 }));
        Ok(())
    });
    let quick = all(loader(quiet(40), options(1)).epoch(0));
    let loader = loader(dataset, options(8));
    let mut epoch = loader.epoch(0);
    let start = Instant::now();
    let batches: Vec<Batch> = epoch.by_ref().map(|batch| batch.unwrap()).collect();
    assert_eq!(batches, quick);
    let waited = epoch.waited();
    assert!(waited >= Duration::from_millis(50) && waited <= start.elapsed(), "{waited:?}");
}

#[test]
fn the_wait_of_a_slow_consumer_is_short() {
    let start = Instant::now();
    let mut epoch = loader(quiet(80), options(2)).epoch(0);
    let mut count = 0;
    for batch in epoch.by_ref() {
        batch.unwrap();
        count += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count, 10);
    assert!(2 * epoch.waited() < start.elapsed(), "{:?}", epoch.waited());
}

#[test]
fn workers_stay_within_their_window() {
    for (workers, batch_size, prefetch) in [(2usize, 8, 2), (8, 1, 0), (3, 4, 0), (4, 2, 3)] {
        let reads = Arc::new(AtomicUsize::new(0));
        let counter = reads.clone();
        let dataset = Pictures::dataset(200, move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let window = prefetch + workers.div_ceil(batch_size);
        let mut epoch = loader(dataset, LoaderOptions { workers, batch_size, prefetch, ..options(1) }).epoch(0);
        for taken in 0..5 {
            // Until the workers have gone as far as they may.
            let expected = (taken + window) * batch_size;
            let start = Instant::now();
            while reads.load(Ordering::SeqCst) < expected && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(reads.load(Ordering::SeqCst), expected, "{workers} workers, {batch_size} samples, {prefetch} ahead");
            epoch.next().unwrap().unwrap();
        }
    }
}

#[test]
fn leaving_early_stops_the_workers() {
    let alive = Arc::new(AtomicUsize::new(0));
    for taken in 0..4 {
        let reads = alive.clone();
        let dataset = Pictures::dataset(1000, move |_| {
            reads.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        });
        let handle = Arc::downgrade(&dataset);
        let elapsed = within(20, move || {
            let loader = loader(dataset, options(4));
            let mut epoch = loader.epoch(0);
            epoch.by_ref().take(taken).for_each(|batch| drop(batch.unwrap()));
            let start = Instant::now();
            drop(epoch);
            drop(loader);
            start.elapsed()
        });
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
        assert!(handle.upgrade().is_none(), "threads that are joined hold nothing");
        let reads = alive.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(alive.load(Ordering::SeqCst), reads, "nobody reads any more");
    }
}

#[test]
fn pictures_of_several_sizes_are_refused_alike() {
    let odd = |image: Rgb8Image, _: &mut Draws| {
        let width = if image.pixels[0] == 13 * 11 { 3 } else { 4 };
        Ok(image.crop(timburn_data::Region { left: 0, top: 0, width, height: 4 }))
    };
    for workers in [1, 8] {
        let (batches, error) = outcome(&Loader::new(quiet(50), Arc::new(odd), options(workers)).unwrap());
        assert_eq!(batches.len(), 1);
        let text = error.unwrap().to_string();
        assert!(text.contains("3×4 pixels for sample 11") && text.contains("4×4 like the first"), "{text}");
    }
    let lying = |_: Rgb8Image, _: &mut Draws| Ok(Rgb8Image { width: 1 << 40, height: 1 << 40, pixels: vec![0; 3] });
    let empty = |_: Rgb8Image, _: &mut Draws| Ok(Rgb8Image { width: 0, height: 7, pixels: vec![] });
    for loader in
        [Loader::new(quiet(50), Arc::new(lying), options(2)).unwrap(), Loader::new(quiet(50), Arc::new(empty), options(2)).unwrap()]
    {
        assert!(matches!(outcome(&loader), (batches, Some(Error::Argument { .. })) if batches.is_empty()));
    }
}

#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn a_batch_beyond_memory_is_an_error() {
    // 4 GB that nobody writes to cost nothing; 36,000 of them are beyond the address space.
    let large = |_: Rgb8Image, _: &mut Draws| {
        let (width, height) = (36_000, 36_000);
        Ok(Rgb8Image { width, height, pixels: vec![0; width * height * 3] })
    };
    let options = LoaderOptions { batch_size: 36_000, ..options(2) };
    let (batches, error) = outcome(&Loader::new(quiet(36_000), Arc::new(large), options).unwrap());
    assert!(batches.is_empty());
    assert!(matches!(error, Some(Error::Argument { name: "batch_size", .. })), "{error:?}");
}

#[test]
fn an_error_that_is_no_samples_fault_is_never_skipped() {
    let wrong = |_: Rgb8Image, _: &mut Draws| Err(Error::Argument { name: "crop", value: "0".into(), expected: "1".into() });
    let loader = Loader::new(quiet(50), Arc::new(wrong), LoaderOptions { bad_files: BadFiles::Skip { share: 1.0 }, ..options(2) }).unwrap();
    assert!(matches!(outcome(&loader), (_, Some(Error::Argument { name: "crop", .. }))));
}

#[test]
fn bad_files_become_lines_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad_files.jsonl");
    append_bad_files(&path, 0, &[]).unwrap();
    assert!(!path.exists());
    let file = |index| BadFile { index, name: format!("a \"{index}\"\n.jpg"), reason: "truncated JPEG: \\".into() };
    append_bad_files(&path, 3, &[file(1), file(2)]).unwrap();
    append_bad_files(&path, 4, &[file(5)]).unwrap();
    let lines: Vec<serde_json::Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2], serde_json::json!({"path": "a \"5\"\n.jpg", "reason": "truncated JPEG: \\", "epoch": 4}));
    assert!(matches!(append_bad_files(folder.path(), 0, &[file(1)]), Err(Error::Io { .. })));
}

#[test]
fn epochs_of_one_loader_may_overlap() {
    let loader = Loader::new(quiet(50), Arc::new(augment), options(2)).unwrap();
    let (mut a, mut b) = (loader.epoch(0), loader.epoch(0));
    while let (Some(x), Some(y)) = (a.next(), b.next()) {
        assert_eq!(x.unwrap(), y.unwrap());
    }
}
