//! The small public data sets, fetched once, verified against pinned hashes, kept in a cache and opened from there.
//!
//! Nothing is fetched without the feature `download`; files put into the cache by hand are found either way.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use timburn_core::digest::sha256_of_file;
use timburn_core::error::DataError;
use timburn_core::fetch::{Environment, Progress, environment, offline, user_caches};
use timburn_core::suggest::nearest;
use timburn_core::{Error, Result};

use super::{Cifar, CifarKind, Idx, IdxNames, Splits};

/// A published file and its pinned hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedFile<'a> {
    /// Its name in the cache.
    pub file: &'a str,
    /// Where it is published.
    pub url: &'a str,
    /// SHA-256 in lower-case hexadecimal, 64 digits.
    pub sha256: &'a str,
    /// Length in bytes, where it is known: no more than that is fetched.
    pub length: Option<u64>,
}

/// A public data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicSet {
    /// CIFAR-10, 170 MB.
    Cifar10,
    /// CIFAR-100 with its fine labels, 169 MB.
    Cifar100,
    /// MNIST, 12 MB.
    Mnist,
    /// Fashion-MNIST, 31 MB.
    FashionMnist,
    /// Kuzushiji-MNIST, 21 MB.
    Kmnist,
}

impl PublicSet {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cifar10, Self::Cifar100, Self::Mnist, Self::FashionMnist, Self::Kmnist];

    /// Its name on the command line, and its folder in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion_mnist",
            Self::Kmnist => "kmnist",
        }
    }

    /// The files that make it up, one list for each form it is published in. Any complete list serves; the first is the one fetched.
    pub fn files(self) -> &'static [&'static [PublishedFile<'static>]] {
        match self {
            Self::Cifar10 => &[&[CIFAR10_BINARY], &[CIFAR10_PYTHON]],
            Self::Cifar100 => &[&[CIFAR100_BINARY], &[CIFAR100_PYTHON]],
            Self::Mnist => &[&MNIST],
            Self::FashionMnist => &[&FASHION_MNIST],
            Self::Kmnist => &[&KMNIST],
        }
    }

    /// The set, from the cache or downloaded into it.
    ///
    /// # Errors
    /// As [`download`] and [`Cifar::open`] or [`Idx::open`].
    pub fn open(self, options: &CacheOptions, progress: &dyn Progress) -> Result<Splits> {
        let path = download(self, options, progress)?;
        match self {
            Self::Cifar10 => Cifar::open(path, CifarKind::Ten),
            Self::Cifar100 => Cifar::open(path, CifarKind::Hundred { coarse: false }),
            Self::Mnist => Idx::open(path, IdxNames::Digits),
            Self::FashionMnist => Idx::open(path, IdxNames::Fashion),
            Self::Kmnist => Idx::open(path, IdxNames::Kuzushiji),
        }
    }
}

impl FromStr for PublicSet {
    type Err = Error;

    /// `cifar10`, `fashion-mnist`, `Fashion_MNIST`, …
    fn from_str(name: &str) -> Result<Self> {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
        let names = Self::ALL.map(Self::name);
        let unknown = || {
            let close = nearest(name, names);
            let hint = if close.is_empty() { String::new() } else { format!(" (nearest: {})", close.join(", ")) };
            Error::Argument { name: "data set", value: name.into(), expected: format!("one of {}{hint}", names.join(", ")) }
        };
        Self::ALL.into_iter().find(|set| plain(set.name()) == plain(name)).ok_or_else(unknown)
    }
}

/// Where data sets are kept and whether the network may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Folder with a folder for each set.
    pub cache: PathBuf,
    /// What forbids downloads, if anything does.
    pub offline: Option<&'static str>,
}

impl CacheOptions {
    /// As the environment says: `TIMBURN_CACHE/datasets` > `XDG_CACHE_HOME/timburn/datasets` > `~/.cache/timburn/datasets`;
    /// `HF_HUB_OFFLINE` and `TIMBURN_OFFLINE` (anything but empty, `0`, `false`, `no`, `off`).
    pub fn from_env() -> Self {
        Self::from(&environment)
    }

    fn from(variable: Environment<'_>) -> Self {
        let own = variable("TIMBURN_CACHE").map(PathBuf::from).unwrap_or_else(|| user_caches(variable).join("timburn"));
        let without_feature = (!cfg!(feature = "download")).then_some(WITHOUT_FEATURE);
        Self { cache: own.join("datasets"), offline: without_feature.or_else(|| offline(variable)) }
    }
}

const WITHOUT_FEATURE: &str = "built without the feature `download`";

/// The folder of a set, or its archive, complete and verified.
///
/// # Errors
/// [`DataError::NotDownloaded`] naming URL and place when a file is neither there nor to be had, [`DataError::HashMismatch`] for a file
/// with other content than the published one, [`Error::Io`].
pub fn download(set: PublicSet, options: &CacheOptions, progress: &dyn Progress) -> Result<PathBuf> {
    let folder = options.cache.join(set.name());
    let is_complete = |files: &&&[PublishedFile<'_>]| files.iter().all(|file| folder.join(file.file).is_file());
    let forms = set.files();
    let files = forms.iter().find(is_complete).or(forms.first()).copied().unwrap_or_default();
    for file in files {
        fetch_file(file, &folder, options, progress)?;
    }
    match files {
        [archive] => Ok(folder.join(archive.file)),
        _ => Ok(folder),
    }
}

/// One file of a set: found in `folder` and verified, or downloaded to it. A file is hashed once; a note beside it (`.verified`: hash,
/// length and time of change) says so to later calls.
///
/// # Errors
/// As [`download`].
pub fn fetch_file(file: &PublishedFile<'_>, folder: &Path, options: &CacheOptions, progress: &dyn Progress) -> Result<PathBuf> {
    let path = folder.join(file.file);
    if path.is_file() {
        verify(file, &path)?;
        return Ok(path);
    }
    let refusal = |reason: String| {
        let (file, url) = (file.file.to_owned(), file.url.to_owned());
        Error::from(DataError::NotDownloaded { file, url, path: path.clone(), reason })
    };
    if let Some(why) = options.offline {
        return Err(refusal(format!("downloads are off: {why}")));
    }
    #[cfg(feature = "download")]
    return transfer(file, folder, path.clone(), &refusal, progress);
    #[cfg(not(feature = "download"))]
    {
        let _ = progress;
        Err(refusal(WITHOUT_FEATURE.into()))
    }
}

#[cfg(feature = "download")]
fn transfer(
    file: &PublishedFile<'_>,
    folder: &Path,
    path: PathBuf,
    refusal: &dyn Fn(String) -> Error,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    use timburn_core::fetch::{Transfer, TransferError, lock};

    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let _locked = lock(&folder.join(format!(".{}.lock", file.file)))?;
    if path.is_file() {
        // Another process was faster.
        verify(file, &path)?;
        return Ok(path);
    }
    let incomplete = folder.join(format!(".{}.incomplete", file.file));
    let limit = file.length.unwrap_or(u64::MAX);
    let transfer = Transfer { name: file.file, url: file.url, authorization: None, incomplete: &incomplete, limit };
    let found = transfer.run(progress, &mut |_| ()).map_err(|error| match error {
        TransferError::Network(reason) => refusal(reason),
        TransferError::Local(error) => error,
    })?;
    if found != file.sha256 {
        transfer.discard()?;
        return Err(mismatch(file, Path::new(file.url), found));
    }
    transfer.finish(&path)?;
    note(file, &path);
    Ok(path)
}

/// Compares a file's hash with the published one, unless a note says that this was done.
fn verify(file: &PublishedFile<'_>, path: &Path) -> Result<()> {
    if fs::read_to_string(note_path(path)).is_ok_and(|text| Some(text) == note_text(file, path)) {
        return Ok(());
    }
    let found = sha256_of_file(path)?;
    if found != file.sha256 {
        return Err(mismatch(file, path, found));
    }
    note(file, path);
    Ok(())
}

fn mismatch(file: &PublishedFile<'_>, path: &Path, found: String) -> Error {
    DataError::HashMismatch { path: path.to_owned(), expected: file.sha256.into(), found }.into()
}

fn note_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".verified");
    name.into()
}

fn note_text(file: &PublishedFile<'_>, path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let changed = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {} {}\n", file.sha256, metadata.len(), changed.as_nanos()))
}

/// A cache that cannot be written to costs a hash at every start, no more.
fn note(file: &PublishedFile<'_>, path: &Path) {
    if let Some(text) = note_text(file, path) {
        let _ = fs::write(note_path(path), text);
    }
}

// SHA-256 and lengths: `tensorflow_datasets/url_checksums/*.txt` of TensorFlow Datasets; of the Python archives, `file_hash` in
// `keras/src/datasets` of Keras 3 (length unknown).
const CIFAR10_BINARY: PublishedFile<'_> = PublishedFile {
    file: "cifar-10-binary.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    length: Some(170_052_171),
};
const CIFAR10_PYTHON: PublishedFile<'_> = PublishedFile {
    file: "cifar-10-python.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    sha256: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    length: None,
};
const CIFAR100_BINARY: PublishedFile<'_> = PublishedFile {
    file: "cifar-100-binary.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    length: Some(168_513_733),
};
const CIFAR100_PYTHON: PublishedFile<'_> = PublishedFile {
    file: "cifar-100-python.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    sha256: "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    length: None,
};

macro_rules! mnist_family {
    ($base:literal, $(($file:literal, $length:literal, $sha256:literal)),*) => {
        [$(PublishedFile { file: $file, url: concat!($base, $file), sha256: $sha256, length: Some($length) }),*]
    };
}
const MNIST: [PublishedFile<'_>; 4] = mnist_family!(
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6")
);
const FASHION_MNIST: [PublishedFile<'_>; 4] = mnist_family!(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5")
);
const KMNIST: [PublishedFile<'_>; 4] = mnist_family!(
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    ("train-images-idx3-ubyte.gz", 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
    ("train-labels-idx1-ubyte.gz", 29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    ("t10k-images-idx3-ubyte.gz", 3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
    ("t10k-labels-idx1-ubyte.gz", 5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c")
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_pinned() {
        for set in PublicSet::ALL {
            assert_eq!(set.name().parse::<PublicSet>().unwrap(), set);
            for file in set.files().concat() {
                assert!(file.url.ends_with(file.file) && file.url.starts_with("http"), "{file:?}");
                assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{file:?}");
            }
        }
        assert_eq!("Fashion-MNIST".parse::<PublicSet>().unwrap(), PublicSet::FashionMnist);
        let error = "cifar11".parse::<PublicSet>().unwrap_err().to_string();
        assert!(error.contains("cifar10, cifar100"), "{error}");
    }

    #[test]
    fn the_environment_decides() {
        let options = |variables: &[(&str, &str)]| {
            CacheOptions::from(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(options(&[("HOME", "/h")]).cache, Path::new("/h/.cache/timburn/datasets"));
        assert_eq!(options(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/timburn/datasets"));
        assert_eq!(options(&[("XDG_CACHE_HOME", "/x"), ("TIMBURN_CACHE", "/t")]).cache, Path::new("/t/datasets"));
        if cfg!(feature = "download") {
            assert_eq!(options(&[("HF_HUB_OFFLINE", "1")]).offline, Some("HF_HUB_OFFLINE"));
            assert_eq!(options(&[("TIMBURN_OFFLINE", "no")]).offline, None);
        } else {
            assert_eq!(options(&[]).offline, Some(WITHOUT_FEATURE));
        }
    }
}
