//! The accurate integer inverse DCT of libjpeg (`jidctint.c`, "islow"), sixteen blocks side by side.
//!
//! A coefficient of sixteen neighbouring blocks lies in sixteen neighbouring places, put there by the entropy decoder: the transform is plain
//! arithmetic on vectors in both directions and never transposes.

#![allow(clippy::needless_range_loop, reason = "see `crate::simd::widest`: loops over indices are what is compiled to vectors")]

use super::idct_scaled;
use crate::simd::widest;

/// Blocks in a [`Group`].
pub(super) const LANES: usize = 16;

/// Sixteen blocks: coefficient `natural` of block `lane` at `natural * LANES + lane`.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Group(pub(super) [i16; 64 * LANES]);

impl Group {
    pub(super) const ZERO: Self = Self([0; 64 * LANES]);

    /// A coefficient of one block.
    #[inline(always)]
    pub(super) fn at(&mut self, natural: usize, lane: usize) -> &mut i16 {
        &mut self.0[(natural & 63) * LANES + lane % LANES]
    }
}

/// Coefficients times quantisation steps.
pub(super) struct Dequantized<'a> {
    group: &'a Group,
    quant: &'a [u16; 64],
}

impl Dequantized<'_> {
    /// 16-bit products, as the SIMD code of libjpeg-turbo makes them: bounded whatever the file says.
    #[inline(always)]
    pub(super) fn at(&self, natural: usize, lane: usize) -> i32 {
        self.group.0[natural * LANES + lane].wrapping_mul(self.quant[natural] as i16).into()
    }
}

/// Transforms neighbouring groups into `size` rows of samples, `stride` apart, `LANES * size` of each row for a group.
pub(super) fn groups(groups: &[Group], quant: &[u16; 64], size: usize, plane: &mut [u8], stride: usize) {
    widest(
        #[inline(always)]
        || {
            for index in 0..groups.len() {
                let block = Dequantized { group: &groups[index], quant };
                let at = index * LANES * size;
                match size {
                    8 => whole(&block, plane, at, stride),
                    4 => idct_scaled::half(&block, plane, at, stride),
                    2 => idct_scaled::quarter(&block, plane, at, stride),
                    _ => idct_scaled::eighth(&block, plane, at),
                }
            }
        },
    );
}

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

#[inline(always)]
fn whole(block: &Dequantized<'_>, plane: &mut [u8], at: usize, stride: usize) {
    let mut work = [[0i32; LANES]; 64];
    for u in 0..8 {
        for lane in 0..LANES {
            let mut column = [0; 8];
            for v in 0..8 {
                column[v] = block.at(v * 8 + u, lane);
            }
            let column = transform::<{ CONST_BITS - PASS1_BITS }>(column);
            for v in 0..8 {
                work[v * 8 + u][lane] = column[v];
            }
        }
    }
    for y in 0..8 {
        let Some(out) = plane[at + y * stride..].as_chunks_mut::<8>().0.first_chunk_mut::<LANES>() else { return };
        for lane in 0..LANES {
            let mut row = [0; 8];
            for u in 0..8 {
                row[u] = work[y * 8 + u][lane];
            }
            let row = transform::<{ CONST_BITS + PASS1_BITS + 3 }>(row);
            out[lane] =
                (u64::from(four(row[0], row[1], row[2], row[3])) | u64::from(four(row[4], row[5], row[6], row[7])) << 32).to_le_bytes();
        }
    }
}

/// Four samples, the first in the lowest byte.
#[inline(always)]
pub(super) fn four(a: i32, b: i32, c: i32, d: i32) -> u32 {
    sample(a) | sample(b) << 8 | sample(c) << 16 | sample(d) << 24
}

/// From around 0 to around 128.
#[inline(always)]
pub(super) fn sample(value: i32) -> u32 {
    (value.clamp(-128, 127) + 128) as u32
}

/// `value / 2^shift`, rounded.
#[inline(always)]
pub(super) fn descale(value: i32, shift: u32) -> i32 {
    value.wrapping_add(1 << (shift - 1)) >> shift
}

/// A product; wrapping, because only a hostile file overflows and its picture is wrong anyway.
#[inline(always)]
pub(super) fn times(a: i32, b: i32) -> i32 {
    a.wrapping_mul(b)
}

/// One one-dimensional transform, scaled down by `SHIFT` bits with rounding.
#[inline(always)]
fn transform<const SHIFT: u32>(a: [i32; 8]) -> [i32; 8] {
    // Even part.
    let z1 = times(a[2].wrapping_add(a[6]), 4433);
    let t2 = z1.wrapping_sub(times(a[6], 15137));
    let t3 = z1.wrapping_add(times(a[2], 6270));
    let (t0, t1) = (a[0].wrapping_add(a[4]) << CONST_BITS, a[0].wrapping_sub(a[4]) << CONST_BITS);
    let (e0, e3, e1, e2) = (t0.wrapping_add(t3), t0.wrapping_sub(t3), t1.wrapping_add(t2), t1.wrapping_sub(t2));
    // Odd part.
    let (t0, t1, t2, t3) = (a[7], a[5], a[3], a[1]);
    let (z3, z4) = (t0.wrapping_add(t2), t1.wrapping_add(t3));
    let z5 = times(z3.wrapping_add(z4), 9633);
    let (z1, z2) = (times(t0.wrapping_add(t3), -7373), times(t1.wrapping_add(t2), -20995));
    let (z3, z4) = (times(z3, -16069).wrapping_add(z5), times(z4, -3196).wrapping_add(z5));
    let o0 = times(t0, 2446).wrapping_add(z1).wrapping_add(z3);
    let o1 = times(t1, 16819).wrapping_add(z2).wrapping_add(z4);
    let o2 = times(t2, 25172).wrapping_add(z2).wrapping_add(z3);
    let o3 = times(t3, 12299).wrapping_add(z1).wrapping_add(z4);
    [
        descale(e0.wrapping_add(o3), SHIFT),
        descale(e1.wrapping_add(o2), SHIFT),
        descale(e2.wrapping_add(o1), SHIFT),
        descale(e3.wrapping_add(o0), SHIFT),
        descale(e3.wrapping_sub(o0), SHIFT),
        descale(e2.wrapping_sub(o1), SHIFT),
        descale(e1.wrapping_sub(o2), SHIFT),
        descale(e0.wrapping_sub(o3), SHIFT),
    ]
}
