//! Data sets: labelled pictures by index, wherever they lie.

pub mod archive;
mod archive_folder;
mod cifar;
mod cifar_names;
mod cifar_source;
mod class_map;
pub mod download;
mod duplicates;
mod file_list;
#[doc(hidden)]
pub mod fuzzing;
mod idx;
mod image_folder;
mod imagenet;
mod label_list;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
mod path_table;
mod pickle;
mod positioned;
mod scan;
mod shard_names;
mod split;
mod table;
mod tar_walk;
mod view;
mod webdataset;

use std::path::Path;
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

pub use archive_folder::ArchiveFolder;
pub use cifar::{Cifar, CifarKind};
pub use class_map::{check_same, load_classes, parse_classes, save_classes};
pub use duplicates::{find_duplicates, find_shared};
pub use file_list::FileList;
pub use idx::{Idx, IdxNames};
pub use image_folder::{FolderOptions, ImageFolder, PICTURE_EXTENSIONS};
pub use imagenet::ImageNet;
pub use label_list::{LabelList, parse_labels, parse_synset_order};
pub use open::{OpenOptions, open, open_with};
#[cfg(feature = "parquet")]
pub use parquet::{ParquetImages, ParquetOptions};
pub use table::{Column, TableOptions, open_table, parse_table};
pub use view::{Concat, View};
pub use webdataset::{WebDataset, WebDatasetOptions};

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
    /// An [`Error`] that names the sample, when it cannot be read.
    fn read(&self, index: usize) -> Result<Content>;

    /// Number of bytes of a sample's content where that is known without reading it; equal contents have equal lengths.
    fn content_len(&self, index: usize) -> Option<u64> {
        let _ = index;
        None
    }

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Divides the set into training and validation: `train_fraction` of every class for training, to the nearest picture, drawn by `seed`.
    ///
    /// Leak-free: byte-identical pictures land on one side (they weigh as many as they are). Finding them reads the pictures whose length
    /// another one has: up to the whole set, once. Identical pictures with different labels, which no split can mend, are logged as a
    /// warning and go to training. A class of two pictures or more is on both sides; the only picture of a class goes to training. Both
    /// sides keep the set's order.
    ///
    /// # Errors
    /// [`Error::Argument`] unless `0 < train_fraction < 1`.
    fn split(self, train_fraction: f64, seed: u64) -> Result<Splits>
    where
        Self: Sized + 'static,
    {
        split::split(Arc::new(self), &[train_fraction, 1.0 - train_fraction], seed)
    }

    /// Divides the set into training, validation and, from what is left, test; see [`Dataset::split`].
    ///
    /// # Errors
    /// [`Error::Argument`] unless both fractions are positive and their sum is below 1.
    fn split3(self, train_fraction: f64, validation_fraction: f64, seed: u64) -> Result<Splits>
    where
        Self: Sized + 'static,
    {
        split::split(Arc::new(self), &[train_fraction, validation_fraction, 1.0 - train_fraction - validation_fraction], seed)
    }

    /// The samples at these indices, in this order; an index may come more than once.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index beyond the end.
    fn subset(self, indices: Vec<usize>) -> Result<View>
    where
        Self: Sized + 'static,
    {
        View::subset(Arc::new(self), indices)
    }

    /// `count` samples of every class, drawn by `seed`, in the set's order. A class with fewer is taken whole, with a logged warning.
    fn per_class(self, count: usize, seed: u64) -> View
    where
        Self: Sized + 'static,
    {
        View::per_class(Arc::new(self), count, seed)
    }

    /// The first `count` samples, or all. Mind that most sets are sorted by class: [`Dataset::per_class`] takes of each.
    fn take(self, count: usize) -> View
    where
        Self: Sized + 'static,
    {
        View::take(Arc::new(self), count)
    }

    /// This set's samples, then the other's. The classes must be the same; another order of the other's is adapted to this one's.
    ///
    /// # Errors
    /// [`DataError::ClassesDiffer`].
    fn concat(self, other: impl Dataset + 'static) -> Result<Concat>
    where
        Self: Sized + 'static,
    {
        Concat::new(Arc::new(self), Arc::new(other))
    }

    /// The same samples labelled by another class list, matched by id or name: the training set's, or a model's.
    ///
    /// # Errors
    /// [`DataError::UnknownClass`] for a class of this set that `classes` lacks. Classes that this set lacks are a logged warning.
    fn with_classes(self, classes: &Classes) -> Result<View>
    where
        Self: Sized + 'static,
    {
        View::with_classes(Arc::new(self), classes)
    }

    /// The samples of these classes (ids or names) alone, which become classes 0, 1, … in the order given.
    ///
    /// # Errors
    /// [`DataError::UnknownClass`]; [`Error::Argument`] for a class named twice.
    fn only_classes(self, classes: &[&str]) -> Result<View>
    where
        Self: Sized + 'static,
    {
        View::only_classes(Arc::new(self), classes)
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
            fn content_len(&self, index: usize) -> Option<u64> {
                (**self).content_len(index)
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

pub(crate) fn out_of_range(index: usize, len: usize) -> Error {
    Error::Argument { name: "index", value: index.to_string(), expected: format!("below {len}, the number of samples") }
}

/// `at` says where in the file: `, line 3`, or nothing.
pub(crate) fn malformed(path: &Path, at: &str, expected: &str, found: String) -> Error {
    DataError::Malformed { path: path.into(), at: at.into(), expected: expected.into(), found }.into()
}
