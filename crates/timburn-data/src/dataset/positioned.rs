use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use timburn_core::{Error, Result};

use super::archive::unreadable;
use super::tar_walk::Blocks;

/// A file that several threads read at places of their own.
#[derive(Debug)]
pub(super) struct PositionedFile {
    file: File,
    /// In bytes, when it was opened.
    length: u64,
    /// Where reading needs the file's one cursor.
    #[cfg(not(any(unix, windows)))]
    cursor: std::sync::Mutex<()>,
}

impl PositionedFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        Ok(Self {
            file,
            length,
            #[cfg(not(any(unix, windows)))]
            cursor: std::sync::Mutex::new(()),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `size` bytes from `offset` on; `name` is what errors call them.
    pub(super) fn read(&self, offset: u64, size: u64, path: &Path, name: impl Fn() -> String) -> Result<Vec<u8>> {
        let failed = |error| unreadable(path, format!(": {}", name()), error);
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= self.length);
        let Some(size) = usize::try_from(size).ok().filter(|_| is_inside) else {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        };
        let mut bytes = vec![0; size];
        let mut done = 0;
        while done < size {
            match self.read_some(&mut bytes[done..], offset + done as u64) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(bytes)
    }

    #[cfg(unix)]
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use std::io::{Seek, SeekFrom};
        let _alone = self.cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read(buffer)
    }
}

/// Bytes of a window: a header and a small member behind it in one read.
const WINDOW: usize = 1 << 13;

/// A walk through a file that skips what is not asked for.
pub(super) struct Window<'a> {
    file: &'a PositionedFile,
    position: u64,
    /// Bytes from `start` on.
    held: Vec<u8>,
    start: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a PositionedFile) -> Self {
        Self { file, position: 0, held: Vec::new(), start: 0 }
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = |window: &Self| window.position.checked_sub(window.start).filter(|skipped| *skipped < window.held.len() as u64);
        if ahead(self).is_none() {
            if buffer.len() >= WINDOW {
                let count = self.file.read_some(buffer, self.position)?;
                self.position += count as u64;
                return Ok(count);
            }
            self.held.resize(WINDOW, 0);
            self.start = self.position;
            let outcome = self.file.read_some(&mut self.held, self.start);
            self.held.truncate(*outcome.as_ref().unwrap_or(&0));
            outcome?;
        }
        let skipped = ahead(self).map_or(self.held.len(), |skipped| skipped as usize);
        let count = (&self.held[skipped..]).read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Blocks for Window<'_> {
    fn position(&self) -> u64 {
        self.position
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let position = self.position.checked_add(count).filter(|position| *position <= self.file.length());
        self.position = position.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}
