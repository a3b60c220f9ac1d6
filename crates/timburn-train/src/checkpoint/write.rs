//! One checkpoint onto the disk.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use timburn_core::disk::{self, Disk, DiskFile};
use timburn_core::{Error, Result};
use timburn_weights::encode_safetensors;

use super::manifest::{FORMAT, FileEntry, MANIFEST, Manifest, STATE, StateFile, TENSORS};
use super::{Checkpoint, Entry, state};

/// Writes `checkpoint` to `entry.path`, which appears complete or not at all. On an error the remains are removed as far as possible.
pub(super) fn write(disk: &dyn Disk, entry: &Entry, checkpoint: &Checkpoint) -> Result<()> {
    check_groups(checkpoint)?;
    let (aside, folder) = (entry.incomplete(), disk::parent(&entry.path));
    let written = disk
        .create_folder(&aside)
        .map_err(Error::io("create", &aside))
        .and_then(|()| write_files(disk, &aside, checkpoint))
        .and_then(|()| disk.rename(&aside, &entry.path).map_err(Error::io("create", &entry.path)));
    if written.is_err() {
        if let Err(error) = disk::remove_tree(disk, &aside) {
            log::warn!("{}: an incomplete checkpoint stays until the folder is opened again: {error}", aside.display());
        }
        return written;
    }
    disk.sync_folder(folder).map_err(Error::io("sync", folder))
}

/// A group's name becomes a file's.
fn check_groups(checkpoint: &Checkpoint) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let odd = checkpoint.groups.keys().find(|group| group.is_empty() || !group.bytes().all(plain));
    odd.map_or(Ok(()), |group| {
        let expected = "lower-case letters, digits and `_`".into();
        Err(Error::Argument { name: "group", value: format!("{group:?}"), expected })
    })
}

fn write_files(disk: &dyn Disk, folder: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let mut files = BTreeMap::new();
    for (group, tensors) in &checkpoint.groups {
        let file = format!("{group}{TENSORS}");
        let path = folder.join(&file);
        let entry = write_file(disk, &path, |out| encode_safetensors(tensors, out, &path, &BTreeMap::new()))?;
        files.insert(file, entry);
    }
    let stored = StateFile {
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        groups: checkpoint.groups.keys().cloned().collect(),
        state: state::encode(&checkpoint.state),
    };
    files.insert(STATE.to_owned(), write_json(disk, &folder.join(STATE), &stored)?);
    let timburn = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { format: FORMAT, step: checkpoint.step, epoch: checkpoint.epoch, timburn, files };
    write_json(disk, &folder.join(MANIFEST), &manifest)?;
    disk.sync_folder(folder).map_err(Error::io("sync", folder))
}

fn write_json(disk: &dyn Disk, path: &Path, value: &impl serde::Serialize) -> Result<FileEntry> {
    write_file(disk, path, |out| {
        let text = serde_json::to_vec_pretty(value).map_err(io::Error::from).map_err(Error::io("write", path))?;
        out.write_all(&text).map_err(Error::io("write", path))
    })
}

/// A durable file, and its hash as it was on the way to the disk.
fn write_file(disk: &dyn Disk, path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<FileEntry> {
    let file = disk.create_new(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, Hashing { file, hasher: blake3::Hasher::new(), length: 0 });
    content(&mut out)?;
    out.flush().map_err(Error::io("write", path))?;
    let hashing = out.get_mut();
    hashing.file.sync().map_err(Error::io("write", path))?;
    Ok(FileEntry { length: hashing.length, blake3: hashing.hasher.finalize().to_hex().to_string() })
}

struct Hashing {
    file: Box<dyn DiskFile>,
    hasher: blake3::Hasher,
    length: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
