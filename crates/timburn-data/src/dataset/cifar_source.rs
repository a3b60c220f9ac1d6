use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use timburn_core::error::DataError;
use timburn_core::{Error, Result};

use super::archive::{self, display, is_archive};
use super::cifar::CifarKind;
use super::pickle::Pickle;
use super::positioned::PositionedFile;

/// All of CIFAR takes 185 MB; what is larger is something else.
const LIMIT: u64 = 512 << 20;

/// The way the authors wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Pickle,
}

const FORMS: [(Form, CifarKind); 4] = [
    (Form::Binary, CifarKind::Ten),
    (Form::Pickle, CifarKind::Ten),
    (Form::Binary, CifarKind::Hundred { coarse: false }),
    (Form::Pickle, CifarKind::Hundred { coarse: false }),
];

impl Form {
    pub(super) fn train_files(self, kind: CifarKind) -> &'static [&'static str] {
        match (self, kind) {
            (Self::Binary, CifarKind::Hundred { .. }) => &["train.bin"],
            (Self::Pickle, CifarKind::Hundred { .. }) => &["train"],
            (Self::Binary, _) => &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
            (Self::Pickle, _) => &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        }
    }

    pub(super) fn test_file(self, kind: CifarKind) -> &'static str {
        match (self, kind) {
            (Self::Binary, CifarKind::Hundred { .. }) => "test.bin",
            (Self::Pickle, CifarKind::Hundred { .. }) => "test",
            (Self::Binary, _) => "test_batch.bin",
            (Self::Pickle, _) => "test_batch",
        }
    }

    pub(super) fn names_file(self, kind: CifarKind) -> &'static str {
        match (self, kind) {
            (Self::Pickle, CifarKind::Hundred { .. }) => "meta",
            (Self::Binary, CifarKind::Hundred { coarse: true }) => "coarse_label_names.txt",
            (Self::Binary, CifarKind::Hundred { coarse: false }) => "fine_label_names.txt",
            (Self::Binary, _) => "batches.meta.txt",
            (Self::Pickle, _) => "batches.meta",
        }
    }

    /// Name of the official folder.
    fn folder(self, kind: CifarKind) -> &'static str {
        match (self, kind) {
            (Self::Binary, CifarKind::Hundred { .. }) => "cifar-100-binary",
            (Self::Pickle, CifarKind::Hundred { .. }) => "cifar-100-python",
            (Self::Binary, _) => "cifar-10-batches-bin",
            (Self::Pickle, _) => "cifar-10-batches-py",
        }
    }

    /// Name of the official archive.
    fn archive(self, kind: CifarKind) -> &'static str {
        match (self, kind) {
            (Self::Binary, CifarKind::Hundred { .. }) => "cifar-100-binary.tar.gz",
            (Self::Pickle, CifarKind::Hundred { .. }) => "cifar-100-python.tar.gz",
            (Self::Binary, _) => "cifar-10-binary.tar.gz",
            (Self::Pickle, _) => "cifar-10-python.tar.gz",
        }
    }

    /// All files of the set.
    fn files(self, kind: CifarKind) -> Vec<&'static str> {
        let mut files = self.train_files(kind).to_vec();
        files.extend([self.test_file(kind), self.names_file(kind)]);
        files
    }

    /// Whether these file names are such a set's. `train` and `meta` alone are names that anything may have, so both must be there.
    fn fits(self, kind: CifarKind, has: &dyn Fn(&str) -> bool) -> bool {
        let marks: &[&str] = match (self, kind) {
            (Self::Pickle, CifarKind::Hundred { .. }) => &["train", "meta"],
            _ => self.train_files(kind).get(..1).unwrap_or_default(),
        };
        marks.iter().all(|name| has(name))
    }
}

/// A file of the set, in a folder or an archive.
pub(super) struct Part {
    /// The file, or the archive it is in.
    pub(super) path: PathBuf,
    /// Name of the member of an archive.
    pub(super) member: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl Part {
    pub(super) fn name(&self) -> String {
        let path = self.path.display();
        self.member.as_ref().map_or_else(|| path.to_string(), |member| format!("{path}:{member}"))
    }

    pub(super) fn malformed(&self, expected: &str, found: String) -> Error {
        let at = self.member.as_ref().map(|member| format!(": {member}")).unwrap_or_default();
        DataError::Malformed { path: self.path.clone(), at, expected: expected.into(), found }.into()
    }

    pub(super) fn pickle(&self) -> Result<Pickle<'_>> {
        Pickle::parse(&self.bytes)
            .map_err(|fault| self.malformed("a pickle of plain data", format!("{} (byte {})", fault.found, fault.position)))
    }
}

/// A set that was found.
pub(super) struct Files {
    pub(super) form: Form,
    pub(super) kind: CifarKind,
    /// By file name.
    pub(super) files: BTreeMap<String, Part>,
}

pub(super) fn is_at(path: &Path) -> bool {
    if path.is_dir() { !candidates(path, CifarKind::Auto).is_empty() } else { official_archive(path) }
}

fn official_archive(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    is_archive(path) && FORMS.iter().any(|(form, kind)| name.starts_with(form.archive(*kind).trim_end_matches(".tar.gz")))
}

/// Sets in a folder: their files in it, in the official sub-folder, or the official archive.
fn candidates(folder: &Path, asked: CifarKind) -> Vec<(Form, CifarKind, PathBuf)> {
    let mut found = Vec::new();
    for place in 0..3 {
        for (form, kind) in FORMS {
            let kind = match (asked, kind) {
                (CifarKind::Hundred { .. }, CifarKind::Hundred { .. }) => asked,
                _ => kind,
            };
            if asked != CifarKind::Auto && asked != kind {
                continue;
            }
            let path = match place {
                0 => folder.to_owned(),
                1 => folder.join(form.folder(kind)),
                _ => folder.join(form.archive(kind)),
            };
            let is_there = if place < 2 { form.fits(kind, &|name| path.join(name).is_file()) } else { path.is_file() };
            if is_there {
                found.push((form, kind, path));
            }
        }
    }
    found
}

/// Reads the set's files into memory, `kind` settled.
pub(super) fn load(path: &Path, asked: CifarKind) -> Result<Files> {
    if !path.is_dir() {
        return from_archive(path, asked);
    }
    let found = candidates(path, asked);
    let is_ambiguous = found.iter().any(|(_, kind, _)| Some(kind) != found.first().map(|(_, kind, _)| kind));
    let (Some((form, kind, place)), false) = (found.into_iter().next(), is_ambiguous) else {
        return Err(unrecognised(path, is_ambiguous));
    };
    if place.is_file() {
        return from_archive(&place, kind);
    }
    let mut files = BTreeMap::new();
    for name in form.files(kind) {
        let path = place.join(name);
        if path.is_file() {
            let bytes = read(&path)?;
            files.insert(name.to_owned(), Part { path, member: None, bytes });
        }
    }
    Ok(Files { form, kind, files })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = PositionedFile::open(path)?;
    if file.length() > LIMIT {
        let (expected, found) = (format!("at most {LIMIT} bytes"), format!("{}", file.length()));
        return Err(DataError::Malformed { path: path.to_owned(), at: String::new(), expected, found }.into());
    }
    file.read(0, file.length(), path, || "all of it".into())
}

fn from_archive(path: &Path, asked: CifarKind) -> Result<Files> {
    if !is_archive(path) {
        // A path that is not there says so itself.
        std::fs::metadata(path).map_err(Error::io("open", path))?;
        return Err(unrecognised(path, false));
    }
    let mut wanted: BTreeSet<&str> = FORMS.iter().flat_map(|(form, kind)| form.files(*kind)).collect();
    wanted.insert(Form::Binary.names_file(CifarKind::Hundred { coarse: true }));
    let mut files: BTreeMap<String, Part> = BTreeMap::new();
    archive::visit(path, LIMIT, &mut |name, size, reader| {
        let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(base) = std::str::from_utf8(base).ok().filter(|base| wanted.contains(base)) else { return Ok(()) };
        let bytes = archive::content(path, name, size, reader)?;
        let part = Part { path: path.to_owned(), member: Some(display(name)), bytes };
        match files.insert(base.to_owned(), part) {
            None => Ok(()),
            Some(first) => Err(first.malformed(&format!("one {base}"), format!("another, {}", display(name)))),
        }
    })?;
    let fitting = FORMS.iter().filter(|(form, kind)| form.fits(*kind, &|name| files.contains_key(name)));
    let fitting: Vec<_> = fitting.filter(|(_, kind)| asked == CifarKind::Auto || is_same(*kind, asked)).collect();
    match fitting.as_slice() {
        [(form, kind)] => Ok(Files { form: *form, kind: if asked == CifarKind::Auto { *kind } else { asked }, files }),
        several => Err(unrecognised(path, !several.is_empty())),
    }
}

fn is_same(a: CifarKind, b: CifarKind) -> bool {
    matches!((a, b), (CifarKind::Ten, CifarKind::Ten) | (CifarKind::Hundred { .. }, CifarKind::Hundred { .. }))
}

fn unrecognised(path: &Path, is_ambiguous: bool) -> Error {
    let expected = if is_ambiguous {
        "one CIFAR set, or to be told which (there are several)".into()
    } else {
        let folders: Vec<&str> = FORMS.iter().map(|(form, kind)| form.folder(*kind)).collect();
        format!("the files of {}, or their official .tar.gz", folders.join(", "))
    };
    DataError::Unrecognised { path: path.to_owned(), expected }.into()
}
