//! Plain loops, compiled for the widest vectors the machine has.

#![allow(clippy::disallowed_types, reason = "integer arithmetic: results do not depend on the vectors, and TIMBURN_CPU has no say")]

use macerator::{AutoArch, Simd, WithSimd};

/// Runs `work` where the compiler may use AVX2 or AVX-512, if the processor has them.
///
/// The result is the same everywhere: integer arithmetic only. What is to profit must be inlined into `work`: `#[inline(always)]` on every
/// function of ours, and loops over indices, because the compiler does not inline `Zip::next` and `array::map` here (it made decoding three
/// times slower).
#[inline(always)]
pub(crate) fn widest(work: impl FnOnce()) {
    struct Work<F>(F);
    impl<F: FnOnce()> WithSimd for Work<F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            (self.0)();
        }
    }
    AutoArch::new().dispatch(Work(work));
}
