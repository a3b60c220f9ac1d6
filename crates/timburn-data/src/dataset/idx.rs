//! MNIST and its siblings (Fashion-MNIST, KMNIST, EMNIST's digits) as IDX files, gzipped or not.
//! Format: <http://yann.lecun.com/exdb/mnist/>: two zeros, the type, the number of dimensions, their sizes big-endian, the data in C order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Error, Result};

use super::archive::{gunzip, unreadable};
use super::{Content, Dataset, Splits};
use crate::image::Rgb8Image;

/// The largest file that is read: fifteen times MNIST's.
const LIMIT: u64 = 1 << 30;
/// Type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// What the labels of an IDX data set mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdxNames {
    /// Fashion-MNIST's or KMNIST's where the folder or its parent says so (`fashion`, `kmnist`, `kuzushiji`), digits elsewhere.
    #[default]
    Auto,
    /// `0` to `9`, and on where there are more labels.
    Digits,
    /// Fashion-MNIST: `T-shirt/top` to `Ankle boot`.
    Fashion,
    /// KMNIST: `o` to `wo`.
    Kuzushiji,
}

const FASHION: [&str; 10] = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const KUZUSHIJI: [&str; 10] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];

impl IdxNames {
    fn of(self, folder: &Path) -> Self {
        if self != Self::Auto {
            return self;
        }
        let nearest = folder.ancestors().take(2).filter_map(|folder| folder.file_name());
        let hint = nearest.map(|name| name.to_string_lossy().to_lowercase()).collect::<Vec<_>>().join("/");
        if hint.contains("fashion") {
            Self::Fashion
        } else if hint.contains("kmnist") || hint.contains("kuzushiji") {
            Self::Kuzushiji
        } else {
            Self::Digits
        }
    }

    pub(super) fn classes(self, count: usize) -> Classes {
        match self {
            Self::Fashion => Classes::new(FASHION.map(String::from).into()),
            Self::Kuzushiji => Classes::new(KUZUSHIJI.map(String::from).into()),
            Self::Auto | Self::Digits => Classes::new((0..count.max(10)).map(|digit| digit.to_string()).collect()),
        }
    }
}

/// A part of an IDX data set: gray pictures, read as RGB with three equal channels. The unpacked files (47 MB for MNIST's training set)
/// are held in memory once, shared by all clones.
#[derive(Debug, Clone)]
pub struct Idx {
    classes: Classes,
    images: Arc<Part>,
    labels: Arc<Part>,
}

impl Idx {
    /// The official split (60,000 and 10,000 pictures) of the IDX files in a folder, or in its sub-folder `raw` (torchvision's layout):
    /// `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each also with a dot
    /// before `idx`, with `.gz`, and in a folder of its own name. The test part is `None` without the `t10k` files; there is no validation part.
    ///
    /// # Errors
    /// [`DataError::Unrecognised`] without the training files; [`DataError::Malformed`] for truncated or garbled files, for counts of
    /// pictures and labels that differ, for labels beyond the known classes; [`Error::Io`].
    pub fn open(folder: impl AsRef<Path>, names: IdxNames) -> Result<Splits> {
        let folder = folder.as_ref();
        let place = [folder.to_owned(), folder.join("raw")].into_iter().find(|place| find(place, "train-images", 3).is_some());
        let missing = || {
            let expected = "train-images-idx3-ubyte, train-labels-idx1-ubyte (or with .gz)".into();
            Error::from(DataError::Unrecognised { path: folder.to_owned(), expected })
        };
        let place = place.ok_or_else(missing)?;
        let pair = |part: &str| -> Result<Option<(Part, Part)>> {
            match (find(&place, &format!("{part}-images"), 3), find(&place, &format!("{part}-labels"), 1)) {
                (Some(images), Some(labels)) => Ok(Some((Part::read(images, 3)?, Part::read(labels, 1)?))),
                (None, None) => Ok(None),
                (images, _) => {
                    let (there, missing) = if images.is_some() { ("images", "labels") } else { ("labels", "images") };
                    let (expected, found) = (format!("{part}-{missing} beside {part}-{there}"), "none".into());
                    Err(DataError::Malformed { path: place.clone(), at: String::new(), expected, found }.into())
                }
            }
        };
        let (train, test) = (pair("train")?.ok_or_else(missing)?, pair("t10k")?);
        let count = [Some(&train), test.as_ref()].into_iter().flatten().flat_map(|(_, labels)| labels.data().iter().max());
        let classes = names.of(&place).classes(count.max().map_or(0, |label| usize::from(*label) + 1));
        let train = Self::new(train, classes.clone())?;
        let test = test.map(|test| Self::new(test, classes)).transpose()?;
        Ok(Splits { train: Arc::new(train), validation: None, test: test.map(|test| Arc::new(test) as _) })
    }

    /// Whether [`open`](Self::open) would find training pictures in this folder; looks at names only.
    pub fn is_at(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        [folder.to_owned(), folder.join("raw")].iter().any(|place| find(place, "train-images", 3).is_some())
    }

    pub(super) fn new((images, labels): (Part, Part), classes: Classes) -> Result<Self> {
        if images.header.count() != labels.header.count() {
            let expected = format!("{} labels, as many as pictures", images.header.count());
            return Err(labels.malformed(expected, labels.header.count().to_string()));
        }
        if let Some(index) = labels.data().iter().position(|label| usize::from(*label) >= classes.len()) {
            let label = labels.data().get(index).copied().unwrap_or_default();
            return Err(labels.malformed(format!("labels below {}", classes.len()), format!("{label} in record {index}")));
        }
        Ok(Self { classes, images: Arc::new(images), labels: Arc::new(labels) })
    }
}

impl Dataset for Idx {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.images.header.count()
    }

    fn label(&self, index: usize) -> usize {
        self.labels.data().get(index).map_or(0, |label| usize::from(*label))
    }

    fn name(&self, index: usize) -> String {
        format!("{}:{index}", self.images.path.display())
    }

    fn read(&self, index: usize) -> Result<Content> {
        let outside = || Error::Argument { name: "index", value: index.to_string(), expected: format!("less than {}", self.len()) };
        let (height, width) = self.images.header.picture();
        let gray = self.images.data().chunks_exact(height * width).nth(index).ok_or_else(outside)?;
        let image = Rgb8Image::new(width, height, gray.iter().flat_map(|level| [*level; 3]).collect());
        Ok(Content::Pixels(image.ok_or_else(outside)?))
    }
}

/// The file of an official name, in any of its spellings.
fn find(folder: &Path, stem: &str, dimensions: usize) -> Option<PathBuf> {
    let names =
        ['-', '.'].into_iter().flat_map(|separator| ["", ".gz"].map(|packing| format!("{stem}{separator}idx{dimensions}-ubyte{packing}")));
    // Kaggle's archives unpack to a folder of the file's own name for each file.
    names.flat_map(|name| [folder.join(&name), folder.join(&name).join(&name)]).find(|path| path.is_file())
}

/// Sizes of an IDX file's dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header(Vec<usize>);

impl Header {
    fn count(&self) -> usize {
        self.0.first().copied().unwrap_or(0)
    }

    /// Height and width.
    fn picture(&self) -> (usize, usize) {
        (self.0.get(1).copied().unwrap_or(1), self.0.get(2).copied().unwrap_or(1))
    }

    fn length(&self) -> usize {
        4 + 4 * self.0.len()
    }

    /// Header of a file of bytes; the fault is what was expected, and what was found. No side is 0, and all of the file is at most 1 GiB.
    pub(super) fn parse(bytes: &[u8], dimensions: usize) -> Result<Self, (String, String)> {
        let expected = [0, 0, UNSIGNED_BYTE, dimensions as u8];
        let found = bytes.get(..4).ok_or_else(|| ("an IDX header".to_owned(), format!("{} bytes", bytes.len())))?;
        if found != expected {
            return Err((format!("the IDX signature {expected:02x?}"), format!("{found:02x?}")));
        }
        let sides = bytes.get(4..4 + 4 * dimensions).ok_or_else(|| ("an IDX header".to_owned(), format!("{} bytes", bytes.len())))?;
        let sides: Vec<usize> = sides.chunks_exact(4).map(|side| side.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))).collect();
        let total = sides.iter().try_fold(1u64, |product, side| product.checked_mul(*side as u64));
        match total {
            Some(1..=LIMIT) => Ok(Self(sides)),
            _ => Err((format!("between 1 and {LIMIT} bytes of data"), format!("sides {sides:?}"))),
        }
    }

    /// Bytes of the whole file.
    fn total(&self) -> usize {
        self.0.iter().product::<usize>() + self.length()
    }
}

/// A whole IDX file.
pub(super) struct Part {
    path: PathBuf,
    header: Header,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.path.display(), self.header)
    }
}

impl Part {
    fn read(path: PathBuf, dimensions: usize) -> Result<Self> {
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
        let bytes = if is_packed {
            gunzip(std::io::BufReader::new(file), &path, LIMIT + 64)?
        } else {
            let mut bytes = Vec::new();
            let mut reader = std::io::Read::take(file, LIMIT + 64);
            std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(|error| unreadable(&path, "", error))?;
            bytes
        };
        Self::parse(bytes, path, dimensions)
    }

    /// An IDX file's bytes: the header, and exactly as much data as it says.
    pub(super) fn parse(bytes: Vec<u8>, path: PathBuf, dimensions: usize) -> Result<Self> {
        let malformed = |(expected, found)| DataError::Malformed { path: path.clone(), at: String::new(), expected, found };
        let header = Header::parse(&bytes, dimensions).map_err(malformed)?;
        if bytes.len() != header.total() {
            return Err(malformed((format!("{} bytes for sides {:?}", header.total(), header.0), bytes.len().to_string())).into());
        }
        Ok(Self { path, header, bytes })
    }

    pub(super) fn sides(&self) -> &[usize] {
        &self.header.0
    }

    pub(super) fn data(&self) -> &[u8] {
        self.bytes.get(self.header.length()..).unwrap_or_default()
    }

    fn malformed(&self, expected: String, found: String) -> Error {
        DataError::Malformed { path: self.path.clone(), at: String::new(), expected, found }.into()
    }
}
