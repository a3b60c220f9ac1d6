//! The innermost loops in bf16, by AVX512-BF16: each instruction adds the products of sixteen pairs of values to sixteen sums.
//!
//! Operands are packed as those of [`outer`](super::tile::outer) are, a pair of consecutive values of the depth in the place of one f32.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

#[cfg(not(target_arch = "x86_64"))]
pub(super) use none::{add, interleave, round, supported};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{add, interleave, round, supported};

use half::bf16;

/// Sums to round: rows `pitch` apart, of which `len` columns count.
pub(super) struct Sums<'a> {
    pub(super) values: *const f32,
    pub(super) pitch: usize,
    pub(super) len: usize,
    pub(super) rows: usize,
    /// Added to each row: one for each, or none.
    pub(super) bias: Option<&'a [f32]>,
}

/// The functions of machines without the instructions: nobody calls them.
#[cfg(not(target_arch = "x86_64"))]
mod none {
    use super::{Sums, bf16};

    pub(crate) fn supported() -> bool {
        false
    }

    pub(crate) unsafe fn add<const M: usize, const V: usize>(
        _: usize,
        _: *const f32,
        _: usize,
        _: *const f32,
        _: *mut f32,
        _: usize,
        _: bool,
    ) {
    }

    pub(crate) unsafe fn interleave(_: *const bf16, _: Option<*const bf16>, _: *mut f32, _: usize) {}

    pub(crate) unsafe fn round(_: &Sums<'_>, _: *mut bf16, _: usize) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::{Sums, bf16};
    use crate::cpu::tile::TileShape;

    /// Values of a vector of sums.
    const LANES: usize = 16;

    /// Whether this machine has the instructions, and vectors of their width.
    pub(crate) fn supported() -> bool {
        let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
        has && TileShape::detect().lanes == LANES
    }

    /// `to[m · pitch + v] (+)= Σ a[i · step + m] · b[i · V · 16 + v]`, products of pairs.
    ///
    /// # Safety
    /// [`supported`]; `a` has `steps` steps of M pairs, `b` of V vectors; the sums are the caller's, initialised unless they start here.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(crate) unsafe fn add<const M: usize, const V: usize>(
        steps: usize,
        a: *const f32,
        step: usize,
        b: *const f32,
        to: *mut f32,
        pitch: usize,
        first: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); V]; M];
        let (mut a, mut b) = (a.cast::<i32>(), b);
        // SAFETY: as the caller promises.
        unsafe {
            for _ in 0..steps {
                let mut row = [_mm512_setzero_si512(); V];
                for v in 0..V {
                    row[v] = _mm512_loadu_si512(b.add(v * LANES).cast());
                }
                for m in 0..M {
                    let pair = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(a.add(m).read()));
                    for v in 0..V {
                        sums[m][v] = _mm512_dpbf16_ps(sums[m][v], pair, transmute::<__m512i, __m512bh>(row[v]));
                    }
                }
                a = a.add(step);
                b = b.add(V * LANES);
            }
            for m in 0..M {
                for v in 0..V {
                    let to = to.add(m * pitch + v * LANES);
                    let sum = if first { sums[m][v] } else { _mm512_add_ps(_mm512_loadu_ps(to), sums[m][v]) };
                    _mm512_storeu_ps(to, sum);
                }
            }
        }
    }

    /// Pairs `(a[i], b[i])`, or with zeros, for `len` values rounded up to whole vectors.
    ///
    /// # Safety
    /// [`supported`]; sources and target have room for the rounded length.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(crate) unsafe fn interleave(a: *const bf16, b: Option<*const bf16>, to: *mut f32, len: usize) {
        let mut at = 0;
        // SAFETY: below the rounded length.
        unsafe {
            while at < len {
                let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(a.add(at).cast()));
                let pairs = match b {
                    Some(b) => _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(b.add(at).cast())))),
                    None => low,
                };
                _mm512_storeu_si512(to.add(at).cast(), pairs);
                at += LANES;
            }
        }
    }

    /// Rounds sums, with their bias, to rows `plane` apart.
    ///
    /// # Safety
    /// [`supported`]; the sums are there, and so is room for the rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(crate) unsafe fn round(sums: &Sums<'_>, to: *mut bf16, plane: usize) {
        for row in 0..sums.rows {
            let bias = _mm512_set1_ps(sums.bias.map_or(0.0, |bias| bias[row]));
            let mut at = 0;
            // SAFETY: values of this row; a mask holds what lies beyond.
            unsafe {
                let (from, to) = (sums.values.add(row * sums.pitch), to.add(row * plane));
                while at < sums.len {
                    let left = sums.len - at;
                    let mask = if left >= LANES { u16::MAX } else { (1u16 << left) - 1 };
                    let values = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, from.add(at)), bias);
                    let values = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values));
                    if left >= LANES {
                        _mm256_storeu_si256(to.add(at).cast(), values);
                    } else {
                        _mm256_mask_storeu_epi16(to.add(at).cast(), mask, values);
                    }
                    at += LANES;
                }
            }
        }
    }
}
