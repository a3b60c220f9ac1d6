//! Which batches come, and that they do not depend on anything else.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use timburn_core::{Classes, Error, Preprocessing};
use timburn_data::loader::{Batch, Sampling, Shard};
use timburn_data::{Content, Dataset, DecodeOptions, DynDataset, Loader, LoaderOptions, prepare};

use super::{Pictures, all, augment, indices, loader, picture, quiet};

fn hash(batches: &[Batch]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for batch in batches {
        (&batch.pixels, batch.height, batch.width, &batch.labels, &batch.indices).hash(&mut hasher);
    }
    hasher.finish()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let weights: Arc<[f64]> = (0..53).map(f64::from).collect();
    for sampling in [Sampling::Sequential, Sampling::Shuffled, Sampling::Weighted(weights), Sampling::ClassBalanced] {
        for (batch_size, repeats, drop_last) in [(8, 1, false), (8, 3, false), (1, 1, true), (60, 1, false), (5, 2, true)] {
            let hashes: HashSet<Vec<u64>> = [1, 2, 8]
                .into_iter()
                .map(|workers| {
                    let prefetch = workers % 3;
                    let sampling = sampling.clone();
                    let options =
                        LoaderOptions { batch_size, repeats, drop_last, workers, prefetch, sampling, seed: 5, ..Default::default() };
                    let loader = loader(quiet(53), options);
                    (0..3).map(|epoch| hash(&all(loader.epoch(epoch)))).collect()
                })
                .collect();
            assert_eq!(hashes.len(), 1, "{sampling:?} {batch_size} {repeats}");
            let epochs = hashes.into_iter().next().unwrap();
            assert_eq!(epochs.iter().collect::<HashSet<_>>().len(), 3, "epochs differ");
        }
    }
}

#[test]
fn seeds_and_repeats_make_other_pictures() {
    let with = |seed| hash(&all(loader(quiet(20), LoaderOptions { seed, sampling: Sampling::Sequential, ..Default::default() }).epoch(0)));
    assert_ne!(with(1), with(2));
    // Drawn with replacement, a sample comes often; each time it is transformed anew.
    let weights = Sampling::Weighted([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].into());
    let batches = all(loader(quiet(8), LoaderOptions { sampling: weights, ..Default::default() }).epoch(0));
    assert_eq!(indices(&batches), [0; 8]);
    let pictures: HashSet<&[u8]> = batches[0].pixels.chunks(48).collect();
    assert_eq!(pictures.len(), 8);
}

#[test]
fn a_batch_holds_what_it_says() {
    let options = LoaderOptions { batch_size: 4, sampling: Sampling::Sequential, workers: 3, ..Default::default() };
    let spec = Preprocessing { input: 4, resize: 5, ..Preprocessing::cifar10() };
    let loader = Loader::new(quiet(10), Arc::new(spec.clone()), options).unwrap();
    assert_eq!((loader.batches(), loader.samples()), (3, 10));
    let batches = all(loader.epoch(9));
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(indices(&batches), (0..10).collect::<Vec<_>>());
    for batch in &batches {
        assert_eq!((batch.height, batch.width, batch.pixels.len()), (4, 4, batch.len() * 48));
        for ((pixels, &index), &label) in batch.pixels.chunks(48).zip(&batch.indices).zip(&batch.labels) {
            assert_eq!(label, index % 3);
            assert_eq!(pixels, prepare(&picture(index), &spec).pixels);
        }
    }
}

#[test]
fn an_epoch_can_be_taken_up_at_any_batch() {
    for (drop_last, repeats) in [(false, 1), (true, 1), (false, 3)] {
        let options = LoaderOptions { batch_size: 7, workers: 3, drop_last, repeats, seed: 3, ..Default::default() };
        let loader = loader(quiet(47), options);
        let whole = all(loader.epoch(4));
        assert_eq!(whole.len(), loader.batches());
        for first in 0..=loader.batches() + 1 {
            assert_eq!(all(loader.epoch_from(4, first)), whole[first.min(whole.len())..], "from {first}");
        }
    }
}

#[test]
fn shards_are_disjoint_and_even() {
    for (len, count, batch_size) in [(100, 3, 8), (96, 3, 8), (101, 4, 5), (5, 4, 1), (64, 8, 8), (17, 2, 4)] {
        for drop_last in [false, true] {
            let loaders: Vec<Loader> = (0..count)
                .map(|rank| {
                    let shard = Shard { rank, count };
                    loader(quiet(len), LoaderOptions { batch_size, shard, drop_last, workers: 2, ..Default::default() })
                })
                .collect();
            assert!(loaders.iter().all(|loader| loader.batches() == loaders[0].batches() && loader.samples() == loaders[0].samples()));
            let shards: Vec<Vec<usize>> = loaders.iter().map(|loader| indices(&all(loader.epoch(1)))).collect();
            let union: HashSet<usize> = shards.iter().flatten().copied().collect();
            let total: usize = shards.iter().map(Vec::len).sum();
            if drop_last {
                assert_eq!(union.len(), total, "no sample twice");
                assert_eq!(total, len / count / batch_size * batch_size * count);
            } else {
                assert_eq!(union.len(), len, "every sample");
                // Without the padding, exactly once.
                let real: Vec<usize> =
                    loaders.iter().zip(&shards).flat_map(|(loader, shard)| shard[..shard.len() - loader.padding()].to_vec()).collect();
                assert_eq!((real.len(), real.iter().collect::<HashSet<_>>().len()), (len, len));
            }
        }
    }
}

#[test]
fn weights_are_shares() {
    let weights: Arc<[f64]> = (0..6).map(|index| f64::from(index % 3) * 2.5).cycle().take(30_000).collect();
    let options = LoaderOptions { batch_size: 500, sampling: Sampling::Weighted(weights), ..Default::default() };
    let loader = loader(quiet(30_000), options);
    let mut counts = [0; 3];
    indices(&all(loader.epoch(0))).iter().for_each(|index| counts[index % 3] += 1);
    assert_eq!(counts[0], 0);
    assert_eq!(counts[1] + counts[2], 30_000);
    // A third and two thirds; the standard deviation is 82.
    assert!((counts[1] - 10_000i32).abs() < 400, "{counts:?}");
}

#[test]
fn classes_are_balanced_and_go_round() {
    // Classes of 90, 9 and 1 samples, and one without any.
    let labels: Vec<usize> = [(90, 0), (9, 2), (1, 3)].into_iter().flat_map(|(count, class)| std::iter::repeat_n(class, count)).collect();
    let dataset: DynDataset = Arc::new(Pictures { classes: Classes::numbered(4), labels: labels.clone(), on_read: |_| Ok(()) });
    let loader = loader(dataset, LoaderOptions { batch_size: 100, sampling: Sampling::ClassBalanced, ..Default::default() });
    for epoch in 0..5 {
        let drawn = indices(&all(loader.epoch(epoch)));
        assert_eq!(drawn.len(), 100);
        let mut counts = [0; 4];
        drawn.iter().for_each(|&index| counts[labels[index]] += 1);
        counts.sort_unstable();
        assert_eq!(counts, [0, 33, 33, 34]);
        let rare: Vec<usize> = drawn.iter().copied().filter(|&index| labels[index] == 2).collect();
        for round in rare.chunks(9) {
            assert_eq!(round.iter().collect::<HashSet<_>>().len(), round.len(), "a sample came again before its class was through");
        }
        let common = drawn.iter().filter(|&&index| labels[index] == 0);
        assert!(common.clone().collect::<HashSet<_>>().len() == common.count());
    }
}

#[test]
fn a_shuffle_is_uniform() {
    // Where sample 0 of 4 lands in 4,000 epochs.
    let loader = loader(quiet(4), LoaderOptions { batch_size: 4, workers: 1, ..Default::default() });
    let mut places = [0; 4];
    (0..4000).for_each(|epoch| places[indices(&all(loader.epoch(epoch))).iter().position(|&index| index == 0).unwrap()] += 1);
    assert!(places.iter().all(|count| (900..1100).contains(count)), "{places:?}");
}

/// The photograph over and over, encoded.
struct Photograph(Classes, AtomicUsize);

impl Dataset for Photograph {
    fn classes(&self) -> &Classes {
        &self.0
    }
    fn len(&self) -> usize {
        6
    }
    fn label(&self, _: usize) -> usize {
        0
    }
    fn name(&self, index: usize) -> String {
        format!("chelsea {index}")
    }
    fn read(&self, _: usize) -> timburn_core::Result<Content> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(Content::Encoded(timburn_data::sample_photograph().to_vec()))
    }
}

#[test]
fn a_cache_changes_nothing_but_the_reads() {
    let one = Content::Encoded(timburn_data::sample_photograph().to_vec()).decode("", &DecodeOptions::default()).unwrap().pixels.len();
    let run = |cache_bytes, workers| {
        let dataset = Arc::new(Photograph(Classes::numbered(2), AtomicUsize::new(0)));
        let options = LoaderOptions { batch_size: 4, cache_bytes, workers, repeats: 2, ..Default::default() };
        let loader = loader(dataset.clone(), options);
        let hashes: Vec<u64> = (0..3).map(|epoch| hash(&all(loader.epoch(epoch)))).collect();
        (hashes, dataset.1.load(Ordering::Relaxed))
    };
    let (without, reads) = run(0, 2);
    assert_eq!(reads, 18);
    for (budget, reads) in [(one - 1, 18..=18), (6 * one, 3..=12), (usize::MAX, 3..=12)] {
        for workers in [1, 3] {
            let (with, found) = run(budget, workers);
            assert_eq!(with, without);
            // Repeats of a sample that two workers have at once are read twice.
            assert!(reads.contains(&found), "{found} reads in {budget} bytes");
        }
    }
}

#[test]
fn what_makes_no_epoch_is_refused() {
    let good = LoaderOptions { batch_size: 4, ..Default::default() };
    let nan: Arc<[f64]> = [f64::NAN; 10].into();
    for bad in [
        LoaderOptions { batch_size: 0, ..good.clone() },
        LoaderOptions { workers: 0, ..good.clone() },
        LoaderOptions { repeats: 0, ..good.clone() },
        LoaderOptions { shard: Shard { rank: 2, count: 2 }, ..good.clone() },
        LoaderOptions { shard: Shard { rank: 0, count: 0 }, ..good.clone() },
        LoaderOptions { batch_size: 11, drop_last: true, ..good.clone() },
        LoaderOptions { bad_files: timburn_data::loader::BadFiles::Skip { share: 1.5 }, ..good.clone() },
        LoaderOptions { sampling: Sampling::Weighted(nan), ..good.clone() },
        LoaderOptions { sampling: Sampling::Weighted([1.0; 9].into()), ..good.clone() },
        LoaderOptions { sampling: Sampling::Weighted([0.0; 10].into()), ..good.clone() },
        LoaderOptions { sampling: Sampling::Weighted([f64::MAX; 10].into()), ..good.clone() },
    ] {
        let outcome = Loader::new(quiet(10), Arc::new(augment), bad.clone());
        assert!(matches!(outcome, Err(Error::Argument { .. })), "{bad:?}");
    }
    assert!(matches!(Loader::new(quiet(0), Arc::new(augment), good), Err(Error::Argument { .. })));
    // Sizes beyond all bounds are an epoch of one batch.
    let huge = LoaderOptions { batch_size: usize::MAX, prefetch: usize::MAX, workers: 2, ..Default::default() };
    assert_eq!(all(loader(quiet(10), huge).epoch(0)).len(), 1);
}
