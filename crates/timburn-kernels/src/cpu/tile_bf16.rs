//! The innermost loops in bf16, by AVX512-BF16: each instruction adds the products of sixteen pairs of values to sixteen sums.
//!
//! Operands are packed as those of [`outer`](super::tile::outer) are, a pair of consecutive values of the depth in the place of one f32.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use none::{add, interleave, pack_columns, pack_rows, pack_scattered, round, supported};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{add, interleave, pack_columns, pack_rows, pack_scattered, round, supported};

use half::bf16;

/// Rows of a tile.
pub(crate) const ROWS: usize = 8;

/// Sums to round: rows `pitch` apart, of which `len` columns count.
pub(crate) struct Sums<'a> {
    pub(crate) values: *const f32,
    pub(crate) pitch: usize,
    pub(crate) len: usize,
    pub(crate) rows: usize,
    /// Added to each row: one for each, or none.
    pub(crate) bias: Option<&'a [f32]>,
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

    pub(crate) unsafe fn pack_rows(_: *const f32, _: usize, _: usize, _: *mut f32) {}

    pub(crate) unsafe fn pack_columns(_: *const f32, _: usize, _: usize, _: *mut f32) {}

    pub(crate) unsafe fn pack_scattered(_: *const f32, _: usize, _: impl Iterator<Item = usize>, _: *mut f32) {}

    pub(crate) unsafe fn round(_: &Sums<'_>, _: *mut bf16, _: usize) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::{ROWS, Sums, bf16};
    use crate::cpu::tile::TileShape;
    use crate::cpu::transpose::x86::eight;

    /// Values of a vector of sums.
    const LANES: usize = 16;

    /// Whether this machine has the instructions, and vectors of their width.
    pub(crate) fn supported() -> bool {
        let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
        has && TileShape::detect().lanes == LANES && crate::level::extensions()
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
    #[inline]
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

    /// Rounds [`ROWS`] rows of `depth` values, `pitch` apart, to `[depth / 2][ROWS]` pairs, the last with a zero if they are odd.
    ///
    /// # Safety
    /// [`supported`]; the values are there, and so is room for the pairs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(crate) unsafe fn pack_rows(from: *const f32, pitch: usize, depth: usize, to: *mut f32) {
        let mut square = [0f32; ROWS * ROWS];
        for at in (0..depth).step_by(LANES) {
            let left = (depth - at).min(LANES);
            let mask = u16::MAX >> (LANES - left);
            // SAFETY: a mask holds what lies beyond the depth; whole steps of the target.
            unsafe {
                for row in 0..ROWS {
                    let pairs = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from.add(row * pitch + at)));
                    _mm256_storeu_si256(square.as_mut_ptr().add(row * ROWS).cast(), transmute::<__m256bh, __m256i>(pairs));
                }
                if left == LANES {
                    eight::<f32, f32>(square.as_ptr(), ROWS, ROWS, to.add(at / 2 * ROWS), ROWS);
                } else {
                    let mut turned = [0f32; ROWS * ROWS];
                    eight::<f32, f32>(square.as_ptr(), ROWS, ROWS, turned.as_mut_ptr(), ROWS);
                    std::ptr::copy_nonoverlapping(turned.as_ptr(), to.add(at / 2 * ROWS), left.div_ceil(2) * ROWS);
                }
            }
        }
    }

    /// Rounds `depth` columns of [`ROWS`] values, `pitch` apart, as [`pack_rows`] does rows.
    ///
    /// # Safety
    /// As there.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(crate) unsafe fn pack_columns(from: *const f32, pitch: usize, depth: usize, to: *mut f32) {
        for at in (0..depth).step_by(2) {
            // SAFETY: columns below the depth.
            unsafe {
                let column = |at: usize| {
                    let values = _mm256_cvtneps_pbh(_mm256_loadu_ps(from.add(at * pitch)));
                    _mm256_cvtepu16_epi32(transmute::<__m128bh, __m128i>(values))
                };
                let high = if at + 1 < depth { _mm256_slli_epi32::<16>(column(at + 1)) } else { _mm256_setzero_si256() };
                _mm256_storeu_si256(to.add(at / 2 * ROWS).cast(), _mm256_or_si256(column(at), high));
            }
        }
    }

    /// Rounds columns of [`ROWS`] values, `pitch` from value to value, that begin at these offsets, as [`pack_rows`] does rows.
    ///
    /// # Safety
    /// As there.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(crate) unsafe fn pack_scattered(from: *const f32, pitch: usize, mut columns: impl Iterator<Item = usize>, to: *mut f32) {
        let mut to = to;
        while let Some(first) = columns.next() {
            // SAFETY: the values of these columns.
            unsafe {
                let column = |at: usize| {
                    let mut values = [0f32; ROWS];
                    for row in 0..ROWS {
                        values[row] = from.add(at + row * pitch).read();
                    }
                    let values = _mm256_cvtneps_pbh(_mm256_loadu_ps(values.as_ptr()));
                    _mm256_cvtepu16_epi32(transmute::<__m128bh, __m128i>(values))
                };
                let high = columns.next().map_or(_mm256_setzero_si256(), |second| _mm256_slli_epi32::<16>(column(second)));
                _mm256_storeu_si256(to.cast(), _mm256_or_si256(column(first), high));
                to = to.add(ROWS);
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
