//! The methods of training, each a pure function or a small state machine that a loop calls: nothing here reads files, starts threads or
//! knows of a recipe.
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

pub mod ema;
pub mod gradients;
pub mod loss;
pub mod lr_finder;
pub mod metrics;
pub mod optimizer;
pub mod precision;
pub mod schedule;

mod tensors;

pub use ema::{Ema, EmaConfig};
pub use gradients::{Accumulator, Clip, ParameterGradients};
pub use loss::{Loss, LossConfig, Reduction, Targets};
pub use lr_finder::LrFinder;
pub use metrics::{Metrics, Report};
pub use optimizer::{Group, Groups, Optimizer, OptimizerConfig, StepParams};
pub use precision::{LossScale, Precision};
pub use schedule::{Rates, Schedule, ScheduleConfig};
