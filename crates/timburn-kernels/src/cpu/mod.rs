//! The kernels: plain slices in, plain slices out. All `unsafe` of timburn is here and in the calls from [`flex`](crate::flex).

pub(crate) mod buffer;
pub(crate) mod conv;
pub(crate) mod convolved;
mod correlation;
mod depthwise;
pub(crate) mod element;
pub(crate) mod elementwise;
mod joined;
pub(crate) mod max_pool;
pub(crate) mod memory;
pub(crate) mod norm;
mod norm_narrow;
mod operand;
pub(crate) mod subsample;
mod sweep;
pub(crate) mod tile;
mod tile_bf16;
mod transpose;
mod weight_gradient;
mod window;
mod winograd;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_bf16;
