//! Files to which lines are added, one whole line at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use timburn_core::disk::{self, Disk};
use timburn_core::{Error, Result};

/// A file open for appending.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// Whether a failed write may have left part of a line at the end.
    torn: bool,
}

impl Lines {
    /// Opens or creates `path`. A line that an earlier process has left without its end gets one, so that the next begins on its own.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        let torn = read(&path)?.last().is_some_and(|byte| *byte != b'\n');
        Ok(Self { path, file, torn })
    }

    /// Adds a line and hands it to the system before this returns: it outlives the process, and with [`sync`](Self::sync) a power cut.
    pub(super) fn append(&mut self, line: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        // One call to the system, so that a dying process leaves a whole line or none.
        let written = self.file.write_all(&bytes);
        self.torn = written.is_err();
        written.map_err(Error::io("write", &self.path))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }

    /// Replaces the content by those of its lines that `keep` wants, in one step; a last line without its end goes.
    pub(super) fn retain(&mut self, disk: &dyn Disk, mut keep: impl FnMut(usize, &str) -> Result<bool>) -> Result<()> {
        let bytes = read(&self.path)?;
        let mut kept = Vec::with_capacity(bytes.len());
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let text = String::from_utf8_lossy(line);
            if let Some(text) = text.strip_suffix('\n')
                && keep(index, text)?
            {
                kept.extend_from_slice(line);
            }
        }
        if kept.len() != bytes.len() {
            disk::replace_file(disk, &self.path, |out| out.write_all(&kept).map_err(Error::io("write", &self.path)))?;
        }
        // The open file is the one that was replaced.
        *self = Self::open(self.path.clone())?;
        Ok(())
    }
}

/// The content; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(Error::io("read", path)),
    }
}
