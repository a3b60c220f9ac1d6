//! Files with tensors in them: the format is decided by content, the tensors' bytes are read when they are asked for.

mod burnpack;
mod element;
mod pytorch;
mod safetensors;
mod source;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use timburn_core::{Error, Result, WeightsError};
use timburn_models::StateDict;

use source::Source;

/// Bytes that decide the format: up to the end of TAR's magic.
const HEAD: u64 = 262;
/// Prefixes that wrappers of a module leave on all of its keys: `DataParallel`, `torch.compile`, Lightning.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Tensors of a file and the text that came with them.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The tensors under the file's own keys, without a prefix that all of them share.
    pub weights: StateDict,
    /// Metadata of a safetensors file or burnpack; empty for others.
    pub metadata: BTreeMap<String, String>,
}

/// The tensors of a `.safetensors`, `.pth`/`.pt` (ZIP, legacy, TAR, plain pickle) or burnpack file, whatever its name.
///
/// No code is executed. Memory is bounded by the file's header here and by one tensor at a time later. A checkpoint's nested `state_dict`,
/// `model_state_dict`, `model` or `net` is found; what is not a tensor is ignored.
///
/// # Errors
/// [`WeightsError::Open`] and [`Error::Io`] when the file cannot be opened or read, [`WeightsError::UnknownFormat`], [`WeightsError::Corrupt`].
pub fn read_weights(path: impl AsRef<Path>) -> Result<StateDict> {
    read_contents(path).map(|contents| contents.weights)
}

/// As [`read_weights`], with the file's metadata.
///
/// # Errors
/// As [`read_weights`].
pub fn read_contents(path: impl AsRef<Path>) -> Result<Contents> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let source = Source::open(path).map_err(|source| WeightsError::Open { path: path.to_owned(), source })?;
    let head = source.read(0, source.len().min(HEAD)).map_err(Error::io("read", path))?;
    let contents = if burnpack::begins(&head) {
        burnpack::read(path, &source, &name)
    } else if safetensors::begins(&head) {
        safetensors::read(source, &name)
    } else if pytorch::begins(&head) {
        pytorch::read(path, &source, &head, &name)
    } else {
        return Err(unrecognised(name, &head).into());
    };
    finish(contents, name)
}

/// The tensors and metadata of safetensors bytes in the program itself; `name` is for messages.
///
/// # Errors
/// [`WeightsError::UnknownFormat`], [`WeightsError::Corrupt`].
pub fn from_static(bytes: &'static [u8], name: &str) -> Result<Contents> {
    from_source(Source::Static(bytes), name)
}

/// The tensors and metadata of safetensors bytes under exactly the keys they were written with; `name` is for messages.
///
/// # Errors
/// [`WeightsError::Corrupt`].
pub fn safetensors(bytes: impl Into<Arc<[u8]>>, name: &str) -> Result<Contents> {
    let contents = safetensors::read(Source::Shared(bytes.into()), name);
    Ok(contents.map_err(|reason| WeightsError::Corrupt { name: name.to_owned(), reason })?)
}

/// The tensors and metadata of safetensors bytes at hand; `name` is for messages.
///
/// # Errors
/// [`WeightsError::UnknownFormat`], [`WeightsError::Corrupt`].
pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, name: &str) -> Result<Contents> {
    from_source(Source::Shared(bytes.into()), name)
}

fn from_source(source: Source, name: &str) -> Result<Contents> {
    let head = source.read(0, source.len().min(HEAD)).unwrap_or_default();
    if !safetensors::begins(&head) {
        return Err(unrecognised(name.into(), &head).into());
    }
    finish(safetensors::read(source, name), name.into())
}

fn finish(contents: Result<Contents, String>, name: String) -> Result<Contents> {
    let corrupt = |reason| WeightsError::Corrupt { name, reason };
    let mut contents = match contents {
        Ok(contents) if contents.weights.tensors.is_empty() => return Err(corrupt("it holds no tensors".into()).into()),
        Ok(contents) => contents,
        Err(reason) => return Err(corrupt(reason).into()),
    };
    while let Some(prefix) = PREFIXES.into_iter().find(|prefix| contents.weights.tensors.keys().all(|key| key.starts_with(prefix))) {
        contents.weights = contents.weights.rename(|key| key.strip_prefix(prefix).map(str::to_owned))?;
    }
    Ok(contents)
}

fn unrecognised(name: String, head: &[u8]) -> WeightsError {
    if head.is_empty() {
        return WeightsError::Corrupt { name, reason: "the file is empty".into() };
    }
    if head.starts_with(b"\x89HDF") {
        let reason = "HDF5 (Keras) is not read: export its tensors to safetensors under Keras' own names".into();
        return WeightsError::Corrupt { name, reason };
    }
    let found: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    WeightsError::UnknownFormat { name, found: found.join(" ") }
}

/// Runs a decoder of someone else's: whatever a file makes it do, the caller gets an error.
fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|_| "the decoder gave up on it".into())
}
