//! The sections of a [`Recipe`](super::Recipe) that belong to no other module.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use timburn_core::{Error, Preprocessing, Result};
use timburn_data::Pipeline;
use timburn_data::loader::Normalization;
use timburn_data::transform::{Transform, presets};

use crate::gradients::Clip;
use crate::precision::Precision;
use crate::schedule::Better;

/// Length, size and arithmetic of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Passes over the training set, at least 1.
    pub epochs: u64,
    /// Pictures that go through the model together, at least 1.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one step, at least 1.
    pub accumulate: usize,
    /// Peak learning rate, above 0: what the schedule scales.
    pub lr: f64,
    /// Decides initial weights, order, augmentation, dropout.
    pub seed: u64,
    /// Element type of convolutions and linear layers.
    pub precision: Precision,
    /// Bounds the gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// Whether weight decay also holds for norms and biases.
    pub decay_norms_and_biases: bool,
    /// Recomputes activations in the backward pass instead of keeping them: less memory, more time, equal gradients.
    pub gradient_checkpointing: bool,
    /// Batches without which the backend's kernels are compiled anew: keeps every batch at one size by leaving out an epoch's incomplete
    /// last one.
    pub drop_last: bool,
    /// Layer-wise decay in `(0, 1]`: each layer group (stage) learns with so much of the next one's rate, the head with the full one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// fastai's `slice(lr / lr_slice, lr)`, 1 or more: the first layer group learns with so small a part of the rate, the head with the full
    /// one, those between with geometric steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_slice: Option<f64>,
    /// Factors of the rate by layer group (`stem`, `layer1`, …, `head`); 1 for those not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lr_groups: BTreeMap<String, f64>,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            accumulate: 1,
            lr: 0.01,
            seed: 0,
            precision: Precision::F32,
            clip: None,
            decay_norms_and_biases: false,
            gradient_checkpointing: false,
            drop_last: true,
            layer_decay: None,
            lr_slice: None,
            lr_groups: BTreeMap::new(),
        }
    }
}

impl TrainSection {
    pub(super) fn validate(&self) -> Result<()> {
        within("train.epochs", self.epochs, 1, 1_000_000)?;
        within("train.batch_size", self.batch_size as u64, 1, 1_000_000)?;
        within("train.accumulate", self.accumulate as u64, 1, 100_000)?;
        positive("train.lr", self.lr)?;
        self.validate_rates()?;
        self.clip.as_ref().map_or(Ok(()), Clip::validate)
    }
}

/// What the model is trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// A data set in any layout timburn knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Share of the training set that is held out for validation where the data brings no validation set, `0.0..1.0`. With 0 the test set
    /// takes its place, which makes its score a choice's, not a result's; it is said so.
    pub validation: f64,
    /// Seed of that split.
    pub split_seed: u64,
    /// Only so many training samples of each class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_class: Option<usize>,
}

impl Default for DataSection {
    fn default() -> Self {
        Self { path: None, validation: 0.1, split_seed: 0, per_class: None }
    }
}

impl DataSection {
    pub(super) fn validate(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.validation) {
            return Err(argument("data.validation", self.validation, "a share in [0, 1)"));
        }
        self.per_class.map_or(Ok(()), |count| within("data.per_class", count as u64, 1, u64::MAX))
    }
}

/// What happens to the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Transforms of the training pictures, in order. They are normalised as `evaluation` says.
    pub train: Vec<Transform>,
    /// Transforms of the pictures that are scored, in order, with `normalize` at the end: what the model's input needs.
    pub evaluation: Vec<Transform>,
    /// Training sizes by epoch, for recipes whose pictures grow. The sizes of crops among `train` follow it.
    pub progressive: Vec<Resizing>,
}

/// From an epoch on, another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resizing {
    /// First epoch, counted from 0.
    pub epoch: u64,
    /// Height and width of the training pictures, in pixels.
    pub size: usize,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            train: presets::imagenet_train(224),
            evaluation: presets::imagenet_eval(&Preprocessing::torchvision(224, 256)),
            progressive: Vec::new(),
        }
    }
}

impl Augment {
    pub(super) fn validate(&self) -> Result<()> {
        let (train, evaluation) = (Pipeline::new(self.train.clone())?, Pipeline::new(self.evaluation.clone())?);
        for (name, pipeline) in [("augment.train", &train), ("augment.evaluation", &evaluation)] {
            if pipeline.output_size().is_none() {
                return Err(argument(name, "pictures of many sizes", "a resize to a fixed size, or a crop"));
            }
        }
        if evaluation.is_random() {
            return Err(argument("augment.evaluation", "a random transform", "a score that is the same each time"));
        }
        let Some(normalization) = evaluation.normalization() else {
            return Err(argument("augment.evaluation", "no normalize", "normalize at the end"));
        };
        if train.normalization().is_some_and(|own| own != normalization) {
            return Err(argument("augment.train", "another normalize", "the one of augment.evaluation, or none"));
        }
        for stage in &self.progressive {
            within("augment.progressive.size", stage.size as u64, 1, 4096)?;
        }
        if !self.progressive.is_sorted_by(|a, b| a.epoch < b.epoch) {
            let epochs: Vec<u64> = self.progressive.iter().map(|stage| stage.epoch).collect();
            return Err(argument("augment.progressive.epoch", format!("{epochs:?}"), "epochs in ascending order"));
        }
        Ok(())
    }

    /// What the model's input needs; ImageNet's statistics where `evaluation` does not say.
    pub fn normalization(&self) -> Normalization {
        let find = |transform: &Transform| if let Transform::Normalize(found) = transform { Some(found.clone()) } else { None };
        let found = self.evaluation.iter().find_map(find).unwrap_or_default();
        Normalization { mean: found.mean, std: found.std, channels: found.channels }
    }

    /// The size of epoch `epoch`, if a stage says one.
    pub fn size(&self, epoch: u64) -> Option<usize> {
        self.progressive.iter().rev().find(|stage| stage.epoch <= epoch).map(|stage| stage.size)
    }
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderSection {
    /// Threads that decode and transform; one for each CPU when 0. Results do not depend on it.
    pub workers: usize,
    /// Batches made ahead.
    pub prefetch: usize,
    /// Megabytes of decoded pictures kept in memory.
    pub cache_mb: usize,
    /// Share of bad files that are skipped, `0.0..=1.0`; 0 stops at the first one.
    pub skip_bad: f64,
    /// Which samples make an epoch.
    pub sampling: SamplingSection,
    /// Repeated augmentation: how often a sample follows itself, at least 1.
    pub repeats: usize,
}

/// Which samples make an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingSection {
    /// Every sample once, in a new order each time.
    #[default]
    Shuffled,
    /// Every class equally often.
    ClassBalanced,
}

impl Default for LoaderSection {
    fn default() -> Self {
        Self { workers: 0, prefetch: 2, cache_mb: 0, skip_bad: 0.001, sampling: SamplingSection::Shuffled, repeats: 1 }
    }
}

impl LoaderSection {
    pub(super) fn validate(&self) -> Result<()> {
        within("loader.workers", self.workers as u64, 0, 1024)?;
        within("loader.prefetch", self.prefetch as u64, 0, 1024)?;
        within("loader.repeats", self.repeats as u64, 1, 1024)?;
        if !(0.0..=1.0).contains(&self.skip_bad) {
            return Err(argument("loader.skip_bad", self.skip_bad, "a share in [0, 1]"));
        }
        Ok(())
    }
}

/// When and how the validation set is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// After every so many epochs, and after the last.
    pub every_epochs: u64,
    /// Also after every so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u64>,
    /// Pictures that go through the model together; the training's when 0.
    pub batch_size: usize,
    /// Views of each picture whose probabilities are averaged.
    pub test_time: TestTime,
    /// Accuracies among the k best.
    pub top: Vec<usize>,
}

/// Test-time augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestTime {
    /// The picture as it is.
    #[default]
    None,
    /// The picture and its mirror image.
    Flip,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { every_epochs: 1, every_steps: None, batch_size: 0, test_time: TestTime::None, top: vec![1, 5] }
    }
}

impl Evaluation {
    pub(super) fn validate(&self) -> Result<()> {
        within("evaluation.every_epochs", self.every_epochs, 1, u64::MAX)?;
        self.every_steps.map_or(Ok(()), |steps| within("evaluation.every_steps", steps, 1, u64::MAX))?;
        self.top.iter().try_for_each(|&k| within("evaluation.top", k as u64, 1, 1_000_000))
    }
}

/// When checkpoints are written and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpointing {
    /// After every so many epochs, and after the last.
    pub every_epochs: u64,
    /// Also after every so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u64>,
    /// How many of the newest are kept, at least 1; the best one is kept besides.
    pub keep_last: usize,
    /// What makes one the best.
    pub best: Best,
}

/// A metric that a run is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// Accuracy of the validation set.
    #[default]
    Top1,
    /// Loss of the validation set.
    Loss,
    /// Mean recall over the classes.
    BalancedAccuracy,
    /// Mean F1 over the classes.
    MacroF1,
    /// Area under the ROC curve, two classes.
    Auroc,
}

impl Best {
    /// Its name in logs and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top1 => "top1",
            Self::Loss => "loss",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::MacroF1 => "macro_f1",
            Self::Auroc => "auroc",
        }
    }

    /// Which way it improves.
    pub fn better(self) -> Better {
        if self == Self::Loss { Better::Min } else { Better::Max }
    }

    /// Its value in a report.
    pub fn of(self, report: &crate::metrics::Report) -> Option<f64> {
        match self {
            Self::Top1 => report.top(1),
            Self::Loss => report.loss,
            Self::BalancedAccuracy => report.balanced_accuracy,
            Self::MacroF1 => report.macro_f1,
            Self::Auroc => report.auroc,
        }
    }

    /// Whether `value` is better than `best` by more than `margin`. What is no number is better than nothing.
    pub fn improves(self, value: f64, best: Option<f64>, margin: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        best.is_none_or(|best| match self.better() {
            Better::Min => value < best - margin,
            Better::Max => value > best + margin,
        })
    }
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self { every_epochs: 1, every_steps: None, keep_last: 2, best: Best::Top1 }
    }
}

impl Checkpointing {
    pub(super) fn validate(&self) -> Result<()> {
        within("checkpoints.every_epochs", self.every_epochs, 1, u64::MAX)?;
        within("checkpoints.keep_last", self.keep_last as u64, 1, 10_000)?;
        self.every_steps.map_or(Ok(()), |steps| within("checkpoints.every_steps", steps, 1, u64::MAX))
    }
}

/// Ends a run that gets no better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Evaluations in a row without improvement that are let pass.
    pub patience: u32,
    /// Smallest change that counts as an improvement.
    #[serde(default)]
    pub min_delta: f64,
    /// What is watched.
    #[serde(default)]
    pub metric: Best,
}

impl EarlyStopping {
    pub(super) fn validate(&self) -> Result<()> {
        within("early_stopping.patience", self.patience.into(), 1, u32::MAX.into())?;
        if !(self.min_delta.is_finite() && self.min_delta >= 0.0) {
            return Err(argument("early_stopping.min_delta", self.min_delta, "a number from 0 on"));
        }
        Ok(())
    }
}

fn within(name: &'static str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let expected = if high == u64::MAX { format!("{low} or more") } else { format!("{low} to {high}") };
    Err(argument(name, value, expected))
}

fn positive(name: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(argument(name, value, "a number above 0")) }
}

pub(super) fn argument(name: &'static str, value: impl ToString, expected: impl Into<String>) -> Error {
    Error::Argument { name, value: value.to_string(), expected: expected.into() }
}
