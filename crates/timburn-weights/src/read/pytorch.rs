//! What `torch.save` writes, in every container it has had. Pickles are parsed, never executed.

use std::path::Path;
use std::sync::Arc;

use pytorch_reader::{DType, PickleValue, PytorchReader};
use timburn_models::{StateDict, WeightDtype, WeightTensor};

use super::element::Element;
use super::source::Source;
use super::{Contents, guarded};

/// Keys under which training scripts put the tensors in a checkpoint, in order of preference.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];
/// Where the magic `ustar` stands in a TAR header.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// Whether a file beginning with these bytes means to be a PyTorch file: ZIP, TAR, or a pickle of protocol 2 and later (legacy files
/// are a series of those) or 0.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
        || head.starts_with(b"PK\x05\x06")
        || is_tar(head)
        || head.first() == Some(&0x80)
        || head.starts_with(b"L119547037146038801333356")
}

fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_MAGIC) == Some(b"ustar")
}

/// The error is a reason for people.
pub(super) fn read(path: &Path, source: &Source, head: &[u8], name: &str) -> Result<Contents, String> {
    if is_tar(head) {
        refuse_sparse(source)?;
    }
    let tensors = guarded(|| {
        let root = PytorchReader::read_pickle_data(path, None).map_err(|error| error.to_string())?;
        refuse_hostile(&root)?;
        let reader = match wrapper(&root) {
            Some(key) => PytorchReader::with_top_level_key(path, key),
            None => PytorchReader::new(path),
        };
        reader.map(PytorchReader::into_tensors).map_err(|error| error.to_string())
    })??;

    let mut weights = StateDict::new(name);
    for (key, tensor) in tensors {
        let element = element(tensor.dtype());
        // A view with stride 0 may claim any size. `torch.save` compresses nothing, so that an honest tensor is no larger than its file.
        if tensor.byte_len() as u64 > source.len() {
            return Err(format!("tensor `{key}` claims {} bytes in a file of {}", tensor.byte_len(), source.len()));
        }
        let shape = tensor.shape().to_vec();
        let (.., read) = tensor.into_parts();
        let read = move || guarded(&read)?.map(|bytes| element.widen(bytes)).map_err(|error| error.to_string());
        weights.tensors.insert(key, WeightTensor::new(shape, element.dtype(), Arc::new(read)));
    }
    Ok(Contents { weights, metadata: Default::default() })
}

fn element(dtype: DType) -> Element {
    match dtype {
        DType::F64 => Element::Float(WeightDtype::F64),
        DType::F32 => Element::Float(WeightDtype::F32),
        DType::F16 => Element::Float(WeightDtype::F16),
        DType::BF16 => Element::Float(WeightDtype::BF16),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => Element::integer(dtype.size(), true),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => Element::integer(dtype.size(), false),
    }
}

/// The entry that holds the tensors, where the file is a training checkpoint.
fn wrapper(root: &PickleValue) -> Option<&'static str> {
    let PickleValue::Dict(entries) = root else { return None };
    WRAPPERS.into_iter().find(|key| matches!(entries.get(*key), Some(PickleValue::Dict(_))))
}

/// Values other than tensors are ignored, as long as they are harmless: a file whose pickle would run a program when PyTorch opens it was
/// made to attack someone, and its tensors deserve no trust either.
fn refuse_hostile(value: &PickleValue) -> Result<(), String> {
    match value {
        PickleValue::Unsupported(called) if is_hostile(called) => {
            Err(format!("hostile: its pickle calls `{called}`; nothing was executed"))
        }
        PickleValue::Dict(entries) => entries.values().try_for_each(refuse_hostile),
        PickleValue::List(items) => items.iter().try_for_each(refuse_hostile),
        _ => Ok(()),
    }
}

fn is_hostile(called: &str) -> bool {
    const MODULES: [&str; 15] = [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "pty",
        "shutil",
        "socket",
        "runpy",
        "importlib",
        "ctypes",
        "code",
        "webbrowser",
        "commands",
        "multiprocessing",
    ];
    const BUILTINS: [&str; 7] = ["eval", "exec", "execfile", "compile", "open", "getattr", "__import__"];
    let Some((module, function)) = called.rsplit_once('.') else { return false };
    let package = module.split('.').next().unwrap_or(module);
    MODULES.contains(&package) || (["builtins", "__builtin__"].contains(&package) && BUILTINS.contains(&function))
}

/// A sparse TAR entry describes any number of zeros in a few bytes, and the decoder would spell them out in memory.
fn refuse_sparse(source: &Source) -> Result<(), String> {
    const BLOCK: u64 = 512;
    let mut offset = 0;
    while let Ok(header) = source.read(offset, BLOCK) {
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        if header[156] == b'S' {
            return Err("hostile: a sparse TAR entry".into());
        }
        let field = &header[124..136];
        let size = if field[0] & 0x80 == 0 {
            field.iter().filter(|byte| (b'0'..=b'7').contains(byte)).fold(0u64, |size, digit| size << 3 | u64::from(digit - b'0'))
        } else {
            field[4..].iter().fold(0u64, |size, &byte| size << 8 | u64::from(byte))
        };
        let blocks = size.div_ceil(BLOCK).saturating_add(1);
        offset = offset.saturating_add(blocks.saturating_mul(BLOCK));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_hostile_and_values_are_not() {
        for called in ["posix.system", "os.path.join", "builtins.eval", "__builtin__.getattr", "subprocess.Popen"] {
            assert!(is_hostile(called), "{called}");
        }
        for called in
            ["argparse.Namespace", "numpy.core.multiarray.scalar", "torch.float32", "__builtin__.set", "int", "collections.Counter"]
        {
            assert!(!is_hostile(called), "{called}");
        }
    }
}
