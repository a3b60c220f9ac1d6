//! The weight gradient by the same transforms: at each point a sum of outer products over tiles, transformed to kernels at the end.
//!
//! Tiles are divided into chunks by the shapes alone, and the chunks' sums are added in order.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::super::buffer::{Output, Scratch, Shared};
use super::super::element::Element;
use super::super::memory::Block;
use super::super::tile::{Lanes, MAX_LANES, TileShape, VECTORS, lanes, splat};
use super::super::transpose::transpose;
use super::super::weight_gradient::total;
use super::super::window::Source;
use super::transform::{Gather, taps};
use super::{OWN_TILES, Part, SHARED_TILES, TAPS};
use crate::level::AutoArch;

/// Most weights whose sums at all points stay in a core's cache: then each task has tiles of its own.
const OWN_SUMS: usize = 64 * 64;
/// Independent sums wanted, so that many threads find work, and tiles that are worth one.
const CHUNKS: usize = 24;
const TILES: usize = 32;
/// Output and input channels of a task, where all tasks work on the same tiles.
const OUTPUTS: usize = 32;
const INPUTS: usize = 64;

/// `Σ slope[n, o, p] · source[n, c, p + t - before]` as `[o][c][t]`, in tiles of `O`, which see `I = O + 2`.
pub(in crate::cpu) struct Gradient<'a, T, const O: usize, const I: usize> {
    pub(in crate::cpu) source: Source<'a, T>,
    pub(in crate::cpu) slope: Source<'a, T>,
    pub(in crate::cpu) images: usize,
    pub(in crate::cpu) before: [usize; 2],
}

/// The transforms of both sides of some rows of tiles.
struct Sides {
    source: Part,
    slope: Part,
}

impl<T: Element, const O: usize, const I: usize> Gradient<'_, T, O, I> {
    /// Rows and columns of tiles of an image.
    fn size(&self) -> [usize; 2] {
        [self.slope.height.div_ceil(O), self.slope.width.div_ceil(O)]
    }

    fn channels(&self) -> usize {
        self.source.channels + self.slope.channels
    }

    /// Values of both sides of some rows of tiles.
    fn values(&self, rows: usize) -> usize {
        I * I * (rows * self.size()[1] * self.channels() + 2 * MAX_LANES)
    }

    fn sides(&self, rows: Range<usize>, scratch: &mut Scratch) -> Sides {
        let tiles = rows.len() * self.size()[1];
        let point = |channels: usize| tiles * channels + MAX_LANES;
        let (source, slope) = scratch.values().split_at_mut(I * I * point(self.source.channels));
        let part = |values: &mut [f32], channels: usize| Part {
            rows: rows.clone(),
            values: Shared::from_slice(values),
            tiles,
            point: point(channels),
        };
        Sides { source: part(source, self.source.channels), slope: part(slope, self.slope.channels) }
    }

    /// Transforms a block of channels, the source's first, of some rows of tiles.
    fn gather(&self, sides: &Sides, block: usize, rows: Range<usize>, lanes: usize) {
        let size = self.size();
        match block.checked_sub(self.source.channels / lanes) {
            None => {
                let (part, before) = (&sides.source, self.before);
                AutoArch::new().dispatch(Gather::<T, O, I, I> { source: self.source, before, size, part, block, rows });
            }
            Some(block) => {
                let part = &sides.slope;
                AutoArch::new().dispatch(Gather::<T, O, I, O> { source: self.slope, before: [0; 2], size, part, block, rows });
            }
        }
    }

    /// The gradient. Numbers of channels are multiples of 16.
    pub(in crate::cpu) fn run(&self) -> Block {
        let (inputs, outputs, lanes) = (self.source.channels, self.slope.channels, TileShape::detect().lanes);
        let (size, blocks, len) = (self.size(), self.channels() / lanes, inputs * outputs * TAPS);
        let rows = self.images * size[0];
        // Rows of tiles whose transforms have so many values at most.
        let most = |values: usize| (values / (I * I * size[1] * self.channels())).max(1);
        if inputs * outputs <= OWN_SUMS {
            let chunks = (rows * size[1] / TILES).clamp(1, CHUNKS.min(rows));
            let mut sums = Output::new(chunks * len);
            let pointer = sums.pointer();
            (0..chunks).into_par_iter().with_max_len(1).for_each(|chunk| {
                let rows = rows * chunk / chunks..rows * (chunk + 1) / chunks;
                let parts = rows.len().div_ceil(most(OWN_TILES));
                let mut products = Scratch::new(I * I * (inputs * outputs + MAX_LANES));
                for part in 0..parts {
                    let rows = rows.start + rows.len() * part / parts..rows.start + rows.len() * (part + 1) / parts;
                    let mut scratch = Scratch::new(self.values(rows.len()));
                    let sides = &self.sides(rows.clone(), &mut scratch);
                    (0..blocks).for_each(|block| self.gather(sides, block, rows.clone(), lanes));
                    let (outputs, inputs, products) = (0..outputs, 0..inputs, products.values());
                    AutoArch::new().dispatch(Product::<I> { sides, outputs, inputs, products, first: part == 0 });
                }
                // SAFETY: this chunk's sums, written whole.
                let to = unsafe { Shared::new(pointer.at(chunk * len)) };
                let (outputs, inputs, products, all) = (0..outputs, 0..inputs, products.values(), inputs);
                AutoArch::new().dispatch(Finish::<I> { outputs, inputs, products, to, all, first: true });
            });
            // SAFETY: every chunk was written.
            return total(unsafe { sums.finish() }, chunks, len);
        }
        let mut sums = Output::new(len);
        let to = sums.pointer();
        let parts = rows.div_ceil(most(2 * SHARED_TILES));
        let (groups, chunks) = (outputs.div_ceil(OUTPUTS), inputs.div_ceil(INPUTS));
        for index in 0..parts {
            let rows = index * rows / parts..(index + 1) * rows / parts;
            let mut scratch = Scratch::new(self.values(rows.len()));
            let sides = &self.sides(rows.clone(), &mut scratch);
            let pieces = (4 * rayon::current_num_threads()).div_ceil(blocks).min(rows.len());
            (0..blocks * pieces).into_par_iter().for_each(|task| {
                let (block, piece) = (task / pieces, task % pieces);
                let rows = rows.start + rows.len() * piece / pieces..rows.start + rows.len() * (piece + 1) / pieces;
                self.gather(sides, block, rows, lanes);
            });
            (0..groups * chunks).into_par_iter().with_max_len(1).for_each(|task| {
                let split = |channels: usize, index: usize, of: usize| {
                    let blocks = channels / MAX_LANES;
                    blocks * index / of * MAX_LANES..blocks * (index + 1) / of * MAX_LANES
                };
                let (outputs, chosen) = (split(outputs, task / chunks, groups), split(inputs, task % chunks, chunks));
                let mut scratch = Scratch::new(I * I * (outputs.len() * chosen.len() + MAX_LANES));
                let products = scratch.values();
                AutoArch::new().dispatch(Product::<I> { sides, outputs: outputs.clone(), inputs: chosen.clone(), products, first: true });
                let products = scratch.values();
                AutoArch::new().dispatch(Finish::<I> { outputs, inputs: chosen, products, to, all: inputs, first: index == 0 });
            });
        }
        // SAFETY: the tasks of the first part have written every weight's.
        unsafe { sums.finish() }
    }
}

/// Sums of products at all points, for some channels: `[points][outputs][inputs]`.
struct Product<'a, const I: usize> {
    sides: &'a Sides,
    outputs: Range<usize>,
    inputs: Range<usize>,
    products: &'a mut [f32],
    /// Whether the sums start here.
    first: bool,
}

impl<const I: usize> WithSimd for Product<'_, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        // Rows of a tile are channels of one block.
        match lanes::<S>() {
            16 => self.run::<S, 8>(),
            2 => self.run::<S, 2>(),
            _ => self.run::<S, 4>(),
        }
    }
}

impl<const I: usize> Product<'_, I> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self) {
        let Self { sides: Sides { source, slope }, outputs, inputs, products, first } = self;
        let (tiles, pitch) = (source.tiles, inputs.len());
        let point = outputs.len() * pitch + MAX_LANES;
        let step = VECTORS * lanes::<S>();
        for p in 0..I * I {
            for output in (0..outputs.len()).step_by(M) {
                let channel = outputs.start + output;
                for input in (0..pitch).step_by(step) {
                    // SAFETY: both sides' blocks at this point; a tile of this task's sums.
                    unsafe {
                        let block = channel / lanes::<S>() * tiles * lanes::<S>();
                        let a = slope.values.at(p * slope.point + block + channel % lanes::<S>());
                        let b = source.values.at(p * source.point + (inputs.start + input) * tiles);
                        let to = products.as_mut_ptr().add(p * point + output * pitch + input);
                        match (pitch - input).min(step) / lanes::<S>() {
                            1 => add::<S, M, 1>(tiles, a, b, to, pitch, first),
                            2 => add::<S, M, 2>(tiles, a, b, to, pitch, first),
                            _ => add::<S, M, 3>(tiles, a, b, to, pitch, first),
                        }
                    }
                }
            }
        }
    }
}

/// `to[m · pitch + v · lanes] (+)= Σ a[tile · lanes + m] · b[(v · tiles + tile) · lanes]`, vectors of the source's channels.
///
/// # Safety
/// All those values are there.
#[inline(always)]
unsafe fn add<S: Simd, const M: usize, const V: usize>(
    tiles: usize,
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    pitch: usize,
    first: bool,
) {
    let mut sums: [[Lanes<S>; V]; M] = [[splat::<S>(0.0); V]; M];
    // SAFETY: as the caller promises.
    unsafe {
        for tile in 0..tiles {
            let mut row = [splat::<S>(0.0); V];
            for v in 0..V {
                row[v] = vload_unaligned(b.add((v * tiles + tile) * lanes::<S>()));
            }
            for m in 0..M {
                let factor = splat::<S>(*a.add(tile * lanes::<S>() + m));
                for v in 0..V {
                    sums[m][v] = f32::vmul_add(factor, row[v], sums[m][v]);
                }
            }
        }
        for m in 0..M {
            for v in 0..V {
                let to = to.add(m * pitch + v * lanes::<S>());
                let sum = if first { sums[m][v] } else { sums[m][v] + vload_unaligned::<S, f32>(to) };
                vstore_unaligned(to, sum);
            }
        }
    }
}

/// Transforms sums of products to kernels.
struct Finish<'a, const I: usize> {
    outputs: Range<usize>,
    inputs: Range<usize>,
    products: &'a [f32],
    /// `[outputs][inputs][taps]` of all channels.
    to: Shared,
    /// All input channels.
    all: usize,
    /// Whether to write, else to add.
    first: bool,
}

impl<const I: usize> WithSimd for Finish<'_, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { outputs, inputs, products, to, all, first } = self;
        let pitch = inputs.len();
        let point = outputs.len() * pitch + MAX_LANES;
        // Kernels as vectors for each tap, as rows of 16, and one after the other.
        let mut by_tap = [0f32; MAX_LANES * MAX_LANES];
        let mut by_channel = [0f32; MAX_LANES * MAX_LANES];
        let mut kernels = [0f32; TAPS * MAX_LANES];
        for output in 0..outputs.len() {
            for input in (0..pitch).step_by(lanes::<S>()) {
                // SAFETY: sums of these channels; `by_tap` and `by_channel` are squares of 16, of which as many rows and columns are used
                // as whole vectors hold the taps; the kernels of these channels in the target are this call's.
                unsafe {
                    let from = products.as_ptr().add(output * pitch + input);
                    let mut lines = [[splat::<S>(0.0); I]; 3];
                    for j in 0..I {
                        let mut line = [splat::<S>(0.0); I];
                        for i in 0..I {
                            line[i] = vload_unaligned(from.add((i * I + j) * point));
                        }
                        let line = taps::<S, I>(line);
                        for i in 0..3 {
                            lines[i][j] = line[i];
                        }
                    }
                    for i in 0..3 {
                        let line = taps::<S, I>(lines[i]);
                        for j in 0..3 {
                            vstore_unaligned(by_tap.as_mut_ptr().add((i * 3 + j) * lanes::<S>()), line[j]);
                        }
                    }
                    for row in (0..TAPS).step_by(lanes::<S>()) {
                        let from = by_tap.as_ptr().add(row * lanes::<S>());
                        transpose::<S, f32, f32>(from, lanes::<S>(), lanes::<S>(), by_channel.as_mut_ptr().add(row), MAX_LANES);
                    }
                    for r in 0..lanes::<S>() {
                        let from = by_channel.as_ptr().add(r * MAX_LANES).cast::<[f32; TAPS]>();
                        kernels.as_mut_ptr().add(r * TAPS).cast::<[f32; TAPS]>().write(from.read());
                    }
                    let to = to.at(((outputs.start + output) * all + inputs.start + input) * TAPS);
                    for v in 0..TAPS {
                        let to = to.add(v * lanes::<S>());
                        let value: Lanes<S> = vload_unaligned(kernels.as_ptr().add(v * lanes::<S>()));
                        vstore_unaligned(to, if first { value } else { value + vload_unaligned::<S, f32>(to) });
                    }
                }
            }
        }
    }
}
