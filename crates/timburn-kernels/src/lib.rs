//! Convolutions, fully connected layers, batch normalisation, and the shortcut and pool of ResNets for Burn, forward and backward; and what an
//! optimizer does to parameters.
//!
//! On Burn's `flex` backend, in f32, or on bf16 tensors with f32 parameters, these functions run this crate's own kernels through Burn's
//! extension mechanism; on every other backend and in every other precision they are compositions of Burn's operations. Either way they
//! differentiate, with gradient checkpointing too, and mean the same.
//!
//! In bf16, sums are f32 and rounded once; so are statistics, and gradients of parameters are not rounded. Where the processor multiplies
//! pairs of bf16 (AVX512-BF16) convolutions do so, except those that are faster in f32: of 3×3 and stride 1, which take fewer products there, and
//! of small maps with many weights, which are joined over the batch. Elsewhere all products are f32.
//!
//! The kernels use the widest vectors the processor has (AVX-512, AVX2, SSE4.2, NEON, WebAssembly) or those that `TIMBURN_CPU` names,
//! and rayon's threads. What they compute depends on the shapes, the batch's among them, and on the vector width, in bf16 also on whether the processor
//! multiplies pairs, never on the number of threads: a run can be repeated bit by bit.

mod activation;
mod memory;
mod ops;
mod update;

#[cfg(feature = "flex")]
#[allow(unsafe_code, reason = "kernels: disjoint parts of an output, vectors loaded from slices")]
mod cpu;
#[cfg(feature = "flex")]
#[allow(unsafe_code, reason = "hands whole buffers to the kernels")]
mod flex;

#[cfg(feature = "flex")]
#[allow(unsafe_code, reason = "kernels: disjoint parts of an output, vectors loaded from slices")]
pub mod infer;
#[cfg(feature = "flex")]
#[allow(unsafe_code, reason = "runs kernels with the instructions that the processor was found to have")]
mod level;
#[cfg(feature = "flex")]
#[allow(unsafe_code, reason = "a vector stored to an array")]
pub mod profile;

pub use activation::Activation;
#[cfg(feature = "flex")]
pub use level::{CPU_VARIABLE, CpuChoice, CpuLevel, cpu_choice};
pub use memory::release_memory;
pub use ops::{BatchNorm, BatchNormTrained, batch_norm, batch_norm_train, conv2d, linear, max_pool_3x3_s2, subsample};
pub use update::{AdamStep, SgdStep, adam_step, lerp, sgd_step};
