//! How activations and weights are stored: as f32, or as bf16 whose products are summed in f32.

use half::bf16;
use macerator::{Simd, WithSimd, vload_unaligned, vstore_unaligned};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::buffer::Plain;
use super::tile::{self, Run};
use super::tile_bf16;
use crate::cpu::tile::{Lanes, MAX_LANES, lanes};
use crate::level::AutoArch;

/// A type that activations and weights are stored as: `f32` or [`bf16`].
#[allow(private_bounds, reason = "nobody else can add a type")]
pub trait Element: Product<Self> + Product<f32> {}

impl Element for f32 {}
impl Element for bf16 {}

/// Conversions. All bytes are values, zero bytes are zero.
pub(super) trait Stored: Plain + Default + PartialEq + std::fmt::Debug {
    /// Consecutive input channels that one instruction multiplies, for each output.
    const GROUP: usize;
    /// Whether sums that are not complete can be kept as this type.
    const KEEPS_SUMS: bool;

    /// Whether this machine has the kernels.
    fn supported() -> bool;

    /// Rounded to the nearest value, ties to even.
    fn from_f32(value: f32) -> Self;

    /// Exact.
    fn to_f32(self) -> f32;

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

    /// Rounds a slice into another of the same length.
    fn round(source: &[f32], target: &mut [Self]);
}

/// A type whose products with itself are summed, in f32, and stored as `O`.
pub(super) trait Product<O>: Stored {
    /// The kernel for tiles of `rows` by `columns` pixels and so on; see [`tile::kernel`].
    fn kernel(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run<Self, O>>;
}

impl Stored for f32 {
    const GROUP: usize = 1;
    const KEEPS_SUMS: bool = true;

    fn supported() -> bool {
        true
    }

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

    fn round(source: &[f32], target: &mut [Self]) {
        target.copy_from_slice(source);
    }
}

impl Product<f32> for f32 {
    fn kernel(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run<Self, f32>> {
        tile::kernel(rows, columns, blocks, stride, planar)
    }
}

impl Stored for bf16 {
    const GROUP: usize = 2;
    const KEEPS_SUMS: bool = false;

    fn supported() -> bool {
        tile_bf16::supported()
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
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
                *value = at.add(lane).read().to_f32();
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
                // The instruction that rounds belongs to AVX512-BF16, which the caller is not compiled for.
                let bits: __m512i = std::mem::transmute_copy(&*values);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let value = _mm512_castsi512_ps(bits);
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
                let rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000));
                _mm256_storeu_si256(at.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
                return;
            }
            let mut wide = [0f32; MAX_LANES];
            vstore_unaligned(wide.as_mut_ptr(), values);
            for (lane, &value) in wide.iter().enumerate().take(lanes::<S>()) {
                at.add(lane).write(Self::from_f32(value));
            }
        }
    }

    fn round(source: &[f32], target: &mut [Self]) {
        assert_eq!(source.len(), target.len(), "slices of different lengths");
        AutoArch::new().dispatch(Round(source, target));
    }
}

struct Round<'a>(&'a [f32], &'a mut [bf16]);

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let (source, target) = (self.0, self.1);
        let mut at = 0;
        while at + lanes::<S>() <= source.len() {
            // SAFETY: a vector of both slices, which are equally long.
            unsafe { bf16::store::<S>(target.as_mut_ptr().add(at), vload_unaligned(source.as_ptr().add(at))) };
            at += lanes::<S>();
        }
        for (target, &value) in target.iter_mut().zip(source).skip(at) {
            *target = bf16::from_f32(value);
        }
    }
}

impl Product<bf16> for bf16 {
    fn kernel(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run<Self, bf16>> {
        tile_bf16::kernel(rows, columns, blocks, stride, planar)
    }
}

impl Product<f32> for bf16 {
    fn kernel(rows: usize, columns: usize, blocks: usize, stride: usize, planar: bool) -> Option<Run<Self, f32>> {
        tile_bf16::kernel(rows, columns, blocks, stride, planar)
    }
}
