//! Members of tar archives, read where they lie: nothing is ever unpacked to a file.
//!
//! [`TarArchive`] walks the headers of a plain `.tar` once and then reads any member by its offset, from any thread.
//! [`visit`] goes through a `.tar`, `.tar.gz` or `.tgz` from front to back and hands each member's content to a closure.
//! Both refuse what an archive of samples has no use for: absolute names, `..`, links, devices, sparse files. An archive that ends before
//! its end marker (one block of zeros) is an error, so a download cut short is never taken for a smaller data set.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use timburn_core::error::DataError;
use timburn_core::{Error, Result};

use super::positioned::{PositionedFile, Window};
use super::tar_walk::{Blocks, Visit, walk};

/// Deflate cannot shrink better than 1:1032, so no honest stream unpacks to more than this many times its size.
const DEFLATE_RATIO: u64 = 1032;

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, byte for byte, without a leading `./`.
    pub name: Vec<u8>,
    /// Where its content starts, in bytes from the start of the (unpacked) archive.
    pub offset: u64,
    /// Length of its content in bytes.
    pub size: u64,
}

impl Member {
    /// What errors call it: bytes that are not UTF-8 are shown escaped.
    pub fn display(&self) -> String {
        display(&self.name)
    }
}

pub(super) fn display(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) if !name.contains(char::is_control) => name.into(),
        _ => name.escape_ascii().to_string(),
    }
}

/// Whether the name ends as that of a gzipped tar archive does.
pub fn is_gzipped(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

/// Whether the name ends as that of a tar archive does, gzipped or not.
pub fn is_archive(path: &Path) -> bool {
    is_gzipped(path) || path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}

/// A plain `.tar` with an index of its members; holds one open file and 40 bytes and the name for each member.
#[derive(Debug)]
pub struct TarArchive {
    path: PathBuf,
    file: PositionedFile,
    members: Vec<Member>,
}

impl TarArchive {
    /// Opens an archive and walks its headers.
    ///
    /// # Errors
    /// [`Error::Io`]; [`DataError::Malformed`] for a truncated or garbled archive, [`DataError::HostileArchive`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = PositionedFile::open(path)?;
        let mut members = Vec::new();
        walk(&mut Window::new(&file), path, &mut |name, offset, size, _| {
            members.push(Member { name: name.to_vec(), offset, size });
            Ok(())
        })?;
        Ok(Self { path: path.to_owned(), file, members })
    }

    /// The archive's own path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All regular files, in the order of the archive.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Content of a member of this archive.
    ///
    /// # Errors
    /// [`Error::Io`]; [`DataError::Malformed`] when the archive has changed since it was opened.
    pub fn read(&self, member: &Member) -> Result<Vec<u8>> {
        self.read_at(&member.name, member.offset, member.size)
    }

    pub(super) fn read_at(&self, name: &[u8], offset: u64, size: u64) -> Result<Vec<u8>> {
        self.file.read(offset, size, &self.path, || display(name))
    }
}

/// What [`visit`] hands members to: name, size of the content in bytes, a reader of it.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], u64, &mut dyn Read) -> Result<()>;

/// Goes through an archive from front to back, unpacking `.gz` on the way. `visit` gets a member's name and size and a reader of its
/// content; what it leaves unread is skipped. Memory: what `visit` keeps, and 100 KB.
///
/// # Errors
/// As [`TarArchive::open`]; [`DataError::Malformed`] as soon as more than `limit` bytes have been unpacked; what `visit` returns.
pub fn visit(path: &Path, limit: u64, visit: Visitor<'_>) -> Result<()> {
    let mut visit = |name: &[u8], _: u64, size: u64, content: &mut dyn Read| visit(name, size, content);
    if !is_gzipped(path) {
        let file = PositionedFile::open(path)?;
        return walk(&mut Window::new(&file), path, &mut visit);
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let packed = file.metadata().map_err(Error::io("read", path))?.len();
    visit_gzip(io::BufReader::with_capacity(1 << 16, file), path, limit.min(packed.saturating_mul(DEFLATE_RATIO)), &mut visit)
}

/// [`visit`] over the bytes of a gzipped archive; the visitor also gets the content's offset in the unpacked archive.
pub(super) fn visit_gzip(packed: impl io::BufRead, path: &Path, limit: u64, visit: Visit<'_>) -> Result<()> {
    let mut stream = Stream { reader: flate2::bufread::MultiGzDecoder::new(packed), position: 0, limit };
    walk(&mut stream, path, visit)?;
    // To the last byte: the checksum comes behind the content.
    io::copy(&mut stream, &mut io::sink()).map_err(|error| unreadable(path, "", error))?;
    Ok(())
}

/// Unpacks a gzipped file of which at most `limit` bytes are expected.
///
/// # Errors
/// [`DataError::Malformed`] for garbled or truncated content, and for more than `limit` bytes.
pub(super) fn gunzip(packed: impl Read, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = MultiGzDecoder::new(packed).take(limit.saturating_add(1));
    reader.read_to_end(&mut bytes).map_err(|error| unreadable(path, "", error))?;
    if bytes.len() as u64 > limit {
        return Err(unreadable(path, "", too_much(limit)));
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Reads a member's content, growing as it arrives: a size that lies costs nothing.
pub(super) fn content(path: &Path, name: &[u8], size: u64, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(usize::MAX).min(1 << 20));
    let at = || format!(": {}", display(name));
    reader.take(size).read_to_end(&mut bytes).map_err(|error| unreadable(path, at(), error))?;
    if bytes.len() as u64 != size {
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} of {size} bytes", bytes.len()));
        return Err(unreadable(path, at(), error));
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn too_much(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes unpacked"))
}

/// An error of reading an archive: what is wrong with its bytes is the archive's fault, everything else the system's.
pub(super) fn unreadable(path: &Path, at: impl Into<String>, error: io::Error) -> Error {
    let expected = match error.kind() {
        io::ErrorKind::UnexpectedEof => "a whole file",
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => "an intact file",
        _ => return Error::io("read", path)(error),
    };
    let found = if error.kind() == io::ErrorKind::UnexpectedEof { format!("a truncated one ({error})") } else { error.to_string() };
    DataError::Malformed { path: path.to_owned(), at: at.into(), expected: expected.into(), found }.into()
}

/// A stream that is read once, up to a limit.
struct Stream<R> {
    reader: R,
    position: u64,
    limit: u64,
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.position += count as u64;
        if self.position > self.limit { Err(too_much(self.limit)) } else { Ok(count) }
    }
}

impl<R: Read> Blocks for Stream<R> {
    fn position(&self) -> u64 {
        self.position
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        if io::copy(&mut self.take(count), &mut io::sink())? == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
