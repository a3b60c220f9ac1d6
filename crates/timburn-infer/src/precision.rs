use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use timburn_core::Error;

/// What the inference graph of the CPU stores and multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// 32-bit floats: logits within 1e-4 of the model's own.
    #[default]
    F32,
    /// Activations and weights rounded to bfloat16 (8 bits of precision), batch norm folded before, sums in f32. Half the memory and, where
    /// the processor multiplies bf16, up to twice the speed; logits within a percent or two of the largest. EfficientNet-Lite0 with
    /// its real weights gives 499 of 500 ImageNet photographs the same class as in f32, and is right on 443 instead of 442.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Whether this processor has the instructions. A graph of another precision computes in f32.
    pub fn is_supported(self) -> bool {
        match self {
            Self::F32 => true,
            #[cfg(feature = "flex")]
            Self::Bf16 => timburn_kernels::infer::supports_bf16(),
            #[cfg(not(feature = "flex"))]
            Self::Bf16 => false,
        }
    }

    /// # Errors
    /// [`Error::Argument`] for a reduced precision on another device than the CPU, whose graph alone knows it.
    pub(crate) fn check(self, device: &Device) -> Result<(), Error> {
        #[cfg(feature = "flex")]
        let cpu = *device == Device::flex();
        #[cfg(not(feature = "flex"))]
        let cpu = false;
        if self == Self::F32 || cpu {
            return Ok(());
        }
        let expected = format!("f32 on {device:?}: reduced precisions are for the CPU (`flex`)");
        Err(Error::Argument { name: "precision", value: self.to_string(), expected })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let names = || Self::ALL.map(|precision| precision.to_string()).join(" or ");
        let found = Self::ALL.into_iter().find(|precision| precision.to_string() == name);
        found.ok_or_else(|| Error::Argument { name: "precision", value: name.into(), expected: names() })
    }
}
