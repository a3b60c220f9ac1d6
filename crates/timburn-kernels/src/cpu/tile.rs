//! The innermost loops: a tile of a matrix product held in registers.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use macerator::{Scalar, Simd, VMulAdd, Vector, WithSimd, vload_unaligned, vstore_unaligned};

/// A vector of the machine.
pub(crate) type Lanes<S> = Vector<S, f32>;

/// Lanes of a vector, known at compile time once inlined.
#[inline(always)]
pub(crate) fn lanes<S: Simd>() -> usize {
    size_of::<S::Register>() / size_of::<f32>()
}

/// A vector of equal lanes.
///
/// By way of i32: macerator leaves the f32 one to the compiler to inline, which it does not.
#[inline(always)]
pub(crate) fn splat<S: Simd>(value: f32) -> Lanes<S> {
    S::typed(*i32::splat::<S>(value.to_bits().cast_signed()))
}

/// Whether there are 32 vector registers; else 16.
#[inline(always)]
pub(crate) fn many_registers<S: Simd>() -> bool {
    lanes::<S>() == 16 || cfg!(target_arch = "aarch64")
}

/// Vectors in a row of a tile.
pub(crate) const VECTORS: usize = 3;
/// Most rows of a tile, and most lanes of a vector.
pub(crate) const MAX_ROWS: usize = 8;
pub(crate) const MAX_LANES: usize = 16;
/// Most values of a tile.
pub(crate) const MAX_TILE: usize = MAX_ROWS * VECTORS * MAX_LANES;

/// Shape of the tiles of [`outer`] on this machine. 24 of 32 registers, or 12 of 16, hold sums; the rest holds the operands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileShape {
    /// Rows.
    pub(crate) rows: usize,
    /// Lanes of a vector.
    pub(crate) lanes: usize,
}

impl TileShape {
    /// Asks the processor.
    pub(crate) fn detect() -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = TileShape;
            #[inline(always)]
            fn with_simd<S: Simd>(self) -> TileShape {
                TileShape { rows: if many_registers::<S>() { 8 } else { 4 }, lanes: lanes::<S>() }
            }
        }
        crate::level::AutoArch::new().dispatch(Ask)
    }

    /// Columns of a full tile.
    pub(crate) fn columns(self) -> usize {
        VECTORS * self.lanes
    }
}

/// `[M, depth] · [depth, V vectors]`: a sum of outer products.
///
/// `a` is stored depth by depth, M values every `step`; `b` too (`[depth][V · lanes]`).
///
/// # Safety
/// Both hold as much as is said.
#[inline(always)]
pub(crate) unsafe fn outer<S: Simd, const M: usize, const V: usize>(
    depth: usize,
    a: *const f32,
    step: usize,
    b: *const f32,
) -> [[Lanes<S>; V]; M] {
    let mut sums = [[splat::<S>(0.0); V]; M];
    let (mut a, mut b) = (a, b);
    for _ in 0..depth {
        // SAFETY: `depth` steps of M and of V vectors, as the caller promises.
        unsafe {
            let mut row = [splat::<S>(0.0); V];
            for v in 0..V {
                row[v] = vload_unaligned(b.add(v * lanes::<S>()));
            }
            for m in 0..M {
                let factor = splat::<S>(*a.add(m));
                for v in 0..V {
                    sums[m][v] = f32::vmul_add(factor, row[v], sums[m][v]);
                }
            }
            a = a.add(step);
            b = b.add(V * lanes::<S>());
        }
    }
    sums
}

/// Copies `len` values, rounded up to whole vectors.
///
/// # Safety
/// Source and target have room for the rounded length.
#[inline(always)]
pub(crate) unsafe fn copy_over<S: Simd>(source: *const f32, target: *mut f32, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` is below the rounded length.
        unsafe { vstore_unaligned(target.add(at), vload_unaligned::<S, f32>(source.add(at))) };
        at += lanes::<S>();
    }
}

/// Copies exactly `len` values, short runs without a call.
///
/// # Safety
/// Source and target hold `len` values and do not overlap.
#[inline(always)]
pub(crate) unsafe fn copy_exact<S: Simd>(source: *const f32, target: *mut f32, len: usize) {
    // SAFETY: every part lies within `len`; the last overlaps the one before.
    unsafe {
        if len >= lanes::<S>() {
            let mut at = 0;
            while at + lanes::<S>() < len {
                vstore_unaligned(target.add(at), vload_unaligned::<S, f32>(source.add(at)));
                at += lanes::<S>();
            }
            let at = len - lanes::<S>();
            vstore_unaligned(target.add(at), vload_unaligned::<S, f32>(source.add(at)));
        } else if len >= 8 {
            target.cast::<[f32; 8]>().write_unaligned(source.cast::<[f32; 8]>().read_unaligned());
            target.add(len - 8).cast::<[f32; 8]>().write_unaligned(source.add(len - 8).cast::<[f32; 8]>().read_unaligned());
        } else if len >= 4 {
            target.cast::<[f32; 4]>().write_unaligned(source.cast::<[f32; 4]>().read_unaligned());
            target.add(len - 4).cast::<[f32; 4]>().write_unaligned(source.add(len - 4).cast::<[f32; 4]>().read_unaligned());
        } else {
            for at in 0..len {
                target.add(at).write(source.add(at).read());
            }
        }
    }
}
