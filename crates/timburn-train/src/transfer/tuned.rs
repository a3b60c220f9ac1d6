//! What a fine-tuning gives.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use timburn_core::Result;
use timburn_data::loader::BadFile;
use timburn_data::{Dataset, DynDataset, find_shared};
use timburn_models::Model;
use timburn_weights::Bundle;

use super::observer::{Baselines, PhaseReport};
use crate::metrics::Report;
use crate::predictions::Examination;
use crate::recipe::Recipe;
use crate::trainer::TrainData;

/// Most pictures that are compared, in all: some seconds where all of them have to be read.
const MOST_COMPARED: usize = 100_000;

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
    /// Which of the two: `test set` or `validation set`; `test set, which also made the choices` where no validation set was wanted.
    pub examined: &'static str,
    /// Pictures that could not be used.
    pub bad: Vec<BadFile>,
    /// Parts of the data that hold training pictures.
    pub shared: Vec<SharedPictures>,
    /// Whether it was asked to stop before its end.
    pub interrupted: bool,
}

/// Training pictures among those that a model is scored by, byte for byte: the score is the better for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedPictures {
    /// `validation` or `test`.
    pub part: &'static str,
    /// How many of its pictures.
    pub count: usize,
    /// How many it has.
    pub of: usize,
    /// The first of them, in the training set and there.
    pub first: [String; 2],
}

impl SharedPictures {
    /// Looks for them, unless there are so many pictures that it would take as long as the rest.
    pub(super) fn of(train: &DynDataset, part: &'static str, other: &DynDataset) -> Option<Self> {
        if train.len() + other.len() > MOST_COMPARED {
            log::info!("the training pictures are not compared with the {part} set, which is large; `timburn data inspect` does it");
            return None;
        }
        let pairs = find_shared(train, other);
        let &(own, index) = pairs.first()?;
        Some(Self { part, count: pairs.len(), of: other.len(), first: [train.name(own), other.name(index)] })
    }
}

impl fmt::Display for SharedPictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, count, of, first: [own, other] } = self;
        write!(
            f,
            "{count} of the {of} {part} pictures are training pictures too, which makes the score too good; the first: {own} = {other}"
        )
    }
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
