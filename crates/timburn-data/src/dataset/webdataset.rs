//! Tar shards in WebDataset's layout: `key.jpg` and `key.cls` side by side, any number of shards.
//! Format: <https://github.com/webdataset/webdataset>.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

use super::archive::{content, display, is_archive, is_gzipped, unreadable, visit_gzip};
use super::positioned::{PositionedFile, Window};
use super::shard_names::expand;
use super::tar_walk::{Blocks, Visit, walk};
use super::{Content, Dataset};

/// Extensions of pictures, what comes first wins where a sample has several.
const PICTURES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jpe"];
/// A label is a number or a short JSON document.
const LONGEST_LABEL: u64 = 1 << 20;
/// Without a list of classes, a label beyond this is garbage.
const MOST_CLASSES: usize = 1_000_000;
/// Shards kept open; the others are opened for every sample, so that no system's limit on open files is met.
const OPEN_SHARDS: usize = 256;

/// What a [`WebDataset`] may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebDatasetOptions {
    /// Bytes that all gzipped shards together may unpack to; they are held in memory. Plain `.tar` shards are read in place.
    pub memory: u64,
    /// The classes; `None` reads `classes.txt` or `classnames.txt` beside the shards, and counts labels where neither is there.
    pub classes: Option<Classes>,
}

impl Default for WebDatasetOptions {
    /// 2 GiB, classes from beside the shards.
    fn default() -> Self {
        Self { memory: 2 << 30, classes: None }
    }
}

/// Labelled pictures in tar shards, read by index in any order. In memory: the index (about 100 bytes a sample), and gzipped shards unpacked.
#[derive(Debug, Clone)]
pub struct WebDataset {
    classes: Classes,
    shards: Arc<[Shard]>,
    samples: Arc<[Sample]>,
}

#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Open(PositionedFile),
    Closed,
    /// A gzipped shard's pictures, one after the other.
    Held(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Sample {
    shard: u32,
    pub(super) label: u32,
    /// In the shard, or in what is held of it.
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Name of the picture.
    pub(super) member: Box<[u8]>,
}

impl WebDataset {
    /// Opens shards: one archive, a folder of `.tar`, `.tar.gz` and `.tgz` files (in the order of their names), or a pattern such as
    /// `train-{000000..000146}.tar`. Walks all headers and reads all labels, no picture.
    ///
    /// A sample is all members with the same name up to the first dot of its last part, sub-folders included. The label is `key.cls`, an
    /// integer, or `label` or `cls` in `key.json`: an integer, or a class name. Keys without a picture and a label are passed over, and so
    /// are hidden files. Samples come in the order of their pictures in the shards.
    ///
    /// # Errors
    /// [`DataError::Unrecognised`] without shards or samples; [`DataError::Malformed`] naming shard and key for a sample without a label
    /// or a picture, two members of one name, labels that are no class index, truncated shards; [`DataError::UnknownClass`];
    /// [`DataError::HostileArchive`]; [`Error::Io`].
    pub fn open(shards: impl AsRef<Path>, options: &WebDatasetOptions) -> Result<Self> {
        let paths = shard_paths(shards.as_ref())?;
        let mut index = Index { memory: options.memory, ..Index::default() };
        let mut opened = Vec::new();
        for path in paths {
            let number = u32::try_from(opened.len()).unwrap_or(u32::MAX);
            let source = index.add(&path, number)?;
            opened.push(Shard { source: if opened.len() < OPEN_SHARDS { source } else { source.closed() }, path });
        }
        let folder = opened.first().and_then(|shard| shard.path.parent()).unwrap_or(Path::new("")).to_owned();
        let known = options.classes.clone().map(Ok).or_else(|| class_list(&folder).transpose()).transpose()?;
        let (classes, samples) = index.label(known, &opened)?;
        if samples.is_empty() {
            let expected = "samples of a picture and a .cls or .json in tar shards".into();
            return Err(DataError::Unrecognised { path: shards.as_ref().to_owned(), expected }.into());
        }
        Ok(Self { classes, shards: opened.into(), samples: samples.into() })
    }

    /// Key of a sample: its picture's name up to the first dot of the last part; names that are not UTF-8 are shown escaped.
    pub fn key(&self, index: usize) -> Option<String> {
        key(&self.samples.get(index)?.member)
    }
}

impl Dataset for WebDataset {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> usize {
        self.samples.get(index).map_or(0, |sample| sample.label as usize)
    }

    fn name(&self, index: usize) -> String {
        let shard =
            |sample: &Sample| Some(format!("{}:{}", self.shards.get(sample.shard as usize)?.path.display(), display(&sample.member)));
        self.samples.get(index).and_then(shard).unwrap_or_else(|| format!("sample {index}"))
    }

    fn read(&self, index: usize) -> Result<Content> {
        let outside = || Error::Argument { name: "index", value: index.to_string(), expected: format!("less than {}", self.len()) };
        let sample = self.samples.get(index).ok_or_else(outside)?;
        let shard = self.shards.get(sample.shard as usize).ok_or_else(outside)?;
        let read = |file: &PositionedFile| file.read(sample.offset, sample.size, &shard.path, || display(&sample.member));
        let bytes = match &shard.source {
            Source::Open(file) => read(file)?,
            Source::Closed => read(&PositionedFile::open(&shard.path)?)?,
            Source::Held(bytes) => {
                let range = sample.offset as usize..(sample.offset + sample.size) as usize;
                bytes.get(range).ok_or_else(outside)?.to_vec()
            }
        };
        Ok(Content::Encoded(bytes))
    }
}

impl Source {
    fn closed(self) -> Self {
        if matches!(self, Self::Open(_)) { Self::Closed } else { self }
    }
}

/// The shards meant by a path, a folder or a pattern.
fn shard_paths(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return if path.is_file() { Ok(vec![path.to_owned()]) } else { expand(path) };
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
        let entry = entry.map_err(Error::io("read", path))?.path();
        let is_hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && is_archive(&entry) && entry.is_file() {
            paths.push(entry);
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(paths)
}

/// Class names beside the shards, one a line.
fn class_list(folder: &Path) -> Result<Option<Classes>> {
    let places = [Some(folder), folder.parent()].into_iter().flatten();
    let Some(path) = places.flat_map(|folder| ["classes.txt", "classnames.txt"].map(|name| folder.join(name))).find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, "", error))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() != names.len() || names.is_empty() {
        let (expected, found) = ("class names, each once".into(), format!("{} names, {} different", names.len(), distinct.len()));
        return Err(DataError::Malformed { path, at: String::new(), expected, found }.into());
    }
    Ok(Some(Classes::new(names)))
}

/// A name's key and its extension in lower case; `None` for hidden files and names without a dot, as in WebDataset.
fn split(name: &[u8]) -> Option<(&[u8], String)> {
    let start = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let dot = name.get(start..)?.iter().position(|byte| *byte == b'.').filter(|dot| *dot > 0)? + start;
    Some((name.get(..dot)?, String::from_utf8_lossy(name.get(dot + 1..)?).to_lowercase()))
}

pub(super) fn key(member: &[u8]) -> Option<String> {
    split(member).map(|(key, _)| display(key))
}

/// A label as a sample states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stated {
    Index(u32),
    Name(String),
}

/// Parses the content of a `.cls`: an integer in ASCII. The fault is what was found.
pub(super) fn parse_cls(bytes: &[u8]) -> Result<Stated, String> {
    let text = std::str::from_utf8(bytes).map(str::trim).unwrap_or_default();
    text.parse().map(Stated::Index).map_err(|_| format!("`{}`", bytes.escape_ascii().take(40).map(char::from).collect::<String>()))
}

/// Parses a `.json`; `None` where it says nothing of a class.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Option<Stated>, String> {
    let document: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Some(label) = document.get("label").or_else(|| document.get("cls")) else { return Ok(None) };
    let index = label.as_u64().and_then(|label| u32::try_from(label).ok()).map(Stated::Index);
    index
        .or_else(|| label.as_str().map(|name| Stated::Name(name.into())))
        .map(Some)
        .ok_or_else(|| format!("label {}", label.to_string().chars().take(40).collect::<String>()))
}

/// What is known of a key.
#[derive(Default)]
struct Entry {
    /// Rank among [`PICTURES`], place.
    picture: Option<(usize, Sample)>,
    /// From `.cls` before `.json`.
    label: Option<(bool, Stated)>,
    extensions: Vec<String>,
}

#[derive(Default)]
pub(super) struct Index {
    samples: Vec<(Sample, Stated)>,
    /// Bytes that may still be unpacked.
    memory: u64,
}

impl Index {
    /// Adds a shard's samples; returns where its pictures are.
    fn add(&mut self, path: &Path, shard: u32) -> Result<Source> {
        if is_gzipped(path) {
            let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
            let mut held = Vec::new();
            let memory = self.memory;
            let mut reader = Some(&mut held);
            self.collect(path, shard, &mut |visit| {
                let held = reader.take();
                visit_held(std::io::BufReader::new(&file), path, memory, held, visit)
            })?;
            self.memory = memory.saturating_sub(held.len() as u64);
            held.shrink_to_fit();
            return Ok(Source::Held(held));
        }
        let file = PositionedFile::open(path)?;
        self.collect(path, shard, &mut |visit| walk(&mut Window::new(&file), path, visit))?;
        Ok(Source::Open(file))
    }

    /// A plain shard's samples from its bytes.
    pub(super) fn add_bytes(&mut self, archive: &mut dyn Blocks, path: &Path) -> Result<usize> {
        let mut archive = Some(archive);
        self.collect(path, 0, &mut |visit| archive.take().map_or(Ok(()), |archive| walk(archive, path, visit)))?;
        Ok(self.samples.len())
    }

    fn collect(&mut self, path: &Path, shard: u32, walk: &mut dyn FnMut(Visit<'_>) -> Result<()>) -> Result<()> {
        let malformed = |key: &[u8], expected: &str, found: String| {
            Error::from(DataError::Malformed { path: path.to_owned(), at: format!(": {}", display(key)), expected: expected.into(), found })
        };
        let mut entries: HashMap<Vec<u8>, Entry> = HashMap::new();
        let mut order: Vec<Vec<u8>> = Vec::new();
        walk(&mut |name, offset, size, reader| {
            let Some((key, extension)) = split(name) else { return Ok(()) };
            if !entries.contains_key(key) {
                order.push(key.to_vec());
            }
            let entry = entries.entry(key.to_vec()).or_default();
            let rank = PICTURES.iter().position(|picture| *picture == extension);
            if rank.is_none() && extension != "cls" && extension != "json" {
                return Ok(());
            }
            if entry.extensions.contains(&extension) {
                return Err(malformed(key, "members of different names", format!("two `.{extension}`")));
            }
            if let Some(rank) = rank {
                if entry.picture.as_ref().is_none_or(|(other, _)| rank < *other) {
                    entry.picture = Some((rank, Sample { shard, label: 0, offset, size, member: name.into() }));
                }
            } else {
                if size > LONGEST_LABEL {
                    return Err(malformed(name, "a label of at most 1 MiB", format!("{size} bytes")));
                }
                let bytes = content(path, name, size, reader)?;
                let is_cls = extension == "cls";
                let stated = if is_cls { parse_cls(&bytes).map(Some) } else { parse_json(&bytes) };
                let stated = stated.map_err(|found| malformed(name, "a class index or name", found))?;
                if let Some(stated) = stated.filter(|_| is_cls || entry.label.is_none()) {
                    entry.label = Some((is_cls, stated));
                }
            }
            entry.extensions.push(extension);
            Ok(())
        })?;
        for key in order {
            let Some(entry) = entries.remove(&key) else { continue };
            match (entry.picture, entry.label) {
                (Some((_, sample)), Some((_, stated))) => self.samples.push((sample, stated)),
                (Some(_), None) => {
                    return Err(malformed(&key, "a label, .cls or .json", format!("only .{}", entry.extensions.join(", ."))));
                }
                (None, Some(_)) => return Err(malformed(&key, "a picture", format!("only .{}", entry.extensions.join(", .")))),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Turns stated labels into class indices.
    pub(super) fn label(self, known: Option<Classes>, shards: &[Shard]) -> Result<(Classes, Vec<Sample>)> {
        let classes = known.unwrap_or_else(|| {
            let names: BTreeSet<&String> = self.samples.iter().filter_map(|(_, label)| label.name()).collect();
            let count = self.samples.iter().filter_map(|(_, label)| label.index()).max().map_or(0, |index| index as usize + 1);
            // Numbers beside names have no meaning without a list; the first of them is reported below. Numbers alone are the classes.
            if names.is_empty() { Classes::numbered(count.min(MOST_CLASSES)) } else { Classes::new(names.into_iter().cloned().collect()) }
        });
        let has_names = self.samples.iter().any(|(_, label)| label.name().is_some());
        let places: HashMap<&str, usize> = classes.names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        let mixed = has_names && self.samples.iter().any(|(_, label)| label.index().is_some());
        let mut samples = Vec::with_capacity(self.samples.len());
        for (mut sample, stated) in self.samples {
            let shard = shards.get(sample.shard as usize).map(|shard| shard.path.clone()).unwrap_or_default();
            let name = format!("{}:{}", shard.display(), display(&sample.member));
            let index = match &stated {
                Stated::Index(_) if mixed => None,
                Stated::Index(index) => Some(*index as usize).filter(|index| *index < classes.len()),
                Stated::Name(class) => places.get(class.as_str()).copied().or_else(|| classes.index_of(class)),
            };
            let unknown = || {
                let class = match &stated {
                    Stated::Index(index) if mixed => format!("{index} (other samples have names)"),
                    Stated::Index(index) => format!("{index} of {}", classes.len()),
                    // As long as its document, which an error need not be.
                    Stated::Name(class) => class.chars().take(80).collect(),
                };
                DataError::UnknownClass { name, class, nearest: Vec::new() }
            };
            sample.label = index.and_then(|index| u32::try_from(index).ok()).ok_or_else(unknown)?;
            samples.push(sample);
        }
        Ok((classes, samples))
    }
}

impl Stated {
    fn index(&self) -> Option<u32> {
        if let Self::Index(index) = self { Some(*index) } else { None }
    }

    fn name(&self) -> Option<&String> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }
}

/// [`visit_gzip`] that keeps pictures in `held` and gives their places there.
fn visit_held(packed: impl std::io::BufRead, path: &Path, memory: u64, held: Option<&mut Vec<u8>>, visit: Visit<'_>) -> Result<()> {
    let Some(held) = held else { return Ok(()) };
    visit_gzip(packed, path, memory, &mut |name, offset, size, reader| {
        let is_picture = split(name).is_some_and(|(_, extension)| PICTURES.contains(&extension.as_str()));
        if !is_picture {
            return visit(name, offset, size, reader);
        }
        let start = held.len() as u64;
        held.append(&mut content(path, name, size, reader)?);
        visit(name, start, size, &mut std::io::empty())
    })
}
