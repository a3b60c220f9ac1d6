//! ImageNet as it lies on people's disks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Result};

use super::class_map::{self, Lookup};
use super::file_list::FileList;
use super::image_folder::{FolderOptions, ImageFolder};
use super::label_list::{LabelList, parse_labels, parse_synset_order};
use super::scan::{self, SplitFolders};
use super::{Dataset, DynDataset, Splits, malformed};

/// Label lists of the flat validation folder by the names they go by, best first.
const LISTS: [&str; 5] = [
    "LOC_val_solution.csv",
    "val.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "synset_labels.txt",
    "ILSVRC2012_validation_ground_truth.txt",
];

/// Where those lists lie, relative to a folder above the pictures.
const PLACES: [&str; 6] = ["", "devkit/data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "caffe_ilsvrc12", "meta"];

/// How ImageNet (ILSVRC 2012) is read: class folders named by synset (`n01440764`), and a validation folder that is either the same or flat
/// with a label list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNet {
    /// Labels are indices of all 1000 classes even where there are folders for some only, so that a model of 1000 classes can be scored
    /// on them. Default true. Else the classes are those with a folder.
    pub all_classes: bool,
    /// The flat validation folder's label list. Default: looked for in the folder and up to four above it, under the usual names.
    pub labels: Option<PathBuf>,
    /// `map_clsloc.txt` of the devkit, which `ILSVRC2012_validation_ground_truth.txt` needs. Default: looked for beside that.
    pub synset_order: Option<PathBuf>,
    /// How class folders are read; the classes in it are not used.
    pub folder: FolderOptions,
}

impl Default for ImageNet {
    fn default() -> Self {
        Self { all_classes: true, labels: None, synset_order: None, folder: FolderOptions::default() }
    }
}

impl ImageNet {
    /// Opens class folders named by synset.
    ///
    /// # Errors
    /// As [`ImageFolder::open`]; [`DataError::UnknownClass`] for a folder that is no synset of ImageNet-1k.
    pub fn folders(&self, path: impl AsRef<Path>) -> Result<ImageFolder> {
        let path = path.as_ref();
        let all = Classes::imagenet();
        if self.all_classes {
            return ImageFolder::open_with(path, &FolderOptions { classes: Some(all), ..self.folder.clone() });
        }
        let set = ImageFolder::open_with(path, &FolderOptions { classes: None, ..self.folder.clone() })?;
        let lookup = Lookup::new(&all);
        let ids = set.classes().names.clone();
        let name = |id: &String| Ok(all.name(lookup.require(id, || path.display().to_string())?).unwrap_or_default().to_owned());
        let names = ids.iter().map(name).collect::<Result<_>>()?;
        Ok(set.renamed(Classes { names, ids }))
    }

    /// Opens a flat folder of validation pictures with its label list, see [`ImageNet::labels`]. Always all 1000 classes.
    ///
    /// # Errors
    /// [`DataError::Malformed`] for a list that cannot be read or lacks a picture; [`DataError::Unrecognised`] without a list;
    /// [`DataError::NoClasses`] without pictures.
    pub fn flat(&self, path: impl AsRef<Path>) -> Result<FileList> {
        self.flat_with(path.as_ref(), Classes::imagenet())
    }

    fn flat_with(&self, path: &Path, classes: Classes) -> Result<FileList> {
        let (list_path, list) = self.labels_for(path)?;
        let all = Classes::imagenet();
        let lookup = Lookup::new(&classes);
        let mut set = FileList::new(classes.clone());
        for (folder, names) in scan::pictures(path, &self.folder.extensions, self.folder.follow_links)? {
            set.enter(PathBuf::from(folder));
            for name in names {
                let text = scan::display_name(&name);
                let label = list.of(&text);
                let label =
                    label.ok_or_else(|| malformed(&list_path, "", &format!("a label for {text}"), format!("{} others", list.len())))?;
                let label = lookup.require(class_map::key(&all, label), || text)?;
                set.push(&name, label);
            }
        }
        if set.is_empty() {
            return Err(DataError::NoClasses { path: path.into(), extensions: self.folder.extensions.join(", ") }.into());
        }
        Ok(set.finish())
    }

    /// Opens a folder with `train` and `val`, or one of them; below it or, as Kaggle has it, below its `ILSVRC/Data/CLS-LOC`. A `test` folder,
    /// whose labels nobody has, is ignored. `val` alone is the data set, as it is the one to score a model on.
    ///
    /// # Errors
    /// As [`ImageNet::folders`] and [`ImageNet::flat`]; [`DataError::Unrecognised`] when there is neither folder.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Splits> {
        let path = path.as_ref();
        let found = split_folders(path)?;
        if found.is_empty() && !is_flat(path, &self.folder)? {
            return Ok(Splits { train: Arc::new(self.folders(path)?), validation: None, test: None });
        }
        let train: Option<DynDataset> =
            found.train.map(|folder| Ok::<_, timburn_core::Error>(Arc::new(self.folders(folder)?) as _)).transpose()?;
        let classes = train.as_ref().map(|train| train.classes().clone());
        let validation = found.validation.or_else(|| train.is_none().then(|| path.to_owned()));
        let validation: Option<DynDataset> = match (validation, classes) {
            (None, _) => None,
            (Some(folder), classes) if is_flat(&folder, &self.folder)? => {
                Some(Arc::new(self.flat_with(&folder, classes.unwrap_or_else(Classes::imagenet))?))
            }
            (Some(folder), None) => Some(Arc::new(self.folders(folder)?)),
            (Some(folder), classes) => Some(Arc::new(ImageFolder::open_with(folder, &FolderOptions { classes, ..self.folder.clone() })?)),
        };
        match (train, validation) {
            (Some(train), validation) => Ok(Splits { train, validation, test: None }),
            (None, Some(only)) => Ok(Splits { train: only, validation: None, test: None }),
            (None, None) => Err(DataError::Unrecognised { path: path.into(), expected: "`train` or `val` with ImageNet".into() }.into()),
        }
    }

    /// Whether the folder holds ImageNet: class folders that are all synsets, as such or in `train` or `val`, or a flat `val` with its list.
    pub(crate) fn recognises(&self, path: &Path) -> Result<bool> {
        let folders = split_folders(path)?;
        let root = folders.train.as_deref().or(folders.validation.as_deref()).unwrap_or(path);
        let names = scan::subfolders(root, self.folder.follow_links)?;
        if names.is_empty() {
            return Ok(is_flat(root, &self.folder)? && (self.labels.is_some() || self.find_list(root).is_some()));
        }
        let classes = Classes::imagenet();
        let lookup = Lookup::new(&classes);
        Ok(names.iter().all(|name| name.to_str().is_some_and(|name| class_map::is_wnid(name) && lookup.find(name).is_some())))
    }

    fn labels_for(&self, folder: &Path) -> Result<(PathBuf, LabelList)> {
        let Some(path) = self.labels.clone().or_else(|| self.find_list(folder)) else {
            let expected = format!("a label list for these pictures: {}", LISTS.join(", "));
            return Err(DataError::Unrecognised { path: folder.into(), expected }.into());
        };
        let beside = path.parent().map(|folder| folder.join("map_clsloc.txt")).filter(|path| path.is_file());
        let order = match self.synset_order.clone().or(beside).or_else(|| find_near(folder, &["map_clsloc.txt"])) {
            Some(order) => Some(parse_synset_order(&order, &scan::read(&order)?)?),
            None => None,
        };
        let list = parse_labels(&path, &scan::read(&path)?, order.as_deref())?;
        Ok((path, list))
    }

    fn find_list(&self, folder: &Path) -> Option<PathBuf> {
        find_near(folder, &LISTS)
    }
}

/// `train` and `val` of a folder, or of the folder where Kaggle's archive has them.
fn split_folders(path: &Path) -> Result<SplitFolders> {
    let kaggle = ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"].map(|below| path.join(below));
    SplitFolders::find(kaggle.iter().find(|folder| folder.is_dir()).map_or(path, PathBuf::as_path))
}

/// Whether a folder holds pictures and no visible folder.
fn is_flat(folder: &Path, options: &FolderOptions) -> Result<bool> {
    if !scan::subfolders(folder, options.follow_links)?.is_empty() {
        return Ok(false);
    }
    let mut entries = std::fs::read_dir(folder).map_err(timburn_core::Error::io("read the folder", folder))?;
    Ok(entries.any(|entry| entry.is_ok_and(|entry| scan::has_extension(&entry.path(), &options.extensions))))
}

/// A file with one of these names in the folder, or in a usual place below it or up to four folders above (Kaggle's list is four above
/// its `ILSVRC/Data/CLS-LOC/val`).
fn find_near(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    // The root of the file system is nobody's data set.
    let folders: Vec<&Path> = folder.ancestors().take(5).filter(|folder| folder.parent().is_some()).collect();
    let candidates = folders.iter().flat_map(|folder| PLACES.iter().map(|place| folder.join(OsStr::new(place))));
    candidates.flat_map(|place| names.iter().map(move |name| place.join(name))).find(|path| path.is_file())
}
