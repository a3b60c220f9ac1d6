//! Class folders inside an archive: `cifar10.tar.gz` with `train/cat/1.jpg` in it, read without unpacking it anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

use super::archive::{TarArchive, display, is_archive, is_gzipped, unreadable, visit};
use super::class_map::Lookup;
use super::image_folder::FolderOptions;
use super::scan::{Split, has_extension, split_of};
use super::{Content, Dataset, DynDataset, Splits};

/// Members of each part and the names of their classes.
type Parts<'a> = BTreeMap<u8, Vec<(u32, &'a [u8])>>;

/// Bytes of pictures that a gzipped archive may unpack to; they are held in memory. A plain `.tar` is read in place.
const MEMORY: u64 = 4 << 30;

/// Where the pictures are.
#[derive(Debug)]
enum Source {
    InPlace(TarArchive),
    Held(Vec<u8>),
}

#[derive(Debug)]
struct Archive {
    path: PathBuf,
    source: Source,
    members: Vec<Picture>,
}

/// A picture's name and its place in the archive, or in what is held of it.
#[derive(Debug)]
struct Picture {
    name: Box<[u8]>,
    offset: u64,
    size: u64,
}

/// A picture of one part, by its place among the archive's, and its label.
type Sample = (u32, u32);

/// A part of an archive of class folders.
#[derive(Debug)]
pub struct ArchiveFolder {
    archive: Arc<Archive>,
    classes: Classes,
    samples: Vec<Sample>,
}

impl ArchiveFolder {
    /// Opens an archive of class folders, with or without folders `train`, `val` and `test` around them, below any number of single
    /// folders. Classes and pictures are sorted bytewise. In memory: the names, 40 bytes a picture, and the pictures of a gzipped archive.
    ///
    /// `None` when the archive holds no pictures in folders, or when it is one of shards (`key.jpg` beside `key.cls`).
    ///
    /// # Errors
    /// [`DataError`]: `HostileArchive`, `Malformed` for an archive that is truncated, garbled or larger than 4 GiB; `OneClass`,
    /// `UnknownClass` as [`ImageFolder`](super::ImageFolder).
    pub fn open(path: impl AsRef<Path>, options: &FolderOptions) -> Result<Option<Splits>> {
        let path = path.as_ref();
        if !path.is_file() || !is_archive(path) {
            return Ok(None);
        }
        let Some(archive) = Archive::read(path, options)? else { return Ok(None) };
        let archive = Arc::new(archive);
        let Some(parts) = archive.parts() else { return Ok(None) };
        let (train, others) = match parts.get(&0) {
            Some(train) => (train, [parts.get(&1), parts.get(&2)]),
            // One part that is not called `train` is the data set.
            None => match (parts.get(&1), parts.get(&2)) {
                (Some(validation), test) => (validation, [None, test]),
                (None, Some(test)) => (test, [None, None]),
                (None, None) => return Ok(None),
            },
        };
        let names: BTreeSet<&[u8]> = train.iter().map(|(_, class)| *class).collect();
        let classes = options.classes.clone().unwrap_or_else(|| Classes::new(names.iter().map(|name| display(name)).collect()));
        if classes.len() == 1 && !options.allow_one_class {
            return Err(DataError::OneClass { path: path.into(), class: classes.names.concat() }.into());
        }
        let part = |pictures: &[(u32, &[u8])]| -> Result<DynDataset> {
            let lookup = Lookup::new(&classes);
            let mut samples = Vec::with_capacity(pictures.len());
            for &(place, class) in pictures {
                let label = lookup.require(&display(class), || path.display().to_string())?;
                samples.push((place, u32::try_from(label).unwrap_or(u32::MAX)));
            }
            Ok(Arc::new(Self { archive: archive.clone(), classes: classes.clone(), samples }))
        };
        let [validation, test] = others.map(|pictures| pictures.map(|pictures| part(pictures)).transpose());
        Ok(Some(Splits { train: part(train)?, validation: validation?, test: test? }))
    }

    fn picture(&self, index: usize) -> Option<&Picture> {
        self.samples.get(index).and_then(|&(place, _)| self.archive.members.get(place as usize))
    }
}

impl Archive {
    /// Index and, of a gzipped archive, content of the pictures, sorted by name; `None` for shards.
    fn read(path: &Path, options: &FolderOptions) -> Result<Option<Self>> {
        let wanted = |name: &[u8]| {
            let visible = name.split(|&byte| byte == b'/').all(|part| !part.starts_with(b".") && part != b"__MACOSX");
            visible && has_extension(Path::new(&*String::from_utf8_lossy(name)), &options.extensions)
        };
        let (mut members, mut shard) = (Vec::new(), false);
        let source = if is_gzipped(path) {
            let mut held = Vec::new();
            visit(path, MEMORY, &mut |name, size, content: &mut dyn Read| {
                shard |= name.ends_with(b".cls");
                if wanted(name) && !shard {
                    let offset = held.len() as u64;
                    // Grows by what is there: a header may lie about the size.
                    let read = content.read_to_end(&mut held).map_err(|error| unreadable(path, format!(": {}", display(name)), error))?;
                    if read as u64 != size {
                        return Err(super::malformed(path, &format!(": {}", display(name)), &format!("{size} bytes"), format!("{read}")));
                    }
                    members.push(Picture { name: name.into(), offset, size });
                }
                Ok(())
            })?;
            held.shrink_to_fit();
            Source::Held(held)
        } else {
            let archive = TarArchive::open(path)?;
            shard = archive.members().iter().any(|member| member.name.ends_with(b".cls"));
            let pictures = archive.members().iter().filter(|member| wanted(&member.name));
            members =
                pictures.map(|member| Picture { name: member.name.as_slice().into(), offset: member.offset, size: member.size }).collect();
            Source::InPlace(archive)
        };
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((!shard && !members.is_empty()).then(|| Self { path: path.to_owned(), source, members }))
    }

    /// The pictures of training (0), validation (1) and test (2) with the names of their classes; `None` when a picture lies in no folder.
    fn parts(&self) -> Option<Parts<'_>> {
        let mut paths: Vec<Vec<&[u8]>> = self.members.iter().map(|member| member.name.split(|&byte| byte == b'/').collect()).collect();
        // Folders around everything else say nothing, unless they name a split.
        while let Some(first) = paths.first().and_then(|path| path.first()).copied()
            && split_of(first).is_none()
            && paths.iter().all(|path| path.len() > 2 && path[0] == first)
        {
            for path in &mut paths {
                path.remove(0);
            }
        }
        let split = paths.iter().all(|path| path.len() > 2 && split_of(path[0]).is_some());
        let mut parts: BTreeMap<u8, Vec<(u32, &[u8])>> = BTreeMap::new();
        for (place, path) in paths.iter().enumerate() {
            let part = match split_of(path[0]).filter(|_| split) {
                Some(Split::Train) | None => 0,
                Some(Split::Validation) => 1,
                Some(Split::Test) => 2,
            };
            let folders = &path[usize::from(split)..path.len() - 1];
            parts.entry(part).or_default().push((u32::try_from(place).ok()?, folders.first()?));
        }
        Some(parts)
    }
}

impl Dataset for ArchiveFolder {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> usize {
        self.samples.get(index).map_or(0, |&(_, label)| label as usize)
    }

    fn name(&self, index: usize) -> String {
        let member = self.picture(index).map_or_else(|| format!("sample {index}"), |picture| display(&picture.name));
        format!("{}:{member}", self.archive.path.display())
    }

    fn read(&self, index: usize) -> Result<Content> {
        let missing = || Error::Argument { name: "index", value: index.to_string(), expected: format!("below {}", self.len()) };
        let picture = self.picture(index).ok_or_else(missing)?;
        match &self.archive.source {
            Source::InPlace(archive) => archive.read_at(&picture.name, picture.offset, picture.size).map(Content::Encoded),
            Source::Held(held) => {
                let (start, end) = (picture.offset as usize, (picture.offset + picture.size) as usize);
                held.get(start..end).map(|bytes| Content::Encoded(bytes.to_vec())).ok_or_else(missing)
            }
        }
    }
}
