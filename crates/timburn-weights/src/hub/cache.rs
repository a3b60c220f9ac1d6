use std::path::PathBuf;

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
