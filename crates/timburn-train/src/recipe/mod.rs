//! Recipes: everything that decides a run, as data.

mod document;
mod model;
mod rates;
mod sections;

pub use document::Document;
pub use model::ModelSection;
pub use sections::{
    Augment, Best, Checkpointing, DataSection, EarlyStopping, Evaluation, LoaderSection, Resizing, SamplingSection, TestTime, TrainSection,
};

use std::path::Path;

use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};
use timburn_data::loader::mixing::Mixing;

use crate::ema::EmaConfig;
use crate::loss::LossConfig;
use crate::optimizer::{OptimizerConfig, Sgd};
use crate::schedule::{Curve, ScheduleConfig};

/// A run as data: model, data, augmentation, method. What is left out has the default that its section documents.
///
/// ```
/// use timburn_train::Recipe;
///
/// let recipe = Recipe::from_toml("[train]\nepochs = 3\nlr = 0.1\n")?;
/// assert_eq!(recipe.train.batch_size, 32);
/// let typo = Recipe::from_toml("[train]\nepoch = 3\n").unwrap_err();
/// assert!(typo.to_string().contains("did you mean `epochs`?"));
/// # Ok::<(), timburn_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What it is for, and what it should reach; for people.
    pub description: String,
    /// Epochs, batch size, learning rate, precision.
    pub train: TrainSection,
    /// What is trained; not needed where the program brings its own model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSection>,
    /// What it is trained on.
    pub data: DataSection,
    /// What happens to the pictures.
    pub augment: Augment,
    /// Mixup and CutMix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixing: Option<Mixing>,
    /// How batches are made.
    pub loader: LoaderSection,
    /// Default: cross-entropy.
    pub loss: LossConfig,
    /// Default: SGD with momentum 0.9.
    pub optimizer: OptimizerSection,
    /// Default: a cosine to 0 over the whole run.
    pub schedule: ScheduleSection,
    /// An average of the weights over the steps, evaluated in their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// When and how the validation set is scored.
    pub evaluation: Evaluation,
    /// When checkpoints are written and which are kept.
    pub checkpoints: Checkpointing,
    /// Ends a run that gets no better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

/// The optimizer's section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OptimizerSection(pub OptimizerConfig);

impl Default for OptimizerSection {
    fn default() -> Self {
        Self(OptimizerConfig::Sgd(Sgd { momentum: 0.9, ..Sgd::default() }))
    }
}

/// The schedule's section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleSection(pub ScheduleConfig);

impl Default for ScheduleSection {
    fn default() -> Self {
        Self(ScheduleConfig::new(Curve::Cosine { t_max: None, eta_min: 0.0 }))
    }
}

impl Recipe {
    /// A recipe from TOML.
    ///
    /// # Errors
    /// As [`Recipe::from_document`].
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::from_document(&Document::new("recipe", text))
    }

    /// A recipe from a file, with `KEY=VALUE` settings that take precedence over it.
    ///
    /// # Errors
    /// As [`Recipe::from_document`]; [`Error::Io`].
    pub fn read(path: impl AsRef<Path>, settings: &[String]) -> Result<Self> {
        let document = settings.iter().try_fold(Document::read(path)?, |document, setting| document.set(setting))?;
        Self::from_document(&document)
    }

    /// The recipe in a document, every value checked.
    ///
    /// # Errors
    /// [`ConfigError`](timburn_core::error::ConfigError) with line and column, or the setting, of the first fault.
    pub fn from_document(document: &Document) -> Result<Self> {
        let recipe: Self = document.parse()?;
        recipe.validate().map_err(|error| document.locate(error))?;
        Ok(recipe)
    }

    /// The whole recipe, defaults written out, as TOML.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that TOML cannot hold (an integer beyond 63 bits).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Argument {
            name: "recipe",
            value: error.to_string(),
            expected: "values that TOML can hold".into(),
        })
    }

    /// Refuses values out of range. Nothing else is done with a recipe before that.
    ///
    /// # Errors
    /// [`Error::Argument`] with the dotted key of the first one.
    pub fn validate(&self) -> Result<()> {
        self.train.validate()?;
        self.model.as_ref().map_or(Ok(()), ModelSection::validate)?;
        self.data.validate()?;
        self.augment.validate()?;
        self.mixing.as_ref().map_or(Ok(()), Mixing::validate)?;
        self.loader.validate()?;
        self.optimizer.0.validate()?;
        self.schedule.0.validate()?;
        self.ema.as_ref().map_or(Ok(()), EmaConfig::validate)?;
        self.evaluation.validate()?;
        self.checkpoints.validate()?;
        self.early_stopping.as_ref().map_or(Ok(()), EarlyStopping::validate)?;
        if self.mixing.is_some() && self.train.batch_size < 2 {
            let expected = "at least 2: [mixing] mixes the pictures of a batch".into();
            return Err(Error::Argument { name: "train.batch_size", value: self.train.batch_size.to_string(), expected });
        }
        Ok(())
    }
}
