//! The inverse DCTs of libjpeg that give 4×4, 2×2 and 1×1 samples a block (`jidctred.c`): the picture at a half, a quarter, an eighth.

#![allow(clippy::needless_range_loop, reason = "see `crate::simd::widest`: loops over indices are what is compiled to vectors")]

use super::idct::{Dequantized, LANES, descale, four, sample, times};

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// 4×4 samples a block.
#[inline(always)]
pub(super) fn half(block: &Dequantized<'_>, plane: &mut [u8], at: usize, stride: usize) {
    // Column 4 has no part in the second pass.
    const COLUMNS: [usize; 7] = [0, 1, 2, 3, 5, 6, 7];
    let mut work = [[0i32; LANES]; 4 * 7];
    for (index, &u) in COLUMNS.iter().enumerate() {
        for lane in 0..LANES {
            let mut column = [0; 7];
            for (value, v) in column.iter_mut().zip(COLUMNS) {
                *value = block.at(v * 8 + u, lane);
            }
            let column = transform4::<{ CONST_BITS - PASS1_BITS + 1 }>(column);
            for y in 0..4 {
                work[y * 7 + index][lane] = column[y];
            }
        }
    }
    for y in 0..4 {
        let Some(out) = plane[at + y * stride..].as_chunks_mut::<4>().0.first_chunk_mut::<LANES>() else { return };
        for lane in 0..LANES {
            let mut row = [0; 7];
            for u in 0..7 {
                row[u] = work[y * 7 + u][lane];
            }
            let [a, b, c, d] = transform4::<{ CONST_BITS + PASS1_BITS + 3 + 1 }>(row);
            out[lane] = four(a, b, c, d).to_le_bytes();
        }
    }
}

/// Of coefficients 0, 1, 2, 3, 5, 6, 7.
#[inline(always)]
fn transform4<const SHIFT: u32>([a0, a1, a2, a3, a5, a6, a7]: [i32; 7]) -> [i32; 4] {
    let t0 = a0 << (CONST_BITS + 1);
    let t2 = times(a2, 15137).wrapping_add(times(a6, -6270));
    let (e0, e1) = (t0.wrapping_add(t2), t0.wrapping_sub(t2));
    let o0 = times(a7, -1730).wrapping_add(times(a5, 11893)).wrapping_add(times(a3, -17799)).wrapping_add(times(a1, 8697));
    let o2 = times(a7, -4176).wrapping_add(times(a5, -4926)).wrapping_add(times(a3, 7373)).wrapping_add(times(a1, 20995));
    [
        descale(e0.wrapping_add(o2), SHIFT),
        descale(e1.wrapping_add(o0), SHIFT),
        descale(e1.wrapping_sub(o0), SHIFT),
        descale(e0.wrapping_sub(o2), SHIFT),
    ]
}

/// 2×2 samples a block.
#[inline(always)]
pub(super) fn quarter(block: &Dequantized<'_>, plane: &mut [u8], at: usize, stride: usize) {
    // Of the even columns only the first has a part.
    const COLUMNS: [usize; 5] = [0, 1, 3, 5, 7];
    let mut work = [[0i32; LANES]; 2 * 5];
    for (index, &u) in COLUMNS.iter().enumerate() {
        for lane in 0..LANES {
            let mut column = [0; 5];
            for (value, v) in column.iter_mut().zip(COLUMNS) {
                *value = block.at(v * 8 + u, lane);
            }
            let [above, below] = transform2::<{ CONST_BITS - PASS1_BITS + 2 }>(column);
            work[index][lane] = above;
            work[5 + index][lane] = below;
        }
    }
    for y in 0..2 {
        let Some(out) = plane[at + y * stride..].as_chunks_mut::<2>().0.first_chunk_mut::<LANES>() else { return };
        for lane in 0..LANES {
            let mut row = [0; 5];
            for u in 0..5 {
                row[u] = work[y * 5 + u][lane];
            }
            let [left, right] = transform2::<{ CONST_BITS + PASS1_BITS + 3 + 2 }>(row);
            out[lane] = ((sample(left) | sample(right) << 8) as u16).to_le_bytes();
        }
    }
}

/// Of coefficients 0, 1, 3, 5, 7.
#[inline(always)]
fn transform2<const SHIFT: u32>([a0, a1, a3, a5, a7]: [i32; 5]) -> [i32; 2] {
    let even = a0 << (CONST_BITS + 2);
    let odd = times(a7, -5906).wrapping_add(times(a5, 6967)).wrapping_add(times(a3, -10426)).wrapping_add(times(a1, 29692));
    [descale(even.wrapping_add(odd), SHIFT), descale(even.wrapping_sub(odd), SHIFT)]
}

/// One sample a block: its mean.
#[inline(always)]
pub(super) fn eighth(block: &Dequantized<'_>, plane: &mut [u8], at: usize) {
    let Some(out) = plane[at..].first_chunk_mut::<LANES>() else { return };
    for lane in 0..LANES {
        out[lane] = sample(descale(block.at(0, lane), 3)) as u8;
    }
}
