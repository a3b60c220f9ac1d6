//! Pictures to tensors: decoding, resizing, cropping and normalising, pixel for pixel as PIL and torchvision do it.
//!
//! | module | from | to | agreement with PIL |
//! |---|---|---|---|
//! | [`decode`] | bytes | [`Rgb8Image`] | 0 LSB, all formats but 16-bit samples and alpha (see [`decode_bytes`]) |
//! | [`mod@resize`] | [`Rgb8Image`] | [`Rgb8Image`] | 0 LSB, every filter |
//! | [`preprocess`] | [`Rgb8Image`] | `[n, 3, height, width]` f32 | 0, against torchvision |
//!
//! Decoding is strict: a file that is cut short anywhere is an error that names it, never a picture with a gray lower half.

pub mod dataset;
pub mod decode;
pub mod image;
mod jpeg;
pub mod preprocess;
pub mod resize;
#[cfg(feature = "sample")]
mod sample;
mod simd;
pub mod transform;

pub use dataset::{Content, Dataset, DynDataset, Splits};
pub use decode::{DecodeOptions, decode_bytes, decode_file};
pub use image::{Region, Rgb8Image};
pub use preprocess::{prepare, to_tensor};
pub use resize::{resize, resize_region};
#[cfg(feature = "sample")]
pub use sample::sample_photograph;
pub use transform::{Pipeline, Transform};
