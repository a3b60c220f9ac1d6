//! The innermost loop by AVX512-VNNI, AVX-VNNI and AVX2.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

use std::arch::x86_64::*;

use super::super::tile::{LINE_BYTES, fetch};
use super::LANES;
use super::tile::{Run, Tiles};

/// Bytes of a row of weights: four for each output channel of a block.
const ROW: usize = 64;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn tile_512<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool>(t: &Tiles<'_>, index: usize) {
    let step = if PLANAR { STRIDE } else { STRIDE * LANES };
    // SAFETY: all addresses are those of the tile's pixels under the kernel's taps, of its weights and of its outputs.
    unsafe {
        let mut sums = [[[_mm512_setzero_si512(); C]; R]; N];
        for n in 0..N {
            let start = _mm512_loadu_si512(t.end.start.add(n * LANES).cast());
            for r in 0..R {
                for c in 0..C {
                    sums[n][r][c] = start;
                }
            }
        }
        let mut weights = t.weights;
        let mut ahead = t.ahead.cast::<u8>().wrapping_add(index * t.blocks * t.taps.len() * t.ahead_lines * LINE_BYTES);
        let mut block = t.input.add(index * C * step);
        for b in 0..t.blocks {
            let depth = if b + 1 == t.blocks { t.depth[1] } else { t.depth[0] };
            for &tap in t.taps {
                for _ in 0..t.ahead_lines {
                    fetch(ahead);
                    ahead = ahead.wrapping_add(LINE_BYTES);
                }
                let mut pixel = block.add(tap);
                for _ in 0..depth {
                    let mut row = [_mm512_setzero_si512(); N];
                    for n in 0..N {
                        row[n] = _mm512_loadu_si512(weights.add(n * ROW).cast());
                    }
                    for r in 0..R {
                        for c in 0..C {
                            let four = _mm512_set1_epi32(pixel.add(r * t.input_row + c * step).cast::<i32>().read_unaligned());
                            for n in 0..N {
                                sums[n][r][c] = _mm512_dpbusd_epi32(sums[n][r][c], four, row[n]);
                            }
                        }
                    }
                    weights = weights.add(N * ROW);
                    pixel = pixel.add(4);
                }
            }
            block = block.add(t.input_block);
        }
        // Loops of one step each: the compiler unrolls them, and keeps the sums in registers.
        let mut values = [[[_mm512_setzero_ps(); C]; R]; N];
        for n in 0..N {
            let (multiplier, offset) = (_mm512_loadu_ps(t.end.multiplier.add(n * LANES)), _mm512_loadu_ps(t.end.offset.add(n * LANES)));
            for r in 0..R {
                for c in 0..C {
                    values[n][r][c] = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[n][r][c]), multiplier), offset);
                }
            }
        }
        if let Some(add) = &t.end.residual {
            let (bytes, multiplier) = (add.values.add(index * C * LANES), _mm512_set1_ps(add.multiplier));
            for n in 0..N {
                for r in 0..R {
                    for c in 0..C {
                        let more = _mm_loadu_si128(bytes.add(n * add.block + r * add.row + c * LANES).cast());
                        let more = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(more)), multiplier);
                        values[n][r][c] = _mm512_add_ps(values[n][r][c], more);
                    }
                }
            }
        }
        // The second operand is the result when either is NaN.
        let (low, high) = (_mm512_set1_ps(t.end.bounds[0]), _mm512_set1_ps(t.end.bounds[1]));
        for n in 0..N {
            for r in 0..R {
                for c in 0..C {
                    values[n][r][c] = _mm512_min_ps(_mm512_max_ps(values[n][r][c], low), high);
                }
            }
        }
        if t.end.wide {
            let output = t.output.cast::<f32>().add(index * C * LANES);
            for n in 0..N {
                for r in 0..R {
                    for c in 0..C {
                        _mm512_storeu_ps(output.add(n * t.output_block + r * t.output_row + c * LANES), values[n][r][c]);
                    }
                }
            }
        } else {
            let output = t.output.add(index * C * LANES);
            for n in 0..N {
                for r in 0..R {
                    for c in 0..C {
                        let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values[n][r][c]));
                        _mm_storeu_si128(output.add(n * t.output_block + r * t.output_row + c * LANES).cast(), bytes);
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tiles_512<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool>(t: &Tiles<'_>) {
    for index in 0..t.count {
        // SAFETY: what the maker of `Tiles` promises.
        unsafe { tile_512::<R, C, N, STRIDE, PLANAR>(t, index) };
    }
}

/// # Safety
/// As [`Run`]; the machine has the instructions.
unsafe fn run<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool>(t: &Tiles<'_>) {
    // SAFETY: as the caller promises.
    unsafe { tiles_512::<R, C, N, STRIDE, PLANAR>(t) };
}

/// As [`kernel`](super::tile::kernel), for a machine with AVX512-VNNI.
pub(super) fn kernel_512(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run> {
    macro_rules! columns {
        ($r:literal, $n:literal, $stride:literal, $planar:literal, $($c:literal)*) => {
            match columns { $($c => Some(run::<$r, $c, $n, $stride, $planar> as Run),)* _ => None }
        };
    }
    macro_rules! rows {
        ($n:literal, $stride:literal) => {
            match (rows, planar) {
                (1, false) => columns!(1, $n, $stride, false, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                (2, false) => columns!(2, $n, $stride, false, 2 3 4 5 6 7),
                (1, true) => columns!(1, $n, $stride, true, 1 2 4 6 8 10 12 14),
                _ => None,
            }
        };
    }
    match (blocks, stride) {
        (1, 1) => rows!(1, 1),
        (1, 2) => rows!(1, 2),
        (2, 1) => rows!(2, 1),
        (2, 2) => rows!(2, 2),
        _ => None,
    }
}

/// Kernels of vectors of eight sums, two to a block of outputs: one row of pixels, one block after the other.
macro_rules! narrow {
    ($kernel:ident, $tile:ident, $tiles:ident, $run:ident, $features:literal, $($c:literal)*; $multiply:item) => {
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $tile<const C: usize>(t: &Tiles<'_>, index: usize, block: usize) {
            $multiply
            // SAFETY: all addresses are those of the tile's pixels under the kernel's taps, of its weights and of its outputs.
            unsafe {
                let start = t.end.start.add(block * LANES).cast::<__m256i>();
                let mut sums = [[_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))]; C];
                let mut weights = t.weights.add(block * ROW);
                for b in 0..t.blocks {
                    let depth = if b + 1 == t.blocks { t.depth[1] } else { t.depth[0] };
                    for &tap in t.taps {
                        let mut pixel = t.input.add(b * t.input_block + index * C * t.step + tap);
                        for _ in 0..depth {
                            let row = [_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(weights.add(ROW / 2).cast())];
                            multiply(&mut sums, pixel, t.step, row);
                            weights = weights.add(t.panel * ROW);
                            pixel = pixel.add(4);
                        }
                    }
                }
                finish_256(t, sums, index, block);
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $tiles<const C: usize>(t: &Tiles<'_>) {
            for index in 0..t.count {
                for block in 0..t.panel {
                    // SAFETY: what the maker of `Tiles` promises.
                    unsafe { $tile::<C>(t, index, block) };
                }
            }
        }

        /// # Safety
        /// As [`Run`]; the machine has the instructions.
        unsafe fn $run<const C: usize>(t: &Tiles<'_>) {
            // SAFETY: as the caller promises.
            unsafe { $tiles::<C>(t) };
        }

        /// As [`kernel`](super::tile::kernel), for a machine with the instructions; of one row.
        pub(super) fn $kernel(columns: usize) -> Option<Run> {
            match columns { $($c => Some($run::<$c> as Run),)* _ => None }
        }
    };
}

narrow! { kernel_vnni_256, tile_vnni_256, tiles_vnni_256, run_vnni_256, "avx2,avxvnni", 1 2 3 4 5 6;
    #[target_feature(enable = "avx2,avxvnni")]
    #[inline]
    unsafe fn multiply<const C: usize>(sums: &mut [[__m256i; 2]; C], pixel: *const u8, step: usize, row: [__m256i; 2]) {
        for c in 0..C {
            // SAFETY: four bytes of the tile's pixel, says the caller.
            let four = unsafe { _mm256_set1_epi32(pixel.add(c * step).cast::<i32>().read_unaligned()) };
            for half in 0..2 {
                sums[c][half] = _mm256_dpbusd_avx_epi32(sums[c][half], four, row[half]);
            }
        }
    }
}

narrow! { kernel_avx2, tile_avx2, tiles_avx2, run_avx2, "avx2", 1 2 3 4;
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn multiply<const C: usize>(sums: &mut [[__m256i; 2]; C], pixel: *const u8, step: usize, row: [__m256i; 2]) {
        // Bytes 0 and 2, and bytes 1 and 3, as words: the sum of two products of words is exact, of bytes it would saturate.
        let [mut even, mut odd] = [row; 2];
        for half in 0..2 {
            even[half] = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(row[half]));
            odd[half] = _mm256_srai_epi16::<8>(row[half]);
        }
        for c in 0..C {
            // SAFETY: four bytes of the tile's pixel, says the caller.
            let four = unsafe { _mm256_set1_epi32(pixel.add(c * step).cast::<i32>().read_unaligned()) };
            let [low, high] = [_mm256_and_si256(four, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(four)];
            for half in 0..2 {
                let products = _mm256_add_epi32(_mm256_madd_epi16(low, even[half]), _mm256_madd_epi16(high, odd[half]));
                sums[c][half] = _mm256_add_epi32(sums[c][half], products);
            }
        }
    }
}

/// The end of a tile of vectors of eight sums. Loops of one step each, as above.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn finish_256<const C: usize>(t: &Tiles<'_>, sums: [[__m256i; 2]; C], index: usize, block: usize) {
    let pixel = index * C * LANES;
    // SAFETY: parameters of the block and places of the tile in the output and the residual.
    unsafe {
        let (multiplier, offset) = (t.end.multiplier.add(block * LANES), t.end.offset.add(block * LANES));
        let mut values = [[_mm256_setzero_ps(); 2]; C];
        for half in 0..2 {
            let (multiplier, offset) = (_mm256_loadu_ps(multiplier.add(half * 8)), _mm256_loadu_ps(offset.add(half * 8)));
            for c in 0..C {
                values[c][half] = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[c][half]), multiplier), offset);
            }
        }
        if let Some(add) = &t.end.residual {
            let (bytes, multiplier) = (add.values.add(block * add.block + pixel), _mm256_set1_ps(add.multiplier));
            for c in 0..C {
                for half in 0..2 {
                    let more = _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.add(c * LANES + half * 8).cast()));
                    values[c][half] = _mm256_add_ps(values[c][half], _mm256_mul_ps(_mm256_cvtepi32_ps(more), multiplier));
                }
            }
        }
        // The second operand is the result when either is NaN.
        let (low, high) = (_mm256_set1_ps(t.end.bounds[0]), _mm256_set1_ps(t.end.bounds[1]));
        for c in 0..C {
            for half in 0..2 {
                values[c][half] = _mm256_min_ps(_mm256_max_ps(values[c][half], low), high);
            }
        }
        if t.end.wide {
            let output = t.output.cast::<f32>().add(block * t.output_block + pixel);
            for c in 0..C {
                for half in 0..2 {
                    _mm256_storeu_ps(output.add(c * LANES + half * 8), values[c][half]);
                }
            }
        } else {
            let output = t.output.add(block * t.output_block + pixel);
            for c in 0..C {
                // Words of both halves, in quarters that take turns.
                let words = _mm256_packus_epi32(_mm256_cvtps_epi32(values[c][0]), _mm256_cvtps_epi32(values[c][1]));
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(output.add(c * LANES).cast(), bytes);
            }
        }
    }
}
