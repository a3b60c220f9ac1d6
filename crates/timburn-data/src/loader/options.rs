//! What a [`Loader`](super::Loader) is asked for.

use std::sync::Arc;

use timburn_core::{Error, Result};

use crate::dataset::Dataset;
use crate::decode::DecodeOptions;

/// Which samples make an epoch, and in which order: a pure function of (seed, epoch).
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// The data set's order: evaluation.
    Sequential,
    /// A new permutation each epoch.
    Shuffled,
    /// As many draws with replacement as there are samples; a sample's chance is its weight over the sum. One weight for each sample, not
    /// negative, finite, not all 0.
    Weighted(Arc<[f64]>),
    /// As many samples as the data set has, every class (that has samples) equally often, give or take one. No sample of a class comes again
    /// before all of its class have come.
    ClassBalanced,
}

/// Which part of every epoch is this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Number of this process, `0..count`.
    pub rank: usize,
    /// How many processes share an epoch.
    pub count: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { rank: 0, count: 1 }
    }
}

/// What happens to a sample that cannot be read or decoded.
///
/// Only errors that speak of the data count as that ([`Error::Image`], [`Error::Data`], [`Error::Io`]). A panic while a sample is prepared
/// and any other error end the epoch under either policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BadFiles {
    /// The epoch ends with the sample's error.
    Error,
    /// The sample is left out of its batch, which is that much smaller (it may be empty), and reported in [`Batch::bad`](super::Batch::bad).
    Skip {
        /// How much of an epoch's samples may be bad, `0.0..=1.0`. Rounded down, but one sample at least unless it is 0. The first batch
        /// with more ends the epoch with [`DataError::TooManyBadFiles`](timburn_core::error::DataError::TooManyBadFiles).
        share: f64,
    },
}

impl Default for BadFiles {
    /// [`BadFiles::Skip`] up to 0.1 %.
    fn default() -> Self {
        Self::Skip { share: 0.001 }
    }
}

impl BadFiles {
    /// How many of `samples` may be bad.
    pub fn allowed(&self, samples: usize) -> usize {
        match *self {
            Self::Error => 0,
            Self::Skip { share } if share > 0.0 => ((samples as f64 * share) as usize).max(1),
            Self::Skip { .. } => 0,
        }
    }
}

/// What a [`Loader`](super::Loader) is asked for.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Samples of a batch, at least 1. Default 32.
    pub batch_size: usize,
    /// Threads that read, decode and transform, at least 1. Default: one for each CPU. The batches do not depend on it.
    pub workers: usize,
    /// Batches made ahead of the consumer. Default 2.
    pub prefetch: usize,
    /// Seed of order and random transforms. Default 0.
    pub seed: u64,
    /// Which samples, in which order. Default [`Sampling::Shuffled`].
    pub sampling: Sampling,
    /// Whether the incomplete last batch is left out; with several ranks, also the samples that do not go round. Default false.
    pub drop_last: bool,
    /// This process's part. Default: all of it.
    pub shard: Shard,
    /// How often a sample follows itself, each time transformed anew (repeated augmentation, Hoffer et al. 2020), at least 1. Above 1 the
    /// epoch is cut to its usual length, as timm does it, so that it shows fewer samples: see [`Loader`](super::Loader). Default 1.
    pub repeats: usize,
    /// What happens to unreadable samples. Default: skipped up to 0.1 %.
    pub bad_files: BadFiles,
    /// Bytes of decoded pictures kept in memory over the epochs, filled first come, first kept. Default 0.
    pub cache_bytes: usize,
    /// How pictures are decoded. Default: [`DecodeOptions`]'s, but EXIF orientation is not applied, as in torchvision's and timm's training.
    pub decode: DecodeOptions,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 32,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            prefetch: 2,
            seed: 0,
            sampling: Sampling::Shuffled,
            drop_last: false,
            shard: Shard::default(),
            repeats: 1,
            bad_files: BadFiles::default(),
            cache_bytes: 0,
            decode: DecodeOptions { apply_orientation: false, ..DecodeOptions::default() },
        }
    }
}

impl LoaderOptions {
    /// Refuses values no epoch can be made of.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first one.
    pub(super) fn validate(&self, dataset: &dyn Dataset) -> Result<()> {
        for (name, value) in [("batch_size", self.batch_size), ("workers", self.workers), ("repeats", self.repeats)] {
            at_least_one(name, value)?;
        }
        at_least_one("samples of the data set", dataset.len())?;
        let Shard { rank, count } = self.shard;
        at_least_one("shard.count", count)?;
        if rank >= count {
            return Err(argument("shard.rank", rank, format!("0 to {}", count - 1)));
        }
        if let BadFiles::Skip { share } = self.bad_files
            && !(0.0..=1.0).contains(&share)
        {
            return Err(argument("bad_files.share", share, "0 to 1".into()));
        }
        if let Sampling::Weighted(weights) = &self.sampling {
            if weights.len() != dataset.len() {
                return Err(argument("weights", format!("{} values", weights.len()), format!("one for each of {} samples", dataset.len())));
            }
            if let Some(bad) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
                return Err(argument("weights", bad, "finite numbers, not negative".into()));
            }
            let sum: f64 = weights.iter().sum();
            if !(sum.is_finite() && sum > 0.0) {
                return Err(argument("weights", format!("sum {sum}"), "a finite sum above 0".into()));
            }
        }
        Ok(())
    }
}

fn at_least_one(name: &'static str, value: usize) -> Result<()> {
    if value == 0 { Err(argument(name, value, "at least 1".into())) } else { Ok(()) }
}

pub(super) fn argument(name: &'static str, value: impl ToString, expected: String) -> Error {
    Error::Argument { name, value: value.to_string(), expected }
}
