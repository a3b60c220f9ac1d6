//! Folders read to the end: pictures found below a folder, links followed, every failure reported.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use timburn_core::error::DataError;
use timburn_core::{Error, Result};
use walkdir::WalkDir;

/// Whether a file or folder is hidden: its name begins with a dot (`.DS_Store`, `._cat.jpg`, `.git`), or it is what macOS adds to archives.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.') || name == "__MACOSX"
}

/// Whether the file's extension is one of these, in whatever case.
pub(crate) fn has_extension(path: &Path, extensions: &[String]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// Whether a file of which `wanted` holds lies right in the folder. An unreadable folder has none; whoever opens it will say so.
pub(crate) fn has_file(folder: &Path, wanted: impl Fn(&Path) -> bool) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.is_file() && wanted(&path))
}

/// The visible sub-folders of a folder, sorted bytewise by name.
pub(crate) fn subfolders(folder: &Path, follow_links: bool) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        let path = entry.path();
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        let is_folder = if kind.is_symlink() {
            follow_links && std::fs::metadata(&path).map_err(Error::io("follow the link", &path))?.is_dir()
        } else {
            kind.is_dir()
        };
        if is_folder {
            names.push(entry.file_name());
        }
    }
    names.sort_unstable_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(names)
}

/// The pictures anywhere below a folder, by the folder they lie in; both sorted bytewise, which is torchvision's order.
pub(crate) fn pictures(root: &Path, extensions: &[String], follow_links: bool) -> Result<BTreeMap<OsString, Vec<OsString>>> {
    let mut found: BTreeMap<OsString, Vec<OsString>> = BTreeMap::new();
    let walk = WalkDir::new(root).follow_links(follow_links).into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name())) {
        let entry = entry.map_err(|error| walk_error(root, error))?;
        if entry.file_type().is_file() && has_extension(entry.path(), extensions) {
            let folder = entry.path().parent().unwrap_or(root).as_os_str();
            match found.get_mut(folder) {
                Some(names) => names.push(entry.file_name().to_owned()),
                None => drop(found.insert(folder.to_owned(), vec![entry.file_name().to_owned()])),
            }
        }
    }
    for names in found.values_mut() {
        names.sort_unstable_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    }
    Ok(found)
}

fn walk_error(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_path_buf();
    if let Some(target) = error.loop_ancestor() {
        return DataError::LinkLoop { path, target: target.to_path_buf() }.into();
    }
    let source = error.into_io_error().unwrap_or_else(|| std::io::ErrorKind::Other.into());
    Error::Io { action: "read", path, source }
}

/// A name as text: as it is where it is Unicode; else each byte that is not becomes `\xE9` and each backslash two.
pub(crate) fn display_name(name: &OsStr) -> String {
    if let Some(name) = name.to_str() {
        return name.to_owned();
    }
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

/// A file's text in full; label lists and class lists are small.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io("read", path))
}

/// The sub-folders of `root` that hold its splits.
#[derive(Debug, Default)]
pub(crate) struct SplitFolders {
    pub(crate) train: Option<PathBuf>,
    pub(crate) validation: Option<PathBuf>,
    pub(crate) test: Option<PathBuf>,
}

/// What a split calls itself, whatever the case.
pub(crate) fn split_of(name: &[u8]) -> Option<Split> {
    let is = |names: &[&str]| names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name));
    if is(&["train", "training"]) {
        Some(Split::Train)
    } else if is(&["val", "valid", "validation", "dev"]) {
        Some(Split::Validation)
    } else if is(&["test", "testing"]) {
        Some(Split::Test)
    } else {
        None
    }
}

/// One of a data set's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    Validation,
    Test,
}

impl SplitFolders {
    /// The split folders of `root`; two folders for one split (`val` and `valid`) are an error.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let mut found = Self::default();
        for name in subfolders(root, true)? {
            let slot = match split_of(name.as_encoded_bytes()) {
                Some(Split::Train) => &mut found.train,
                Some(Split::Validation) => &mut found.validation,
                Some(Split::Test) => &mut found.test,
                None => continue,
            };
            let path = root.join(&name);
            if let Some(other) = slot.replace(path) {
                return Err(super::malformed(
                    root,
                    "",
                    "one folder for each split",
                    format!("{} and {}", other.display(), display_name(&name)),
                ));
            }
        }
        Ok(found)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.train.is_none() && self.validation.is_none() && self.test.is_none()
    }
}
