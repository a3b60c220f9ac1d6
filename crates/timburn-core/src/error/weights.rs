use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::suggest::did_you_mean;

/// Weights that cannot be found, verified, read or applied. The model they were meant for is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A network with these weights answers with NaN or infinity.
    #[error("{name} answers with numbers that are not finite{}", of.as_ref().map_or_else(String::new, |of| format!(", the first time for {of}")))]
    NonFinite {
        /// Path of the weights, or what they are called.
        name: String,
        /// The picture, where it has a name.
        of: Option<String>,
    },
    /// Keys or shapes differ from the model's: all of them, at once.
    #[error(transparent)]
    Mismatch(Box<KeyMismatch>),
    /// The file is not a weight file that timburn reads.
    #[error("{name}: not a weight file: expected .safetensors, .pth/.pt (zip or legacy) or burnpack, found bytes {found}")]
    UnknownFormat {
        /// Path, or where the bytes came from.
        name: String,
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// Truncated, garbled or hostile content.
    #[error("{name}: {reason}")]
    Corrupt {
        /// Path, or where the bytes came from.
        name: String,
        /// What is wrong, with the tensor's name where there is one.
        reason: String,
    },
    /// No weights of that name.
    #[error("no weights `{name}`{}; `timburn models` lists them all", did_you_mean(nearest))]
    Unknown {
        /// The `arch.tag` as given.
        name: String,
        /// Names that look like it.
        nearest: Vec<String>,
    },
    /// The content is not what its registry row says.
    #[error("{name}: SHA-256 is {found}, expected {expected}; the file was not used")]
    Hash {
        /// Path or URL.
        name: String,
        /// The full digest, or its known prefix, in hexadecimal.
        expected: String,
        /// The digest found.
        found: String,
    },
    /// Not in the cache, and the network is off.
    #[error("{name} is not in the cache and downloads are off ({why}); get {url} and put it at {path}, or pass it with `--weights FILE`", path = path.display())]
    Offline {
        /// The `arch.tag`.
        name: String,
        /// What turned downloads off.
        why: &'static str,
        /// Where the file is on the network.
        url: String,
        /// Where the cache looks for it.
        path: PathBuf,
    },
    /// The download failed.
    #[error("download of {url} failed: {reason}; try again to resume, or put the file at {path}", path = path.display())]
    Download {
        /// What was fetched.
        url: String,
        /// The server's or the network's reason.
        reason: String,
        /// Where the cache looks for it.
        path: PathBuf,
    },
    /// Ranges of activations that do not fit the network, or that no bytes cover.
    #[error("range of activations of `{layer}`: {reason}")]
    Ranges {
        /// The layer, as its weights are called.
        layer: String,
        /// What is wrong.
        reason: String,
    },
    /// A bundle without something that a bundle must hold.
    #[error("{name}: not a timburn bundle: {reason}; weights alone need `--model NAME`")]
    NotABundle {
        /// Path, or where the bytes came from.
        name: String,
        /// What is missing or wrong.
        reason: String,
    },
}

/// A tensor whose shape differs between model and file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// Key of the tensor.
    pub key: String,
    /// Shape in the model.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

/// Everything in which a file's tensors differ from a model's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyMismatch {
    /// Path, or where the tensors came from.
    pub name: String,
    /// Keys of the model that the file lacks, each with the nearest names among the file's unused ones.
    pub missing: Vec<(String, Vec<String>)>,
    /// Keys of the file that the model lacks, each with the nearest names among the model's missing ones.
    pub unexpected: Vec<(String, Vec<String>)>,
    /// Keys of both with different shapes.
    pub shapes: Vec<ShapeMismatch>,
}

impl KeyMismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty()
    }
}

impl std::error::Error for KeyMismatch {}

impl fmt::Display for KeyMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, unexpected, shapes) = (self.missing.len(), self.unexpected.len(), self.shapes.len());
        write!(f, "{}: does not fit the model: {missing} missing, {unexpected} unexpected, {shapes} of another shape", self.name)?;
        for (key, nearest) in &self.missing {
            write!(f, "\n  missing     {key}{}", did_you_mean(nearest))?;
        }
        for (key, nearest) in &self.unexpected {
            write!(f, "\n  unexpected  {key}{}", did_you_mean(nearest))?;
        }
        for ShapeMismatch { key, expected, found } in &self.shapes {
            write!(f, "\n  shape       {key}: expected {expected:?}, found {found:?}")?;
        }
        Ok(())
    }
}
