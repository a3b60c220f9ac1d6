use std::io::{self, Read};
use std::path::Path;

use tar::{EntryType, Header};
use timburn_core::error::DataError;
use timburn_core::{Error, Result};

use super::archive::{content, display, unreadable};

const BLOCK: u64 = 512;
/// Longest name, and largest pax header: far beyond any file system's, far below any harm.
const LONGEST: u64 = 1 << 16;

/// What sees the members: name, offset and size of the content, a reader of it.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], u64, u64, &mut dyn Read) -> Result<()>;

/// A tar archive that is read forwards.
pub(super) trait Blocks: Read {
    /// Bytes from the archive's start.
    fn position(&self) -> u64;

    /// Leaves bytes out; `UnexpectedEof` where there are not as many.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

impl Blocks for io::Cursor<&[u8]> {
    fn position(&self) -> u64 {
        self.position()
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let position = self.position().checked_add(count).filter(|position| *position <= self.get_ref().len() as u64);
        self.set_position(position.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What headers of their own say of the member behind them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Visits the regular files of an archive: name, offset and size of the content, and a reader of it. Reads ustar, GNU (long names) and pax.
pub(super) fn walk(archive: &mut dyn Blocks, path: &Path, visit: Visit<'_>) -> Result<()> {
    let mut extension = Extension::default();
    loop {
        let start = archive.position();
        let at = || format!(", byte {start}");
        let mut header = Header::new_old();
        archive.read_exact(header.as_mut_bytes()).map_err(|error| unreadable(path, at(), error))?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if !has_checksum(&header) {
            return Err(malformed(path, at(), "a tar header", "a block whose checksum is not its own"));
        }
        let refuse =
            |member: &[u8], reason| Error::from(DataError::HostileArchive { path: path.to_owned(), member: display(member), reason });
        let kind = header.entry_type();
        let stated = header.entry_size().map_err(|error| malformed(path, at(), "a member's size", &error.to_string()))?;
        if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader) {
            if stated > LONGEST {
                return Err(refuse(b"", "its name or pax header is longer than 64 KiB"));
            }
            let bytes = content(path, b"(extended header)", stated, archive)?;
            match kind {
                EntryType::GNULongName => extension.name = Some(until_nul(&bytes).to_vec()),
                EntryType::XHeader => read_pax(&bytes, &mut extension).map_err(|found| malformed(path, at(), "a pax header", found))?,
                // Of what holds for the whole archive (dates, comments) nothing matters; a link's target least of all.
                _ => {}
            }
            skip(archive, padding(stated), path, at())?;
            continue;
        }
        let extended = std::mem::take(&mut extension);
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let size = extended.size.unwrap_or(stated);
        let is_folder = kind == EntryType::Directory || (kind == EntryType::Regular && name.ends_with(b"/"));
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => {}
            EntryType::Link | EntryType::Symlink => return Err(refuse(&name, "links are not followed")),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(refuse(&name, "devices and pipes hold no data")),
            EntryType::GNUSparse => return Err(refuse(&name, "sparse files are not supported")),
            _ => return Err(refuse(&name, "a kind of member that is not known")),
        }
        let clean = clean(&name).map_err(|reason| refuse(&name, reason))?;
        let offset = archive.position();
        let end = offset.checked_add(size).and_then(|end| end.checked_add(padding(size)));
        let end = end.ok_or_else(|| malformed(path, format!(": {}", display(&name)), "a member's size", &size.to_string()))?;
        if !is_folder {
            if clean.is_empty() {
                return Err(refuse(&name, "a file without a name"));
            }
            visit(clean, offset, size, &mut (&mut *archive).take(size))?;
        }
        let left = end.saturating_sub(archive.position());
        skip(archive, left, path, format!(": {}", display(&name)))?;
    }
}

fn malformed(path: &Path, at: String, expected: &str, found: &str) -> Error {
    DataError::Malformed { path: path.to_owned(), at, expected: expected.into(), found: found.into() }.into()
}

fn skip(archive: &mut dyn Blocks, count: u64, path: &Path, at: String) -> Result<()> {
    archive.skip(count).map_err(|error| unreadable(path, at, error))
}

/// Zeros up to the next block.
fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// The sum of the header's bytes, its own field taken as spaces.
fn has_checksum(header: &Header) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let bytes = header.as_bytes();
    let found = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
    header.cksum().is_ok_and(|stated| stated == found)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A name without `./` and doubled slashes at its front; names that leave the archive are refused.
fn clean(name: &[u8]) -> Result<&[u8], &'static str> {
    if name.contains(&0) {
        return Err("a zero byte in its name");
    }
    if name.starts_with(b"/") {
        return Err("an absolute path");
    }
    if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err("`..` in its path");
    }
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix(b"./").or_else(|| rest.strip_prefix(b"/")) {
        rest = shorter;
    }
    Ok(if rest == b"." { b"" } else { rest })
}

/// Records of a pax header: `length key=value\n`, the length in decimal digits and of the whole record.
fn read_pax(mut bytes: &[u8], extension: &mut Extension) -> Result<(), &'static str> {
    while !until_nul(bytes).is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or("a record without a length")?;
        let length = number(&bytes[..space]).and_then(|length| usize::try_from(length).ok()).ok_or("a record without a length")?;
        let (record, rest) = bytes.split_at_checked(length).ok_or("a record that is cut short")?;
        let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or("a record of a wrong length")?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("a record without a value")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.name = Some(value.to_vec()),
            b"size" => extension.size = Some(number(value).ok_or("a size that is no number")?),
            _ if key.starts_with(b"GNU.sparse.") => return Err("a sparse file, which is not supported"),
            _ => {}
        }
        bytes = rest;
    }
    Ok(())
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
