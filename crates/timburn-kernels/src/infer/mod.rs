//! Kernels of an inference graph on the CPU: plain slices, no tensors.
//!
//! Activations are in a layout of their own, [`Map`]: channels in blocks as wide as a vector, planes inside a border of zeros, so that
//! a convolution needs no copy of its input. Parameters are packed once, when a layer is made. Bias, the addition of a residual and the
//! activation happen while a tile of the output is in registers.
//!
//! Activations and dense weights are [`Element`]s: f32, or [`bf16`] where the processor [multiplies it](supports_bf16). Sums, biases and
//! depthwise weights are f32 in either case; a value is rounded when it is stored.
//!
//! What is computed depends on the shapes and on the vector width, never on the number of threads. The number of images matters to
//! nothing but the schedule: each image's values are the same, bit by bit, in any batch.

mod buffer;
mod conv;
mod dense;
mod depthwise;
mod element;
mod expand;
pub mod int8;
mod map;
mod pages;
mod pool;
mod tile;
mod tile_bf16;
mod winograd;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_bf16;

pub use buffer::{Buffer, Plain};
pub use conv::{Conv, ConvSpec, Epilogue, Padding};
pub use element::Element;
pub use expand::{expand_depthwise, expands};
pub use half::bf16;
pub use map::{Border, Map};
pub use pool::{average_pool, global_average_pool, max_pool, scale, subsample};

/// Lanes (f32) of a vector of this machine, by which the kernels are chosen: channels of a block.
pub fn vector_lanes() -> usize {
    crate::cpu::tile::TileShape::detect().lanes
}

/// Whether this processor multiplies bf16: AVX512-BF16. Without it there is no [`Conv`] of bf16.
pub fn supports_bf16() -> bool {
    tile_bf16::supported()
}

/// An activation: its layout and its values.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T = f32> {
    /// Layout.
    pub map: &'a Map,
    /// At least `map.len(images)` values.
    pub values: &'a [T],
}

/// An activation to be written. Its border is the caller's to clear; kernels write pixels only.
#[derive(Debug)]
pub struct ViewMut<'a, T = f32> {
    /// Layout.
    pub map: &'a Map,
    /// At least `map.len(images)` values.
    pub values: &'a mut [T],
}
