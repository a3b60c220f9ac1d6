//! Writing files whole or not at all.
//!
//! A file is written under another name beside its place, made durable, and renamed. Whoever opens the place sees the old file or the new
//! one, whatever happens to the process or the power in between. Every call goes through [`Disk`], so that a test can fail any of them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Suffix of what is still being written.
pub const INCOMPLETE: &str = ".incomplete";

/// A file being written.
pub trait DiskFile: Write + Send {
    /// Returns when the content is on the medium.
    ///
    /// # Errors
    /// The system's; the content may then be lost.
    fn sync(&mut self) -> io::Result<()>;
}

/// The calls by which files change. [`System`] is the operating system's.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a file that must not exist.
    ///
    /// # Errors
    /// The system's, as for all methods.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a folder that must not exist, in one that does.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder a new name; a file replaces the one of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last through a power cut. File systems that cannot are no error: the content is safe by then.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for System {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Windows opens no folder as a file, some network file systems sync none.
        let Ok(folder) = File::open(path) else { return Ok(()) };
        match folder.sync_all() {
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            result => result,
        }
    }
}

/// Writes the file `path` through `write`, replacing what is there in one step: a reader sees the old file or the new one, and an error
/// leaves the old one and no other file.
///
/// # Errors
/// [`Error::Io`] naming the step that failed; those of `write`.
pub fn replace_file(disk: &dyn Disk, path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let folder = parent(path);
    let (temporary, file) = create_beside(disk, path).map_err(Error::io("create a file in", folder))?;
    let written = write_synced(file, path, write).and_then(|()| disk.rename(&temporary, path).map_err(Error::io("replace", path)));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = disk.remove_file(&temporary);
        return written;
    }
    disk.sync_folder(folder).map_err(Error::io("sync", folder))
}

/// Removes a file, or a folder with all in it. Links are removed, not followed; what is not there is no error.
///
/// # Errors
/// The first of the system's; what remains can be removed by another call.
pub fn remove_tree(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_dir() {
        return disk.remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        remove_tree(disk, &entry?.path())?;
    }
    disk.remove_folder(path)
}

/// The folder that holds `path`.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_synced(file: Box<dyn DiskFile>, path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut file);
    // Taken apart by hand: a dropped `BufWriter` would write what an error has left in it.
    let (mut inner, rest) = file.into_parts();
    written?;
    let rest = rest.map_err(|_| io::Error::other("the writer panicked"));
    rest.and_then(|rest| inner.write_all(&rest)).map_err(Error::io("write", path))?;
    inner.sync().map_err(Error::io("write", path))
}

/// A new file beside `path`, under a name that no other process draws.
fn create_beside(disk: &dyn Disk, path: &Path) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(INCOMPLETE).disable_cleanup(true);
    let (file, temporary) = builder.make_in(parent(path), |path| disk.create_new(path))?.into_parts();
    Ok((temporary.to_path_buf(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("timburn-disk-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = folder("replace");
        let path = folder.join("file");
        let put = |text: &'static [u8]| replace_file(&System, &path, |out| out.write_all(text).map_err(Error::io("write", "file")));
        put(b"old").unwrap();
        let failed = replace_file(&System, &path, |out| {
            out.write_all(b"half").map_err(Error::io("write", "file"))?;
            Err(Error::Argument { name: "x", value: String::new(), expected: String::new() })
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        put(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary is left");

        let missing = folder.join("missing/file");
        let error = replace_file(&System, &missing, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("create a file in") && error.contains("missing"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_tree_is_removed_without_following_links() {
        let folder = folder("remove");
        fs::create_dir_all(folder.join("tree/sub")).unwrap();
        fs::write(folder.join("outside"), "stays").unwrap();
        std::os::unix::fs::symlink(&folder, folder.join("tree/sub/link")).unwrap();
        fs::write(folder.join("tree/file"), "").unwrap();
        remove_tree(&System, &folder.join("tree")).unwrap();
        assert!(!folder.join("tree").exists());
        assert!(folder.join("outside").exists());
        remove_tree(&System, &folder.join("tree")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
