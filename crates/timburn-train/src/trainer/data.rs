//! Loaders of a run, made from its recipe.

use std::sync::Arc;

use timburn_core::{Error, Result};
use timburn_data::loader::{BadFiles, Loader, LoaderOptions, Normalization, Sampling};
use timburn_data::transform::Pipeline;
use timburn_data::{Dataset, DynDataset, Splits};

use crate::recipe::{Recipe, SamplingSection};

/// The data of a run.
#[derive(Clone)]
pub struct TrainData {
    train: DynDataset,
    validation: DynDataset,
    /// Whether the validation set is the test set, for want of another.
    pub scores_on_test: bool,
    normalization: Normalization,
}

impl TrainData {
    /// Training and validation set as the recipe's `[data]` asks. Without a validation set in `splits`, a share of the training set is held
    /// out; with `data.validation = 0` the test set is used.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is nothing to validate on; those of the split.
    pub fn new(recipe: &Recipe, splits: Splits) -> Result<Self> {
        let data = &recipe.data;
        let (train, validation, scores_on_test) = match (splits.validation, splits.test) {
            (Some(validation), _) => (splits.train, validation, false),
            (None, Some(test)) if data.validation == 0.0 => (splits.train, test, true),
            (None, _) if data.validation > 0.0 => {
                let split = splits.train.split(1.0 - data.validation, data.split_seed)?;
                let validation = split.validation.ok_or_else(|| nothing_to_validate(data.validation))?;
                (split.train, validation, false)
            }
            (None, _) => return Err(nothing_to_validate(data.validation)),
        };
        let train = match data.per_class {
            Some(count) => Arc::new(train.per_class(count, data.split_seed)),
            None => train,
        };
        Ok(Self { train, validation, scores_on_test, normalization: recipe.augment.normalization() })
    }

    /// The classes.
    pub fn classes(&self) -> &timburn_core::Classes {
        self.train.classes()
    }

    /// The training set.
    pub fn train(&self) -> &DynDataset {
        &self.train
    }

    /// The set that is scored.
    pub fn validation(&self) -> &DynDataset {
        &self.validation
    }

    /// What the model's input needs.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// The loader of training pictures, `size` pixels high and wide where given.
    pub(super) fn train_loader(&self, recipe: &Recipe, size: Option<usize>) -> Result<Loader> {
        let pipeline = Pipeline::new(recipe.augment.train.clone())?;
        let pipeline = match size {
            Some(size) => pipeline.with_size(size)?,
            None => pipeline,
        };
        let sampling = match recipe.loader.sampling {
            SamplingSection::Shuffled => Sampling::Shuffled,
            SamplingSection::ClassBalanced => Sampling::ClassBalanced,
        };
        let options = LoaderOptions {
            batch_size: recipe.train.batch_size,
            drop_last: recipe.train.drop_last && self.train.len() >= recipe.train.batch_size,
            repeats: recipe.loader.repeats,
            sampling,
            ..loader_options(recipe)
        };
        Loader::new(self.train.clone(), Arc::new(pipeline), options)
    }

    /// The loader of pictures that are scored.
    pub(super) fn validation_loader(&self, recipe: &Recipe) -> Result<Loader> {
        let pipeline = Pipeline::new(recipe.augment.evaluation.clone())?;
        let batch_size = if recipe.evaluation.batch_size == 0 { recipe.train.batch_size } else { recipe.evaluation.batch_size };
        let options = LoaderOptions { batch_size, sampling: Sampling::Sequential, ..loader_options(recipe) };
        Loader::new(self.validation.clone(), Arc::new(pipeline), options)
    }
}

fn loader_options(recipe: &Recipe) -> LoaderOptions {
    let section = &recipe.loader;
    let defaults = LoaderOptions::default();
    LoaderOptions {
        workers: if section.workers == 0 { defaults.workers } else { section.workers },
        prefetch: section.prefetch,
        seed: recipe.train.seed,
        bad_files: if section.skip_bad == 0.0 { BadFiles::Error } else { BadFiles::Skip { share: section.skip_bad } },
        cache_bytes: section.cache_mb.saturating_mul(1 << 20),
        ..defaults
    }
}

fn nothing_to_validate(share: f64) -> Error {
    let expected = "a share above 0 to hold out (--set data.validation=0.1), or data with a validation or test set".into();
    Error::Argument { name: "data.validation", value: share.to_string(), expected }
}
