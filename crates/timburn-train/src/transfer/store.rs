//! Rows of numbers in memory or in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use timburn_core::disk::{System, replace_file};
use timburn_core::{Error, Result};

/// What the rows are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) width: usize,
    pub(super) views: usize,
    pub(super) labels: Vec<usize>,
    pub(super) samples: Vec<usize>,
    /// Index, name and fault of each picture that has no row: whoever reads the rows is told as whoever made them.
    pub(super) bad: Vec<(usize, String, String)>,
}

/// Rows that are read at random.
#[derive(Debug)]
pub(super) enum Rows {
    Memory(Vec<f32>),
    File { file: Mutex<File>, path: PathBuf },
}

/// The index file: it is written last, so that rows without it are rows that were not finished.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: String,
    /// Of the rows, then the index.
    blake3: String,
    index: Index,
}

/// The index as it is hashed: a flipped label would do as much harm as a flipped row.
fn hashed(index: &Index, header: &Path) -> Result<Vec<u8>> {
    serde_json::to_vec(index).map_err(|error| Error::io("write", header)(error.into()))
}

fn paths(folder: &Path, key: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{key}.f32")), folder.join(format!("{key}.json")))
}

impl Rows {
    /// The rows of `key` in `folder`; `None` when there are none, or none that are whole.
    pub(super) fn open(folder: &Path, key: &str) -> Result<Option<(Index, Self)>> {
        let (path, header_path) = paths(folder, key);
        let Ok(text) = std::fs::read(&header_path) else { return Ok(None) };
        let Ok(header) = serde_json::from_slice::<Header>(&text) else { return Ok(None) };
        let Ok(mut file) = File::open(&path) else { return Ok(None) };
        let rows = header.index.labels.len().checked_mul(header.index.views).and_then(|rows| rows.checked_mul(header.index.width));
        let expected = rows.and_then(|numbers| numbers.checked_mul(4)).map(|bytes| bytes as u64);
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        if header.key != key || header.index.samples.len() != header.index.labels.len() || expected != Some(length) {
            log::warn!("{} is not what its index says; its features are computed again", path.display());
            return Ok(None);
        }
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).map_err(Error::io("read", &path))?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        hasher.update(&hashed(&header.index, &header_path)?);
        if hasher.finalize().to_hex().as_str() != header.blake3 {
            log::warn!("{} is damaged; its features are computed again", path.display());
            return Ok(None);
        }
        Ok(Some((header.index, Self::File { file: Mutex::new(file), path })))
    }

    /// Appends row number `row` to `to`.
    pub(super) fn read(&self, row: usize, width: usize, to: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Memory(values) => to.extend_from_slice(values.get(row * width..(row + 1) * width).unwrap_or_default()),
            Self::File { file, path } => {
                let mut bytes = vec![0; 4 * width];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file.seek(SeekFrom::Start((row * width * 4) as u64)).and_then(|_| file.read_exact(&mut bytes));
                read.map_err(Error::io("read", path))?;
                to.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
        }
        Ok(())
    }
}

/// Rows as they come.
pub(super) enum RowsWriter<'a> {
    Memory(Vec<f32>),
    File { out: &'a mut dyn Write, hasher: &'a mut blake3::Hasher, path: &'a Path },
}

impl RowsWriter<'_> {
    pub(super) fn memory() -> Self {
        Self::Memory(Vec::new())
    }

    pub(super) fn into_memory(self) -> Rows {
        match self {
            Self::Memory(values) => Rows::Memory(values),
            Self::File { .. } => Rows::Memory(Vec::new()),
        }
    }

    /// Writes the rows and the index that `fill` gives to `folder`.
    pub(super) fn file(folder: &Path, key: &str, fill: impl FnOnce(&mut RowsWriter<'_>) -> Result<Index>) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let (path, header) = paths(folder, key);
        let mut hasher = blake3::Hasher::new();
        let mut index = None;
        replace_file(&System, &path, |out| {
            index = Some(fill(&mut RowsWriter::File { out, hasher: &mut hasher, path: &path })?);
            Ok(())
        })?;
        let Some(index) = index else { return Ok(()) };
        hasher.update(&hashed(&index, &header)?);
        let text = serde_json::to_vec(&Header { key: key.to_owned(), blake3: hasher.finalize().to_hex().to_string(), index });
        let text = text.map_err(|error| Error::io("write", &header)(error.into()))?;
        replace_file(&System, &header, |out| out.write_all(&text).map_err(Error::io("write", &header)))
    }

    pub(super) fn write(&mut self, values: &[f32]) -> Result<()> {
        match self {
            Self::Memory(rows) => rows.extend_from_slice(values),
            Self::File { out, hasher, path } => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hasher.update(&bytes);
                out.write_all(&bytes).map_err(Error::io("write", *path))?;
            }
        }
        Ok(())
    }
}
