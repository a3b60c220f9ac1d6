//! Named tensors outside a model, and the strict way into and out of one.

mod adapt;
mod apply;
mod export;
mod keys;
mod stored;

pub use adapt::{adapt_input_channels, input_key};
pub use apply::load_state_dict;
pub use export::{ParameterInfo, parameters, state_dict, trainable_parameters};
pub use keys::KeyPath;
pub use stored::StoredModel;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};
use timburn_core::WeightsError;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightDtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// 64-bit integer: `num_batches_tracked` and the like; never a parameter.
    I64,
}

impl WeightDtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// Reads a tensor's bytes: row-major, little-endian. The error is a reason for people.
pub type ReadBytes = Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>;

/// One stored tensor. Its bytes are read when they are asked for, so that a file is never in memory twice.
#[derive(Clone)]
pub struct WeightTensor {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type in the store.
    pub dtype: WeightDtype,
    read: ReadBytes,
}

impl fmt::Debug for WeightTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}", self.dtype, self.shape)
    }
}

impl WeightTensor {
    /// A tensor whose bytes `read` will give.
    pub fn new(shape: Vec<usize>, dtype: WeightDtype, read: ReadBytes) -> Self {
        Self { shape, dtype, read }
    }

    /// A tensor of values at hand.
    pub fn from_f32(shape: Vec<usize>, values: Vec<f32>) -> Self {
        let read = move || Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        Self::new(shape, WeightDtype::F32, Arc::new(read))
    }

    /// The bytes in the store's type, row-major, little-endian.
    ///
    /// # Errors
    /// The store's reason, or a length that disagrees with shape and type.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let bytes = (self.read)()?;
        let elements = self.shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let expected = elements.and_then(|count| count.checked_mul(self.dtype.size()));
        if expected != Some(bytes.len()) {
            return Err(format!("{} bytes for {:?}{:?}", bytes.len(), self.dtype, self.shape));
        }
        Ok(bytes)
    }

    /// The values as `f32`, row-major.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn values(&self) -> Result<Vec<f32>, String> {
        let bytes = self.bytes()?;
        Ok(match self.dtype {
            WeightDtype::F32 => each(&bytes, f32::from_le_bytes),
            WeightDtype::F64 => each(&bytes, |chunk| f64::from_le_bytes(chunk) as f32),
            WeightDtype::F16 => each(&bytes, |chunk| f16::from_le_bytes(chunk).to_f32()),
            WeightDtype::BF16 => each(&bytes, |chunk| bf16::from_le_bytes(chunk).to_f32()),
            WeightDtype::I64 => each(&bytes, |chunk| i64::from_le_bytes(chunk) as f32),
        })
    }
}

fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect()
}

/// Tensors by key, as PyTorch's `state_dict()` gives them, with the name of where they came from.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    /// Path or description of the source, for messages.
    pub name: String,
    /// The tensors, sorted by key.
    pub tensors: BTreeMap<String, WeightTensor>,
}

impl StateDict {
    /// An empty dictionary from `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), tensors: BTreeMap::new() }
    }

    /// Renames every key; `None` drops the tensor.
    ///
    /// # Errors
    /// Two keys that become one.
    pub fn rename(self, rename: impl Fn(&str) -> Option<String>) -> Result<Self, WeightsError> {
        let mut renamed = Self::new(self.name);
        for (key, tensor) in self.tensors {
            let Some(new) = rename(&key) else { continue };
            if renamed.tensors.insert(new.clone(), tensor).is_some() {
                let reason = format!("two tensors are called `{new}` after renaming (one of them was `{key}`)");
                return Err(WeightsError::Corrupt { name: renamed.name, reason });
            }
        }
        Ok(renamed)
    }

    /// Element types of the floating-point tensors other than `f32`, for the log line that says what was cast.
    pub fn cast_from(&self) -> Vec<WeightDtype> {
        let mut found = Vec::new();
        for tensor in self.tensors.values() {
            let float = !matches!(tensor.dtype, WeightDtype::F32 | WeightDtype::I64);
            if float && !found.contains(&tensor.dtype) {
                found.push(tensor.dtype);
            }
        }
        found
    }
}
