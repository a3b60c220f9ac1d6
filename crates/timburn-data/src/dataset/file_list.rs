//! Picture files with labels, wherever the labels come from.

use std::ffi::OsStr;
use std::path::PathBuf;

use timburn_core::error::{ImageError, ImageFault};
use timburn_core::{Classes, Result};

use super::path_table::PathTable;
use super::{Content, Dataset};

/// Picture files with labels: what a label list, a CSV table or a tree of class folders comes to.
#[derive(Debug)]
pub struct FileList {
    classes: Classes,
    paths: PathTable,
    labels: Vec<u32>,
}

impl FileList {
    pub(crate) fn new(classes: Classes) -> Self {
        Self { classes, paths: PathTable::default(), labels: Vec::new() }
    }

    /// Makes `folder` the folder of the files pushed next.
    pub(crate) fn enter(&mut self, folder: PathBuf) {
        self.paths.enter(folder);
    }

    /// Adds a file of the folder entered last.
    pub(crate) fn push(&mut self, name: &OsStr, label: usize) {
        self.paths.push(name);
        self.labels.push(label as u32);
    }

    pub(crate) fn finish(mut self) -> Self {
        self.paths.shrink();
        self.labels.shrink_to_fit();
        self
    }

    pub(crate) fn set_classes(&mut self, classes: Classes) {
        self.classes = classes;
    }

    /// Path of a sample's file, byte for byte; `None` beyond the end.
    pub fn path(&self, index: usize) -> Option<PathBuf> {
        self.paths.path(index)
    }
}

impl Dataset for FileList {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.paths.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels.get(index).map_or(0, |&label| label as usize)
    }

    fn name(&self, index: usize) -> String {
        self.path(index).map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn read(&self, index: usize) -> Result<Content> {
        let path = self.path(index).ok_or_else(|| super::out_of_range(index, self.len()))?;
        let named = |source| ImageError { name: path.display().to_string(), fault: ImageFault::Io(source) };
        Ok(Content::Encoded(std::fs::read(&path).map_err(named)?))
    }

    fn content_len(&self, index: usize) -> Option<u64> {
        std::fs::metadata(self.path(index)?).ok().map(|metadata| metadata.len())
    }
}
