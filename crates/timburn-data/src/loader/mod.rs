//! Batches from worker threads: the same ones, in the same order, whatever the number of threads.

mod assembly;
mod bad;
mod batch;
mod cache;
mod epoch;
#[cfg(feature = "tensor")]
pub mod mixing;
mod options;
mod plan;
mod prepare;
#[cfg(feature = "tensor")]
mod tensor;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use timburn_core::Result;

pub use bad::{BadFile, append_bad_files};
pub use batch::{Batch, Normalization};
pub use epoch::Epoch;
pub use options::{BadFiles, LoaderOptions, Sampling, Shard};
pub use prepare::Prepare;

use crate::dataset::DynDataset;
use cache::Cache;
use options::argument;
use work::{Source, Work};

/// Reads, decodes and transforms the samples of a data set on worker threads, and hands them out in batches.
///
/// **Reproducible.** A picture is a function of (seed, epoch, index, how often the index came before in the epoch), the order one of
/// (seed, epoch). Batches are equal for any number of workers, with and without cache, and from whichever batch an epoch is taken up.
///
/// **Bounded.** Workers are at most [`prefetch`](LoaderOptions::prefetch) batches ahead, plus as many as it takes to give each worker a
/// sample: host memory is below (prefetch + workers) × batch, plus one decoded picture for each worker, plus
/// [`cache_bytes`](LoaderOptions::cache_bytes). The work is shared out by samples, so that one batch of photographs keeps all workers busy.
///
/// **Complete.** An epoch yields exactly its samples, or an error. Bad files follow [`BadFiles`]; a panic in the data set or in a transform
/// becomes [`DataError::Worker`](timburn_core::error::DataError::Worker) with the sample's name. A read that never returns is waited for.
///
/// **Shards.** All ranks draw the same order and take every `count`-th sample of it, so that all have equally many batches. With
/// `drop_last`, what does not go round is left out and no sample is on two ranks. Without it, the ranks that would come up short begin the
/// order again: [`Loader::padding`] says how many samples at the end of this rank's epoch are such, for evaluations that must not count
/// them twice.
///
/// **Repeated augmentation** is timm's `RepeatAugSampler`: each sample of the order follows itself `repeats` times, the ranks take turns,
/// and each stops after `len / 256 * 256 / count` samples (`ceil(len / count)` for fewer than 256), so that an epoch is as long as ever and
/// shows `1 / repeats` of the data. The repeats of a sample are meant to be on different ranks.
#[derive(Clone)]
pub struct Loader {
    source: Arc<Source>,
    samples: usize,
    batches: usize,
}

impl Loader {
    /// A loader of `dataset`, whose samples `prepare` turns into pictures of one size.
    ///
    /// # Errors
    /// [`Error::Argument`](timburn_core::Error::Argument) for options out of range, an empty data set, or an epoch without a batch.
    pub fn new(dataset: DynDataset, prepare: Arc<dyn Prepare>, options: LoaderOptions) -> Result<Self> {
        options.validate(&*dataset)?;
        let share = plan::samples_of_rank(&options, dataset.len());
        let batches = if options.drop_last { share / options.batch_size } else { share.div_ceil(options.batch_size) };
        if batches == 0 {
            let expected = format!("at most {share}, the samples of a rank, when the incomplete batch is dropped");
            return Err(argument("batch_size", options.batch_size, expected));
        }
        let samples = share.min(batches.saturating_mul(options.batch_size));
        let cache = Cache::new(dataset.len(), options.cache_bytes);
        let source = Source { dataset, prepare, options, cache, bad: AtomicUsize::new(0) };
        Ok(Self { source: Arc::new(source), samples, batches })
    }

    /// Batches of an epoch: the same on every rank.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Samples of an epoch on this rank, the bad ones counted.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// How many samples at the end of this rank's epoch are there only to give all ranks equally many: 0 or 1, and 0 with `drop_last`.
    pub fn padding(&self) -> usize {
        let LoaderOptions { shard, repeats, drop_last, .. } = &self.source.options;
        let total = self.source.dataset.len().saturating_mul(*repeats);
        let last = (self.samples - 1) * shard.count + shard.rank;
        usize::from(!drop_last && last >= total)
    }

    /// The data set.
    pub fn dataset(&self) -> &DynDataset {
        &self.source.dataset
    }

    /// The options.
    pub fn options(&self) -> &LoaderOptions {
        &self.source.options
    }

    /// Bad samples met so far, in all epochs.
    pub fn bad_files(&self) -> usize {
        self.source.bad.load(Ordering::Relaxed)
    }

    /// Starts epoch number `epoch`: its workers begin at once. Made before the last epoch's consumer is through with its results, it hides the
    /// time to the first batch.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// Starts epoch number `epoch` at batch `first_batch`: what follows is what would have followed. Bad files are counted from here.
    pub fn epoch_from(&self, epoch: u64, first_batch: usize) -> Epoch {
        let first = first_batch.min(self.batches);
        let mut places = plan::places(&self.source.options, &*self.source.dataset, epoch);
        places.truncate(self.samples);
        let work = Work::new(self.source.clone(), epoch, places, first);
        Epoch::start(self.source.clone(), work, first..self.batches, self.samples)
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("samples", &self.samples).field("batches", &self.batches).finish_non_exhaustive()
    }
}
