//! Burn's own container, as `Module::into_record().save(…)` writes it for timburn's models.

use std::path::Path;
use std::sync::Arc;

use burn_pack::{DType, HEADER_SIZE, MAGIC_NUMBER, Reader, Tensor};
use timburn_models::state_dict::KeyPath;
use timburn_models::{StateDict, WeightDtype, WeightTensor};

use super::element::Element;
use super::source::Source;
use super::{Contents, guarded};

/// Whether a file beginning with these bytes means to be a burnpack.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(&MAGIC_NUMBER.to_le_bytes())
}

/// The error is a reason for people.
pub(super) fn read(path: &Path, source: &Source, name: &str) -> Result<Contents, String> {
    // Checked here, because the reader allocates the claimed size first.
    let header = source.read(0, HEADER_SIZE as u64).map_err(|error| format!("the header: {error}"))?;
    let metadata_size = header.last_chunk::<4>().map(|bytes| u64::from(u32::from_le_bytes(*bytes))).unwrap_or_default();
    if metadata_size > source.len() - HEADER_SIZE as u64 {
        return Err(format!("truncated or hostile: a header of {metadata_size} bytes in a file of {}", source.len()));
    }
    let (tensors, metadata) = guarded(|| {
        let reader = Reader::from_file_exact(path).map_err(|error| error.to_string())?;
        let metadata = reader.metadata().clone();
        reader.into_tensors().map(|tensors| (tensors, metadata)).map_err(|error| error.to_string())
    })??;

    let mut weights = StateDict::new(name);
    for tensor in tensors {
        let element =
            element(tensor.dtype).ok_or_else(|| format!("tensor `{}`: {:?} is none of a weight's types", tensor.name, tensor.dtype))?;
        let shape = tensor.shape.to_vec();
        let key = key(&tensor.name);
        let tensor = Arc::new(tensor);
        let read = move || guarded(|| bytes(&tensor))?.map(|bytes| element.widen(bytes));
        if weights.tensors.insert(key.clone(), WeightTensor::new(shape, element.dtype(), Arc::new(read))).is_some() {
            return Err(format!("two tensors are called `{key}`"));
        }
    }
    Ok(Contents { weights, metadata })
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>, String> {
    tensor.to_bytes().map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
}

/// PyTorch's key of a Burn path: a segment `_3` is `3`, and the name of an enum's variant is left out. The container says nothing of
/// enums, but variants are the only names of modules with a capital.
fn key(path: &str) -> String {
    let mut key = KeyPath::default();
    for segment in path.split('.') {
        let variant = segment.starts_with(|first: char| first.is_ascii_uppercase());
        key.enter(segment, if variant { "Enum:" } else { "" });
    }
    key.key()
}

fn element(dtype: DType) -> Option<Element> {
    Some(match dtype {
        DType::F64 => Element::Float(WeightDtype::F64),
        DType::F32 | DType::Flex32 => Element::Float(WeightDtype::F32),
        DType::F16 => Element::Float(WeightDtype::F16),
        DType::BF16 => Element::Float(WeightDtype::BF16),
        DType::I64 => Element::integer(8, true),
        DType::I32 => Element::integer(4, true),
        DType::I16 => Element::integer(2, true),
        DType::I8 => Element::integer(1, true),
        DType::U64 => Element::integer(8, false),
        DType::U32 => Element::integer(4, false),
        DType::U16 => Element::integer(2, false),
        DType::U8 => Element::integer(1, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn variants_vanish_and_positions_lose_their_underscore() {
        assert_eq!(key("ResNet.layer1.0.Basic.conv1.weight"), "layer1.0.conv1.weight");
        assert_eq!(key("conv1._3.weight"), "conv1.3.weight");
    }
}
