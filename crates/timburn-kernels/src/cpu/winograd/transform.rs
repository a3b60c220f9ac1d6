//! The transforms of input, weights and output, and the way from planes to blocks of channels and back.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};

use super::super::buffer::Scratch;
use super::super::element::{Element, copy};
use super::super::tile::{Lanes, MAX_LANES, lanes, splat};
use super::super::transpose::transpose;
use super::super::window::Source;
use super::{Part, segments};

/// The points of tiles of 4 are 0, ±`NEAR`, ±`FAR` and infinity. With the usual 1 and 2 errors are two to five times larger: powers of 2 up
/// to the fifth are added there. Their products up to the fourth are f32 exactly.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;
/// What a weight's powers of a point are divided by: the product of the point's distances to the other ones.
const ZERO_WEIGHT: f32 = 1.0 / (NEAR * NEAR * FAR * FAR);
const NEAR_WEIGHTS: [f32; 3] = weights(NEAR, FAR);
const FAR_WEIGHTS: [f32; 3] = weights(FAR, NEAR);

const fn weights(point: f32, other: f32) -> [f32; 3] {
    let distances = 2.0 * point * point * (point * point - other * other);
    [1.0 / distances, point / distances, point * point / distances]
}

/// Transforms a block of channels of some of a part's rows of tiles: squares of `D` pixels, `O` apart, to `I`×`I` points. The input's
/// squares are as large as the points are many, the output's as large as a tile.
pub(super) struct Gather<'a, T, const O: usize, const I: usize, const D: usize> {
    pub(super) source: Source<'a, T>,
    /// Zeros before the first row and column.
    pub(super) before: [usize; 2],
    /// Rows and columns of tiles of an image.
    pub(super) size: [usize; 2],
    pub(super) part: &'a Part,
    pub(super) block: usize,
    pub(super) rows: Range<usize>,
}

impl<T: Element, const O: usize, const I: usize, const D: usize> WithSimd for Gather<'_, T, O, I, D> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { source, before, size, part, block, rows } = self;
        let (height, width) = (source.height, source.width);
        let most = (rows.len().min(size[0]) * O + D - O).min(height) * width;
        let mut scratch = Scratch::new(most.max(lanes::<S>()) * lanes::<S>());
        let pixels = scratch.values();
        let mut tile = (rows.start - part.rows.start) * size[1];
        for (image, first, count) in segments(rows, size[0]) {
            // The rows of pixels that these tiles see.
            let bottom = ((first + count) * O + D - O - before[0]).min(height);
            let top = (first * O).saturating_sub(before[0]).min(bottom);
            let plane =
                &source.values[(image * source.channels + block * lanes::<S>()) * height * width..][..lanes::<S>() * height * width];
            // SAFETY: as many planes as lanes, and room for `most` pixels.
            unsafe { blocked::<S, T>(plane.as_ptr().add(top * width), height * width, (bottom - top) * width, pixels.as_mut_ptr()) };
            for row in first..first + count {
                for column in 0..size[1] {
                    let (y, x) = ((row * O) as isize - before[0] as isize, (column * O) as isize - before[1] as isize);
                    let inside = y >= 0 && x >= 0 && y as usize + D <= height && x as usize + D <= width;
                    // SAFETY: pixels inside the map were copied just above, from row `top` on; this block's part of each point's values
                    // is this call's to write.
                    unsafe {
                        let mut d = [[splat::<S>(0.0); D]; D];
                        if inside {
                            let from = pixels.as_ptr().add(((y as usize - top) * width + x as usize) * lanes::<S>());
                            for j in 0..D {
                                for i in 0..D {
                                    d[j][i] = vload_unaligned(from.add((i * width + j) * lanes::<S>()));
                                }
                            }
                        } else {
                            for j in 0..D {
                                let x = x + j as isize;
                                if x < 0 || x >= width as isize {
                                    continue;
                                }
                                for i in 0..D {
                                    let y = y + i as isize;
                                    if y >= 0 && y < height as isize {
                                        let at = (y as usize - top) * width + x as usize;
                                        d[j][i] = vload_unaligned(pixels.as_ptr().add(at * lanes::<S>()));
                                    }
                                }
                            }
                        }
                        let mut lines = [[splat::<S>(0.0); D]; I];
                        for j in 0..D {
                            let line = points::<S, O, I, D>(d[j]);
                            for i in 0..I {
                                lines[i][j] = line[i];
                            }
                        }
                        let to = part.values.at((block * part.tiles + tile) * lanes::<S>());
                        for i in 0..I {
                            let line = points::<S, O, I, D>(lines[i]);
                            for j in 0..I {
                                vstore_unaligned(to.add((i * I + j) * part.point), line[j]);
                            }
                        }
                    }
                    tile += 1;
                }
            }
        }
    }
}

/// `to[p · lanes + r] = from[r · pitch + p]` for `len` pixels `p` of as many planes `r` as a vector has lanes.
///
/// # Safety
/// Those values are there; `to` has room for `len` vectors and for as many as a vector has lanes.
#[inline(always)]
pub(super) unsafe fn blocked<S: Simd, T: Element>(from: *const T, pitch: usize, len: usize, to: *mut f32) {
    let step = lanes::<S>();
    // SAFETY: all squares lie within `len`, the last overlaps the one before; shorter rows are copied to a square first.
    unsafe {
        if len < step {
            let mut square = [0f32; MAX_LANES * MAX_LANES];
            for r in 0..step {
                copy::<S, T, f32>(from.add(r * pitch), square.as_mut_ptr().add(r * step), len);
            }
            transpose::<S, f32, f32>(square.as_ptr(), step, step, to, step);
            return;
        }
        transpose::<S, T, f32>(from, pitch, len / step * step, to, step);
        if !len.is_multiple_of(step) {
            transpose::<S, T, f32>(from.add(len - step), pitch, step, to.add((len - step) * step), step);
        }
    }
}

/// `to[r · pitch + p] = from[p · lanes + r]`: back again.
///
/// # Safety
/// As [`blocked`]; `from` holds at least as many vectors as a vector has lanes.
#[inline(always)]
pub(super) unsafe fn planar<S: Simd, T: Element>(from: *const f32, len: usize, to: *mut T, pitch: usize) {
    let step = lanes::<S>();
    // SAFETY: as above.
    unsafe {
        if len < step {
            let mut square = [0f32; MAX_LANES * MAX_LANES];
            transpose::<S, f32, f32>(from, step, step, square.as_mut_ptr(), step);
            for r in 0..step {
                copy::<S, f32, T>(square.as_ptr().add(r * step), to.add(r * pitch), len);
            }
            return;
        }
        let mut at = 0;
        while at + step < len {
            transpose::<S, f32, T>(from.add(at * step), step, step, to.add(at), pitch);
            at += step;
        }
        let at = len - step;
        transpose::<S, f32, T>(from.add(at * step), step, step, to.add(at), pitch);
    }
}

/// Rows of the transform of a square of `D`, times a column.
#[inline(always)]
fn points<S: Simd, const O: usize, const I: usize, const D: usize>(d: [Lanes<S>; D]) -> [Lanes<S>; I] {
    let mut t = [splat::<S>(0.0); I];
    t[..D].copy_from_slice(&d);
    if D == I { input::<S, I>(t) } else { slope::<S, I>(t) }
}

/// Rows of the input's transform, times a column.
#[inline(always)]
pub(super) fn input<S: Simd, const I: usize>(d: [Lanes<S>; I]) -> [Lanes<S>; I] {
    let mut t = d;
    if I == 4 {
        t[0] = d[0] - d[2];
        t[1] = d[1] + d[2];
        t[2] = d[2] - d[1];
        t[3] = d[1] - d[3];
    } else {
        let (sum, product) = (splat::<S>(-(NEAR * NEAR + FAR * FAR)), splat::<S>(NEAR * NEAR * FAR * FAR));
        let (near2, far2) = (splat::<S>(-NEAR * NEAR), splat::<S>(-FAR * FAR));
        let (even, odd) = (f32::vmul_add(far2, d[2], d[4]), splat::<S>(NEAR) * f32::vmul_add(far2, d[1], d[3]));
        let (more_even, more_odd) = (f32::vmul_add(near2, d[2], d[4]), splat::<S>(FAR) * f32::vmul_add(near2, d[1], d[3]));
        t[0] = f32::vmul_add(product, d[0], f32::vmul_add(sum, d[2], d[4]));
        t[1] = even + odd;
        t[2] = even - odd;
        t[3] = more_even + more_odd;
        t[4] = more_even - more_odd;
        t[5] = f32::vmul_add(product, d[1], f32::vmul_add(sum, d[3], d[5]));
    }
    t
}

#[inline(always)]
fn splats<S: Simd>([a, b, c]: [f32; 3]) -> [Lanes<S>; 3] {
    [splat::<S>(a), splat::<S>(b), splat::<S>(c)]
}

/// Rows of the weights' transform, times a column.
#[inline(always)]
pub(super) fn kernel<S: Simd, const I: usize>(g: [Lanes<S>; 3]) -> [Lanes<S>; I] {
    let mut t = [g[0]; I];
    if I == 4 {
        let half = splat::<S>(0.5);
        let (ends, middle) = (half * (g[0] + g[2]), half * g[1]);
        t[1] = ends + middle;
        t[2] = ends - middle;
        t[3] = g[2];
    } else {
        let (near, far) = (splats::<S>(NEAR_WEIGHTS), splats::<S>(FAR_WEIGHTS));
        let (even, odd) = (f32::vmul_add(near[2], g[2], near[0] * g[0]), near[1] * g[1]);
        let (more_even, more_odd) = (f32::vmul_add(far[2], g[2], far[0] * g[0]), far[1] * g[1]);
        t[0] = splat::<S>(ZERO_WEIGHT) * g[0];
        t[1] = even + odd;
        t[2] = even - odd;
        t[3] = more_even + more_odd;
        t[4] = more_even - more_odd;
        t[5] = g[2];
    }
    t
}

/// Rows of the output's transform, times a column.
#[inline(always)]
pub(super) fn output<S: Simd, const O: usize, const I: usize>(m: [Lanes<S>; I]) -> [Lanes<S>; O] {
    let mut y = [m[0]; O];
    if O == 2 {
        y[0] = (m[0] + m[1]) + m[2];
        y[1] = (m[1] - m[2]) - m[3];
    } else {
        let (sum, difference, more_sum, more_difference) = (m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]);
        y[0] = (m[0] + sum) + more_sum;
        y[1] = f32::vmul_add(splat::<S>(FAR), more_difference, splat::<S>(NEAR) * difference);
        y[2] = f32::vmul_add(splat::<S>(FAR * FAR), more_sum, splat::<S>(NEAR * NEAR) * sum);
        let cubes = (splat::<S>(NEAR * NEAR * NEAR), splat::<S>(FAR * FAR * FAR));
        y[3] = f32::vmul_add(cubes.1, more_difference, f32::vmul_add(cubes.0, difference, m[I - 1]));
    }
    y
}

/// Columns of the output's transform, times a column: the transform of the output's gradient, of which `y` holds the first values.
#[inline(always)]
fn slope<S: Simd, const I: usize>(y: [Lanes<S>; I]) -> [Lanes<S>; I] {
    let mut t = y;
    if I == 4 {
        t[1] = y[0] + y[1];
        t[2] = y[0] - y[1];
        t[3] = splat::<S>(0.0) - y[1];
    } else {
        let (near, far) = (splat::<S>(NEAR), splat::<S>(FAR));
        let (near2, far2) = (splat::<S>(NEAR * NEAR), splat::<S>(FAR * FAR));
        let (even, odd) = (f32::vmul_add(near2, y[2], y[0]), near * f32::vmul_add(near2, y[3], y[1]));
        let (more_even, more_odd) = (f32::vmul_add(far2, y[2], y[0]), far * f32::vmul_add(far2, y[3], y[1]));
        t[1] = even + odd;
        t[2] = even - odd;
        t[3] = more_even + more_odd;
        t[4] = more_even - more_odd;
        t[5] = y[3];
    }
    t
}

/// Columns of the weights' transform, times a column: from points to the weights' gradient.
#[inline(always)]
pub(super) fn taps<S: Simd, const I: usize>(t: [Lanes<S>; I]) -> [Lanes<S>; 3] {
    let (sum, difference) = (t[1] + t[2], t[1] - t[2]);
    if I == 4 {
        let half = splat::<S>(0.5);
        return [f32::vmul_add(half, sum, t[0]), half * difference, f32::vmul_add(half, sum, t[3])];
    }
    let (more_sum, more_difference) = (t[3] + t[I - 2], t[3] - t[I - 2]);
    let (near, far) = (splats::<S>(NEAR_WEIGHTS), splats::<S>(FAR_WEIGHTS));
    [
        f32::vmul_add(splat::<S>(ZERO_WEIGHT), t[0], f32::vmul_add(near[0], sum, far[0] * more_sum)),
        f32::vmul_add(near[1], difference, far[1] * more_difference),
        f32::vmul_add(near[2], sum, f32::vmul_add(far[2], more_sum, t[I - 1])),
    ]
}
