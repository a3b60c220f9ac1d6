//! The accurate integer inverse DCT of libjpeg (`jidctint.c`, "islow"), eight columns, then eight rows at a time.

use std::num::Wrapping;

use crate::simd::widest;

const CONST_BITS: usize = 13;
const PASS1_BITS: usize = 2;

/// Wrapping, because only a hostile file overflows and its picture is wrong anyway.
type Lanes = [Wrapping<i32>; 8];

/// Transforms a row of blocks (64 coefficients each, natural order) into 8 rows of samples.
pub(super) fn block_row(coefficients: &[i16], quant: &[u16; 64], plane: &mut [u8]) {
    widest(
        #[inline(always)]
        || {
            let stride = plane.len() / 8;
            for (index, block) in coefficients.as_chunks::<64>().0.iter().enumerate() {
                let samples = transform(block, quant);
                for (y, row) in samples.iter().enumerate() {
                    plane[y * stride + index * 8..][..8].copy_from_slice(row);
                }
            }
        },
    );
}

#[inline(always)]
fn transform(block: &[i16; 64], quant: &[u16; 64]) -> [[u8; 8]; 8] {
    if block[1..].iter().fold(0, |any, &coefficient| any | coefficient) == 0 {
        let dc = i32::from(block[0].wrapping_mul(quant[0] as i16));
        return [[sample(Wrapping((dc + 4) >> 3)); 8]; 8];
    }
    let mut columns = [[Wrapping(0); 8]; 8];
    for v in 0..8 {
        for u in 0..8 {
            // 16-bit products, as the SIMD code of libjpeg-turbo makes them: bounded whatever the file says.
            columns[v][u] = Wrapping(block[v * 8 + u].wrapping_mul(quant[v * 8 + u] as i16).into());
        }
    }
    let rows = transpose(&pass::<{ CONST_BITS - PASS1_BITS }>(&columns));
    let samples = pass::<{ CONST_BITS + PASS1_BITS + 3 }>(&rows);
    let mut out = [[0; 8]; 8];
    for y in 0..8 {
        for x in 0..8 {
            out[y][x] = sample(samples[x][y]);
        }
    }
    out
}

#[inline(always)]
fn sample(value: Wrapping<i32>) -> u8 {
    value.0.saturating_add(128).clamp(0, 255) as u8
}

#[inline(always)]
fn transpose(a: &[Lanes; 8]) -> [Lanes; 8] {
    let mut out = [[Wrapping(0); 8]; 8];
    for y in 0..8 {
        for x in 0..8 {
            out[x][y] = a[y][x];
        }
    }
    out
}

/// Eight one-dimensional transforms side by side, scaled down by `SHIFT` bits with rounding.
#[inline(always)]
fn pass<const SHIFT: usize>(a: &[Lanes; 8]) -> [Lanes; 8] {
    let w = Wrapping::<i32>;
    let mut out = [[w(0); 8]; 8];
    for i in 0..8 {
        // Even part.
        let z1 = (a[2][i] + a[6][i]) * w(4433);
        let t2 = z1 - a[6][i] * w(15137);
        let t3 = z1 + a[2][i] * w(6270);
        let t0 = (a[0][i] + a[4][i]) << CONST_BITS;
        let t1 = (a[0][i] - a[4][i]) << CONST_BITS;
        let (e0, e3, e1, e2) = (t0 + t3, t0 - t3, t1 + t2, t1 - t2);
        // Odd part.
        let (t0, t1, t2, t3) = (a[7][i], a[5][i], a[3][i], a[1][i]);
        let z5 = (t0 + t2 + t1 + t3) * w(9633);
        let (z1, z2) = ((t0 + t3) * w(-7373), (t1 + t2) * w(-20995));
        let (z3, z4) = ((t0 + t2) * w(-16069) + z5, (t1 + t3) * w(-3196) + z5);
        let o0 = t0 * w(2446) + z1 + z3;
        let o1 = t1 * w(16819) + z2 + z4;
        let o2 = t2 * w(25172) + z2 + z3;
        let o3 = t3 * w(12299) + z1 + z4;
        let half = w(1 << (SHIFT - 1));
        out[0][i] = (e0 + o3 + half) >> SHIFT;
        out[7][i] = (e0 - o3 + half) >> SHIFT;
        out[1][i] = (e1 + o2 + half) >> SHIFT;
        out[6][i] = (e1 - o2 + half) >> SHIFT;
        out[2][i] = (e2 + o1 + half) >> SHIFT;
        out[5][i] = (e2 - o1 + half) >> SHIFT;
        out[3][i] = (e3 + o0 + half) >> SHIFT;
        out[4][i] = (e3 - o0 + half) >> SHIFT;
    }
    out
}
