//! Pictures to tensors: decoding, resizing, cropping and normalising, pixel for pixel as PIL and torchvision do it.
//!
//! | module | from | to | agreement with PIL |
//! |---|---|---|---|
//! | [`decode`] | bytes | [`Rgb8Image`] | 0 LSB, all formats but 16-bit samples and alpha (see [`decode_bytes`]) |
//! | [`mod@resize`] | [`Rgb8Image`] | [`Rgb8Image`] | 0 LSB, every filter |
//! | [`preprocess`] | [`Rgb8Image`] | `[n, 3, height, width]` f32 | 0, against torchvision |
//! | [`mod@loader`] | a [`Dataset`] | [`Batch`]es, in order, made by worker threads | |
//!
//! Decoding is strict: a file that is cut short anywhere is an error that names it, never a picture with a gray lower half.

pub mod dataset;
pub mod decode;
pub mod image;
pub mod inspect;
mod jpeg;
pub mod loader;
pub mod packed;
pub mod picture;
pub mod preprocess;
pub mod resize;
#[cfg(feature = "sample")]
mod sample;
mod simd;
pub mod transform;

pub use dataset::{
    Content, Dataset, DynDataset, FolderOptions, ImageFolder, ImageNet, OpenOptions, Splits, TableOptions, check_same, find_duplicates,
    find_shared, load_classes, open, open_table, open_with, save_classes,
};
pub use decode::{DecodeOptions, DecodedRegion, decode_bytes, decode_file, decode_region, recycle};
pub use image::{Region, Rgb8Image};
pub use inspect::{Inspection, inspect};
pub use loader::{Batch, Loader, LoaderOptions, Prepare};
pub use packed::Packed;
pub use preprocess::prepare;
#[cfg(feature = "tensor")]
pub use preprocess::to_tensor;
pub use resize::{resize, resize_region};
#[cfg(feature = "sample")]
pub use sample::sample_photograph;
pub use transform::{Pipeline, Transform};
