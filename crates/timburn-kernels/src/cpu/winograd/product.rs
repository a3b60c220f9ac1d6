//! Transformed weights times transformed input, point by point, and the output's transform.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};

use super::super::buffer::Scratch;
use super::super::element::Element;
use super::super::tile::{MAX_LANES, lanes, many_registers, splat};
use super::super::transpose::transpose;
use super::transform::{kernel, output, planar};
use super::{Part, Plan, TAPS, segments};
use crate::level::AutoArch;

/// Transforms a group's weights for a chunk of input channels: `[points][chunk][vectors][lanes]`.
pub(super) struct Pack<'a, T, const O: usize, const I: usize> {
    pub(super) plan: &'a Plan<'a, T, O, I>,
    pub(super) group: usize,
    /// A multiple of [`MAX_LANES`] channels.
    pub(super) chunk: Range<usize>,
    /// Room for these weights, the maker's to write.
    pub(super) to: *mut f32,
}

impl<T: Element, const O: usize, const I: usize> WithSimd for Pack<'_, T, O, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { plan, group, chunk, to } = self;
        let (job, width) = (plan.job, plan.vectors * lanes::<S>());
        let inputs = job.source.channels;
        let point = chunk.len() * width;
        let mut taps = [0f32; TAPS * MAX_LANES * MAX_LANES];
        let mut near = [0f32; (TAPS + 1) * MAX_LANES];
        for n in 0..plan.vectors {
            let first = group * width + n * lanes::<S>();
            for some in (0..chunk.len()).step_by(MAX_LANES) {
                if !job.transposed {
                    let from = &job.weight[(first * inputs + chunk.start + some) * TAPS..]
                        [..(lanes::<S>() - 1) * inputs * TAPS + MAX_LANES * TAPS];
                    // SAFETY: cut to hold as many rows as lanes; `taps` has room for as many vectors as a row has values.
                    unsafe { transpose::<S, f32, f32>(from.as_ptr(), inputs * TAPS, MAX_LANES * TAPS, taps.as_mut_ptr(), lanes::<S>()) };
                }
                for d in 0..MAX_LANES {
                    let mut k = [[splat::<S>(0.0); 3]; 3];
                    if job.transposed {
                        let at = ((chunk.start + some + d) * job.outputs + first) * TAPS;
                        near[..lanes::<S>() * TAPS].copy_from_slice(&job.weight[at..at + lanes::<S>() * TAPS]);
                        // SAFETY: rows of 9 values of which up to 16 are read: `near` is that much longer.
                        unsafe {
                            transpose::<S, f32, f32>(
                                near.as_ptr(),
                                TAPS,
                                TAPS.next_multiple_of(lanes::<S>()),
                                taps.as_mut_ptr(),
                                lanes::<S>(),
                            );
                        }
                    }
                    for j in 0..3 {
                        for i in 0..3 {
                            let tap = if job.transposed { TAPS - 1 - (i * 3 + j) } else { d * TAPS + i * 3 + j };
                            // SAFETY: transposed just above.
                            k[j][i] = unsafe { vload_unaligned(taps.as_ptr().add(tap * lanes::<S>())) };
                        }
                    }
                    let mut lines = [[splat::<S>(0.0); 3]; I];
                    for j in 0..3 {
                        let line = kernel::<S, I>(k[j]);
                        for i in 0..I {
                            lines[i][j] = line[i];
                        }
                    }
                    // SAFETY: this channel's and vector's place at each point.
                    unsafe {
                        let to = to.add((some + d) * width + n * lanes::<S>());
                        for i in 0..I {
                            let line = kernel::<S, I>(lines[i]);
                            for j in 0..I {
                                vstore_unaligned(to.add((i * I + j) * point), line[j]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Computes a group of output channels of some of a part's rows of tiles.
pub(super) struct Product<'a, T, const O: usize, const I: usize> {
    pub(super) plan: &'a Plan<'a, T, O, I>,
    pub(super) part: &'a Part,
    pub(super) group: usize,
    pub(super) rows: Range<usize>,
    /// The group's weights, if they are transformed already.
    pub(super) weights: Option<&'a [f32]>,
}

impl<T: Element, const O: usize, const I: usize> WithSimd for Product<'_, T, O, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        if self.plan.vectors == 2 {
            self.run::<S, 2>();
        } else {
            self.run::<S, 1>();
        }
    }
}

impl<T: Element, const O: usize, const I: usize> Product<'_, T, O, I> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self) {
        let (plan, part, width) = (self.plan, self.part, N * lanes::<S>());
        let tiles = self.rows.len() * plan.size[1];
        let skipped = (self.rows.start - part.rows.start) * plan.size[1] * lanes::<S>();
        // A line more, lest all points start in the same set of the cache.
        let point = tiles * width + MAX_LANES;
        let deepest = if self.weights.is_some() { 0 } else { super::CHUNK.min(plan.job.source.channels) };
        let mut scratch = Scratch::new(I * I * point + plan.weights(deepest));
        let (sums, packed) = scratch.values().split_at_mut(I * I * point);
        for chunk in plan.chunks() {
            let weights = match self.weights {
                Some(weights) => weights[plan.weights(chunk.start)..].as_ptr(),
                None => {
                    let to = packed.as_mut_ptr();
                    Pack { plan, group: self.group, chunk: chunk.clone(), to }.with_simd::<S>();
                    to.cast_const()
                }
            };
            for p in 0..I * I {
                // SAFETY: this point's weights and tiles, all computed before; its sums are this call's.
                let (weights, input, sums) = unsafe {
                    let input = part.values.at(p * part.point + chunk.start * part.tiles + skipped);
                    (weights.add(p * chunk.len() * width), input.cast_const(), sums.as_mut_ptr().add(p * point))
                };
                let (block, vector) = (part.tiles * lanes::<S>(), tiles * lanes::<S>());
                let (blocks, first) = (chunk.len() / lanes::<S>(), chunk.start == 0);
                // Dispatched, though the machine is known here: else there were a copy of this for both sizes of tiles.
                AutoArch::new().dispatch(Tiled::<N> { weights, input, block, blocks, first, sums, vector, tiles });
            }
        }
        self.finish::<S, N>(sums, tiles, point);
    }

    /// Transforms the sums to output and writes it.
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(&self, sums: &[f32], tiles: usize, point: usize) {
        let (job, size) = (self.plan.job, self.plan.size);
        let [height, width] = job.result;
        let most = (self.rows.len().min(size[0]) * O).min(height) * width;
        let mut scratch = Scratch::new(most.max(lanes::<S>()) * lanes::<S>());
        let pixels = scratch.values();
        for n in 0..N {
            let channel = (self.group * N + n) * lanes::<S>();
            let bias = match job.bias {
                // SAFETY: cut to a vector.
                Some(bias) => unsafe { vload_unaligned(bias[channel..channel + lanes::<S>()].as_ptr()) },
                None => splat::<S>(0.0),
            };
            let mut tile = n * tiles;
            for (image, first, count) in segments(self.rows.clone(), size[0]) {
                let rows = (count * O).min(height - first * O);
                for row in (0..rows).step_by(O) {
                    for column in (0..width).step_by(O) {
                        let (high, wide) = ((rows - row).min(O), (width - column).min(O));
                        // SAFETY: all points' sums were computed; pixels inside the map have their place in `pixels`.
                        unsafe {
                            let from = sums.as_ptr().add(tile * lanes::<S>());
                            let mut lines = [[splat::<S>(0.0); I]; O];
                            for j in 0..I {
                                let mut line = [splat::<S>(0.0); I];
                                for i in 0..I {
                                    line[i] = vload_unaligned(from.add((i * I + j) * point));
                                }
                                let line = output::<S, O, I>(line);
                                for i in 0..O {
                                    lines[i][j] = line[i];
                                }
                            }
                            let to = pixels.as_mut_ptr().add((row * width + column) * lanes::<S>());
                            for i in 0..O {
                                let line = output::<S, O, I>(lines[i]);
                                if i < high {
                                    for j in 0..O {
                                        if j < wide {
                                            vstore_unaligned(to.add((i * width + j) * lanes::<S>()), line[j] + bias);
                                        }
                                    }
                                }
                            }
                        }
                        tile += 1;
                    }
                }
                // SAFETY: these rows of these channels of the target are this call's; `pixels` holds at least a square.
                unsafe {
                    let to = job.target.at(((image * job.outputs + channel) * height + first * O) * width);
                    planar::<S, T>(pixels.as_ptr(), rows * width, to, height * width);
                }
            }
        }
    }
}

/// The matrix product at a point: `sums[n][tile] (+)= Σ weights[block][lane][n] · input[block][tile][lane]`, vectors of output channels.
struct Tiled<const N: usize> {
    weights: *const f32,
    input: *const f32,
    /// Values from block to block of the input.
    block: usize,
    blocks: usize,
    /// Whether the sums start here.
    first: bool,
    /// The caller's to write.
    sums: *mut f32,
    /// Values from vector to vector of the sums.
    vector: usize,
    tiles: usize,
}

impl<const N: usize> WithSimd for Tiled<N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let tiles = self.tiles;
        // Sums in as many registers as leave some for the operands.
        let most = if many_registers::<S>() { 14 } else { 6 };
        let parts = tiles.div_ceil(most);
        let mut start = 0;
        for part in 0..parts {
            let end = tiles * (part + 1) / parts;
            // SAFETY: a range of the tiles.
            unsafe {
                match end - start {
                    1 => self.some::<S, 1>(start),
                    2 => self.some::<S, 2>(start),
                    3 => self.some::<S, 3>(start),
                    4 => self.some::<S, 4>(start),
                    5 => self.some::<S, 5>(start),
                    6 => self.some::<S, 6>(start),
                    7 => self.some::<S, 7>(start),
                    8 => self.some::<S, 8>(start),
                    9 => self.some::<S, 9>(start),
                    10 => self.some::<S, 10>(start),
                    11 => self.some::<S, 11>(start),
                    12 => self.some::<S, 12>(start),
                    13 => self.some::<S, 13>(start),
                    _ => self.some::<S, 14>(start),
                }
            }
            start = end;
        }
    }
}

impl<const N: usize> Tiled<N> {
    /// `C` tiles.
    ///
    /// # Safety
    /// All addresses are those of these tiles.
    #[inline(always)]
    unsafe fn some<S: Simd, const C: usize>(&self, start: usize) {
        if C > 6 && !many_registers::<S>() {
            // Never asked for: no code for it.
            return;
        }
        // SAFETY: as the caller promises.
        unsafe {
            let to = self.sums.add(start * lanes::<S>());
            let mut sums = [[splat::<S>(0.0); C]; N];
            if !self.first {
                for n in 0..N {
                    for c in 0..C {
                        sums[n][c] = vload_unaligned(to.add(n * self.vector + c * lanes::<S>()));
                    }
                }
            }
            let mut weights = self.weights;
            let mut block = self.input.add(start * lanes::<S>());
            for _ in 0..self.blocks {
                for d in 0..lanes::<S>() {
                    let mut row = [splat::<S>(0.0); N];
                    for n in 0..N {
                        row[n] = vload_unaligned(weights.add(n * lanes::<S>()));
                    }
                    for c in 0..C {
                        let factor = splat::<S>(*block.add(c * lanes::<S>() + d));
                        for n in 0..N {
                            sums[n][c] = f32::vmul_add(factor, row[n], sums[n][c]);
                        }
                    }
                    weights = weights.add(N * lanes::<S>());
                }
                block = block.add(self.block);
            }
            for n in 0..N {
                for c in 0..C {
                    vstore_unaligned(to.add(n * self.vector + c * lanes::<S>()), sums[n][c]);
                }
            }
        }
    }
}
