//! Data sets: labelled pictures by index, wherever they lie.

pub mod archive;
mod cifar;
mod cifar_names;
mod cifar_source;
pub mod download;
#[doc(hidden)]
pub mod fuzzing;
mod idx;
mod pickle;
mod positioned;
mod shard_names;
mod tar_walk;
mod webdataset;

pub use cifar::{Cifar, CifarKind};
pub use idx::{Idx, IdxNames};
pub use webdataset::{WebDataset, WebDatasetOptions};

use std::sync::Arc;

use timburn_core::{Classes, Result};

use crate::decode::{DecodeOptions, decode_bytes};
use crate::image::Rgb8Image;

/// What a data set holds of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A picture file, still to be decoded.
    Encoded(Vec<u8>),
    /// Pixels, as CIFAR's and MNIST's files hold them.
    Pixels(Rgb8Image),
}

impl Content {
    /// The picture; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`decode_bytes`].
    pub fn decode(self, name: &str, options: &DecodeOptions) -> Result<Rgb8Image> {
        match self {
            Self::Encoded(bytes) => decode_bytes(&bytes, name, options),
            Self::Pixels(image) => Ok(image),
        }
    }
}

/// A set of labelled pictures.
///
/// Labels and names are at hand without touching a picture; [`Dataset::read`] is called from several threads at once.
/// Indices are `0..len()`, in an order that depends on the data alone; methods given an index beyond it return an error or 0, never panic.
pub trait Dataset: Send + Sync {
    /// The classes, in the order of the labels.
    fn classes(&self) -> &Classes;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Class index of a sample, `0..classes().len()`.
    fn label(&self, index: usize) -> usize;

    /// What errors and reports call a sample: its path, or `archive.tar:member`, or `file.bin:17`.
    fn name(&self, index: usize) -> String;

    /// Fetches a sample's content.
    ///
    /// # Errors
    /// An [`Error`](timburn_core::Error) that names the sample, when it cannot be read.
    fn read(&self, index: usize) -> Result<Content>;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A data set whose type is known at run time only.
pub type DynDataset = Arc<dyn Dataset>;

macro_rules! forward {
    ($($target:ty),*) => {$(
        impl<D: Dataset + ?Sized> Dataset for $target {
            fn classes(&self) -> &Classes {
                (**self).classes()
            }
            fn len(&self) -> usize {
                (**self).len()
            }
            fn label(&self, index: usize) -> usize {
                (**self).label(index)
            }
            fn name(&self, index: usize) -> String {
                (**self).name(index)
            }
            fn read(&self, index: usize) -> Result<Content> {
                (**self).read(index)
            }
        }
    )*};
}
forward!(&D, Box<D>, Arc<D>);

/// A data set's parts; all of them have the training set's classes in the training set's order.
#[derive(Clone)]
pub struct Splits {
    /// What a model learns from.
    pub train: DynDataset,
    /// What choices are made by (early stopping, best checkpoint).
    pub validation: Option<DynDataset>,
    /// What the final score comes from, and nothing else.
    pub test: Option<DynDataset>,
}

impl Splits {
    /// The classes of every part.
    pub fn classes(&self) -> &Classes {
        self.train.classes()
    }
}
