//! Any data set by its path alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

use super::archive::is_archive;
use super::image_folder::{FolderOptions, ImageFolder};
use super::imagenet::ImageNet;
use super::scan::SplitFolders;
use super::table::{TableOptions, open_table};
use super::{ArchiveFolder, Cifar, CifarKind, Dataset, DynDataset, Idx, IdxNames, Splits, WebDataset, WebDatasetOptions, scan};
use crate::packed::Packed;

/// How a data set of whatever layout is read; each part matters to its layouts alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Class folders.
    pub folder: FolderOptions,
    /// CSV and TSV tables.
    pub table: TableOptions,
    /// Parquet files.
    #[cfg(feature = "parquet")]
    pub parquet: super::parquet::ParquetOptions,
    /// Class folders named by ImageNet's synsets are labelled as all 1000 classes, to score a model of 1000 classes on some of them. Default
    /// false: the classes are those with a folder, as training on them wants it.
    pub as_imagenet: bool,
}

/// One layout: what it is called, and how it is opened; `None` where the path holds something else.
struct Layout {
    name: &'static str,
    open: fn(&Path, &OpenOptions) -> Result<Option<Splits>>,
}

/// The layouts, tried in this order: files and folders with tell-tale names before class folders, which nearly any folder could be.
const LAYOUTS: &[Layout] = &[
    Layout { name: "files that `timburn data pack` wrote", open: packed },
    Layout { name: "CIFAR-10 or CIFAR-100 (binary or Python batches, or their .tar.gz)", open: cifar },
    Layout { name: "MNIST's IDX files (also .gz)", open: idx },
    Layout { name: "an archive of class folders (.tar, .tar.gz)", open: archive },
    Layout { name: "tar shards of `key.jpg` and `key.cls` (WebDataset)", open: shards },
    Layout { name: "a CSV or TSV table of path and label", open: table },
    #[cfg(feature = "parquet")]
    Layout { name: "parquet files of a Hugging Face image data set", open: super::parquet::recognise },
    Layout { name: "ImageNet (class folders named by synset, or a flat `val` with its label list)", open: imagenet },
    Layout { name: "class folders, as they are or in `train`, `val` and `test`", open: folders },
];

/// Opens a data set, whatever its layout.
///
/// A data set without a validation part has none in the result: the caller decides how to [`split`](super::Dataset::split).
///
/// # Errors
/// [`DataError::Unrecognised`], which lists the layouts looked for; the errors of the layout found; [`DataError::Open`] when there is nothing.
pub fn open(path: impl AsRef<Path>) -> Result<Splits> {
    open_with(path, &OpenOptions::default())
}

/// [`open`] with options.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Splits> {
    let path = path.as_ref();
    std::fs::metadata(path).map_err(|source| DataError::Open { path: path.to_owned(), source })?;
    for layout in LAYOUTS {
        if let Some(splits) = (layout.open)(path, options)? {
            log::debug!("{}: {}", path.display(), layout.name);
            return Ok(splits);
        }
    }
    let expected = LAYOUTS.iter().map(|layout| layout.name).collect::<Vec<_>>().join("; ");
    Err(DataError::Unrecognised { path: path.into(), expected }.into())
}

/// One packed file, or a folder with `train.pack` and perhaps `validation.pack` and `test.pack`.
fn packed(path: &Path, _: &OpenOptions) -> Result<Option<Splits>> {
    let open = |path: &Path| Packed::open(path).map(|packed| Arc::new(packed) as DynDataset);
    if path.is_file() {
        return if Packed::is_at(path)? { Ok(Some(Splits { train: open(path)?, validation: None, test: None })) } else { Ok(None) };
    }
    let train = path.join("train.pack");
    if !train.is_file() {
        return Ok(None);
    }
    let train = open(&train)?;
    let part = |name: &str| {
        let file = path.join(name);
        let part = if file.is_file() { open(&file)? } else { return Ok(None) };
        super::check_same(train.classes(), part.classes())?;
        Ok::<_, Error>(Some(part))
    };
    Ok(Some(Splits { validation: part("validation.pack")?, test: part("test.pack")?, train: train.clone() }))
}

fn cifar(path: &Path, _: &OpenOptions) -> Result<Option<Splits>> {
    if Cifar::is_at(path) { Cifar::open(path, CifarKind::Auto).map(Some) } else { Ok(None) }
}

fn idx(path: &Path, _: &OpenOptions) -> Result<Option<Splits>> {
    if Idx::is_at(path) { Idx::open(path, IdxNames::Auto).map(Some) } else { Ok(None) }
}

fn archive(path: &Path, options: &OpenOptions) -> Result<Option<Splits>> {
    ArchiveFolder::open(path, &options.folder)
}

/// One shard, a pattern, a folder of shards, or a folder with a folder of shards for each split.
fn shards(path: &Path, options: &OpenOptions) -> Result<Option<Splits>> {
    let is_shards = |path: &Path| path.is_file() && is_archive(path) || path.is_dir() && scan::has_file(path, is_archive);
    let open = |path: &Path, classes: Option<&Classes>| {
        let options = WebDatasetOptions { classes: classes.cloned(), ..WebDatasetOptions::default() };
        WebDataset::open(path, &options).map(|set| Arc::new(set) as DynDataset)
    };
    let given = options.folder.classes.as_ref();
    if is_shards(path) {
        return Ok(Some(Splits { train: open(path, given)?, validation: None, test: None }));
    }
    let found = if path.is_dir() { SplitFolders::find(path)? } else { return Ok(None) };
    let Some(train) = found.train.filter(|train| is_shards(train)) else { return Ok(None) };
    let train = open(&train, given)?;
    let part =
        |folder: Option<PathBuf>| folder.filter(|folder| is_shards(folder)).map(|folder| open(&folder, Some(train.classes()))).transpose();
    Ok(Some(Splits { validation: part(found.validation)?, test: part(found.test)?, train: train.clone() }))
}

/// The file itself, or the one table in a folder that is not one of class folders (Kaggle: `train.csv` beside a folder of pictures).
fn table(path: &Path, options: &OpenOptions) -> Result<Option<Splits>> {
    let is_table = |path: &Path| path.is_file() && scan::has_extension(path, &["csv", "tsv"].map(String::from));
    if is_table(path) {
        return open_table(path, &options.table).map(Some);
    }
    let known = ["data", "labels", "metadata", "train"].iter().flat_map(|stem| [format!("{stem}.csv"), format!("{stem}.tsv")]);
    let mut tables = known.map(|name| path.join(name)).filter(|path| is_table(path));
    let (Some(only), None) = (tables.next(), tables.next()) else { return Ok(None) };
    // Many folders have a table of something else beside their pictures.
    if let Err(error) = super::parse_table(&only, &scan::read(&only)?, &options.table) {
        log::warn!("not taken for the data set's labels: {error}");
        return Ok(None);
    }
    open_table(only, &options.table).map(Some)
}

fn imagenet(path: &Path, options: &OpenOptions) -> Result<Option<Splits>> {
    let imagenet = ImageNet { all_classes: options.as_imagenet, folder: options.folder.clone(), ..ImageNet::default() };
    // A class list given is the caller's own idea of the labels.
    if !path.is_dir() || options.folder.classes.is_some() || !imagenet.recognises(path)? {
        return Ok(None);
    }
    imagenet.open(path).map(Some)
}

fn folders(path: &Path, options: &OpenOptions) -> Result<Option<Splits>> {
    if !path.is_dir() || scan::subfolders(path, options.folder.follow_links)?.is_empty() {
        return Ok(None);
    }
    ImageFolder::splits_with(path, &options.folder).map(Some)
}
