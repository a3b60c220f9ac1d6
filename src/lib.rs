//! Image classification for Rust on the [Burn](burn) framework.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> timburn::Result<()> {
//! let device = timburn::open_device("auto")?;
//! let predictor = timburn::Predictor::embedded(&device)?;
//! let prediction = predictor.classify_bytes(timburn::sample_photograph(), "sample photograph")?;
//! for guess in prediction.top(5) {
//!     println!("{:6.2} %  {}", 100.0 * guess.probability, guess.label);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! | to do this | start at |
//! |---|---|
//! | classify pictures | [`Predictor`] |
//! | get a model with published weights, with your own number of classes | [`pretrained`], [`ImageModel::reset_classifier`] |
//! | the same for other channels | [`Bundle::load_with`] |
//! | get a model with random weights | [`create`] |
//! | use your own model type | [`ImageModel`] |
//! | read, write and verify weights | [`weights`] |
//! | run a model in other runtimes | [`weights::write_onnx`] |
//! | open a data set of any layout, augment it, make batches | [`data::open`], [`Pipeline`], [`Loader`] |
//! | train | [`Recipe`], [`Trainer`] |
//! | decode and resize pictures as PIL does | [`data`] |
//!
//! The same code runs on every backend that the build's features switch on; the device is a run-time value, see [`open_device`].

pub use burn;

pub use timburn_core as core;
pub use timburn_data as data;
pub use timburn_infer as infer;
pub use timburn_models as models;
pub use timburn_train as train;
pub use timburn_weights as weights;

pub use timburn_core::{Classes, Error, Preprocessing, Result, open_device};
pub use timburn_data::{Dataset, ImageFolder, Loader, LoaderOptions, Pipeline, Splits, Transform, sample_photograph};
pub use timburn_infer::{Guess, Prediction, Predictor};
pub use timburn_models::{ImageModel, Model, ModelOptions, create};
pub use timburn_train::{FineTune, Recipe, TrainData, Trainer};
pub use timburn_weights::{Bundle, pretrained, pretrained_bundle};

/// The README's programs are compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
