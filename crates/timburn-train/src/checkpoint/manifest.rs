//! `manifest.json`: what a checkpoint consists of, and the reader that believes nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};
use timburn_weights::read;

use super::{Checkpoint, name, state};

/// The format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u64 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const STATE: &str = "state.json";
/// Suffix of a group's file.
pub(super) const TENSORS: &str = ".safetensors";
/// Far beyond any manifest; what claims to be one is not read beyond it.
const MAX_MANIFEST: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u64,
    pub(super) step: u64,
    pub(super) epoch: u64,
    /// Version that wrote it, for people.
    pub(super) timburn: String,
    pub(super) files: BTreeMap<String, FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) length: u64,
    /// Hexadecimal.
    pub(super) blake3: String,
}

/// `state.json`. It repeats what the manifest says, under the manifest's hash: a changed manifest disagrees with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateFile {
    pub(super) step: u64,
    pub(super) epoch: u64,
    pub(super) groups: Vec<String>,
    pub(super) state: Value,
}

/// Reads and verifies a checkpoint.
pub(super) fn load(path: &Path) -> Result<Checkpoint> {
    let manifest = read_manifest(path)?;
    let bytes = read_file(path, STATE, &manifest)?;
    let stored: StateFile = serde_json::from_slice(&bytes).map_err(|error| damaged(path, format!("{STATE}: {error}")))?;
    if (stored.step, stored.epoch) != (manifest.step, manifest.epoch) {
        let reason = format!(
            "{MANIFEST} says step {}, epoch {}; {STATE} step {}, epoch {}",
            manifest.step, manifest.epoch, stored.step, stored.epoch
        );
        return Err(damaged(path, reason));
    }
    let listed: Vec<&str> = manifest.files.keys().filter_map(|file| file.strip_suffix(TENSORS)).collect();
    if listed != stored.groups || manifest.files.len() != listed.len() + 1 {
        let files: Vec<&String> = manifest.files.keys().collect();
        return Err(damaged(path, format!("{MANIFEST} lists {files:?}, {STATE} the groups {:?}", stored.groups)));
    }
    let mut groups = BTreeMap::new();
    for group in stored.groups {
        let file = format!("{group}{TENSORS}");
        let bytes = read_file(path, &file, &manifest)?;
        let source = path.join(&file).display().to_string();
        let contents = read::safetensors(bytes, &source).map_err(|error| damaged(path, error.to_string()))?;
        groups.insert(group, contents.weights);
    }
    Ok(Checkpoint { step: stored.step, epoch: stored.epoch, groups, state: state::decode(stored.state) })
}

/// Whether the manifest can be read and all files have their lengths: cheap, and enough to tell a checkpoint from its remains.
pub(super) fn looks_complete(path: &Path) -> bool {
    read_manifest(path).is_ok_and(|manifest| {
        manifest.files.iter().all(|(file, entry)| fs::metadata(path.join(file)).is_ok_and(|metadata| metadata.len() == entry.length))
    })
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let mut bytes = Vec::new();
    let file = File::open(path.join(MANIFEST)).map_err(|error| damaged(path, format!("{MANIFEST}: {error}")))?;
    file.take(MAX_MANIFEST).read_to_end(&mut bytes).map_err(|error| damaged(path, format!("{MANIFEST}: {error}")))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(path, format!("{MANIFEST}: {error}")))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(found) if found > FORMAT => {
            return Err(CheckpointError::Version { path: path.to_owned(), found, expected: FORMAT }.into());
        }
        Some(1..) => {}
        _ => return Err(damaged(path, format!("{MANIFEST} has no format"))),
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|error| damaged(path, format!("{MANIFEST}: {error}")))?;
    let named = path.file_name().and_then(|name| name.to_str()).and_then(name::parse);
    match named {
        // A copy may have any other name.
        Some((_, step)) if step != manifest.step => Err(damaged(path, format!("{MANIFEST} is of step {}", manifest.step))),
        _ => Ok(manifest),
    }
}

/// The verified content of one file. What is read is bounded by the file's own length.
fn read_file(path: &Path, file: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let Some(entry) = manifest.files.get(file) else { return Err(damaged(path, format!("{MANIFEST} does not list {file}"))) };
    let failed = |error: std::io::Error| damaged(path, format!("{file}: {error}"));
    let mut handle = File::open(path.join(file)).map_err(failed)?;
    let length = handle.metadata().map_err(failed)?.len();
    if length != entry.length {
        return Err(damaged(path, format!("{file} has {length} bytes, expected {}", entry.length)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    handle.read_to_end(&mut bytes).map_err(failed)?;
    let found = blake3::hash(&bytes).to_hex();
    if found.as_str() != entry.blake3 {
        return Err(damaged(path, format!("{file}: BLAKE3 is {found}, expected {}", entry.blake3)));
    }
    Ok(bytes)
}

fn damaged(path: &Path, reason: String) -> Error {
    CheckpointError::Damaged { path: path.to_owned(), reason }.into()
}
