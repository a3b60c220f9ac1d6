//! Factors of a product, packed for its tiles: what the taps see, once for all tasks.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::{Output, Scratch, Shared};
use super::super::memory::Block;
use super::super::tile::{MAX_LANES, TileShape, VECTORS, copy_over, lanes};
use super::super::transpose::transpose;
use super::places::Places;
use crate::level::AutoArch;

/// Columns of a product, in panels of one to three vectors.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    lanes: usize,
    vectors: usize,
}

impl Panels {
    pub(super) fn new(columns: usize) -> Self {
        let lanes = TileShape::detect().lanes;
        Self { lanes, vectors: columns.div_ceil(lanes) }
    }

    pub(super) fn len(self) -> usize {
        self.vectors.div_ceil(VECTORS)
    }

    /// The vectors of a panel.
    #[inline(always)]
    pub(super) fn get(self, panel: usize) -> Range<usize> {
        self.vectors * panel / self.len()..self.vectors * (panel + 1) / self.len()
    }

    /// Values of all panels for a depth.
    fn values(self, depth: usize) -> usize {
        self.vectors * self.lanes * depth
    }
}

/// Rows of a task's tiles that lie side by side in the left factor.
pub(super) fn group() -> usize {
    let tile = TileShape::detect();
    tile.lanes.max(tile.rows)
}

/// The right factor with positions as columns: `[panel][row of the matrix][column of the panel]`.
pub(super) fn by_row(places: &Places, values: &[f32]) -> Block {
    let panels = Panels::new(places.positions);
    let depth = places.rows();
    let mut right = Output::new(panels.values(depth));
    let to = right.pointer();
    (0..depth.div_ceil(MAX_LANES)).into_par_iter().with_min_len(1 + 4096 / (MAX_LANES * places.positions)).for_each(|part| {
        let rows = part * MAX_LANES..depth.min((part + 1) * MAX_LANES);
        AutoArch::new().dispatch(ByRow { places, values, rows, panels, to });
    });
    // SAFETY: every row of every panel was written.
    unsafe { right.finish() }
}

struct ByRow<'a> {
    places: &'a Places,
    values: &'a [f32],
    rows: Range<usize>,
    panels: Panels,
    to: Shared,
}

impl WithSimd for ByRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { places, values, rows, panels, to } = self;
        let (depth, width) = (places.rows(), panels.vectors * lanes::<S>());
        // A line more, lest all rows start in the same set of the cache.
        let pitch = width + MAX_LANES;
        let mut scratch = Scratch::new(lanes::<S>() * pitch);
        let lines = scratch.values();
        for first_row in rows.clone().step_by(lanes::<S>()) {
            let rows = first_row..rows.end.min(first_row + lanes::<S>());
            for line in 0..rows.len() {
                lines[line * pitch + places.positions..][..width - places.positions].fill(0.0);
            }
            // SAFETY: lines hold all positions and whole vectors; these rows of each panel are this call's to write.
            unsafe {
                places.write::<S>(values, rows.clone(), lines.as_mut_ptr(), pitch);
                for panel in 0..panels.len() {
                    let vectors = panels.get(panel);
                    let first = vectors.start * lanes::<S>();
                    let width = (vectors.end - vectors.start) * lanes::<S>();
                    for line in 0..rows.len() {
                        let to = to.at(first * depth + (first_row + line) * width);
                        copy_over::<S>(lines.as_ptr().add(line * pitch + first), to, width);
                    }
                }
            }
        }
    }
}

/// A factor with positions as depth: `[panel][position][row of the matrix in the panel]`, panels being groups of rows for the left factor.
/// The depth is rounded up to [`padded`].
pub(super) fn by_position(places: &Places, values: &[f32], left: bool) -> Block {
    let (rows, lanes) = (places.rows(), TileShape::detect().lanes);
    let panels = Panels::new(if left { rows.next_multiple_of(group()) } else { rows });
    let depth = padded(places.positions);
    let mut factor = Output::new(panels.values(depth));
    let to = factor.pointer();
    let vector = |vector: usize, panel: Range<usize>| {
        let (first, step) = (vector * lanes, panel.len() * lanes);
        // SAFETY: this vector's place in its panel.
        let to = unsafe { Shared::new(to.at(panel.start * lanes * depth + (vector - panel.start) * lanes)) };
        AutoArch::new().dispatch(ByPosition { places, values, rows: first.min(rows)..rows.min(first + lanes), step, to });
    };
    if left {
        let width = group() / lanes;
        (0..panels.vectors).into_par_iter().for_each(|index| vector(index, index / width * width..(index / width + 1) * width));
    } else {
        (0..panels.len()).into_par_iter().for_each(|panel| panels.get(panel).for_each(|index| vector(index, panels.get(panel))));
    }
    // SAFETY: every vector of every panel was written.
    unsafe { factor.finish() }
}

/// Positions in whole vectors.
pub(super) fn padded(positions: usize) -> usize {
    positions.next_multiple_of(MAX_LANES)
}

struct ByPosition<'a> {
    places: &'a Places,
    values: &'a [f32],
    /// At most as many as a vector has lanes.
    rows: Range<usize>,
    step: usize,
    to: Shared,
}

impl WithSimd for ByPosition<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { places, values, rows, step, to } = self;
        let (depth, count) = (padded(places.positions), rows.len());
        if places.is_matrix() && count == lanes::<S>() {
            for image in 0..places.images {
                // SAFETY: a vector of an image's channels; a position's place in the target, which is this call's.
                unsafe { copy_over::<S>(values.as_ptr().add(image * places.channels + rows.start), to.at(image * step), count) };
            }
            for position in places.images..depth {
                // SAFETY: as above, to the end of the panel.
                unsafe { std::slice::from_raw_parts_mut(to.at(position * step), count).fill(0.0) };
            }
            return;
        }
        // A line more, lest all rows start in the same set of the cache.
        let pitch = depth + MAX_LANES;
        let mut scratch = Scratch::new(lanes::<S>() * pitch);
        let lines = scratch.values();
        for row in 0..lanes::<S>() {
            let begin = if row < count { places.positions } else { 0 };
            lines[row * pitch + begin..(row + 1) * pitch].fill(0.0);
        }
        // SAFETY: lines hold the positions; the target is this call's: a vector for each position.
        unsafe {
            places.write::<S>(values, rows, lines.as_mut_ptr(), pitch);
            transpose::<S, f32, f32>(lines.as_ptr(), pitch, depth, to.at(0), step);
        }
    }
}
