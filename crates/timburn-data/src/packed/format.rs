//! Header and index of a packed file, written and read back.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};
use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

use super::Entry;

pub(super) const MAGIC: [u8; 8] = *b"TIMBPACK";
const VERSION: u64 = 1;
/// Magic, six numbers, SHA-256.
pub(super) const HEADER: u64 = 88;
/// Bytes of the header that the hash covers.
pub(super) const HASHED: usize = 56;
/// Bytes of an entry of the index.
pub(super) const ENTRY: u64 = 20;
/// Most that is read at a time before the hash is known to be right.
const CHUNK: usize = 1 << 16;

/// The header's numbers, in their order.
#[derive(Debug, Clone, Copy)]
struct Header {
    samples: u64,
    /// Bytes of all pictures.
    pictures: u64,
    /// Bytes of the class list.
    classes: u64,
    /// Bytes of all names.
    names: u64,
    /// Bytes of the file.
    file: u64,
}

impl Header {
    fn bytes(&self) -> [u8; HASHED] {
        let mut bytes = [0; HASHED];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [VERSION, self.samples, self.pictures, self.classes, self.names, self.file];
        for (to, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Bytes after the pictures.
    fn tail(&self) -> Option<u64> {
        self.samples.checked_mul(ENTRY)?.checked_add(self.classes)?.checked_add(self.names)
    }

    /// Bytes of the file, from its parts.
    fn sum(&self) -> Option<u64> {
        self.tail()?.checked_add(self.pictures)?.checked_add(HEADER)
    }
}

/// A picture's row of the index, while it is written.
pub(super) struct Row {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) label: u32,
    pub(super) crc: u32,
    pub(super) name: String,
}

/// The header and what goes after the pictures.
///
/// # Errors
/// [`Error::Argument`] for a name of 4 GB.
pub(super) fn build(classes: &Classes, rows: &[Row]) -> Result<([u8; HEADER as usize], Vec<u8>)> {
    let refuse = |what: String| Error::Argument { name: "packed index", value: what, expected: "numbers below 2^32".into() };
    let classes = serde_json::to_vec(classes).map_err(|error| refuse(error.to_string()))?;
    let mut tail = classes.clone();
    for row in rows {
        let name = u32::try_from(row.name.len()).map_err(|_| refuse(format!("a name of {} bytes", row.name.len())))?;
        [row.width, row.height, row.label, row.crc, name].iter().for_each(|number| tail.extend(number.to_le_bytes()));
    }
    rows.iter().for_each(|row| tail.extend(row.name.as_bytes()));
    let mut header = Header {
        samples: rows.len() as u64,
        pictures: rows.iter().map(|row| u64::from(row.width) * u64::from(row.height) * 3).sum(),
        classes: classes.len() as u64,
        names: rows.iter().map(|row| row.name.len() as u64).sum(),
        file: 0,
    };
    header.file = HEADER + header.pictures + tail.len() as u64;
    let mut bytes = [0; HEADER as usize];
    let fields = header.bytes();
    bytes[..HASHED].copy_from_slice(&fields);
    bytes[HASHED..].copy_from_slice(&Sha256::new().chain_update(fields).chain_update(&tail).finalize());
    Ok((bytes, tail))
}

/// Reads and checks everything but the pictures.
pub(super) fn read(file: &mut (impl Read + Seek), path: &Path) -> Result<(Classes, Vec<Entry>, String)> {
    let malformed = |at: &str, expected: &str, found: String| {
        Error::Data(DataError::Malformed { path: path.to_owned(), at: at.into(), expected: expected.into(), found })
    };
    let io = || Error::io("read", path);
    let length = file.seek(SeekFrom::End(0)).and_then(|length| file.rewind().map(|()| length)).map_err(io())?;
    let mut bytes = [0; HEADER as usize];
    if length < HEADER {
        return Err(malformed("", "a packed data set, 88 bytes at least", format!("{length} bytes")));
    }
    file.read_exact(&mut bytes).map_err(io())?;
    let (fields, hash) = bytes.split_at(HASHED);
    if fields[..8] != MAGIC {
        return Err(malformed("", "a packed data set, beginning with `TIMBPACK`", format!("`{}`", fields[..8].escape_ascii())));
    }
    let mut numbers = fields[8..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    let mut number = || numbers.next().unwrap_or_default();
    let version = number();
    if version != VERSION {
        return Err(malformed("", "version 1 of the format", format!("version {version}; pack the data again")));
    }
    let header = Header { samples: number(), pictures: number(), classes: number(), names: number(), file: number() };
    if header.file != length {
        return Err(malformed("", &format!("{} bytes, as its header says", header.file), format!("{length} bytes")));
    }
    let (Some(tail), true) = (header.tail(), header.sum() == Some(length)) else {
        return Err(malformed(", header", "lengths that add up to the file's", format!("{header:?}")));
    };

    // The hash first, in pieces: nothing is believed, and no memory taken, on the word of a garbled header.
    let start = SeekFrom::Start(HEADER + header.pictures);
    file.seek(start).map_err(io())?;
    let mut hasher = Sha256::new().chain_update(fields);
    let mut chunk = vec![0; CHUNK];
    let mut left = tail;
    while left > 0 {
        let part = &mut chunk[..usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))];
        file.read_exact(part).map_err(io())?;
        hasher.update(&part);
        left -= part.len() as u64;
    }
    if hasher.finalize()[..] != *hash {
        return Err(malformed(", index", "what its SHA-256 promises", "other bytes: the file is damaged".into()));
    }

    file.seek(start).map_err(io())?;
    let mut section = |length: u64| {
        // Up to the file's end at most: the lengths add up.
        let mut bytes = Vec::new();
        file.by_ref().take(length).read_to_end(&mut bytes).map_err(io())?;
        Ok::<_, Error>(bytes)
    };
    let classes: Classes =
        serde_json::from_slice(&section(header.classes)?).map_err(|error| malformed(", classes", "names of classes", error.to_string()))?;
    if !classes.ids.is_empty() && classes.ids.len() != classes.names.len() {
        return Err(malformed(", classes", "as many ids as names, or none", format!("{} and {}", classes.ids.len(), classes.names.len())));
    }
    let rows = section(header.samples * ENTRY)?;
    let names = String::from_utf8(section(header.names)?).map_err(|error| malformed(", names", "UTF-8", error.to_string()))?;
    let mut entries = Vec::with_capacity(rows.len() / ENTRY as usize);
    let (mut offset, mut name) = (HEADER, 0usize);
    for (index, row) in rows.as_chunks::<{ ENTRY as usize }>().0.iter().enumerate() {
        let numbers: &[[u8; 4]] = row.as_chunks::<4>().0;
        let mut numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
        let mut number = || numbers.next().unwrap_or_default();
        let entry = Entry { offset, name, width: number(), height: number(), label: number(), crc: number() };
        let at = format!(", picture {index}");
        // Below 2^64 by far, and below the file's size once the sum is checked: `read` may allocate it.
        let size =
            u64::from(entry.width).checked_mul(u64::from(entry.height)).and_then(|area| area.checked_mul(3)).filter(|size| *size > 0);
        let end = size.and_then(|size| offset.checked_add(size)).filter(|end| *end <= HEADER + header.pictures);
        let Some(end) = end else {
            return Err(malformed(&at, "a size within the file", format!("{}×{} pixels", entry.width, entry.height)));
        };
        if entry.label as usize >= classes.len() {
            return Err(malformed(&at, &format!("a label below {}", classes.len()), entry.label.to_string()));
        }
        name = name.saturating_add(number() as usize);
        if !names.is_char_boundary(name) {
            return Err(malformed(&at, "a name within the names", format!("one that ends at byte {name}")));
        }
        offset = end;
        entries.push(entry);
    }
    if offset != HEADER + header.pictures || name != names.len() {
        return Err(malformed(", index", "pictures and names that fill the file", format!("{offset} and {name} bytes of them")));
    }
    Ok((classes, entries, names))
}
