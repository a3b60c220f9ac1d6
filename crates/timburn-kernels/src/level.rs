//! The instruction set that the kernels run on: decided here, once for a process.

use std::sync::OnceLock;

use macerator::{Arch, WithSimd};

/// Environment variable that names the [`CpuLevel`] to run on, read when the first kernel runs.
///
/// Results depend on the width of a vector in their last digits: with this variable those of a lesser processor can be had on a better
/// one. A level that is named also keeps the kernels from instructions that are in no level (AVX512-BF16, AVX512-VNNI, AVX-VNNI): `avx512` is
/// not the same as no name. It holds for the kernels of this crate, not for Burn's own operations.
pub const CPU_VARIABLE: &str = "TIMBURN_CPU";

/// Instruction sets that the kernels are compiled for, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CpuLevel {
    /// What every processor of this architecture has, without vectors.
    Portable,
    /// x86: SSE up to 4.2.
    Sse42,
    /// ARM: NEON.
    Neon,
    /// WebAssembly: 128-bit SIMD.
    Simd128,
    /// x86: AVX2 with FMA and F16C.
    Avx2,
    /// x86: AVX-512 F, BW, CD, DQ, VL.
    Avx512,
}

impl CpuLevel {
    const ALL: [Self; 6] = [Self::Portable, Self::Sse42, Self::Neon, Self::Simd128, Self::Avx2, Self::Avx512];

    /// As [`CPU_VARIABLE`] names it: `portable`, `sse4.2`, `neon`, `simd128`, `avx2`, `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Sse42 => "sse4.2",
            Self::Neon => "neon",
            Self::Simd128 => "simd128",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The levels of this processor, the best last.
    pub fn available() -> Vec<Self> {
        let best = Arch::detect() as u8;
        Self::ALL.into_iter().filter(|level| level.arch().is_some_and(|arch| arch as u8 <= best)).collect()
    }

    /// What macerator, which numbers them from the least to the best, calls this level; none on another architecture.
    fn arch(self) -> Option<Arch> {
        match self {
            Self::Portable => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Self::Sse42 => Some(Arch::V2),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Some(Arch::V3),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Some(Arch::V4),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Some(Arch::NeonFma),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            // Whichever of the two kinds of it this program was compiled for.
            Self::Simd128 => Some(Arch::detect()),
            _ => None,
        }
    }
}

/// What the kernels of this process run on, and what [`CPU_VARIABLE`] had to do with it.
#[derive(Debug, Clone)]
pub struct CpuChoice {
    /// The level.
    pub level: CpuLevel,
    /// Whether the variable chose it; else it is the best of this processor.
    pub named: bool,
    /// What the variable says, where that is no level of this processor. It has no effect then.
    pub refused: Option<String>,
}

impl CpuChoice {
    fn new(variable: Option<String>) -> Self {
        let available = CpuLevel::available();
        let best = available.last().copied().unwrap_or(CpuLevel::Portable);
        let variable = variable.filter(|name| !name.is_empty());
        match variable.as_deref().map(|name| available.into_iter().find(|level| level.name() == name)) {
            Some(Some(level)) => Self { level, named: true, refused: None },
            Some(None) => Self { level: best, named: false, refused: variable },
            None => Self { level: best, named: false, refused: None },
        }
    }
}

/// The choice of this process.
pub fn cpu_choice() -> &'static CpuChoice {
    static CHOICE: OnceLock<CpuChoice> = OnceLock::new();
    CHOICE.get_or_init(|| CpuChoice::new(std::env::var_os(CPU_VARIABLE).map(|value| value.to_string_lossy().into_owned())))
}

/// Whether kernels may use instructions beyond the level, where the processor has them: not where the level was named.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86 has such kernels"))]
pub(crate) fn extensions() -> bool {
    !cpu_choice().named
}

/// Runs kernels on this process's level. All kernels are started by it; clippy refuses macerator's type of the same name, which does not
/// know of the choice.
pub(crate) struct AutoArch(Arch);

impl AutoArch {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(cpu_choice().level.arch().unwrap_or(Arch::Scalar))
    }

    pub(crate) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        // SAFETY: one of the levels that were found to be available.
        unsafe { self.0.dispatch(op) }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_what_the_processor_has_is_chosen() {
        let available = CpuLevel::available();
        assert_eq!(available[0], CpuLevel::Portable);
        assert!(available.is_sorted());
        for level in CpuLevel::ALL {
            let choice = CpuChoice::new(Some(level.name().into()));
            if available.contains(&level) {
                assert_eq!((choice.level, choice.named, choice.refused), (level, true, None));
            } else {
                assert_eq!(
                    (choice.level, choice.named, choice.refused),
                    (available[available.len() - 1], false, Some(level.name().into()))
                );
            }
        }
        let best = available.last();
        for (value, refused) in [(None, None), (Some(""), None), (Some("AVX9"), Some("AVX9"))] {
            let choice = CpuChoice::new(value.map(str::to_owned));
            assert_eq!((Some(&choice.level), choice.named, choice.refused.as_deref()), (best, false, refused));
        }
    }

    #[test]
    fn the_level_decides_the_vector() {
        let lanes = match cpu_choice().level {
            CpuLevel::Portable => 2,
            CpuLevel::Sse42 | CpuLevel::Neon | CpuLevel::Simd128 => 4,
            CpuLevel::Avx2 => 8,
            CpuLevel::Avx512 => 16,
        };
        assert_eq!(crate::infer::vector_lanes(), lanes);
        if let Some(name) = std::env::var_os(CPU_VARIABLE).filter(|name| !name.is_empty()) {
            assert_eq!((cpu_choice().level.name(), cpu_choice().named), (name.to_str().unwrap(), true));
            assert!(!crate::infer::supports_bf16());
        }
    }

    /// The tests of the kernels once more in processes of their own, so that no path goes unexecuted on a machine that has a better one.
    #[test]
    fn kernels_agree_with_their_twins_at_every_level() {
        if cpu_choice().named {
            return;
        }
        for level in CpuLevel::available() {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["cpu::", "infer::", "level::tests::the_level_decides"]);
            let output = command.env(CPU_VARIABLE, level.name()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}: {text}{}", level.name(), String::from_utf8_lossy(&output.stderr));
            let passed = text.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok());
            assert!(passed.is_some_and(|passed| passed > 25), "{}: {text}", level.name());
        }
    }
}
