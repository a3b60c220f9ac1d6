//! Samples that could not be used.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use timburn_core::{Error, Result};

/// A sample that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// Index in the data set.
    pub index: usize,
    /// What the data set calls it: its path.
    pub name: String,
    /// The error.
    pub reason: String,
}

/// Appends a line of JSON for each bad file: `{"path": …, "reason": …, "epoch": …}`. No file is made for no bad files.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened or written.
pub fn append_bad_files(path: impl AsRef<Path>, epoch: u64, bad: &[BadFile]) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    let path = path.as_ref();
    let lines: String =
        bad.iter().map(|file| format!("{}\n", serde_json::json!({"path": file.name, "reason": file.reason, "epoch": epoch}))).collect();
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
    // One call, so that a crash leaves whole lines but for the last.
    file.write_all(lines.as_bytes()).map_err(Error::io("write", path))
}
