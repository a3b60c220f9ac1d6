/// Which of their versions the kernels of the backend `flex` run in on this CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuKernels {
    /// The instruction set: `avx512`, `avx2`, `sse4.2`, `neon`, `simd128` or `portable`.
    pub level: &'static str,
    /// Numbers (f32) in a vector: 16 with AVX-512, 8 with AVX2, 4 with SSE4.2 or NEON.
    pub lanes: usize,
    /// The instruction sets of this CPU that there are versions for, the best last.
    pub available: Vec<&'static str>,
    /// Whether the environment variable `TIMBURN_CPU` chose the level; else it is the best.
    pub named: bool,
    /// What `TIMBURN_CPU` says, where that is no level of this CPU. It has no effect then.
    pub refused: Option<String>,
}

impl CpuKernels {
    /// Those of this process; none in a build without `flex`.
    pub fn detect() -> Option<Self> {
        #[cfg(feature = "flex")]
        {
            let choice = timburn_kernels::cpu_choice().clone();
            Some(Self {
                level: choice.level.name(),
                lanes: timburn_kernels::infer::vector_lanes(),
                available: timburn_kernels::CpuLevel::available().into_iter().map(timburn_kernels::CpuLevel::name).collect(),
                named: choice.named,
                refused: choice.refused,
            })
        }
        #[cfg(not(feature = "flex"))]
        None
    }
}
