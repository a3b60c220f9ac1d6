//! How tensors are stored: as f32, or as bf16 that is computed in f32 and rounded when it is stored.

use std::any::TypeId;

use half::bf16;
use macerator::{Simd, WithSimd, vload_unaligned, vstore_unaligned};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::tile::{Lanes, MAX_LANES, copy_exact, lanes};

/// A type of stored values: `f32` or [`bf16`]. All bytes are values, zero bytes are zero; none is larger than an f32.
pub(crate) trait Element: Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Rounded to the nearest value, ties to even.
    fn from_f32(value: f32) -> Self;

    /// Exact.
    fn to_f32(self) -> f32;

    /// The same value in another type, rounded if need be.
    #[inline(always)]
    fn into_element<U: Element>(self) -> U {
        if TypeId::of::<Self>() == TypeId::of::<U>() {
            // SAFETY: the same type.
            return unsafe { std::mem::transmute_copy(&self) };
        }
        U::from_f32(self.to_f32())
    }

    /// A vector of values.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load<S: Simd>(at: *const Self) -> Lanes<S>;

    /// Rounds as [`from_f32`](Self::from_f32).
    ///
    /// # Safety
    /// There is room for them.
    unsafe fn store<S: Simd>(at: *mut Self, values: Lanes<S>);
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const Self) -> Lanes<S> {
        // SAFETY: as the caller promises.
        unsafe { vload_unaligned(at) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(at: *mut Self, values: Lanes<S>) {
        // SAFETY: as the caller promises.
        unsafe { vstore_unaligned(at, values) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = if value.is_nan() { bits | 0x40_0000 } else { bits + 0x7fff + (bits >> 16 & 1) };
        Self::from_bits((rounded >> 16) as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const Self) -> Lanes<S> {
        // SAFETY: as the caller promises; vectors of 16 lanes are AVX-512's, whose instructions the caller is compiled for.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if lanes::<S>() == 16 {
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())));
                return S::typed(std::mem::transmute_copy(&wide));
            }
            let mut values = [0f32; MAX_LANES];
            for (lane, value) in values.iter_mut().enumerate().take(lanes::<S>()) {
                *value = Element::to_f32(at.add(lane).read());
            }
            vload_unaligned(values.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(at: *mut Self, values: Lanes<S>) {
        // SAFETY: as above.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if lanes::<S>() == 16 {
                _mm256_storeu_si256(at.cast(), rounded(std::mem::transmute_copy(&*values)));
                return;
            }
            let mut wide = [0f32; MAX_LANES];
            vstore_unaligned(wide.as_mut_ptr(), values);
            for (lane, &value) in wide.iter().enumerate().take(lanes::<S>()) {
                at.add(lane).write(Element::from_f32(value));
            }
        }
    }
}

/// The nearest bf16 to each of 16 values. The instruction that rounds belongs to AVX512-BF16, which the callers are not compiled for.
///
/// # Safety
/// The caller is compiled for AVX-512.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn rounded(value: __m512) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let bits = _mm512_castps_si512(value);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
        let rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000));
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded))
    }
}

/// Scratch as values of any type, of any content.
pub(crate) fn cast<T: Element>(scratch: &mut [f32]) -> &mut [T] {
    const { assert!(size_of::<T>() <= size_of::<f32>() && align_of::<T>() <= align_of::<f32>()) };
    let len = size_of_val(scratch) / size_of::<T>();
    // SAFETY: the same memory, borrowed for as long; all bytes are values of both types.
    unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), len) }
}

/// Copies `len` values, rounded up to whole vectors.
///
/// # Safety
/// Source and target have room for the rounded length.
#[inline(always)]
pub(super) unsafe fn copy_rounded_up<S: Simd, T: Element, U: Element>(source: *const T, target: *mut U, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` is below the rounded length.
        unsafe { move_vector::<S, T, U>(source.add(at), target.add(at)) };
        at += lanes::<S>();
    }
}

/// Copies exactly `len` values, short runs without a call.
///
/// # Safety
/// Source and target hold `len` values and do not overlap.
#[inline(always)]
pub(super) unsafe fn copy<S: Simd, T: Element, U: Element>(source: *const T, target: *mut U, len: usize) {
    // SAFETY: every part lies within `len`; the last overlaps the one before.
    unsafe {
        if TypeId::of::<T>() == TypeId::of::<f32>() && TypeId::of::<U>() == TypeId::of::<f32>() {
            copy_exact::<S>(source.cast(), target.cast(), len);
        } else if len >= lanes::<S>() {
            let last = len - lanes::<S>();
            let mut at = 0;
            while at < last {
                move_vector::<S, T, U>(source.add(at), target.add(at));
                at += lanes::<S>();
            }
            move_vector::<S, T, U>(source.add(last), target.add(last));
        } else {
            for at in 0..len {
                target.add(at).write(source.add(at).read().into_element());
            }
        }
    }
}

/// # Safety
/// Source and target hold as many values as a vector has lanes.
#[inline(always)]
unsafe fn move_vector<S: Simd, T: Element, U: Element>(source: *const T, target: *mut U) {
    // SAFETY: as the caller promises.
    unsafe {
        if TypeId::of::<T>() != TypeId::of::<U>() {
            U::store::<S>(target, T::load::<S>(source));
            return;
        }
        let target = target.cast::<T>();
        match lanes::<S>() {
            16 => target.cast::<[T; 16]>().write_unaligned(source.cast::<[T; 16]>().read_unaligned()),
            8 => target.cast::<[T; 8]>().write_unaligned(source.cast::<[T; 8]>().read_unaligned()),
            lanes => std::ptr::copy_nonoverlapping(source, target, lanes),
        }
    }
}

/// Writes values to room for as many, the maker's to write.
pub(super) struct Convert<'a, T, U> {
    pub(super) values: &'a [T],
    pub(super) to: *mut U,
}

impl<T: Element, U: Element> WithSimd for Convert<'_, T, U> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let (from, len) = (self.values.as_ptr(), self.values.len());
        let mut at = 0;
        // SAFETY: within the length of both.
        unsafe {
            while at + lanes::<S>() <= len {
                U::store::<S>(self.to.add(at), T::load::<S>(from.add(at)));
                at += lanes::<S>();
            }
            while at < len {
                self.to.add(at).write(U::from_f32(from.add(at).read().to_f32()));
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::AutoArch;

    fn converted<T: Element, U: Element>(values: &[T]) -> Vec<U> {
        let mut output = vec![U::default(); values.len()];
        AutoArch::new().dispatch(Convert { values, to: output.as_mut_ptr() });
        output
    }

    #[test]
    fn vectors_round_as_the_library_does() {
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-40, 1.0 + 1.0 / 256.0];
        let bits = (0..4096u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        let values: Vec<f32> = special.into_iter().chain(bits).chain([f32::from_bits(0x7f80_0001), f32::from_bits(0x3f80_8000)]).collect();
        let rounded: Vec<bf16> = converted(&values);
        for (&value, &found) in values.iter().zip(rounded.iter()) {
            assert_eq!(found.to_bits(), bf16::from_f32(value).to_bits(), "{value:e}");
            assert_eq!(<bf16 as Element>::from_f32(value).to_bits(), found.to_bits(), "{value:e}");
        }
        let back: Vec<f32> = converted(&rounded);
        assert!(back.iter().zip(rounded.iter()).all(|(back, value)| back.to_bits() == value.to_f32().to_bits()));
    }
}
