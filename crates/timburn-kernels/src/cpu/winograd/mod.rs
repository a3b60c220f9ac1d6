//! 3×3 convolutions of stride 1 with fewer multiplications: Winograd's minimal filtering (Lavin & Gray 2015).
//!
//! An output tile of `O`×`O` pixels is a transform of `(O+2)²` products, one for each point of the transformed input tile and kernel: 2.25
//! times fewer than the sum over the taps for `O` = 2, 4 times for `O` = 4. Each point is a matrix product over all tiles. Sums of products
//! of larger numbers cancel, so that the error is about twice (2) to three times (4) that of the direct sum: the tests hold it to that.
//!
//! Transforms work on as many channels side by side as a vector has lanes. Each value is a sum in an order that the shapes alone decide:
//! results do not depend on the number of threads.

mod gradient;
mod product;
mod transform;

use std::ops::Range;

use rayon::prelude::*;

pub(super) use self::gradient::Gradient;
use self::product::{Pack, Product};
use self::transform::Gather;
use super::buffer::{Output, Scratch, Shared};
use super::element::Element;
use super::tile::{MAX_LANES, TileShape};
use super::window::Source;
use crate::level::AutoArch;

/// Most weights that are transformed once, before all else: then each task has tiles of its own. Of more, a task transforms the part that it
/// needs, and all tasks work on the same tiles.
const OWN_WEIGHTS: usize = 128 * 128;
/// Values of transformed input and output of a task's own tiles: half of a second-level cache.
const OWN_TILES: usize = 144 << 10;
/// Values of transformed input that all tasks share.
const SHARED_TILES: usize = 2 << 20;
/// Most values of the transformed input of one row of tiles: wider maps are convolved directly.
const ROW: usize = 1 << 20;
/// Taps of a kernel.
const TAPS: usize = 9;
/// Input channels whose weights are used at a time.
const CHUNK: usize = 64;

/// Height and width of an output tile, 2 or 4, if this is the way to convolve `inputs` to `outputs` channels of that `result`.
pub(super) fn tile(inputs: usize, outputs: usize, result: [usize; 2]) -> Option<usize> {
    let points = |tile: usize| (tile + 2).pow(2) * result[0].div_ceil(tile) * result[1].div_ceil(tile);
    let tile = if points(4) < points(2) { 4 } else { 2 };
    let whole = inputs.is_multiple_of(MAX_LANES) && outputs.is_multiple_of(MAX_LANES);
    let fewer = 5 * points(tile) <= 4 * 9 * result[0] * result[1];
    (whole && fewer && (tile + 2).pow(2) * result[1].div_ceil(tile) * inputs <= ROW).then_some(tile)
}

/// `target[n, o, p] = bias[o] + Σ weight[o, c, t] · source[n, c, p + t - before]`, or of the transposed weight with its taps reversed.
pub(super) struct Winograd<'a, T> {
    pub(super) source: Source<'a, T>,
    pub(super) images: usize,
    /// Zeros before the first row and column: at most 2.
    pub(super) before: [usize; 2],
    /// `[outputs, inputs, 3, 3]`, or if `transposed` `[inputs, outputs, 3, 3]`.
    pub(super) weight: &'a [f32],
    pub(super) transposed: bool,
    pub(super) bias: Option<&'a [f32]>,
    /// `[images, outputs, result]`.
    pub(super) target: Shared<T>,
    pub(super) outputs: usize,
    pub(super) result: [usize; 2],
}

impl<T: Element> Winograd<'_, T> {
    /// Computes and writes the whole target, in tiles of [`tile`].
    ///
    /// # Safety
    /// `target` points to as many values as its shape says, which nobody else touches. Numbers of channels are multiples of 16.
    pub(super) unsafe fn run(&self, tile: usize) {
        match tile {
            4 => Plan::<T, 4, 6>::new(self).run(),
            _ => Plan::<T, 2, 4>::new(self).run(),
        }
    }
}

/// A convolution in output tiles of `O`, which see `I = O + 2`.
struct Plan<'a, T, const O: usize, const I: usize> {
    job: &'a Winograd<'a, T>,
    /// Rows and columns of tiles of an image.
    size: [usize; 2],
    lanes: usize,
    /// Vectors of output channels that are computed together: a group.
    vectors: usize,
}

/// Transformed input of some rows of tiles, counted through all images: `[points][blocks of channels][tiles][lanes]`.
struct Part {
    rows: Range<usize>,
    values: Shared,
    /// Tiles of all rows.
    tiles: usize,
    /// Values of a point.
    point: usize,
}

impl<'a, T: Element, const O: usize, const I: usize> Plan<'a, T, O, I> {
    fn new(job: &'a Winograd<'a, T>) -> Self {
        let lanes = TileShape::detect().lanes;
        let vectors = if job.outputs.is_multiple_of(2 * lanes) { 2 } else { 1 };
        Self { job, size: job.result.map(|size| size.div_ceil(O)), lanes, vectors }
    }

    fn groups(&self) -> usize {
        self.job.outputs / (self.vectors * self.lanes)
    }

    /// Values of a group's weights for `depth` input channels: `[points][depth][vectors][lanes]`.
    fn weights(&self, depth: usize) -> usize {
        I * I * depth * self.vectors * self.lanes
    }

    /// The parts that the input channels are divided into.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let (blocks, chunks) = (self.job.source.channels / MAX_LANES, self.job.source.channels.div_ceil(CHUNK));
        (0..chunks).map(move |chunk| blocks * chunk / chunks * MAX_LANES..blocks * (chunk + 1) / chunks * MAX_LANES)
    }

    /// Values of a point for some rows of tiles; a line more, lest all points start in the same set of the cache.
    fn point(&self, rows: usize) -> usize {
        rows * self.size[1] * self.job.source.channels + MAX_LANES
    }

    fn part(&self, rows: Range<usize>, scratch: &mut Scratch) -> Part {
        let (tiles, point) = (rows.len() * self.size[1], self.point(rows.len()));
        Part { rows, values: Shared::from_slice(scratch.values()), tiles, point }
    }

    fn run(&self) {
        let threads = rayon::current_num_threads();
        let (inputs, rows, blocks) = (self.job.source.channels, self.job.images * self.size[0], self.job.source.channels / self.lanes);
        if inputs * self.job.outputs <= OWN_WEIGHTS {
            let mut weights = Output::new(self.groups() * self.weights(inputs));
            let pointer = weights.pointer();
            let chunks: Vec<_> = self.chunks().collect();
            (0..self.groups() * chunks.len()).into_par_iter().with_max_len(1).for_each(|index| {
                let (group, chunk) = (index / chunks.len(), chunks[index % chunks.len()].clone());
                // SAFETY: the place of this chunk of this group.
                let to = unsafe { pointer.at(group * self.weights(inputs) + self.weights(chunk.start)) };
                AutoArch::new().dispatch(Pack { plan: self, group, chunk, to });
            });
            // SAFETY: every chunk was written.
            let weights = unsafe { weights.finish() };
            let most = (OWN_TILES / (I * I * self.size[1] * (inputs + self.vectors * self.lanes))).max(1);
            // As many parts as threads can share evenly, if there are that many rows.
            let parts = rows.div_ceil(most).next_multiple_of(threads).min(rows);
            (0..parts).into_par_iter().with_max_len(1).for_each(|index| {
                let rows = index * rows / parts..(index + 1) * rows / parts;
                let mut scratch = Scratch::new(I * I * self.point(rows.len()));
                let part = &self.part(rows.clone(), &mut scratch);
                (0..blocks).for_each(|block| self.gather(part, block, rows.clone()));
                for group in 0..self.groups() {
                    let weights = Some(&weights[group * self.weights(inputs)..][..self.weights(inputs)]);
                    AutoArch::new().dispatch(Product { plan: self, part, group, rows: rows.clone(), weights });
                }
            });
            return;
        }
        let most = (SHARED_TILES / (I * I * self.size[1] * inputs)).max(1);
        let parts = rows.div_ceil(most);
        for index in 0..parts {
            let rows = index * rows / parts..(index + 1) * rows / parts;
            let mut scratch = Scratch::new(I * I * self.point(rows.len()));
            let part = &self.part(rows.clone(), &mut scratch);
            let split = |index: usize, of: usize| rows.start + rows.len() * index / of..rows.start + rows.len() * (index + 1) / of;
            let pieces = (4 * threads).div_ceil(blocks).min(rows.len());
            (0..blocks * pieces).into_par_iter().for_each(|task| {
                self.gather(part, task / pieces, split(task % pieces, pieces));
            });
            let pieces = (2 * threads).div_ceil(self.groups()).min(rows.len());
            (0..self.groups() * pieces).into_par_iter().with_max_len(1).for_each(|task| {
                let (group, rows) = (task / pieces, split(task % pieces, pieces));
                AutoArch::new().dispatch(Product { plan: self, part, group, rows, weights: None });
            });
        }
    }

    fn gather(&self, part: &Part, block: usize, rows: Range<usize>) {
        let (source, before, size) = (self.job.source, self.job.before, self.size);
        AutoArch::new().dispatch(Gather::<T, O, I, I> { source, before, size, part, block, rows });
    }
}

/// Rows of tiles as image, row of the image's `height` rows, and number.
fn segments(rows: Range<usize>, height: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    super::window::runs(rows, height, usize::MAX).map(move |run| (run.position / height, run.position % height, run.len))
}
