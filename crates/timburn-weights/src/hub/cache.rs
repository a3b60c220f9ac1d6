//! The cache folder, laid out as the Hugging Face hub's: `models--{owner}--{name}/{blobs,refs,snapshots}`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use timburn_core::{Error, Result, WeightsError};

use super::{ENDPOINT, HubOptions};
use crate::catalogue::Row;

/// Folder of the files with direct addresses; their one revision is `main`.
const DIRECT: &str = "models--timburn--url";
/// Branch of the hub's repositories.
const MAIN: &str = "main";

/// One address of a file, and where the cache keeps it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Address of the file.
    pub(super) url: String,
    /// Name of the file in the cache.
    pub(super) file: String,
    /// `models--{owner}--{name}`, absolute.
    pub(super) folder: PathBuf,
    /// SHA-256 or the beginning of it; `None` for a file of the hub, which states it.
    pub(super) sha256: Option<String>,
}

impl Place {
    /// The addresses of `row`, the one to ask first in front: a pinned hash is better than a stated one, but who names a mirror wants it.
    pub(super) fn of(row: &Row, options: &HubOptions) -> Vec<Self> {
        let mut places = Vec::new();
        if let (Some(url), Some(file)) = (row.url, row.file()) {
            // What is published as HDF5 can only be here in another format.
            let file = file.strip_suffix(".h5").map_or_else(|| file.to_owned(), |stem| format!("{stem}.safetensors"));
            places.push(Self { url: url.into(), file, folder: options.cache.join(DIRECT), sha256: row.sha256.map(str::to_owned) });
        }
        if let Some(hub) = row.hub {
            let file = "model.safetensors".to_owned();
            let url = format!("{}/{hub}/resolve/{MAIN}/{file}", options.endpoint);
            let folder = options.cache.join(format!("models--{}", hub.replace('/', "--")));
            places.push(Self { url, file, folder, sha256: None });
        }
        if options.endpoint != ENDPOINT {
            places.reverse();
        }
        places
    }

    /// Whether it is a repository of the hub.
    pub(super) fn is_hub(&self) -> bool {
        !self.folder.ends_with(DIRECT)
    }

    /// Where the file lies, or has to be put by hand.
    pub(super) fn path(&self) -> PathBuf {
        self.snapshot(&self.revision().unwrap_or_else(|| MAIN.into()))
    }

    pub(super) fn snapshot(&self, revision: &str) -> PathBuf {
        self.folder.join("snapshots").join(revision).join(&self.file)
    }

    /// The commit that `main` was when the file was last asked for.
    fn revision(&self) -> Option<String> {
        let commit = fs::read_to_string(self.folder.join("refs").join(MAIN)).ok()?;
        let commit = commit.trim();
        // It becomes part of a path.
        (!commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| commit.to_owned())
    }

    /// The file, where this machine has it.
    ///
    /// What the cache's own link leads to was verified before it got its name. A file put there by hand and one of `torch.hub` are
    /// verified each time.
    pub(super) fn find(&self, options: &HubOptions) -> Result<Option<PathBuf>> {
        for path in [self.path(), self.snapshot(MAIN)] {
            if path.is_file() {
                if !path.is_symlink() && let Some(expected) = &self.sha256 {
                    verify(&path, expected)?;
                }
                return Ok(Some(path));
            }
        }
        let (Some(folder), Some(expected)) = (&options.torch_checkpoints, &self.sha256) else { return Ok(None) };
        let path = folder.join(&self.file);
        let usable = path.is_file() && hash_file(&path).is_ok_and(|found| found.starts_with(expected.as_str()));
        Ok(usable.then_some(path))
    }

    /// Gives a verified blob its name in the snapshot of `revision` and makes that the current one.
    #[cfg(feature = "pretrained")]
    pub(super) fn install(&self, blob: &str, revision: &str) -> Result<PathBuf> {
        let path = self.snapshot(revision);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        // What is in the way is a link that leads nowhere: a file would have been found.
        let _ = fs::remove_file(&path);
        let source = self.folder.join("blobs").join(blob);
        let linked = symlink(&Path::new("../../blobs").join(blob), &path).or_else(|_| fs::hard_link(&source, &path));
        linked.or_else(|_| fs::copy(&source, &path).map(drop)).map_err(Error::io("create", &path))?;

        let refs = self.folder.join("refs");
        fs::create_dir_all(&refs).map_err(Error::io("create", &refs))?;
        let main = refs.join(MAIN);
        let aside = refs.join(".main.incomplete");
        fs::write(&aside, revision).and_then(|()| fs::rename(&aside, &main)).map_err(Error::io("write", &main))?;
        Ok(path)
    }
}

#[cfg(all(unix, feature = "pretrained"))]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(all(not(unix), feature = "pretrained"))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn verify(path: &Path, expected: &str) -> Result<()> {
    let found = hash_file(path)?;
    if found.starts_with(expected) {
        return Ok(());
    }
    Err(WeightsError::Hash { name: path.display().to_string(), expected: expected.to_owned(), found }.into())
}

fn hash_file(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash_into(&mut hash, path)?;
    Ok(hexadecimal(hash))
}

/// Feeds a file's content to `hash` and returns its length.
pub(super) fn hash_into(hash: &mut Sha256, path: &Path) -> Result<u64> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(length);
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

pub(super) fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
