//! The readers of archives and binary files over plain bytes, for fuzz targets. Not part of the public interface.
//!
//! Each returns what it found, for the targets to hold against the input, or the error; none may panic or take memory out of proportion to
//! its input.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use timburn_core::{Classes, Result};

use super::archive::{Member, content, gunzip, visit_gzip};
use super::cifar::{Batch, CifarKind, names};
use super::cifar_source::{Form, Part};
use super::tar_walk::walk;
use super::{Content, Dataset, Idx, IdxNames, idx, webdataset};
use crate::image::Rgb8Image;

const NAME: &str = "input";
/// Bytes that gzipped input may unpack to.
pub const GZIP_LIMIT: u64 = 1 << 20;
const HUNDRED: [CifarKind; 2] = [CifarKind::Hundred { coarse: true }, CifarKind::Hundred { coarse: false }];

/// A tar archive: its members and their content.
///
/// # Errors
/// As [`TarArchive::open`](super::archive::TarArchive::open).
pub fn parse_tar(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>> {
    let mut members = Vec::new();
    walk(&mut Cursor::new(bytes), Path::new(NAME), &mut |name, offset, size, reader| {
        let bytes = content(Path::new(NAME), name, size, reader)?;
        members.push((Member { name: name.to_vec(), offset, size }, bytes));
        Ok(())
    })?;
    Ok(members)
}

/// [`parse_tar`] of a gzipped archive of at most [`GZIP_LIMIT`] bytes.
///
/// # Errors
/// As [`visit`](super::archive::visit).
pub fn parse_tar_gz(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>> {
    let mut members = Vec::new();
    visit_gzip(bytes, Path::new(NAME), GZIP_LIMIT, &mut |name, offset, size, reader| {
        let bytes = content(Path::new(NAME), name, size, reader)?;
        members.push((Member { name: name.to_vec(), offset, size }, bytes));
        Ok(())
    })?;
    Ok(members)
}

/// What a file of CIFAR holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CifarFile {
    /// Labels and pictures, and the number of classes.
    Pictures(Vec<(u8, Rgb8Image)>, usize),
    /// Names of classes, and their number.
    Names(Vec<String>, usize),
}

fn part(bytes: &[u8]) -> Part {
    Part { path: PathBuf::from(NAME), member: None, bytes: bytes.to_vec() }
}

fn pictures(bytes: &[u8], form: Form, kind: CifarKind) -> Result<CifarFile> {
    let batch = Batch::parse(part(bytes), form, kind)?;
    let pictures = batch.labels.iter().enumerate().filter_map(|(at, label)| Some((*label, batch.picture(at)?))).collect();
    Ok(CifarFile::Pictures(pictures, kind.classes()))
}

/// A pickled batch of CIFAR-10, else of CIFAR-100 (coarse, then fine), else a list of names of one of them.
///
/// # Errors
/// As [`Cifar::open`](super::Cifar::open).
pub fn parse_cifar_pickle(bytes: &[u8]) -> Result<CifarFile> {
    let kinds = [CifarKind::Ten, HUNDRED[0], HUNDRED[1]];
    let names = |kind| names(&part(bytes), Form::Pickle, kind).map(|classes| CifarFile::Names(classes.names, kind.classes()));
    let found = kinds.iter().find_map(|kind| pictures(bytes, Form::Pickle, *kind).or_else(|_| names(*kind)).ok());
    found.map_or_else(|| pictures(bytes, Form::Pickle, CifarKind::Ten), Ok)
}

/// A binary batch of CIFAR-10, else of CIFAR-100, else a text of names.
///
/// # Errors
/// As [`Cifar::open`](super::Cifar::open).
pub fn parse_cifar_binary(bytes: &[u8]) -> Result<CifarFile> {
    let text = |kind| names(&part(bytes), Form::Binary, kind).map(|classes| CifarFile::Names(classes.names, kind.classes()));
    let found = [CifarKind::Ten, HUNDRED[0], HUNDRED[1]]
        .into_iter()
        .find_map(|kind| pictures(bytes, Form::Binary, kind).or_else(|_| text(kind)).ok());
    found.map_or_else(|| pictures(bytes, Form::Binary, HUNDRED[1]), Ok)
}

/// An IDX file of pictures, else of labels, perhaps gzipped: its sides, and how many bytes of data it has.
///
/// # Errors
/// As [`Idx::open`].
pub fn parse_idx(bytes: &[u8]) -> Result<(Vec<usize>, usize)> {
    let bytes = if bytes.starts_with(&[0x1F, 0x8B]) { gunzip(bytes, Path::new(NAME), GZIP_LIMIT)? } else { bytes.to_vec() };
    let parse = |dimensions| idx::Part::parse(bytes.clone(), NAME.into(), dimensions);
    let part = parse(3).or_else(|_| parse(1))?;
    Ok((part.sides().to_vec(), part.data().len()))
}

/// A set of an IDX file of pictures and one of labels: labels and pictures, and the number of classes.
///
/// # Errors
/// As [`Idx::open`].
pub fn parse_idx_set(images: &[u8], labels: &[u8]) -> Result<(Vec<(usize, Rgb8Image)>, usize)> {
    let images = idx::Part::parse(images.to_vec(), NAME.into(), 3)?;
    let labels = idx::Part::parse(labels.to_vec(), NAME.into(), 1)?;
    let set = Idx::new((images, labels), IdxNames::Fashion.classes(0))?;
    let picture = |index| match set.read(index)? {
        Content::Pixels(image) => Ok((set.label(index), image)),
        Content::Encoded(_) => Err(super::out_of_range(index, 0)),
    };
    Ok(((0..set.len()).map(picture).collect::<Result<_>>()?, set.classes().len()))
}

/// A sample of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSample {
    /// Name of the picture.
    pub member: Vec<u8>,
    /// Its key, displayed.
    pub key: String,
    /// Its class.
    pub label: usize,
    /// Where the picture lies in the shard.
    pub offset: u64,
    /// Bytes of the picture.
    pub size: u64,
}

/// A plain WebDataset shard with labels of these classes, or, without, of those it names: the samples and the number of classes.
///
/// # Errors
/// As [`WebDataset::open`](super::WebDataset::open).
pub fn parse_webdataset(bytes: &[u8], classes: Option<Classes>) -> Result<(Vec<ShardSample>, usize)> {
    let mut index = webdataset::Index::default();
    index.add_bytes(&mut Cursor::new(bytes), Path::new(NAME))?;
    let (classes, samples) = index.label(classes, &[])?;
    let sample = |sample: webdataset::Sample| ShardSample {
        key: webdataset::key(&sample.member).unwrap_or_default(),
        member: sample.member.into(),
        label: sample.label as usize,
        offset: sample.offset,
        size: sample.size,
    };
    Ok((samples.into_iter().map(sample).collect(), classes.len()))
}
