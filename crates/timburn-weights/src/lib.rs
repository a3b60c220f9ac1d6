//! Weights: published ones by name, files of PyTorch and others, and timburn's one-file bundle.
//!
//! | to do this | start at |
//! |---|---|
//! | get a model with published weights | [`pretrained`]; with its preprocessing and classes [`pretrained_bundle`] |
//! | see what is published | [`catalogue()`] |
//! | read any weight file | [`read_weights`], [`from_file`] |
//! | save a model for PyTorch | [`write_safetensors`] |
//! | save everything a prediction needs | [`Bundle`] |
//! | save a model for other runtimes | [`write_onnx`] |
//!
//! The files are here so that `timburn-models` needs none.

pub mod bundle;
pub mod catalogue;
pub mod hub;
pub mod layout;
pub mod onnx;
mod pretrained;
pub mod read;
mod write;

pub use bundle::{Accuracy, ActivationRanges, Bundle, Card, ModelSpec};
pub use catalogue::{Published, catalogue};
pub use hub::{HubOptions, Progress};
pub use layout::Layout;
pub use onnx::{OnnxOptions, OnnxSignature, write_onnx};
#[cfg(feature = "embedded")]
pub use pretrained::embedded;
pub use pretrained::{from_file, pretrained, pretrained_bundle, resolve};
pub use read::{read_contents, read_weights};
pub use write::{Precision, encode_safetensors, write_safetensors};
