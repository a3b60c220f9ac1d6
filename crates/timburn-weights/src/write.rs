//! Tensors to a safetensors file that PyTorch loads with `strict=True`: whole or not at all.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use half::{bf16, f16};
use serde_json::json;
use timburn_core::disk::{self, System};
use timburn_core::{Error, Result, WeightsError};
use timburn_models::{StateDict, WeightDtype, WeightTensor};

/// Element type of the kernels and matrices in the file.
///
/// Vectors (biases, BN parameters and statistics) are always stored in 32 bits: they are a thousandth of the file, and a running variance
/// can exceed the largest half, 65504.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits, exact.
    #[default]
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
}

impl Precision {
    /// Stored type of `tensor`; integers stay what they are.
    fn of(self, tensor: &WeightTensor) -> WeightDtype {
        match self {
            _ if tensor.dtype == WeightDtype::I64 => WeightDtype::I64,
            Self::F16 if tensor.shape.len() > 1 => WeightDtype::F16,
            Self::BF16 if tensor.shape.len() > 1 => WeightDtype::BF16,
            _ => WeightDtype::F32,
        }
    }
}

/// Writes `dict` and `metadata` to `path` as safetensors, replacing what is there in one step: a reader sees the old file or the new one,
/// and an error leaves the old one. One tensor at a time is in memory.
///
/// # Errors
/// [`Error::Io`] naming the step that failed; [`WeightsError::Corrupt`] for a tensor that cannot be read, or that holds a finite value
/// beyond the range of `precision`.
pub fn write_safetensors(
    dict: &StateDict,
    path: impl AsRef<Path>,
    precision: Precision,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    disk::replace_file(&System, path, |out| write_tensors(dict, out, path, |tensor| precision.of(tensor), metadata))
}

/// Writes `dict` as safetensors to `out`, every tensor in the type it has: [`read::safetensors`](crate::read::safetensors) gives the same
/// bytes back. One tensor at a time is in memory. `path` is for messages.
///
/// # Errors
/// [`Error::Io`] when `out` fails; [`WeightsError::Corrupt`] for a tensor that cannot be read.
pub fn encode_safetensors(dict: &StateDict, out: &mut dyn Write, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    write_tensors(dict, out, path, |tensor| tensor.dtype, metadata)
}

/// CRC-32 of each tensor's bytes as [`write_safetensors`] stores them, by key.
pub(crate) fn checksums(dict: &StateDict, path: &Path, precision: Precision) -> Result<BTreeMap<String, u32>> {
    let checksum = |(key, tensor): (&String, &WeightTensor)| {
        let bytes = encode(tensor, precision.of(tensor)).map_err(|reason| unwritten(dict, key, &reason, path))?;
        Ok((key.clone(), crc32fast::hash(&bytes)))
    };
    dict.tensors.iter().map(checksum).collect()
}

fn unwritten(dict: &StateDict, key: &str, reason: &str, path: &Path) -> WeightsError {
    let reason = format!("tensor `{key}`: {reason}; nothing was written to {}", path.display());
    WeightsError::Corrupt { name: dict.name.clone(), reason }
}

fn write_tensors(
    dict: &StateDict,
    out: &mut dyn Write,
    path: &Path,
    stored: impl Fn(&WeightTensor) -> WeightDtype,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let write_failed = || Error::io("write", path);
    let mut order: Vec<(&String, &WeightTensor, WeightDtype)> =
        dict.tensors.iter().map(|(key, tensor)| (key, tensor, stored(tensor))).collect();
    // Widest first, which aligns every tensor to its own width.
    order.sort_by_key(|(key, _, dtype)| (std::cmp::Reverse(dtype.size()), key.as_str()));

    write_header(out, &order, metadata).map_err(write_failed())?;
    for (key, tensor, dtype) in &order {
        let bytes = encode(tensor, *dtype).map_err(|reason| unwritten(dict, key, &reason, path))?;
        out.write_all(&bytes).map_err(write_failed())?;
    }
    Ok(())
}

fn write_header(
    file: &mut dyn Write,
    order: &[(&String, &WeightTensor, WeightDtype)],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    let mut all = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    all.extend(metadata.clone());
    header.insert("__metadata__".into(), json!(all));
    let mut offset = 0;
    for (key, tensor, dtype) in order {
        let end = offset + tensor.shape.iter().product::<usize>() * dtype.size();
        let dtype = format!("{dtype:?}");
        header.insert((*key).clone(), json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)
}

fn encode(tensor: &WeightTensor, dtype: WeightDtype) -> Result<Vec<u8>, String> {
    if tensor.dtype == dtype {
        return tensor.bytes();
    }
    let values = tensor.values()?;
    let overflow = |value: &f32, stored: f32| value.is_finite() && !stored.is_finite();
    let mut bytes = Vec::with_capacity(values.len() * dtype.size());
    for value in &values {
        let stored = match dtype {
            WeightDtype::F16 => {
                bytes.extend(f16::from_f32(*value).to_le_bytes());
                f16::from_f32(*value).to_f32()
            }
            WeightDtype::BF16 => {
                bytes.extend(bf16::from_f32(*value).to_le_bytes());
                bf16::from_f32(*value).to_f32()
            }
            _ => {
                bytes.extend(value.to_le_bytes());
                *value
            }
        };
        if overflow(value, stored) {
            return Err(format!("{value} is beyond the range of {dtype:?}"));
        }
    }
    Ok(bytes)
}
