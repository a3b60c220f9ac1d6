//! The loader: what it promises of its batches, and what it does when things go wrong.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod batches;
mod faults;
#[cfg(feature = "tensor")]
mod mixing;
mod packed;

use std::sync::Arc;

use timburn_core::seed::Draws;
use timburn_core::{Classes, Result};
use timburn_data::loader::{Batch, Epoch};
use timburn_data::{Content, Dataset, DynDataset, Loader, LoaderOptions, Rgb8Image};

/// A data set of pictures by a formula, with something to happen at each read.
pub(crate) struct Pictures<F> {
    pub(crate) classes: Classes,
    pub(crate) labels: Vec<usize>,
    pub(crate) on_read: F,
}

impl<F: Fn(usize) -> Result<()> + Send + Sync + 'static> Pictures<F> {
    /// `len` samples of three classes in turn.
    pub(crate) fn dataset(len: usize, on_read: F) -> DynDataset {
        let labels = (0..len).map(|index| index % 3).collect();
        Arc::new(Self { classes: Classes::numbered(3), labels, on_read })
    }
}

impl<F: Fn(usize) -> Result<()> + Send + Sync> Dataset for Pictures<F> {
    fn classes(&self) -> &Classes {
        &self.classes
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, index: usize) -> usize {
        self.labels.get(index).copied().unwrap_or(0)
    }
    fn name(&self, index: usize) -> String {
        format!("picture-{index}")
    }
    fn read(&self, index: usize) -> Result<Content> {
        (self.on_read)(index)?;
        Ok(Content::Pixels(picture(index)))
    }
}

pub(crate) fn quiet(len: usize) -> DynDataset {
    Pictures::dataset(len, |_| Ok(()))
}

/// 6×5 pixels.
pub(crate) fn picture(index: usize) -> Rgb8Image {
    Rgb8Image::new(6, 5, (0..90).map(|i| (i * 7 + index * 13) as u8).collect()).unwrap()
}

/// A crop and a flip at random, and a random byte.
pub(crate) fn augment(image: Rgb8Image, draws: &mut Draws) -> Result<Rgb8Image> {
    let region = timburn_data::Region { left: draws.below(3), top: draws.below(2), width: 4, height: 4 };
    let mut image = image.crop(region);
    if draws.chance(0.5) {
        image.pixels.as_chunks_mut::<3>().0.chunks_exact_mut(4).for_each(<[_]>::reverse);
    }
    image.pixels[0] = draws.below(256) as u8;
    Ok(image)
}

pub(crate) fn loader(dataset: DynDataset, options: LoaderOptions) -> Loader {
    Loader::new(dataset, Arc::new(augment), options).unwrap()
}

pub(crate) fn all(epoch: Epoch) -> Vec<Batch> {
    epoch.map(|batch| batch.expect("a good batch")).collect()
}

pub(crate) fn indices(batches: &[Batch]) -> Vec<usize> {
    batches.iter().flat_map(|batch| batch.indices.iter().copied()).collect()
}
