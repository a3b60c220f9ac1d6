use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use timburn_core::disk::INCOMPLETE;
use timburn_core::{Error, Result};

/// Suffix of a checkpoint that is being removed.
pub(super) const REMOVED: &str = ".removed";
/// Names the best checkpoint.
pub(super) const BEST: &str = "best.json";

/// A checkpoint by its name; nothing says yet that it is complete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Number of the save, counted over the whole run: the order of age.
    pub sequence: u64,
    /// Optimizer steps done.
    pub step: u64,
    /// The checkpoint's folder.
    pub path: PathBuf,
}

impl Entry {
    pub(super) fn new(folder: &Path, sequence: u64, step: u64) -> Self {
        Self { sequence, step, path: folder.join(format!("{sequence:06}-step-{step}")) }
    }

    /// The folder while it is written.
    pub(super) fn incomplete(&self) -> PathBuf {
        self.hidden(INCOMPLETE)
    }

    /// The folder while it is removed.
    pub(super) fn removed(&self) -> PathBuf {
        self.hidden(REMOVED)
    }

    fn hidden(&self, suffix: &str) -> PathBuf {
        self.path.with_file_name(format!(".{:06}-step-{}{suffix}", self.sequence, self.step))
    }
}

/// Sequence and step of the name of a checkpoint's folder.
pub(super) fn parse(name: &str) -> Option<(u64, u64)> {
    let (sequence, step) = name.split_once("-step-")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if sequence.len() < 6 || !digits(sequence) || !digits(step) {
        return None;
    }
    Some((sequence.parse().ok()?, step.parse().ok()?))
}

/// What lies in a folder of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Oldest first.
    pub(super) entries: Vec<Entry>,
    /// What interrupted saves and removals have left.
    pub(super) leftovers: Vec<PathBuf>,
    /// The highest number of a save, leftovers included.
    pub(super) sequence: u64,
}

/// Lists `folder`; one that does not exist is empty. Files of other names are none of ours.
pub(super) fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.strip_prefix('.').and_then(|name| name.strip_suffix(INCOMPLETE).or_else(|| name.strip_suffix(REMOVED)));
        if let Some((sequence, step)) = parse(hidden.unwrap_or(name)) {
            listing.sequence = listing.sequence.max(sequence);
            if hidden.is_none() {
                listing.entries.push(Entry { sequence, step, path: entry.path() });
                continue;
            }
        }
        if hidden.is_some_and(|name| parse(name).is_some() || name.starts_with(BEST)) {
            listing.leftovers.push(entry.path());
        }
    }
    listing.entries.sort();
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (sequence, step) in [(1, 0), (12, 1200), (1_234_567, 98_765_432)] {
            let entry = Entry::new(Path::new("x"), sequence, step);
            assert_eq!(parse(entry.path.file_name().unwrap().to_str().unwrap()), Some((sequence, step)));
        }
        for name in ["1-step-2", "000001-step-", "000001-step-+2", "-step-1", "000001-epoch-2", "000001-step-99999999999999999999999"] {
            assert!(parse(name).is_none() || name == "000001-step-", "{name}");
        }
        assert_eq!(parse("000001-step-"), None);
    }
}
