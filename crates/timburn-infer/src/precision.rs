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
    /// Activations and weights rounded to bytes, batch norm folded before, sums exact. A quarter of the parameters' memory and, where the
    /// processor multiplies bytes (AVX512-VNNI, AVX-VNNI), up to four times the speed; elsewhere about that of f32, or less. What the bytes stand for has to be
    /// measured on pictures once: see `timburn export --int8`, [`Predictor::quantized`](crate::Predictor::quantized).
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// Whether this processor has the instructions; for int8 every one has. A graph of another precision computes in f32.
    pub fn is_supported(self) -> bool {
        match self {
            Self::F32 | Self::Int8 => true,
            #[cfg(feature = "flex")]
            Self::Bf16 => timburn_kernels::infer::supports_bf16(),
            #[cfg(not(feature = "flex"))]
            Self::Bf16 => false,
        }
    }

    /// What is missing for int8.
    pub(crate) fn without_ranges() -> Error {
        let expected = "f32 or bf16, or a bundle that knows the ranges of its activations: \
                        `timburn export MODEL --int8 --calibrate FOLDER -o model-int8.timburn` measures them on pictures";
        Error::Argument { name: "precision", value: Self::Int8.to_string(), expected: expected.into() }
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
            Self::Int8 => "int8",
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
