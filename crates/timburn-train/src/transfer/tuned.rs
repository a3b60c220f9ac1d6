//! What a fine-tuning gives.

use std::path::Path;

use timburn_core::Result;
use timburn_data::loader::BadFile;
use timburn_models::Model;
use timburn_weights::Bundle;

use super::observer::{Baselines, PhaseReport};
use crate::metrics::Report;
use crate::predictions::Examination;
use crate::recipe::Recipe;
use crate::trainer::TrainData;

/// A fine-tuned model and how it came about.
pub struct FineTuned {
    /// The model with classes, preprocessing and card: what [`Predictor`](https://docs.rs/timburn-infer) needs.
    pub bundle: Bundle,
    /// The model itself, without autodiff.
    pub model: Model,
    /// Score of the chosen model on the validation set, by which it was chosen.
    pub validation: Report,
    /// Its score on the test set, where the data has one that took no part in any choice.
    pub test: Option<Report>,
    /// What features alone can do.
    pub baselines: Baselines,
    /// The phases and their scores, in order.
    pub phases: Vec<PhaseReport>,
    /// Which of them gave the model.
    pub chosen: &'static str,
    /// The data as they were split.
    pub data: TrainData,
    /// How the body was trained.
    pub recipe: Recipe,
    /// What the chosen model said of every picture of the test set, or of the validation set where there is none. Of a run that was stopped,
    /// the validation set's report alone.
    pub examination: Examination,
    /// Which of the two: `test set` or `validation set`.
    pub examined: &'static str,
    /// Pictures that could not be used.
    pub bad: Vec<BadFile>,
    /// Whether it was asked to stop before its end.
    pub interrupted: bool,
}

impl FineTuned {
    /// Writes the bundle, whole or not at all.
    ///
    /// # Errors
    /// As [`Bundle::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.bundle.save(path, timburn_weights::Precision::F32)
    }
}
