//! Rows to columns, a square of a vector's width at a time.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use macerator::Simd;

use super::tile::lanes;

/// `target[p · step + r] = source[r · pitch + p]` for as many rows `r` as a vector has lanes and `len` columns `p`.
///
/// # Safety
/// `len` is a multiple of the lanes; all those values are there, and the target is the caller's to write.
#[inline(always)]
pub(super) unsafe fn transpose<S: Simd>(source: *const f32, pitch: usize, len: usize, target: *mut f32, step: usize) {
    // SAFETY: as the caller promises; vectors of 16 lanes are AVX-512's, of 8 lanes AVX2's.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        match lanes::<S>() {
            16 => return x86::sixteen(source, pitch, len, target, step),
            8 => return x86::eight(source, pitch, len, target, step),
            _ => {}
        }
        for p in 0..len {
            for r in 0..lanes::<S>() {
                target.add(p * step + r).write(source.add(r * pitch + p).read());
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn sixteen(source: *const f32, pitch: usize, len: usize, target: *mut f32, step: usize) {
        let mut p = 0;
        while p < len {
            // SAFETY: 16 rows and columns from `p`, as the caller promises.
            unsafe {
                let mut a = [_mm512_setzero_ps(); 16];
                for r in 0..16 {
                    a[r] = _mm512_loadu_ps(source.add(r * pitch + p));
                }
                let mut b = [_mm512_setzero_ps(); 16];
                for i in 0..8 {
                    b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                    b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
                }
                // Now `a[4 i + k]` holds, in each quarter q, column 4 q + k of rows 4 i to 4 i + 3.
                for i in 0..4 {
                    let (lo, hi) = (_mm512_castps_pd(b[4 * i]), _mm512_castps_pd(b[4 * i + 1]));
                    let (lo2, hi2) = (_mm512_castps_pd(b[4 * i + 2]), _mm512_castps_pd(b[4 * i + 3]));
                    a[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo, lo2));
                    a[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo, lo2));
                    a[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(hi, hi2));
                    a[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(hi, hi2));
                }
                for k in 0..4 {
                    let even = _mm512_shuffle_f32x4::<0x88>(a[k], a[4 + k]);
                    let odd = _mm512_shuffle_f32x4::<0xdd>(a[k], a[4 + k]);
                    let even2 = _mm512_shuffle_f32x4::<0x88>(a[8 + k], a[12 + k]);
                    let odd2 = _mm512_shuffle_f32x4::<0xdd>(a[8 + k], a[12 + k]);
                    let to = target.add((p + k) * step);
                    _mm512_storeu_ps(to, _mm512_shuffle_f32x4::<0x88>(even, even2));
                    _mm512_storeu_ps(to.add(4 * step), _mm512_shuffle_f32x4::<0x88>(odd, odd2));
                    _mm512_storeu_ps(to.add(8 * step), _mm512_shuffle_f32x4::<0xdd>(even, even2));
                    _mm512_storeu_ps(to.add(12 * step), _mm512_shuffle_f32x4::<0xdd>(odd, odd2));
                }
            }
            p += 16;
        }
    }

    #[target_feature(enable = "avx")]
    pub(super) unsafe fn eight(source: *const f32, pitch: usize, len: usize, target: *mut f32, step: usize) {
        let mut p = 0;
        while p < len {
            // SAFETY: 8 rows and columns from `p`, as the caller promises.
            unsafe {
                let mut a = [_mm256_setzero_ps(); 8];
                for r in 0..8 {
                    a[r] = _mm256_loadu_ps(source.add(r * pitch + p));
                }
                let mut b = [_mm256_setzero_ps(); 8];
                for i in 0..4 {
                    b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                    b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
                }
                for i in 0..2 {
                    a[4 * i] = _mm256_shuffle_ps::<0x44>(b[4 * i], b[4 * i + 2]);
                    a[4 * i + 1] = _mm256_shuffle_ps::<0xee>(b[4 * i], b[4 * i + 2]);
                    a[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b[4 * i + 1], b[4 * i + 3]);
                    a[4 * i + 3] = _mm256_shuffle_ps::<0xee>(b[4 * i + 1], b[4 * i + 3]);
                }
                for k in 0..4 {
                    _mm256_storeu_ps(target.add((p + k) * step), _mm256_permute2f128_ps::<0x20>(a[k], a[4 + k]));
                    _mm256_storeu_ps(target.add((p + k + 4) * step), _mm256_permute2f128_ps::<0x31>(a[k], a[4 + k]));
                }
            }
            p += 8;
        }
    }

    #[cfg(test)]
    pub(super) fn available() -> [bool; 2] {
        [is_x86_feature_detected!("avx"), is_x86_feature_detected!("avx512f")]
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn squares_of_both_widths_are_transposed() {
        for (width, available) in [8, 16].into_iter().zip(super::x86::available()) {
            if !available {
                continue;
            }
            let (pitch, len, step) = (3 * width + 5, 2 * width, width + 3);
            let source: Vec<f32> = (0..width * pitch).map(|i| i as f32).collect();
            let mut target = vec![-1f32; len * step];
            // SAFETY: the processor has the instructions; sizes as chosen above.
            unsafe {
                match width {
                    8 => super::x86::eight(source.as_ptr(), pitch, len, target.as_mut_ptr(), step),
                    _ => super::x86::sixteen(source.as_ptr(), pitch, len, target.as_mut_ptr(), step),
                }
            }
            for (i, &value) in target.iter().enumerate() {
                let (p, r) = (i / step, i % step);
                assert_eq!(value, if r < width { (r * pitch + p) as f32 } else { -1.0 }, "{width}: column {p}, row {r}");
            }
        }
    }
}
