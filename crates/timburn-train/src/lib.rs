//! Training: a recipe in, a trained model and its evidence out.
//!
//! | to do this | start at |
//! |---|---|
//! | train with a recipe | [`Recipe`], [`Trainer`] |
//! | write a loop of one's own | [`Learner`], or its parts: [`Loss`], [`Optimizer`], [`Schedule`], [`Ema`], [`ParameterGradients`] |
//! | score a model | [`Evaluator`], [`Metrics`]; with what it said of every sample: [`Evaluator::examine`], [`Predictions`] |
//! | show the score: one HTML page, plots, a model card | [`report::Evidence`] |
//! | find a learning rate | [`find_lr`] |
//! | save and resume a run that may be killed at any instant | [`CheckpointStore`] |
//! | keep what a run leaves behind: recipe, environment, metrics, bad files | [`RunFolder`] |
//! | let TensorBoard show it | [`EventWriter`] |
//! | draw curves, a confusion matrix, a reliability diagram | [`plots`] |
//!
//! The parts are pure functions or small state machines that know of no recipe, file or thread:
//!
//! ```
//! use burn::module::Module;
//! use burn::tensor::Tensor;
//! use timburn_models::{ImageModel, ModelOptions, create};
//! use timburn_train::{Clip, Groups, Loss, LossConfig, Optimizer, OptimizerConfig, ParameterGradients, Reduction, StepParams, Targets};
//!
//! # fn main() -> timburn_core::Result<()> {
//! let device = timburn_core::open_device("flex")?.autodiff();
//! let mut model = create("resnet20", &ModelOptions::default(), &device)?.train();
//! let loss = Loss::new(LossConfig::default(), 10)?;
//! let mut optimizer = Optimizer::new(OptimizerConfig::AdamW(Default::default()), Groups::of(&model))?;
//!
//! let images = Tensor::zeros([2, 3, 32, 32], &device);
//! let targets = Targets::classes(&[3, 7], 10, &device)?;
//! let value = loss.forward(model.forward(images), targets, Reduction::Mean)?;
//! let gradients = ParameterGradients::of(&model, value.backward());
//! let (gradients, norm) = gradients.clip(Clip::Norm(1.0))?;
//! assert!(norm.is_finite());
//! model = optimizer.step(model, gradients, &StepParams::lr(1e-3))?;
//! # let _ = model;
//! # Ok(())
//! # }
//! ```

pub mod checkpoint;
pub mod ema;
pub mod feature_sample;
mod freeze;
pub mod gradients;
mod grouped;
mod lock;
pub mod loss;
pub mod lr_finder;
pub mod metrics;
pub mod optimizer;
pub mod plots;
pub mod precision;
pub mod predictions;
#[cfg(feature = "flex")]
pub mod profile;
pub mod recipe;
pub mod report;
pub mod run;
pub mod schedule;
mod tensors;
pub mod trainer;
pub mod transfer;

pub use checkpoint::{Checkpoint, CheckpointStore};
pub use ema::{Ema, EmaConfig};
pub use feature_sample::FeatureSample;
pub use freeze::{FreezePlan, FreezeStep, freeze_statistics, freeze_until};
pub use gradients::{Accumulator, Clip, ParameterGradients};
pub use grouped::Grouped;
pub use loss::{ClassWeights, Loss, LossConfig, Reduction, Targets};
pub use lr_finder::LrFinder;
pub use metrics::{Metrics, Report};
pub use optimizer::{Group, Groups, Optimizer, OptimizerConfig, StepParams};
pub use precision::{LossScale, Precision};
pub use predictions::{Examination, Predictions};
pub use recipe::Recipe;
pub use run::{EventWriter, RunFolder};
pub use schedule::{Rates, Schedule, ScheduleConfig};
pub use trainer::{Evaluator, Learner, Observer, Outcome, Recorder, StopFlag, TrainData, Trainer, find_lr};
pub use transfer::FineTune;
