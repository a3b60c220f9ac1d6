//! The readers of archives and binary files over plain bytes, for fuzz targets. Not part of the public interface.
//!
//! Each returns how much it found, or the error; none may panic or take memory out of proportion to its input.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use timburn_core::Result;

use super::archive::{Member, content, visit_gzip};
use super::cifar::{CifarKind, names, parse_binary, parse_pickle};
use super::cifar_source::{Form, Part};
use super::tar_walk::walk;
use super::{idx, webdataset};

const NAME: &str = "input";

/// A tar archive: every member is read. Bytes of content.
///
/// # Errors
/// As [`TarArchive::open`](super::archive::TarArchive::open).
pub fn parse_tar(bytes: &[u8]) -> Result<u64> {
    let mut total = 0;
    walk(&mut Cursor::new(bytes), Path::new(NAME), &mut |name, offset, size, reader| {
        let member = Member { name: name.to_vec(), offset, size };
        let _ = member.display();
        total += content(Path::new(NAME), name, size, reader)?.len() as u64;
        Ok(())
    })?;
    Ok(total)
}

/// A gzipped tar archive of at most 16 MiB unpacked. Bytes of content.
///
/// # Errors
/// As [`visit`](super::archive::visit).
pub fn parse_tar_gz(bytes: &[u8]) -> Result<u64> {
    let mut total = 0;
    visit_gzip(bytes, Path::new(NAME), 16 << 20, &mut |name, _, size, reader| {
        total += content(Path::new(NAME), name, size, reader)?.len() as u64;
        Ok(())
    })?;
    Ok(total)
}

fn part(bytes: &[u8]) -> Part {
    Part { path: PathBuf::from(NAME), member: None, bytes: bytes.to_vec() }
}

/// A pickled batch of CIFAR-10, else of CIFAR-100, else a list of names. Samples or names.
///
/// # Errors
/// As [`Cifar::open`](super::Cifar::open).
pub fn parse_cifar_pickle(bytes: &[u8]) -> Result<usize> {
    let part = part(bytes);
    let hundred = CifarKind::Hundred { coarse: true };
    parse_pickle(&part, CifarKind::Ten)
        .or_else(|_| parse_pickle(&part, hundred))
        .map(|(_, labels)| labels.len())
        .or_else(|_| names(&part, Form::Pickle, CifarKind::Ten).map(|classes| classes.len()))
        .or_else(|_| names(&part, Form::Pickle, hundred).map(|classes| classes.len()))
}

/// A binary batch of CIFAR-10, else of CIFAR-100. Samples.
///
/// # Errors
/// As [`Cifar::open`](super::Cifar::open).
pub fn parse_cifar_binary(bytes: &[u8]) -> Result<usize> {
    let part = part(bytes);
    let labels = parse_binary(&part, CifarKind::Ten).or_else(|_| parse_binary(&part, CifarKind::Hundred { coarse: false }))?;
    Ok(labels.len())
}

/// An IDX file of pictures, else of labels.
///
/// # Errors
/// As [`Idx::open`](super::Idx::open).
pub fn parse_idx(bytes: &[u8]) -> Result<()> {
    let parse = |dimensions| idx::Part::parse(bytes.to_vec(), NAME.into(), dimensions).map(|_| ());
    parse(3).or_else(|_| parse(1))
}

/// A plain WebDataset shard. Samples.
///
/// # Errors
/// As [`WebDataset::open`](super::WebDataset::open).
pub fn parse_webdataset(bytes: &[u8]) -> Result<usize> {
    webdataset::Index::default().add_bytes(&mut Cursor::new(bytes), Path::new(NAME))
}
