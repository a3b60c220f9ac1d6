//! Layers that the families share. Weights are laid out and named as PyTorch lays them out and names them.

mod autocast;
mod batch_norm;
mod builder;
mod classifier;
mod conv;
mod cosine;
mod drop_path;
pub mod head;
mod linear;
mod pool;
mod squeeze_excite;

pub use autocast::autocast;
pub use batch_norm::{BatchNorm2d, BatchNormMode, RunningStat};
pub use builder::{Builder, Init};
pub use classifier::{Classifier, ClassifierConfig, HeadStep};
pub use conv::{Conv2d, Conv2dConfig, Padding, fold_batch_norm};
pub use cosine::CosineLinear;
pub use drop_path::DropPath;
pub use head::{Cosine, Head, HeadLayer, HeadLayers, LayerStyle, Mlp, Output, Pool};
pub use linear::Linear;
pub use pool::{global_average_pool, global_max_pool, max_pool_3x3_s2};
pub use squeeze_excite::SqueezeExcite;
pub use timburn_kernels::Activation;
