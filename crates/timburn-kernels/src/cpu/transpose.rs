//! Rows to columns, a square of a vector's width at a time.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use macerator::Simd;

use super::element::Element;
use super::tile::lanes;

/// `target[p · step + r] = source[r · pitch + p]` for as many rows `r` as a vector has lanes and `len` columns `p`.
///
/// # Safety
/// `len` is a multiple of the lanes; all those values are there, and the target is the caller's to write.
#[inline(always)]
pub(super) unsafe fn transpose<S: Simd, T: Element, U: Element>(source: *const T, pitch: usize, len: usize, target: *mut U, step: usize) {
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
                target.add(p * step + r).write(source.add(r * pitch + p).read().into_element());
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::Element;

    /// # Safety
    /// 16 values are there.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn get<T: Element>(at: *const T) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe {
            if size_of::<T>() == size_of::<f32>() {
                return _mm512_loadu_ps(at.cast());
            }
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()))))
        }
    }

    /// # Safety
    /// There is room for 16 values.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn put<T: Element>(at: *mut T, values: __m512) {
        // SAFETY: as the caller promises.
        unsafe {
            if size_of::<T>() == size_of::<f32>() {
                return _mm512_storeu_ps(at.cast(), values);
            }
            _mm256_storeu_si256(at.cast(), crate::cpu::element::rounded(values));
        }
    }

    /// # Safety
    /// 8 values are there.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn get8<T: Element>(at: *const T) -> __m256 {
        // SAFETY: as the caller promises.
        unsafe {
            if size_of::<T>() == size_of::<f32>() {
                return _mm256_loadu_ps(at.cast());
            }
            let mut values = [0f32; 8];
            for i in 0..8 {
                values[i] = at.add(i).read().to_f32();
            }
            _mm256_loadu_ps(values.as_ptr())
        }
    }

    /// # Safety
    /// There is room for 8 values.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn put8<T: Element>(at: *mut T, values: __m256) {
        // SAFETY: as the caller promises.
        unsafe {
            if size_of::<T>() == size_of::<f32>() {
                return _mm256_storeu_ps(at.cast(), values);
            }
            let mut wide = [0f32; 8];
            _mm256_storeu_ps(wide.as_mut_ptr(), values);
            for i in 0..8 {
                at.add(i).write(T::from_f32(wide[i]));
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn sixteen<T: Element, U: Element>(source: *const T, pitch: usize, len: usize, target: *mut U, step: usize) {
        let mut p = 0;
        while p < len {
            // SAFETY: 16 rows and columns from `p`, as the caller promises.
            unsafe {
                let mut a = [_mm512_setzero_ps(); 16];
                for r in 0..16 {
                    a[r] = get(source.add(r * pitch + p));
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
                    put(to, _mm512_shuffle_f32x4::<0x88>(even, even2));
                    put(to.add(4 * step), _mm512_shuffle_f32x4::<0x88>(odd, odd2));
                    put(to.add(8 * step), _mm512_shuffle_f32x4::<0xdd>(even, even2));
                    put(to.add(12 * step), _mm512_shuffle_f32x4::<0xdd>(odd, odd2));
                }
            }
            p += 16;
        }
    }

    #[target_feature(enable = "avx")]
    pub(in crate::cpu) unsafe fn eight<T: Element, U: Element>(source: *const T, pitch: usize, len: usize, target: *mut U, step: usize) {
        let mut p = 0;
        while p < len {
            // SAFETY: 8 rows and columns from `p`, as the caller promises.
            unsafe {
                let mut a = [_mm256_setzero_ps(); 8];
                for r in 0..8 {
                    a[r] = get8(source.add(r * pitch + p));
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
                    put8(target.add((p + k) * step), _mm256_permute2f128_ps::<0x20>(a[k], a[4 + k]));
                    put8(target.add((p + k + 4) * step), _mm256_permute2f128_ps::<0x31>(a[k], a[4 + k]));
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
