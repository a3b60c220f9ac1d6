//! The innermost loops of a convolution: a tile of pixels and two blocks of output channels held in registers.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, clippy::assign_op_pattern, reason = "see above")]

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};

use crate::Activation;
use crate::cpu::tile::{Lanes, lanes, many_registers, splat};
use crate::level::AutoArch;

/// Most pixels of a tile, where there are 32 registers and where there are 16.
pub(super) const MOST: usize = 14;
pub(super) const FEW: usize = 6;

/// Most pixels of a tile on this machine.
pub(super) fn most_pixels() -> usize {
    struct Ask;
    impl WithSimd for Ask {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> usize {
            most::<S>()
        }
    }
    AutoArch::new().dispatch(Ask)
}

#[inline(always)]
fn most<S: Simd>() -> usize {
    if many_registers::<S>() { MOST } else { FEW }
}

/// Tiles side by side, all computed alike. Distances are in values.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a, T, O> {
    /// Tiles.
    pub(super) count: usize,
    /// The first tile's first pixel under the kernel's first tap, in the first input block.
    pub(super) input: *const T,
    /// To a tile's second row.
    pub(super) input_row: usize,
    /// To the next input block.
    pub(super) input_block: usize,
    /// Input blocks.
    pub(super) blocks: usize,
    /// Groups of channels of each input block but the last, and of the last.
    pub(super) depth: [usize; 2],
    /// Distances of the kernel's taps from the first.
    pub(super) taps: &'a [usize],
    /// `[input blocks][taps][groups of channels][output blocks][lanes][channels of a group]`.
    pub(super) weights: *const T,
    /// What to fetch into the cache meanwhile: the weights that will be needed next.
    pub(super) ahead: *const T,
    /// How many cache lines of that to fetch with each tap of each block.
    pub(super) ahead_lines: usize,
    /// How many input blocks before its pixels are needed a block is fetched, from wherever it is; 0: not at all. At most `blocks`.
    pub(super) near: usize,
    /// What the sums start from, if not from what the output holds.
    pub(super) bias: Option<*const f32>,
    pub(super) output: *mut O,
    pub(super) output_row: usize,
    pub(super) output_block: usize,
    /// What follows when the sums are complete.
    pub(super) finish: Option<Finish<O>>,
}

/// The end of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Finish<O> {
    pub(super) activation: Activation,
    pub(super) residual: Option<Residual<O>>,
}

/// A map of the output's shape that is added, at the first tile's first pixel.
#[derive(Clone, Copy)]
pub(super) struct Residual<O> {
    pub(super) values: *const O,
    pub(super) row: usize,
    pub(super) block: usize,
}

/// Bytes of a cache line.
pub(super) const LINE_BYTES: usize = 64;

/// Asks for a cache line. Any address will do: nothing is read.
#[inline(always)]
pub(super) fn fetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, without effect on memory or registers.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// As [`fetch`], into the nearest cache.
#[inline(always)]
pub(super) fn fetch_near<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, without effect on memory or registers.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The value after an activation. NaN stays.
#[inline(always)]
pub(super) fn activate<S: Simd>(value: Lanes<S>, activation: Activation) -> Lanes<S> {
    match activation {
        Activation::Identity => value,
        Activation::Relu => at_least_zero::<S>(value),
        Activation::Relu6 => {
            let (value, six) = (at_least_zero::<S>(value), splat::<S>(6.0));
            // As below.
            if lanes::<S>() >= 4 { six.min(value) } else { value.ge(six).select(six, value) }
        }
    }
}

#[inline(always)]
fn at_least_zero<S: Simd>(value: Lanes<S>) -> Lanes<S> {
    let zero = splat::<S>(0.0);
    // x86 returns the second operand when either is NaN, NEON and WebAssembly return NaN; without vectors, NaN would be lost.
    if lanes::<S>() >= 4 { zero.max(value) } else { value.le(zero).select(zero, value) }
}

/// `R` rows of `C` pixels, `N` blocks of output channels; input pixels are `STRIDE` apart, in a map of blocks or of planes.
struct Kernel<'a, const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool>(&'a Tiles<'a, f32, f32>);

impl<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool> WithSimd
    for Kernel<'_, R, C, N, STRIDE, PLANAR>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        // Larger tiles than the registers hold are never asked for: no code for them.
        if R * C <= most::<S>() {
            for index in 0..self.0.count {
                // SAFETY: what the maker of `Tiles` promises to `run`.
                unsafe { self.tile::<S>(index) };
            }
        }
    }
}

impl<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool> Kernel<'_, R, C, N, STRIDE, PLANAR> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, index: usize) {
        let t = self.0;
        let step = if PLANAR { STRIDE } else { STRIDE * lanes::<S>() };
        // SAFETY: all addresses are those of the tile's pixels under the kernel's taps, of its weights and of its outputs.
        unsafe {
            let output = t.output.add(index * C * lanes::<S>());
            // What the sums start from, with its distances instead of a branch: sums that come from two places wait on the stack.
            let (start, distances) = match t.bias {
                Some(bias) => (bias, [lanes::<S>(), 0, 0]),
                None => (output.cast_const(), [t.output_block, t.output_row, lanes::<S>()]),
            };
            let mut sums = [[[splat::<S>(0.0); C]; R]; N];
            for n in 0..N {
                for r in 0..R {
                    for c in 0..C {
                        sums[n][r][c] = vload_unaligned(start.add(n * distances[0] + r * distances[1] + c * distances[2]));
                    }
                }
            }
            let mut weights = t.weights;
            let mut ahead = t.ahead.cast::<u8>().wrapping_add(index * t.blocks * t.taps.len() * t.ahead_lines * LINE_BYTES);
            let mut block = t.input.add(index * C * step);
            if let Some(Finish { residual: Some(residual), .. }) = t.finish {
                for n in 0..N {
                    for r in 0..R {
                        for c in 0..C {
                            let at = n * residual.block + r * residual.row + (index * C + c) * lanes::<S>();
                            fetch_near(residual.values.wrapping_add(at));
                        }
                    }
                }
            }
            for b in 0..t.blocks {
                // Where the pixels are that come `near` blocks later, in this tile or the next.
                let later = b + t.near;
                let later = if later < t.blocks {
                    block.wrapping_add(t.near * t.input_block)
                } else {
                    t.input.wrapping_add((index + 1) * C * step + (later - t.blocks) * t.input_block)
                };
                let depth = if b + 1 == t.blocks { t.depth[1] } else { t.depth[0] };
                for &tap in t.taps {
                    for _ in 0..t.ahead_lines {
                        fetch(ahead);
                        ahead = ahead.wrapping_add(LINE_BYTES);
                    }
                    if t.near > 0 {
                        for r in 0..R {
                            for c in 0..C {
                                fetch_near(later.wrapping_add(tap + r * t.input_row + c * step));
                            }
                        }
                    }
                    let mut pixel = block.add(tap);
                    for _ in 0..depth {
                        let mut row = [splat::<S>(0.0); N];
                        for n in 0..N {
                            row[n] = vload_unaligned(weights.add(n * lanes::<S>()));
                        }
                        for r in 0..R {
                            for c in 0..C {
                                let factor = splat::<S>(*pixel.add(r * t.input_row + c * step));
                                for n in 0..N {
                                    sums[n][r][c] = f32::vmul_add(factor, row[n], sums[n][r][c]);
                                }
                            }
                        }
                        weights = weights.add(N * lanes::<S>());
                        pixel = pixel.add(1);
                    }
                }
                block = block.add(t.input_block);
            }
            if let Some(finish) = t.finish {
                if let Some(residual) = finish.residual {
                    let values = residual.values.add(index * C * lanes::<S>());
                    for n in 0..N {
                        for r in 0..R {
                            for c in 0..C {
                                let at = n * residual.block + r * residual.row + c * lanes::<S>();
                                sums[n][r][c] = sums[n][r][c] + vload_unaligned(values.add(at));
                            }
                        }
                    }
                }
                if finish.activation != Activation::Identity {
                    for n in 0..N {
                        for r in 0..R {
                            for c in 0..C {
                                sums[n][r][c] = activate::<S>(sums[n][r][c], finish.activation);
                            }
                        }
                    }
                }
            }
            for n in 0..N {
                for r in 0..R {
                    for c in 0..C {
                        vstore_unaligned(output.add(n * t.output_block + r * t.output_row + c * lanes::<S>()), sums[n][r][c]);
                    }
                }
            }
        }
    }
}

/// A function that computes tiles of one shape.
///
/// # Safety
/// All addresses of the tiles are valid, and nobody else touches the outputs.
pub(super) type Run<T, O> = unsafe fn(&Tiles<'_, T, O>);

/// # Safety
/// As [`Run`].
unsafe fn run<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool>(tiles: &Tiles<'_, f32, f32>) {
    AutoArch::new().dispatch(Kernel::<R, C, N, STRIDE, PLANAR>(tiles));
}

/// The kernel for tiles of `$rows` by `$columns` pixels (in all at most [`most_pixels`]) and `$blocks` output blocks, 1 or 2: an
/// instance of the function `run` that is in scope.
///
/// `None` where there is none: two rows only of 2 to 7 pixels and not for planes; strides 1 and 2.
macro_rules! shapes {
    ($rows:expr, $columns:expr, $blocks:expr, $stride:expr, $planar:expr $(, $output:ident)?) => {
        match ($blocks, $stride) {
            (1, 1) => $crate::infer::tile::shapes!(@rows $rows, $columns, $planar, 1, 1, ($($output)?)),
            (1, 2) => $crate::infer::tile::shapes!(@rows $rows, $columns, $planar, 1, 2, ($($output)?)),
            (2, 1) => $crate::infer::tile::shapes!(@rows $rows, $columns, $planar, 2, 1, ($($output)?)),
            (2, 2) => $crate::infer::tile::shapes!(@rows $rows, $columns, $planar, 2, 2, ($($output)?)),
            _ => None,
        }
    };
    (@rows $rows:expr, $columns:expr, $planar:expr, $n:literal, $stride:literal, $output:tt) => {
        match ($rows, $planar) {
            (1, false) => $crate::infer::tile::shapes!(@all 1, $columns, $n, $stride, false, $output, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            (2, false) => $crate::infer::tile::shapes!(@all 2, $columns, $n, $stride, false, $output, 2 3 4 5 6 7),
            (1, true) => $crate::infer::tile::shapes!(@all 1, $columns, $n, $stride, true, $output, 1 2 4 6 8 10 12 14),
            _ => None,
        }
    };
    (@all $r:literal, $columns:expr, $n:literal, $stride:literal, $planar:literal, $output:tt, $($c:literal)*) => {
        match $columns { $($c => $crate::infer::tile::shapes!(@one $r, $c, $n, $stride, $planar, $output),)* _ => None }
    };
    (@one $r:literal, $c:literal, $n:literal, $stride:literal, $planar:literal, ()) => {
        Some(run::<$r, $c, $n, $stride, $planar>)
    };
    (@one $r:literal, $c:literal, $n:literal, $stride:literal, $planar:literal, ($output:ident)) => {
        Some(run::<$r, $c, $n, $stride, $planar, $output>)
    };
}
pub(in crate::infer) use shapes;

/// The kernel in f32.
pub(super) fn kernel(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run<f32, f32>> {
    shapes!(rows, columns, blocks, stride, planar)
}
