//! Kernels in eight bits: activations of unsigned bytes, weights of signed ones, sums of 32 bits.
//!
//! A byte means `scale * (byte - zero_point)` ([`Quantization`]), one scale for an activation; weights have a scale for each output channel
//! and are symmetric around zero. Products are summed exactly. What follows (scale, bias, shortcut, activation, rounding to the nearest byte,
//! ties to even) is a fixed sequence of f32 operations without fused ones, so that **every machine computes the same bytes**, with whatever
//! instructions: AVX512-VNNI, AVX-VNNI, AVX2, or none of these.
//!
//! Maps are [`Map::bytes`](super::Map::bytes), blocks of sixteen channels, or planar; their border holds the zero point.
//!
//! Scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018), with
//! scales for each channel as in Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference" (2018).

mod conv;
mod dense;
mod depthwise;
mod isa;
mod picture;
mod plane;
mod quantization;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tile_x86;

#[cfg(test)]
mod tests;

pub use conv::{Conv, Quantizations};
use isa::Isa;
pub use isa::is_accelerated;
pub use picture::{from_nchw, to_nchw};
pub use plane::{average_pool, global_average_pool, max_pool, scale, subsample};
pub use quantization::Quantization;

/// Channels of a block: bytes of a vector that every machine has.
pub const LANES: usize = 16;
/// Consecutive input channels (of a planar map and of a depthwise kernel, taps) whose products are summed by one instruction.
const GROUP: usize = 4;
