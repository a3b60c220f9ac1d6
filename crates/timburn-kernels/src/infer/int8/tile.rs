//! The innermost loop: a tile of pixels times one or two blocks of output channels.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

use macerator::{Simd, WithSimd};

use super::quantization::{clamp, rounded};
use super::{GROUP, Isa, LANES};
use crate::level::AutoArch;

/// Tiles side by side, all computed alike. Distances are in values.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels of several rows"))]
pub(super) struct Tiles<'a> {
    /// Tiles.
    pub(super) count: usize,
    /// Pixels of a tile.
    pub(super) columns: usize,
    /// Output blocks, 1 or 2.
    pub(super) panel: usize,
    /// The first tile's first pixel under the kernel's first tap, in the first input block.
    pub(super) input: *const u8,
    /// From a pixel's first tap to the next's.
    pub(super) step: usize,
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
    /// `[input blocks][taps][groups of channels][output blocks][LANES][GROUP]`.
    pub(super) weights: *const i8,
    /// What to fetch into the cache meanwhile: the weights that will be needed next.
    pub(super) ahead: *const i8,
    /// How many cache lines of that to fetch with each tap of each block.
    pub(super) ahead_lines: usize,
    pub(super) end: End,
    /// Bytes, or f32 where the end is wide.
    pub(super) output: *mut u8,
    pub(super) output_row: usize,
    pub(super) output_block: usize,
}

/// What becomes of the sums; see `Finish`.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels of several rows"))]
pub(super) struct End {
    pub(super) start: *const i32,
    pub(super) multiplier: *const f32,
    pub(super) offset: *const f32,
    pub(super) bounds: [f32; 2],
    pub(super) residual: Option<Residual>,
    pub(super) wide: bool,
}

/// A map of the output's shape that is added, at the first tile's first pixel.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels of several rows"))]
pub(super) struct Residual {
    pub(super) values: *const u8,
    pub(super) row: usize,
    pub(super) block: usize,
    pub(super) multiplier: f32,
}

/// A function that computes tiles of one shape.
///
/// # Safety
/// All addresses of the tiles are valid, and nobody else touches the outputs.
pub(super) type Run = unsafe fn(&Tiles<'_>);

/// The kernel for tiles of `rows` by `columns` pixels (in all at most [`Isa::most_pixels`]) and `blocks` output blocks, 1 or 2.
///
/// `None` where there is none: two rows only of 2 to 7 pixels with AVX512-VNNI and not for planes; several columns only at strides 1 and 2.
pub(super) fn kernel(isa: Isa, rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni512 => super::tile_x86::kernel_512(rows, columns, blocks, stride, planar),
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni256 => super::tile_x86::kernel_vnni_256(columns),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => super::tile_x86::kernel_avx2(columns),
        _ => {
            // Of these, loops need no kernels of their own.
            let _ = (rows, columns, blocks, stride, planar);
            Some(run_plain)
        }
    }
}

/// # Safety
/// As [`Run`]; one row of pixels.
unsafe fn run_plain(tiles: &Tiles<'_>) {
    AutoArch::new().dispatch(Plain(tiles));
}

/// Pixel by pixel, block by block: loops that compilers know how to make vectors of.
struct Plain<'a>(&'a Tiles<'a>);

impl WithSimd for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let t = self.0;
        for index in 0..t.count {
            for column in 0..t.columns {
                for block in 0..t.panel {
                    // SAFETY: what the maker of `Tiles` promises to `run_plain`.
                    unsafe { self.pixel(index, column, block) };
                }
            }
        }
    }
}

impl Plain<'_> {
    #[inline(always)]
    unsafe fn pixel(&self, index: usize, column: usize, block: usize) {
        let t = self.0;
        // SAFETY: all addresses are those of the pixel under the kernel's taps, of its weights and of its outputs.
        unsafe {
            let mut sums: [i32; LANES] = t.end.start.add(block * LANES).cast::<[i32; LANES]>().read_unaligned();
            let mut weights = t.weights.add(block * LANES * GROUP);
            for b in 0..t.blocks {
                let depth = if b + 1 == t.blocks { t.depth[1] } else { t.depth[0] };
                for &tap in t.taps {
                    let mut pixel = t.input.add(b * t.input_block + (index * t.columns + column) * t.step + tap);
                    for _ in 0..depth {
                        let values = pixel.cast::<[u8; GROUP]>().read_unaligned();
                        let row = weights.cast::<[[i8; GROUP]; LANES]>().read_unaligned();
                        for lane in 0..LANES {
                            let mut sum = 0;
                            for k in 0..GROUP {
                                sum += i32::from(values[k]) * i32::from(row[lane][k]);
                            }
                            sums[lane] = sums[lane].wrapping_add(sum);
                        }
                        pixel = pixel.add(GROUP);
                        weights = weights.add(t.panel * LANES * GROUP);
                    }
                }
            }
            let pixel = (index * t.columns + column) * LANES;
            let residual = t.end.residual.map(|add| (add.values.add(block * add.block + pixel), add.multiplier));
            let (multiplier, offset) = (t.end.multiplier.add(block * LANES), t.end.offset.add(block * LANES));
            let values = finish(sums, multiplier, offset, residual, t.end.bounds);
            let at = (block * t.output_block + pixel) * if t.end.wide { size_of::<f32>() } else { 1 };
            store(t.output.add(at), values, t.end.wide);
        }
    }
}

/// What becomes of the sums of a pixel, without vector instructions of one's own.
///
/// # Safety
/// The parameters and the residual's bytes are there.
#[inline(always)]
pub(super) unsafe fn finish(
    sums: [i32; LANES],
    multiplier: *const f32,
    offset: *const f32,
    residual: Option<(*const u8, f32)>,
    bounds: [f32; 2],
) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    // SAFETY: as the caller promises.
    unsafe {
        let multiplier = multiplier.cast::<[f32; LANES]>().read_unaligned();
        let offset = offset.cast::<[f32; LANES]>().read_unaligned();
        for lane in 0..LANES {
            values[lane] = sums[lane] as f32 * multiplier[lane] + offset[lane];
        }
        if let Some((bytes, multiplier)) = residual {
            let bytes = bytes.cast::<[u8; LANES]>().read_unaligned();
            for lane in 0..LANES {
                values[lane] += f32::from(bytes[lane]) * multiplier;
            }
        }
    }
    for lane in 0..LANES {
        values[lane] = clamp(values[lane], bounds);
    }
    values
}

/// Stores values that are within their bounds: as they are, or as bytes.
///
/// # Safety
/// There is room for them.
#[inline(always)]
pub(super) unsafe fn store(at: *mut u8, values: [f32; LANES], wide: bool) {
    // SAFETY: as the caller promises.
    unsafe {
        if wide {
            at.cast::<[f32; LANES]>().write_unaligned(values);
        } else {
            let mut bytes = [0; LANES];
            for lane in 0..LANES {
                bytes[lane] = rounded(values[lane]);
            }
            at.cast::<[u8; LANES]>().write_unaligned(bytes);
        }
    }
}
