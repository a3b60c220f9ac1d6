//! The reader of packed files over plain bytes, for fuzz targets. Not part of the public interface.

use std::io::Cursor;
use std::path::Path;

use sha2::{Digest, Sha256};
use timburn_core::{Classes, Result};

use super::format;

/// A picture of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// First byte of its pixels in the file.
    pub offset: u64,
    /// Columns and rows.
    pub size: (u32, u32),
    /// Its class.
    pub label: usize,
    /// Where its name begins in the names.
    pub name: usize,
}

/// Classes, pictures and names of a packed file.
///
/// # Errors
/// As [`Packed::open`](super::Packed::open).
pub fn parse_packed(bytes: &[u8]) -> Result<(Classes, Vec<Picture>, String)> {
    let (classes, entries, names) = format::read(&mut Cursor::new(bytes), Path::new("input"))?;
    let picture = |entry: &super::Entry| Picture {
        offset: entry.offset,
        size: (entry.width, entry.height),
        label: entry.label as usize,
        name: entry.name,
    };
    Ok((classes, entries.iter().map(picture).collect(), names))
}

/// Writes the file's length, what is left for pictures, and the hash into a header, so that a fuzzer gets behind them.
pub fn seal(bytes: &mut [u8]) {
    let length = bytes.len() as u64;
    let Some((header, body)) = bytes.split_at_mut_checked(format::HEADER as usize) else { return };
    let number = |at: usize, header: &[u8]| header[at..at + 8].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (samples, classes, names) = (number(16, header), number(32, header), number(40, header));
    let tail = samples.checked_mul(format::ENTRY).and_then(|rows| rows.checked_add(classes)).and_then(|sum| sum.checked_add(names));
    let Some(tail) = tail.filter(|tail| *tail <= body.len() as u64) else { return };
    let pictures = body.len() - tail as usize;
    header[24..32].copy_from_slice(&(pictures as u64).to_le_bytes());
    header[48..56].copy_from_slice(&length.to_le_bytes());
    let (fields, hash) = header.split_at_mut(format::HASHED);
    hash.copy_from_slice(&Sha256::new().chain_update(fields).chain_update(&body[pictures..]).finalize());
}
