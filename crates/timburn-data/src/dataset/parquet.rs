//! Hugging Face image data sets: parquet files of a picture and a label a row.

mod file;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use timburn_core::error::DataError;
use timburn_core::{Classes, Result};

use self::file::{ImageFile, Rows};
use super::open::OpenOptions;
use super::scan::{self, Split};
use super::{Content, Dataset, DynDataset, Splits, class_map, malformed, out_of_range};

/// How parquet files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOptions {
    /// The column of pictures. Default: the one of type `Image` in the file's `huggingface` metadata, else `image`, `img` or `picture`.
    pub image: Option<String>,
    /// The column of labels. Default: `label`, `labels`, `fine_label`, `class` or `target`, else the one of type `ClassLabel`.
    pub label: Option<String>,
    /// How many bytes of pictures stay in memory. Default 256 MiB; one row group stays even if it is larger.
    pub cache_bytes: u64,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { image: None, label: None, cache_bytes: 256 << 20 }
    }
}

/// Pictures and labels of parquet files as Hugging Face's `datasets` writes them: a column `image` of `{bytes, path}` and one of integers.
///
/// The class names come from the metadata (`ClassLabel`), else the classes are numbered. Labels are in memory; pictures are read a row
/// group at a time into a cache of [`ParquetOptions::cache_bytes`]. Parquet cannot be entered at a row: drawing at random from a set
/// larger than the cache reads a row group a picture. Read it in order, or pack it first. Uncompressed and snappy files (the default of
/// `datasets`) are read.
pub struct ParquetImages {
    files: Vec<ImageFile>,
    groups: Vec<Group>,
    labels: Vec<u32>,
    classes: Classes,
    cache: Mutex<VecDeque<(usize, Slot)>>,
    cache_bytes: u64,
}

/// Filled by the first reader while others of the same group wait for it.
type Slot = Arc<Mutex<Option<Rows>>>;

#[derive(Debug, Clone)]
struct Group {
    file: usize,
    index: usize,
    /// Samples of the data set that it holds.
    samples: Range<usize>,
    bytes: u64,
}

impl std::fmt::Debug for ParquetImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ParquetImages({} samples in {} files)", self.labels.len(), self.files.len())
    }
}

impl ParquetImages {
    /// Opens files of one split, in this order.
    ///
    /// # Errors
    /// [`DataError::Malformed`] for a file that is no parquet, has no such columns, a label out of range or other classes than the first.
    pub fn open(paths: &[PathBuf], options: &ParquetOptions) -> Result<Self> {
        let mut set = Self {
            files: Vec::new(),
            groups: Vec::new(),
            labels: Vec::new(),
            classes: Classes::new(Vec::new()),
            cache: Mutex::default(),
            cache_bytes: options.cache_bytes,
        };
        let mut names: Option<Option<Vec<String>>> = None;
        for path in paths {
            let opened = ImageFile::open(path, options)?;
            for (index, (rows, bytes)) in opened.groups.iter().enumerate() {
                let start = set.groups.last().map_or(0, |group: &Group| group.samples.end);
                set.groups.push(Group { file: set.files.len(), index, samples: start..start + rows, bytes: *bytes });
            }
            if names.get_or_insert_with(|| opened.names.clone()) != &opened.names {
                return Err(malformed(path, "", "the class names of the first file", "others".into()));
            }
            set.labels.extend(&opened.labels);
            set.files.push(opened.file);
        }
        let count = set.labels.iter().max().map_or(0, |max| *max as usize + 1);
        set.classes = names.flatten().map_or_else(|| Classes::new((0..count).map(|index| index.to_string()).collect()), Classes::new);
        if count > set.classes.len() {
            let path = paths.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
            return Err(malformed(path, "", &format!("labels below {}", set.classes.len()), (count - 1).to_string()));
        }
        Ok(set)
    }

    /// Opens the splits below a folder: `train-00000-of-00002.parquet`, `test/0000.parquet` and the like. Files of no split are training.
    ///
    /// # Errors
    /// As [`ParquetImages::open`]; [`DataError::Malformed`] when a shard is missing; [`DataError::UnknownClass`].
    pub fn splits(path: impl AsRef<Path>, options: &ParquetOptions) -> Result<Splits> {
        let path = path.as_ref();
        let mut parts: [Vec<PathBuf>; 3] = Default::default();
        let mut without_split = Vec::new();
        for file in files(path)? {
            match split_of(&file) {
                Some(split) => parts[split as usize].push(file),
                None => without_split.push(file),
            }
        }
        if parts[Split::Train as usize].is_empty() {
            parts[Split::Train as usize] = without_split;
        }
        let [train, validation, test] = parts;
        if train.is_empty() {
            return Err(DataError::Unrecognised { path: path.into(), expected: "parquet files of a training split".into() }.into());
        }
        let train: DynDataset = Arc::new(Self::open(complete(path, train)?.as_slice(), options)?);
        let part = |files: Vec<PathBuf>| -> Result<Option<DynDataset>> {
            if files.is_empty() {
                return Ok(None);
            }
            let set = Self::open(complete(path, files)?.as_slice(), options)?;
            Ok(Some(match class_map::check_same(train.classes(), set.classes()) {
                Ok(()) => Arc::new(set),
                Err(_) => Arc::new(set.with_classes(train.classes())?),
            }))
        };
        let (validation, test) = (part(validation)?, part(test)?);
        Ok(Splits { train, validation, test })
    }

    fn rows(&self, number: usize) -> Result<Option<Rows>> {
        let Some(group) = self.groups.get(number) else { return Ok(None) };
        let slot = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let at = cache.iter().position(|(cached, _)| *cached == number);
            let entry = at.and_then(|at| cache.remove(at)).unwrap_or_default();
            let slot = Arc::clone(&entry.1);
            cache.push_back((number, entry.1));
            let size = |(number, _): &(usize, Slot)| self.groups.get(*number).map_or(0, |group| group.bytes);
            while cache.len() > 1 && cache.iter().map(size).sum::<u64>() > self.cache_bytes {
                cache.pop_front();
            }
            slot
        };
        let mut content = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if content.is_none() {
            *content = self.files.get(group.file).map(|file| file.pictures(group.index, group.samples.len())).transpose()?;
        }
        Ok(content.clone())
    }

    fn group_of(&self, index: usize) -> Option<usize> {
        let number = self.groups.partition_point(|group| group.samples.end <= index);
        (number < self.groups.len()).then_some(number)
    }
}

impl Dataset for ParquetImages {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels.get(index).map_or(0, |&label| label as usize)
    }

    fn name(&self, index: usize) -> String {
        let Some(group) = self.group_of(index).and_then(|number| self.groups.get(number)) else { return String::new() };
        let first = self.groups.iter().find(|other| other.file == group.file).map_or(0, |first| first.samples.start);
        self.files.get(group.file).map(|file| format!("{}:{}", file.path.display(), index - first)).unwrap_or_default()
    }

    fn read(&self, index: usize) -> Result<Content> {
        let beyond = || out_of_range(index, self.len());
        let number = self.group_of(index).ok_or_else(beyond)?;
        let rows = self.rows(number)?.ok_or_else(beyond)?;
        let start = self.groups.get(number).map_or(0, |group| group.samples.start);
        // A row without bytes is an empty file to the decoder, which says so with the row's name.
        Ok(Content::Encoded(rows.get(index - start).ok_or_else(beyond)?.as_ref().map(|bytes| bytes.data().to_vec()).unwrap_or_default()))
    }
}

/// The detector of [`open`](super::open()).
pub(crate) fn recognise(path: &Path, options: &OpenOptions) -> Result<Option<Splits>> {
    if files(path)?.is_empty() {
        return Ok(None);
    }
    ParquetImages::splits(path, &options.parquet).map(Some)
}

/// The parquet files of a path: itself, or in it and in the folders below it that `datasets` uses.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let extension = ["parquet".to_owned()];
    if path.is_file() {
        return Ok(if scan::has_extension(path, &extension) { vec![path.into()] } else { Vec::new() });
    }
    let mut folders = vec![path.to_path_buf(), path.join("data")];
    for below in ["", "data", "default", "plain_text"] {
        let splits = scan::SplitFolders::find(&path.join(below)).unwrap_or_default();
        folders.push(path.join(below));
        folders.extend([splits.train, splits.validation, splits.test].into_iter().flatten());
    }
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let entries = std::fs::read_dir(folder).map_err(timburn_core::Error::io("read the folder", folder))?;
        found.extend(entries.flatten().map(|entry| entry.path()).filter(|path| scan::has_extension(path, &extension) && path.is_file()));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// By the file's name up to its first `-`, `_` or `.`, else by its folder's.
fn split_of(path: &Path) -> Option<Split> {
    let name = path.file_name()?.as_encoded_bytes();
    let stem = name.split(|byte| b"-_.".contains(byte)).next()?;
    scan::split_of(stem).or_else(|| scan::split_of(path.parent()?.file_name()?.as_encoded_bytes()))
}

/// The files, provided that as many are there as `-of-00002` says.
fn complete(path: &Path, files: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let announced =
        files.iter().filter_map(|file| file.file_stem()?.to_str()?.rsplit_once("-of-")?.1.get(..5)?.parse::<usize>().ok()).max();
    match announced.filter(|announced| path.is_dir() && *announced != files.len()) {
        Some(announced) => Err(malformed(path, "", &format!("{announced} shards of a split"), format!("{}", files.len()))),
        None => Ok(files),
    }
}
