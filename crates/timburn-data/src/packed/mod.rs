//! One file of decoded pictures, for training on the same ones again and again.
//!
//! | bytes | content |
//! |---|---|
//! | 0..88 | header: magic, version, lengths, SHA-256 of the header's other fields and of all that follows the pictures |
//! | 88.. | the pictures, raw RGB8, one after the other |
//! | then | the classes as JSON; for each picture width, height, label, CRC-32 and length of name (`u32` each); the names |
//!
//! All numbers are little endian. Everything but the pictures is checked when the file is opened, a picture when it is read.
//!
//! Pictures are read by positioned reads, not from a memory map. A map of a file that is cut short while in use kills the process with
//! SIGBUS, where a read gives an error, and a map needs `unsafe`. Both come from the same page cache; their speeds were not compared.

mod format;
#[doc(hidden)]
pub mod fuzzing;
mod write;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

pub use write::{PackOptions, PackReport, PackSize};

use crate::dataset::{Content, Dataset};
use crate::image::Rgb8Image;

/// A data set in a file made by [`Packed::write`].
pub struct Packed {
    path: PathBuf,
    file: Source,
    classes: Classes,
    entries: Vec<Entry>,
    names: String,
}

/// A picture of the file.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// First byte of the pixels in the file.
    offset: u64,
    /// First byte of the name in the names.
    name: usize,
    width: u32,
    height: u32,
    label: u32,
    crc: u32,
}

impl Packed {
    /// Opens a packed file, reading its index and no picture. Memory is about that of the index, which the file has to hold: 20 bytes and a
    /// name for each picture.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`DataError::Malformed`] when it is not one of these, is cut short or garbled.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let (classes, entries, names) = format::read(&mut file, path)?;
        Ok(Self { path: path.to_owned(), file: Source::new(file), classes, entries, names })
    }

    /// Whether the file begins as a packed one does.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_at(path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        let mut start = Vec::new();
        let file = File::open(path).map_err(Error::io("open", path))?;
        file.take(format::MAGIC.len() as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
        Ok(start == format::MAGIC)
    }

    fn entry(&self, index: usize) -> Result<&Entry> {
        let found = || Error::Argument { name: "index", value: index.to_string(), expected: format!("below {}", self.entries.len()) };
        self.entries.get(index).ok_or_else(found)
    }
}

impl Dataset for Packed {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn label(&self, index: usize) -> usize {
        self.entries.get(index).map_or(0, |entry| entry.label as usize)
    }

    /// What the packed data set called the sample.
    fn name(&self, index: usize) -> String {
        let begin = self.entries.get(index).map_or(self.names.len(), |entry| entry.name);
        let end = self.entries.get(index.saturating_add(1)).map_or(self.names.len(), |entry| entry.name);
        self.names.get(begin..end).unwrap_or_default().to_owned()
    }

    fn read(&self, index: usize) -> Result<Content> {
        let entry = self.entry(index)?;
        let (width, height) = (entry.width as usize, entry.height as usize);
        // The sum of all sizes was held against the file's when it was opened.
        let mut pixels = vec![0; width * height * 3];
        self.file.read_exact_at(&mut pixels, entry.offset).map_err(Error::io("read", &self.path))?;
        let crc = crc32fast::hash(&pixels);
        if crc != entry.crc {
            return Err(DataError::Malformed {
                path: self.path.clone(),
                at: format!(", picture {index} ({})", self.name(index)),
                expected: format!("pixels with the CRC-32 {:08x}", entry.crc),
                found: format!("{crc:08x}"),
            }
            .into());
        }
        Ok(Content::Pixels(Rgb8Image { width, height, pixels }))
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed").field("path", &self.path).field("len", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Reads at a position, from several threads at once.
#[cfg(unix)]
struct Source(File);

#[cfg(unix)]
impl Source {
    fn new(file: File) -> Self {
        Self(file)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, bytes, offset)
    }
}

/// Reads at a position; where the system has no call for it, one at a time.
#[cfg(not(unix))]
struct Source(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Source {
    fn new(file: File) -> Self {
        Self(std::sync::Mutex::new(file))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }
}
