//! Looking into a folder of checkpoints, also into that of a run that is going on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};

use super::name::{self, BEST};
use super::{Checkpoint, Entry};

/// `best.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Best {
    /// Name of the checkpoint's folder.
    pub(super) checkpoint: String,
}

/// A folder of checkpoints, to read. It takes no lock, changes nothing and may belong to a run that is going on.
#[derive(Debug, Clone)]
pub struct CheckpointReader {
    pub(super) folder: PathBuf,
}

impl CheckpointReader {
    /// Reads from `folder`; one that does not exist is empty.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The checkpoints by name, the oldest save first. Nothing says that they are complete.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Entry>> {
        name::list(&self.folder).map(|listing| listing.entries)
    }

    /// The newest complete checkpoint with its folder; `None` where none was ever saved. A log line says why a newer one was refused.
    ///
    /// # Errors
    /// [`CheckpointError::NoneComplete`] when there are checkpoints and none of them can be used: a run must not begin anew unasked.
    /// [`CheckpointError::Version`] when the newest that can be read is of a later timburn. [`Error::Io`].
    pub fn latest(&self) -> Result<Option<(PathBuf, Checkpoint)>> {
        let mut entries = self.list()?;
        loop {
            let mut refused = Vec::new();
            for entry in entries.iter().rev() {
                match Checkpoint::load(&entry.path) {
                    Ok(checkpoint) => return Ok(Some((entry.path.clone(), checkpoint))),
                    Err(Error::Checkpoint(CheckpointError::Damaged { path, reason })) => {
                        log::warn!("{}: checkpoint refused: {reason}", path.display());
                        refused.push((path, reason));
                    }
                    Err(error) => return Err(error),
                }
            }
            // The run may have replaced all of them since they were listed.
            let now = self.list()?;
            if now != entries {
                entries = now;
                continue;
            }
            if refused.is_empty() {
                return Ok(None);
            }
            return Err(CheckpointError::NoneComplete { folder: self.folder.clone(), refused }.into());
        }
    }

    /// The checkpoint that was marked best, with its folder; `None` where none was.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] for the checkpoint or its mark: there is no second best to take instead.
    pub fn best(&self) -> Result<Option<(PathBuf, Checkpoint)>> {
        let Some(path) = self.best_path()? else { return Ok(None) };
        let checkpoint = Checkpoint::load(&path)?;
        Ok(Some((path, checkpoint)))
    }

    /// The folder of the checkpoint that was marked best.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] for a mark that cannot be read; [`Error::Io`].
    pub fn best_path(&self) -> Result<Option<PathBuf>> {
        let path = self.folder.join(BEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let best = serde_json::from_slice::<Best>(&bytes).map_err(|error| error.to_string());
        // A name, never a way out of the folder.
        match best.map(|best| name::parse(&best.checkpoint).map(|_| self.folder.join(best.checkpoint))) {
            Ok(Some(path)) => Ok(Some(path)),
            Ok(None) => Err(damaged(&path, "it names no checkpoint; remove it to go on without a best one".into())),
            Err(reason) => Err(damaged(&path, format!("{reason}; remove it to go on without a best one"))),
        }
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    CheckpointError::Damaged { path: path.to_owned(), reason }.into()
}
