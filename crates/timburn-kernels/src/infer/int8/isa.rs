use crate::level::{CpuLevel, cpu_choice, extensions};

/// The instructions that sums are computed with. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    /// AVX512-VNNI: 64 products an instruction.
    Vnni512,
    /// AVX-VNNI: 32 products an instruction.
    Vnni256,
    /// AVX2: bytes are widened first, because its own products of bytes saturate.
    Avx2,
    /// Whatever the compiler makes of loops.
    Plain,
}

impl Isa {
    /// All of them, the fastest first.
    pub(super) const ALL: [Self; 4] = [Self::Vnni512, Self::Vnni256, Self::Avx2, Self::Plain];

    /// Whether this machine has the instructions.
    pub(super) fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Vnni512 => {
                let wide =
                    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
                wide && is_x86_feature_detected!("avx512vnni")
            }
            Self::Vnni256 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Plain => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Plain;
    }

    /// The fastest of this machine that the process's [level](crate::CpuLevel) has.
    pub(super) fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_supported() && isa.is_of_level()).unwrap_or(Self::Plain)
    }

    fn is_of_level(self) -> bool {
        match self {
            Self::Vnni512 | Self::Vnni256 => extensions(),
            Self::Avx2 => cpu_choice().level >= CpuLevel::Avx2,
            Self::Plain => true,
        }
    }

    /// Most pixels of a tile: as many as their sums find registers.
    pub(super) fn most_pixels(self) -> usize {
        match self {
            Self::Vnni512 => 14,
            Self::Vnni256 => 6,
            Self::Avx2 | Self::Plain => 4,
        }
    }

    /// Whether bytes are permuted across a whole vector of 64 at once: AVX512-VBMI, with AVX512-VNNI.
    pub(super) fn permutes(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Vnni512 && self.is_supported() && is_x86_feature_detected!("avx512vbmi");
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}

/// Whether this processor multiplies bytes faster than f32: AVX512-VNNI or AVX-VNNI.
pub fn is_accelerated() -> bool {
    matches!(Isa::detect(), Isa::Vnni512 | Isa::Vnni256)
}
