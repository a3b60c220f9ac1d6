//! The folder of checkpoints of a run that is going on.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::disk::{self, Disk, System};
use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};

use super::name::{self, BEST};
use super::reader::{Best, CheckpointReader};
use super::{Checkpoint, Entry, manifest, write};
use crate::lock::FolderLock;

/// A run's folder of checkpoints: the last ones and the best one. Whoever has it open is its only writer.
#[derive(Debug)]
pub struct CheckpointStore {
    reader: CheckpointReader,
    keep_last: usize,
    disk: Arc<dyn Disk>,
    /// Number of the last save that was begun.
    sequence: u64,
    best: Option<PathBuf>,
    _lock: FolderLock,
}

impl CheckpointStore {
    /// Opens or creates `folder`, to keep the `keep_last` newest checkpoints, at least 1, and the best. What interrupted saves have left is
    /// removed.
    ///
    /// # Errors
    /// [`CheckpointError::Locked`] while another process, or another store of this one, writes there; [`CheckpointError::Damaged`] for a
    /// mark of the best that cannot be read; [`Error::Io`]; [`Error::Argument`] for `keep_last` 0.
    pub fn open(folder: impl Into<PathBuf>, keep_last: usize) -> Result<Self> {
        Self::open_on(Arc::new(System), folder, keep_last)
    }

    /// As [`open`](Self::open), with all changes made through `disk`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(disk: Arc<dyn Disk>, folder: impl Into<PathBuf>, keep_last: usize) -> Result<Self> {
        let folder = folder.into();
        if keep_last == 0 {
            return Err(Error::Argument { name: "keep_last", value: "0".into(), expected: "1 or more".into() });
        }
        if !folder.is_dir() {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
            disk.sync_folder(disk::parent(&folder)).map_err(Error::io("sync", disk::parent(&folder)))?;
        }
        let lock = FolderLock::take(&folder)?;
        let listing = name::list(&folder)?;
        for path in &listing.leftovers {
            // The lock says that their process is dead.
            log::info!("{}: removing what an interrupted process has left", path.display());
            disk::remove_tree(&*disk, path).map_err(Error::io("remove", path))?;
        }
        let reader = CheckpointReader::new(folder);
        let best = reader.best_path()?;
        Ok(Self { reader, keep_last, disk, sequence: listing.sequence, best, _lock: lock })
    }

    /// The same folder, to read.
    pub fn reader(&self) -> &CheckpointReader {
        &self.reader
    }

    /// As [`CheckpointReader::list`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Entry>> {
        self.reader.list()
    }

    /// As [`CheckpointReader::latest`].
    ///
    /// # Errors
    /// As there.
    pub fn latest(&self) -> Result<Option<(PathBuf, Checkpoint)>> {
        self.reader.latest()
    }

    /// As [`CheckpointReader::best`].
    ///
    /// # Errors
    /// As there.
    pub fn best(&self) -> Result<Option<(PathBuf, Checkpoint)>> {
        self.reader.best()
    }

    /// Saves a checkpoint and gives its folder. When this returns it is durable, and the oldest ones beyond `keep_last` are gone.
    ///
    /// # Errors
    /// [`CheckpointError::NotSaved`] for anything the system refuses: a full disk, a read-only folder; all older checkpoints are as they
    /// were. [`Error::Weights`] for a tensor that cannot be read, [`Error::Argument`] for the name of a group.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        self.sequence += 1;
        let entry = Entry::new(&self.reader.folder, self.sequence, checkpoint.step);
        write::write(&*self.disk, &entry, checkpoint).map_err(|error| self.not_saved(&entry, error))?;
        self.retain(&entry.path);
        Ok(entry.path)
    }

    /// Marks the newest checkpoint of `step` as the best, which is kept until another one is marked.
    ///
    /// # Errors
    /// [`CheckpointError::NoSuchStep`]; [`Error::Io`] with the old mark as it was.
    pub fn mark_best(&mut self, step: u64) -> Result<()> {
        let entries = self.list()?;
        let folder = &self.reader.folder;
        let found = entries.iter().rev().find(|entry| entry.step == step);
        let Some(entry) = found else { return Err(CheckpointError::NoSuchStep { folder: folder.clone(), step }.into()) };
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = folder.join(BEST);
        disk::replace_file(&*self.disk, &path, |out| {
            let text = serde_json::to_vec(&Best { checkpoint: name }).map_err(io::Error::from).map_err(Error::io("write", &path))?;
            out.write_all(&text).map_err(Error::io("write", &path))
        })?;
        self.best = Some(entry.path.clone());
        self.retain(&entry.path);
        Ok(())
    }

    /// Removes what is neither among the last, nor the best, nor `needed`. The new checkpoint is durable by now: a failure here costs space
    /// and nothing else.
    fn retain(&self, needed: &Path) {
        let entries = match self.list() {
            Ok(entries) => entries,
            Err(error) => return log::warn!("old checkpoints are kept: {error}"),
        };
        // Remains of a checkpoint must not take the place of one that can be loaded.
        let complete = entries.iter().rev().filter(|entry| manifest::looks_complete(&entry.path));
        let mut keep: BTreeSet<&Path> = complete.take(self.keep_last).map(|entry| entry.path.as_path()).collect();
        keep.insert(needed);
        keep.extend(self.best.as_deref());
        for entry in entries.iter().filter(|entry| !keep.contains(entry.path.as_path())) {
            // Under another name first: no reader meets one that is half gone.
            let aside = entry.removed();
            let removed = self.disk.rename(&entry.path, &aside).and_then(|()| disk::remove_tree(&*self.disk, &aside));
            if let Err(error) = removed {
                log::warn!("{}: an old checkpoint could not be removed: {error}", entry.path.display());
            }
        }
    }

    fn not_saved(&self, entry: &Entry, error: Error) -> Error {
        let Error::Io { action, path, source } = error else { return error };
        let newest = self.list().ok().and_then(|entries| entries.into_iter().rev().find(|other| other.sequence < entry.sequence));
        CheckpointError::NotSaved { step: entry.step, action, path, newest: newest.map(|entry| entry.path), source }.into()
    }
}
