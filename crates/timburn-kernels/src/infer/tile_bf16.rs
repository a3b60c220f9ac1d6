//! The innermost loop in bf16, by AVX512-BF16: each instruction adds the products of two input channels to sixteen outputs.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

#[cfg(not(target_arch = "x86_64"))]
pub(super) use none::{kernel, supported};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{kernel, supported};

#[cfg(not(target_arch = "x86_64"))]
mod none {
    use super::super::tile::Run;
    use half::bf16;

    pub(crate) fn supported() -> bool {
        false
    }

    pub(crate) fn kernel<O>(_: usize, _: usize, _: usize, _: usize, _: bool) -> Option<Run<bf16, O>> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use half::bf16;

    use super::super::tile::{Finish, LINE_BYTES, MOST, Run, Tiles, fetch, fetch_near};
    use super::super::vector_lanes;
    use crate::Activation;

    /// Values of a vector of sums.
    const LANES: usize = 16;

    /// Whether this machine has the instructions.
    pub(crate) fn supported() -> bool {
        let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
        has && vector_lanes() == LANES && crate::level::extensions()
    }

    /// `O` is f32 or bf16.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    unsafe fn load<O>(at: *const O) -> __m512 {
        // SAFETY: the caller's values.
        unsafe {
            if size_of::<O>() == size_of::<f32>() {
                _mm512_loadu_ps(at.cast())
            } else {
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()))))
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    unsafe fn store<O>(at: *mut O, values: __m512) {
        // SAFETY: the caller's room.
        unsafe {
            if size_of::<O>() == size_of::<f32>() {
                _mm512_storeu_ps(at.cast(), values);
            } else {
                _mm256_storeu_si256(at.cast(), transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    unsafe fn tile<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool, O>(
        t: &Tiles<'_, bf16, O>,
        index: usize,
    ) {
        let step = if PLANAR { STRIDE } else { STRIDE * LANES };
        // SAFETY: all addresses are those of the tile's pixels under the kernel's taps, of its weights and of its outputs.
        unsafe {
            let output = t.output.add(index * C * LANES);
            let mut sums = [[[_mm512_setzero_ps(); C]; R]; N];
            if let Some(bias) = t.bias {
                for n in 0..N {
                    let bias = _mm512_loadu_ps(bias.add(n * LANES));
                    for r in 0..R {
                        for c in 0..C {
                            sums[n][r][c] = bias;
                        }
                    }
                }
            }
            let mut weights = t.weights;
            let mut ahead = t.ahead.cast::<u8>().wrapping_add(index * t.blocks * t.taps.len() * t.ahead_lines * LINE_BYTES);
            let mut block = t.input.add(index * C * step);
            if let Some(Finish { residual: Some(residual), .. }) = &t.finish {
                for n in 0..N {
                    for r in 0..R {
                        for c in 0..C {
                            let at = n * residual.block + r * residual.row + (index * C + c) * LANES;
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
                        let mut row = [_mm512_setzero_si512(); N];
                        for n in 0..N {
                            row[n] = _mm512_loadu_si512(weights.add(n * 2 * LANES).cast());
                        }
                        for r in 0..R {
                            for c in 0..C {
                                let pair = pixel.add(r * t.input_row + c * step).cast::<i32>().read_unaligned();
                                let pair = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair));
                                for n in 0..N {
                                    sums[n][r][c] = _mm512_dpbf16_ps(sums[n][r][c], transmute::<__m512i, __m512bh>(row[n]), pair);
                                }
                            }
                        }
                        weights = weights.add(N * 2 * LANES);
                        pixel = pixel.add(2);
                    }
                }
                block = block.add(t.input_block);
            }
            if let Some(finish) = &t.finish {
                if let Some(residual) = &finish.residual {
                    let values = residual.values.add(index * C * LANES);
                    for n in 0..N {
                        for r in 0..R {
                            for c in 0..C {
                                let at = n * residual.block + r * residual.row + c * LANES;
                                sums[n][r][c] = _mm512_add_ps(sums[n][r][c], load(values.add(at)));
                            }
                        }
                    }
                }
                if finish.activation != Activation::Identity {
                    // The second operand is the result when either is NaN.
                    for n in 0..N {
                        for r in 0..R {
                            for c in 0..C {
                                sums[n][r][c] = _mm512_max_ps(_mm512_setzero_ps(), sums[n][r][c]);
                            }
                        }
                    }
                }
                if finish.activation == Activation::Relu6 {
                    for n in 0..N {
                        for r in 0..R {
                            for c in 0..C {
                                sums[n][r][c] = _mm512_min_ps(_mm512_set1_ps(6.0), sums[n][r][c]);
                            }
                        }
                    }
                }
            }
            for n in 0..N {
                for r in 0..R {
                    for c in 0..C {
                        store(output.add(n * t.output_block + r * t.output_row + c * LANES), sums[n][r][c]);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn tiles<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool, O>(t: &Tiles<'_, bf16, O>) {
        const { assert!(R * C <= MOST) };
        for index in 0..t.count {
            // SAFETY: what the maker of `Tiles` promises.
            unsafe { tile::<R, C, N, STRIDE, PLANAR, O>(t, index) };
        }
    }

    /// # Safety
    /// As [`Run`]; the machine has the instructions.
    unsafe fn run<const R: usize, const C: usize, const N: usize, const STRIDE: usize, const PLANAR: bool, O>(t: &Tiles<'_, bf16, O>) {
        // SAFETY: as the caller promises.
        unsafe { tiles::<R, C, N, STRIDE, PLANAR, O>(t) };
    }

    /// As [`tile::kernel`](super::super::tile::kernel); none where the machine does not have the instructions.
    pub(crate) fn kernel<O>(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run<bf16, O>> {
        super::super::tile::shapes!(rows, columns, blocks, stride, planar, O)
    }
}
