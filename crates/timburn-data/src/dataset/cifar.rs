//! CIFAR-10 and CIFAR-100 in the forms their authors publish: binary or Python pickles, in a folder or in the `.tar.gz` itself.
//! Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.

use std::path::Path;
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

use super::cifar_names::{COARSE_NAMES, FINE_NAMES};
use super::cifar_source::{self as source, Files, Form, Part};
use super::pickle::{Pickle, Value};
use super::{Content, Dataset, Splits};
use crate::image::Rgb8Image;

/// Pixels of a side.
const SIDE: usize = 32;
/// Bytes of a colour plane, and of a picture.
const PLANE: usize = SIDE * SIDE;
const PICTURE: usize = 3 * PLANE;
/// Names that are read of a list, far more than there are classes; and bytes of the longest.
const MOST_NAMES: usize = 1000;
const LONGEST_NAME: usize = 1000;

/// Which CIFAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CifarKind {
    /// What is there; CIFAR-100 with its fine labels. An error where both are there.
    #[default]
    Auto,
    /// CIFAR-10.
    Ten,
    /// CIFAR-100.
    Hundred {
        /// The 20 superclasses instead of the 100 classes.
        coarse: bool,
    },
}

impl CifarKind {
    /// Bytes before the pixels of a binary record, and which of them is the label.
    fn binary_header(self) -> (usize, usize) {
        match self {
            Self::Auto | Self::Ten => (1, 0),
            // Coarse first, then fine.
            Self::Hundred { coarse } => (2, usize::from(!coarse)),
        }
    }

    pub(super) fn classes(self) -> usize {
        match self {
            Self::Auto | Self::Ten => 10,
            Self::Hundred { coarse: true } => COARSE_NAMES.len(),
            Self::Hundred { coarse: false } => FINE_NAMES.len(),
        }
    }

    /// Key of the labels in a pickle.
    fn label_key(self) -> &'static str {
        match self {
            Self::Auto | Self::Ten => "labels",
            Self::Hundred { coarse: true } => "coarse_labels",
            Self::Hundred { coarse: false } => "fine_labels",
        }
    }

    fn standard_classes(self) -> Classes {
        match self {
            Self::Auto | Self::Ten => Classes::cifar10(),
            Self::Hundred { coarse: true } => Classes::new(COARSE_NAMES.map(String::from).into()),
            Self::Hundred { coarse: false } => Classes::new(FINE_NAMES.map(String::from).into()),
        }
    }
}

/// A part of CIFAR: `[32, 32]` RGB pictures. The files' bytes (150 MB for the training set, 30 MB for the test set) are held in memory
/// once, shared by all clones; pixels are put into `[height, width, 3]` order when a picture is read.
#[derive(Debug, Clone)]
pub struct Cifar {
    classes: Classes,
    batches: Arc<[Batch]>,
    /// Samples before each batch, and all.
    starts: Vec<usize>,
}

impl Cifar {
    /// The official split: 50,000 pictures to train, 10,000 to test, in the order of the files; no validation part.
    ///
    /// `path`: a folder with the batch files (`data_batch_1.bin` … or `data_batch_1` …; `train.bin` or `train`, `meta` for CIFAR-100), a
    /// folder that has `cifar-10-batches-bin`, `cifar-10-batches-py`, `cifar-100-binary`, `cifar-100-python` or one of the official
    /// archives in it, or such an archive (`.tar`, `.tar.gz`, `.tgz`), which is read in place. Class names come from the set's own list
    /// where it is there. A set without a test file has no test part. Other counts of pictures than the official ones are logged.
    ///
    /// # Errors
    /// [`DataError::Unrecognised`] where no CIFAR is found, or two kinds with [`CifarKind::Auto`]; [`DataError::Malformed`] for a batch
    /// that is missing, truncated, garbled, of another size than its siblings (binary), or with a label that is no class;
    /// [`DataError::HostileArchive`]; [`Error::Io`]. Pickles are read as data: nothing in them is executed.
    pub fn open(path: impl AsRef<Path>, kind: CifarKind) -> Result<Splits> {
        let Files { form, kind, mut files } = source::load(path.as_ref(), kind)?;
        let classes = match files.remove(form.names_file(kind)) {
            Some(part) => names(&part, form, kind)?,
            None => kind.standard_classes(),
        };
        let mut train = Vec::new();
        for name in form.train_files(kind) {
            let missing = || DataError::Malformed {
                path: path.as_ref().to_owned(),
                at: String::new(),
                expected: format!("the batches {}", form.train_files(kind).join(", ")),
                found: format!("no {name}"),
            };
            train.push(Batch::parse(files.remove(*name).ok_or_else(missing)?, form, kind)?);
        }
        // A file cut at a record's end looks whole by itself.
        if let (Form::Binary, [first, rest @ ..]) = (form, train.as_slice())
            && let Some(odd) = rest.iter().find(|batch| batch.labels.len() != first.labels.len())
        {
            let (expected, found) =
                (format!("{} records, as in {}", first.labels.len(), first.name), format!("{} records", odd.labels.len()));
            return Err(DataError::Malformed { path: odd.name.clone().into(), at: String::new(), expected, found }.into());
        }
        let test = files.remove(form.test_file(kind)).map(|part| Batch::parse(part, form, kind)).transpose()?;
        let train = Self::new(classes.clone(), train);
        let test = test.map(|batch| Self::new(classes, vec![batch]));
        for (name, official, part) in [("training", 50_000, Some(&train)), ("test", 10_000, test.as_ref())] {
            if let Some(part) = part.filter(|part| part.len() != official) {
                log::warn!("{}: {} {name} pictures, the official set has {official}", path.as_ref().display(), part.len());
            }
        }
        Ok(Splits { train: Arc::new(train), validation: None, test: test.map(|test| Arc::new(test) as _) })
    }

    /// Whether [`open`](Self::open) would find batch files at `path`; looks at names only, an archive's by its own name.
    pub fn is_at(path: impl AsRef<Path>) -> bool {
        source::is_at(path.as_ref())
    }

    fn new(classes: Classes, batches: Vec<Batch>) -> Self {
        let mut starts = vec![0];
        starts.extend(batches.iter().scan(0, |sum, batch| {
            *sum += batch.labels.len();
            Some(*sum)
        }));
        Self { classes, batches: batches.into(), starts }
    }

    /// A sample's batch and its place there.
    fn locate(&self, index: usize) -> Option<(&Batch, usize)> {
        let batch = self.starts.partition_point(|start| *start <= index).checked_sub(1)?;
        Some((self.batches.get(batch)?, index - self.starts.get(batch)?))
    }
}

impl Dataset for Cifar {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn label(&self, index: usize) -> usize {
        self.locate(index).and_then(|(batch, at)| batch.labels.get(at)).map_or(0, |label| usize::from(*label))
    }

    fn name(&self, index: usize) -> String {
        self.locate(index).map_or_else(|| format!("sample {index}"), |(batch, at)| format!("{}:{at}", batch.name))
    }

    fn read(&self, index: usize) -> Result<Content> {
        let picture = self.locate(index).and_then(|(batch, at)| batch.picture(at));
        let outside = || Error::Argument { name: "index", value: index.to_string(), expected: format!("less than {}", self.len()) };
        Ok(Content::Pixels(picture.ok_or_else(outside)?))
    }
}

/// Pictures of one file.
pub(super) struct Batch {
    name: String,
    /// The file's content.
    bytes: Vec<u8>,
    /// Where the first picture's pixels are, and how far it is to the next one's.
    start: usize,
    stride: usize,
    pub(super) labels: Vec<u8>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} pictures", self.name, self.labels.len())
    }
}

impl Batch {
    pub(super) fn parse(part: Part, form: Form, kind: CifarKind) -> Result<Self> {
        let name = part.name();
        match form {
            Form::Binary => {
                let labels = parse_binary(&part, kind)?;
                let header = kind.binary_header().0;
                Ok(Self { name, bytes: part.bytes, start: header, stride: header + PICTURE, labels })
            }
            Form::Pickle => {
                let (pixels, labels) = parse_pickle(&part, kind)?;
                let (bytes, start) = match pixels {
                    Pixels::At(start) => (part.bytes, start),
                    Pixels::Decoded(bytes) => (bytes, 0),
                };
                Ok(Self { name, bytes, start, stride: PICTURE, labels })
            }
        }
    }

    pub(super) fn picture(&self, at: usize) -> Option<Rgb8Image> {
        let planes = self.bytes.get(self.start + at * self.stride..)?.get(..PICTURE)?;
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        let pixels = red.iter().zip(green).zip(blue).flat_map(|((red, green), blue)| [*red, *green, *blue]);
        Rgb8Image::new(SIDE, SIDE, pixels.collect())
    }
}

/// Labels of a binary batch: records of label bytes and three planes.
fn parse_binary(part: &Part, kind: CifarKind) -> Result<Vec<u8>> {
    let (header, label) = kind.binary_header();
    let stride = header + PICTURE;
    if part.bytes.is_empty() || !part.bytes.len().is_multiple_of(stride) {
        return Err(part.malformed(&format!("records of {stride} bytes"), format!("{} bytes", part.bytes.len())));
    }
    let labels: Vec<u8> = part.bytes.iter().skip(label).step_by(stride).copied().collect();
    check(part, labels.iter().map(|label| i64::from(*label)), kind)?;
    Ok(labels)
}

enum Pixels {
    /// In the file's bytes, from here on.
    At(usize),
    Decoded(Vec<u8>),
}

/// Pixels and labels of a pickled batch: a dict of `data`, an array `[n, 3072]` of bytes, and a list of labels.
fn parse_pickle(part: &Part, kind: CifarKind) -> Result<(Pixels, Vec<u8>)> {
    let pickle = part.pickle()?;
    let key = kind.label_key();
    let labels = pickle.root().get(key).and_then(Value::items);
    let labels = labels.ok_or_else(|| part.malformed(&format!("a dict with a list `{key}`"), "none".into()))?;
    let labels: Vec<i64> = labels.map(|label| label.int().unwrap_or(-1)).collect();
    let array = pickle.root().get("data").and_then(Value::array);
    let array = array.ok_or_else(|| part.malformed("`data`, an array of bytes", "none".into()))?;
    if array.shape != [labels.len(), PICTURE] || labels.is_empty() {
        return Err(
            part.malformed(&format!("`data` of shape [{}, {PICTURE}], as many as labels", labels.len()), format!("{:?}", array.shape))
        );
    }
    let labels = check(part, labels.into_iter(), kind)?;
    let pixels = array.range.map_or_else(|| Pixels::Decoded(array.data.to_vec()), |range| Pixels::At(range.start));
    Ok((pixels, labels))
}

/// Labels that are classes.
fn check(part: &Part, labels: impl Iterator<Item = i64>, kind: CifarKind) -> Result<Vec<u8>> {
    let checked = labels.enumerate().map(|(record, label)| {
        let known = u8::try_from(label).ok().filter(|known| usize::from(*known) < kind.classes());
        known.ok_or_else(|| part.malformed(&format!("labels below {}", kind.classes()), format!("{label} in record {record}")))
    });
    checked.collect()
}

/// The set's own list of class names: as many as there are classes, all different, none empty.
pub(super) fn names(part: &Part, form: Form, kind: CifarKind) -> Result<Classes> {
    let fault = |count: usize, distinct: usize| {
        let found = format!("{distinct} of {}", if count > MOST_NAMES { format!("more than {MOST_NAMES}") } else { count.to_string() });
        part.malformed(&format!("{} class names", kind.classes()), found)
    };
    let text = |bytes: &[u8]| match bytes.len() {
        0..=LONGEST_NAME => Ok(String::from_utf8_lossy(bytes).trim().to_owned()),
        length => Err(part.malformed(&format!("class names of at most {LONGEST_NAME} bytes"), format!("{length} bytes"))),
    };
    let names: Vec<String> = match form {
        Form::Binary => {
            let lines = part.bytes.split(|byte| *byte == b'\n').map(text).filter(|name| !name.as_ref().is_ok_and(String::is_empty));
            lines.take(MOST_NAMES + 1).collect::<Result<_>>()?
        }
        Form::Pickle => {
            let key = match kind {
                CifarKind::Auto | CifarKind::Ten => "label_names",
                CifarKind::Hundred { coarse: true } => "coarse_label_names",
                CifarKind::Hundred { coarse: false } => "fine_label_names",
            };
            let pickle: Pickle<'_> = part.pickle()?;
            let names = pickle.root().get(key).and_then(Value::items);
            let names = names.ok_or_else(|| part.malformed(&format!("a dict with a list `{key}`"), "none".into()))?;
            // A list may hold one string a million times, for two bytes each.
            names.take(MOST_NAMES + 1).map(|name| text(name.text().unwrap_or_default())).collect::<Result<_>>()?
        }
    };
    let distinct: std::collections::BTreeSet<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    if names.len() != kind.classes() || distinct.len() != names.len() {
        return Err(fault(names.len(), distinct.len()));
    }
    Ok(Classes::new(names))
}
