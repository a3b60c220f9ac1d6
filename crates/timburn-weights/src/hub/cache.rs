use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use timburn_core::{Error, Result};

use super::{HubOptions, Source};

/// One repository's folder in the cache.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) root: PathBuf,
    /// Folder of lock files, one per repository, as the hub's own clients keep them.
    #[cfg_attr(not(feature = "pretrained"), allow(dead_code))]
    pub(super) locks: PathBuf,
}

impl Repository {
    pub(super) fn new(source: &Source, options: &HubOptions) -> Self {
        let folder = format!("models--{}", source.repository.replace('/', "--"));
        Self { root: options.cache.join(&folder), locks: options.cache.join(".locks").join(folder) }
    }

    /// The file in the snapshot that `refs/main` names, else in any.
    pub(super) fn find(&self, file: &str) -> Option<PathBuf> {
        let snapshots = self.root.join("snapshots");
        let main = std::fs::read_to_string(self.root.join("refs/main")).ok();
        let main = main.map(|revision| snapshots.join(revision.trim()).join(file));
        if let Some(path) = main.filter(|path| path.is_file()) {
            return Some(path);
        }
        let others = std::fs::read_dir(snapshots).ok()?.flatten().map(|entry| entry.path().join(file));
        // The newest: an older revision may be another model.
        let modified = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
        others.filter(|path| path.is_file()).max_by_key(modified)
    }

    /// Where a person puts the file so that [`find`](Self::find) finds it.
    pub(super) fn place(&self, file: &str) -> PathBuf {
        self.root.join("snapshots/main").join(file)
    }
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn digest(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    update(&mut hash, &mut file).map_err(Error::io("read", path))?;
    Ok(hexadecimal(hash))
}

/// Feeds all that is left of `reader` to `hash`.
pub(super) fn update(hash: &mut Sha256, reader: &mut impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        hash.update(&buffer[..count]);
        total += count as u64;
    }
}

pub(super) fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
