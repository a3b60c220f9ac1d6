//! Class folders: `flowers/rose/1.jpg` is a rose.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Result};

use super::class_map::{self, Lookup};
use super::file_list::FileList;
use super::scan::{self, SplitFolders};
use super::{Content, Dataset, DynDataset, Splits, malformed};

/// Extensions of the formats that timburn decodes.
pub const PICTURE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff"];

/// How class folders are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderOptions {
    /// Extensions of pictures, without the dot, in whatever case. Default [`PICTURE_EXTENSIONS`]. The format itself is known by content.
    pub extensions: Vec<String>,
    /// A class folder without pictures keeps its index instead of being an error. Default false.
    pub allow_empty: bool,
    /// A single class is no error. Default false.
    pub allow_one_class: bool,
    /// The classes there may be, in the order of the labels; folders are matched by id or name. Default: the folders there are, sorted.
    pub classes: Option<Classes>,
    /// Links to files and folders are followed; a loop is an error. Default true, as in torchvision. Else they are ignored.
    pub follow_links: bool,
}

impl Default for FolderOptions {
    fn default() -> Self {
        let extensions = PICTURE_EXTENSIONS.map(String::from).into();
        Self { extensions, allow_empty: false, allow_one_class: false, classes: None, follow_links: true }
    }
}

/// A data set of class folders, as torchvision's `ImageFolder`: each sub-folder is a class, every picture anywhere below it a sample.
///
/// Classes and files are sorted bytewise by name, which for UTF-8 is Python's order. Hidden files and folders (`.DS_Store`) are ignored,
/// files of other extensions too. Names are kept byte for byte and never normalised; in the class names, bytes that are not UTF-8 show as
/// `\xE9`. Opening reads folders only; a file takes about 16 bytes and its name in memory.
#[derive(Debug)]
pub struct ImageFolder(FileList);

impl ImageFolder {
    /// Opens a folder of class folders.
    ///
    /// # Errors
    /// [`DataError`]: `NoClasses`, `OneClass`, `EmptyClass`, `UnknownClass`, `LinkLoop`, `Unrecognised` when the folders are splits rather
    /// than classes; [`timburn_core::Error::Io`] for a folder or link that cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &FolderOptions::default())
    }

    /// [`ImageFolder::open`] with options.
    ///
    /// # Errors
    /// As [`ImageFolder::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &FolderOptions) -> Result<Self> {
        let root = path.as_ref();
        let folders = scan::subfolders(root, options.follow_links)?;
        refuse_splits(root, &folders, options)?;
        let names: Vec<String> = folders.iter().map(|name| scan::display_name(name)).collect();
        let mut seen = HashMap::new();
        for (name, folder) in names.iter().zip(&folders) {
            if let Some(other) = seen.insert(name, folder) {
                return Err(malformed(
                    root,
                    "",
                    "folder names that stay apart as text",
                    format!("{other:?} and {folder:?}, both `{name}`"),
                ));
            }
        }
        let classes = options.classes.clone().unwrap_or_else(|| Classes::new(names.clone()));
        let lookup = Lookup::new(&classes);
        let mut list = FileList::new(classes.clone());
        let mut empty = Vec::new();
        let mut present = vec![false; classes.len()];
        for (folder, name) in folders.iter().zip(&names) {
            let label = lookup.require(name, || root.display().to_string())?;
            if std::mem::replace(&mut present[label], true) {
                return Err(malformed(root, "", "one folder for each class", format!("two for `{}`", class_map::key(&classes, label))));
            }
            let pictures = scan::pictures(&root.join(folder), &options.extensions, options.follow_links)?;
            if pictures.is_empty() {
                empty.push(name);
            }
            for (folder, files) in pictures {
                list.enter(PathBuf::from(folder));
                files.iter().for_each(|file| list.push(file, label));
            }
        }
        let extensions = || options.extensions.join(", ");
        if list.is_empty() {
            return Err(DataError::NoClasses { path: root.into(), extensions: extensions() }.into());
        }
        if let Some(class) = empty.first().filter(|_| !options.allow_empty) {
            return Err(DataError::EmptyClass { path: root.into(), class: (*class).clone(), extensions: extensions() }.into());
        }
        if classes.len() == 1 && !options.allow_one_class {
            return Err(DataError::OneClass { path: root.into(), class: classes.names.concat() }.into());
        }
        warn_of_missing(root, &classes, &present);
        Ok(Self(list.finish()))
    }

    /// Opens a folder with the split folders `train` (or `training`), `val` (`valid`, `validation`) and `test`, in whatever case, each with
    /// class folders. The training set's classes are the classes of all; a folder without split folders is all training set, and so is
    /// the one split of a folder that has no `train`.
    ///
    /// # Errors
    /// As [`ImageFolder::open`] for each split. A validation class that training lacks is [`DataError::UnknownClass`], a missing one a
    /// logged warning.
    pub fn splits(path: impl AsRef<Path>) -> Result<Splits> {
        Self::splits_with(path, &FolderOptions::default())
    }

    /// [`ImageFolder::splits`] with options.
    ///
    /// # Errors
    /// As [`ImageFolder::splits`].
    pub fn splits_with(path: impl AsRef<Path>, options: &FolderOptions) -> Result<Splits> {
        let root = path.as_ref();
        let found = SplitFolders::find(root)?;
        let open = |path: &Path, options: &FolderOptions| Self::open_with(path, options).map(|set| Arc::new(set) as DynDataset);
        let Some(train) = found.train.as_ref().or(found.validation.as_ref()).or(found.test.as_ref()) else {
            return Ok(Splits { train: open(root, options)?, validation: None, test: None });
        };
        if found.train.is_none() {
            log::warn!("{}: no folder `train`; {} is the data set", root.display(), train.display());
        }
        let train_set = open(train, options)?;
        let enforced = FolderOptions { classes: Some(train_set.classes().clone()), ..options.clone() };
        let part = |folder: Option<&PathBuf>| folder.filter(|&folder| folder != train).map(|folder| open(folder, &enforced)).transpose();
        // Kaggle's test folders hold pictures without classes: nothing that a score could come from.
        let labelled = |folder: &&PathBuf| match scan::subfolders(folder, options.follow_links) {
            Ok(folders) if folders.is_empty() => {
                log::warn!("{}: no class folders, so it is not used", folder.display());
                false
            }
            _ => true,
        };
        let test = part(found.test.as_ref().filter(labelled))?;
        Ok(Splits { train: train_set, validation: part(found.validation.as_ref())?, test })
    }

    /// Path of a sample's file, byte for byte; `None` beyond the end.
    pub fn path(&self, index: usize) -> Option<PathBuf> {
        self.0.path(index)
    }

    /// The same files with other names for the classes.
    pub(crate) fn renamed(mut self, classes: Classes) -> Self {
        self.0.set_classes(classes);
        self
    }
}

/// `train` and `test` are hardly the classes of anything: opened as such they would teach a model to tell the splits apart.
fn refuse_splits(root: &Path, folders: &[std::ffi::OsString], options: &FolderOptions) -> Result<()> {
    let splits = !folders.is_empty() && folders.iter().all(|name| scan::split_of(name.as_encoded_bytes()).is_some());
    if !splits || options.classes.is_some() {
        return Ok(());
    }
    for folder in folders {
        if scan::subfolders(&root.join(folder), options.follow_links)?.is_empty() {
            return Ok(());
        }
    }
    let expected = "class folders; these are splits: open them with `ImageFolder::splits`, or one of them".into();
    Err(DataError::Unrecognised { path: root.into(), expected }.into())
}

fn warn_of_missing(root: &Path, classes: &Classes, present: &[bool]) {
    let missing: Vec<&str> = present.iter().enumerate().filter(|(_, there)| !**there).map(|(i, _)| class_map::key(classes, i)).collect();
    if let [first, ..] = missing[..] {
        log::warn!("{}: {} of {} classes have no folder, `{first}` among them", root.display(), missing.len(), classes.len());
    }
}

impl Dataset for ImageFolder {
    fn classes(&self) -> &Classes {
        self.0.classes()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn label(&self, index: usize) -> usize {
        self.0.label(index)
    }
    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }
    fn read(&self, index: usize) -> Result<Content> {
        self.0.read(index)
    }
    fn content_len(&self, index: usize) -> Option<u64> {
        self.0.content_len(index)
    }
}
