//! One writer to a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};

/// Name of the lock file.
pub(crate) const LOCK: &str = ".lock";

/// An exclusive lock on a folder, held until it is dropped or the process ends, however it ends.
///
/// The operating system holds the lock, not the file's content: a leftover file of a dead process locks nothing, and no process can be
/// taken for another of the same number. The file stays; removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks `folder`, which must exist.
    ///
    /// # Errors
    /// [`CheckpointError::Locked`] while another holder lives; [`Error::Io`].
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(CheckpointError::Locked { path: folder.to_owned(), pid }.into());
            }
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                log::warn!("{}: this file system has no locks; nothing keeps a second process out", folder.display());
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        // For the message of a second process only: the lock holds without it, on a full disk too.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
