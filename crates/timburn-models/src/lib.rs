//! Image classification models on Burn: tensors in, logits out.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use timburn_models::{ImageModel, ModelOptions, create};
//!
//! # fn main() -> timburn_core::Result<()> {
//! let device = timburn_core::open_device("auto")?;
//! let model = create("resnet18", &ModelOptions::classes(10), &device)?;
//! let logits = model.forward(Tensor::zeros([1, 3, 64, 64], &device));
//! assert_eq!(logits.dims(), [1, 10]);
//! # Ok(())
//! # }
//! ```
//!
//! Every family speaks the [`ImageModel`] contract; [`Model`] is any of them, chosen by name in the [`registry`]. Keys and layouts of
//! the tensors are PyTorch's, so a [`StateDict`] of torchvision's or timm's loads as it is.
//!
//! This crate touches no file, thread or clock.

pub mod blocks;
pub mod efficientnet_lite;
pub mod graph;
pub mod image_model;
pub mod mobilenet_v2;
pub mod model;
pub mod options;
pub mod registry;
pub mod resnet;
pub mod state_dict;

pub use blocks::autocast;
pub use blocks::head::Head;
pub use image_model::{ImageModel, LayerGroup, Stage, outputs_fit};
pub use model::Model;
pub use options::{ModelOptions, Stem};
pub use registry::{ARCHITECTURES, Architecture, create};
pub use state_dict::{StateDict, WeightDtype, WeightTensor, load_state_dict, parameters, state_dict, trainable_parameters};
