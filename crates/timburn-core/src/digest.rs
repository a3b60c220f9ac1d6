//! SHA-256 of files, as published hashes are compared with.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// SHA-256 of bytes that come piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Takes in all that is left of `reader`; returns how much that was, in bytes.
    ///
    /// # Errors
    /// The reader's.
    pub fn update_from(&mut self, reader: &mut impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                return Ok(total);
            }
            self.update(&buffer[..count]);
            total += count as u64;
        }
    }

    /// The digest in lower-case hexadecimal, 64 digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut hasher = Hasher::default();
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    hasher.update_from(&mut file).map_err(Error::io("read", path))?;
    Ok(hasher.finish())
}
