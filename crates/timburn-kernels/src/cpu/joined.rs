//! Convolutions with many weights and few positions: matrix products over the positions of all images, joined.
//!
//! Maps are small there, and weights outweigh what they are multiplied with: each is read once, where it lies, and packed into a cache by
//! the task that multiplies it. What the taps see is built as a matrix before, once for all tasks. Each value is a sum over channels and
//! taps, or over positions, in a fixed order, whatever the tasks: results do not depend on the number of threads.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::{AutoArch, Simd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::conv::ConvShape;
use super::memory::Block;
use super::tile::{Lanes, MAX_LANES, TileShape, VECTORS, copy_exact, copy_over, lanes, many_registers, outer};
use super::transpose::transpose;
use super::window::runs;

/// Most positions of all images: of more, what the taps see does not stay in a cache.
const POSITIONS: usize = 4096;
/// Most positions, counted once for each tap: a channel's sums for all of them are one task's.
const SEEN: usize = 1 << 14;
/// Fewest weights.
const WEIGHTS: usize = 1 << 13;
/// Depth of the products of one pass: what keeps a panel in the first-level cache.
const DEPTH: usize = 192;
/// Rows, and at most so many panels of columns, of one task: their sums stay in the second-level cache.
const ROWS: usize = 64;
const PANELS: usize = 9;
/// Rows of weights from the one that is packed to the one that is asked for.
const AHEAD: usize = 8;

/// Whether this is the way to convolve.
pub(super) fn fits(shape: &ConvShape) -> bool {
    let (taps, positions) = (shape.kernel[0] * shape.kernel[1], shape.images * shape.result[0] * shape.result[1]);
    let few = positions <= POSITIONS && positions * taps <= SEEN;
    shape.groups == 1 && few && shape.inputs * shape.outputs * taps >= WEIGHTS
}

/// Where the taps of a kernel look: a matrix `[channels · taps, positions of all images]` of pixels. Taps that see nothing but zeros, as maps
/// smaller than their kernel have some, are left out.
struct Places {
    images: usize,
    channels: usize,
    /// Pixels of a map that is looked at.
    pixels: usize,
    taps: usize,
    /// Taps of the whole kernel, and which of them are looked at.
    kernel: usize,
    live: Vec<usize>,
    positions: usize,
    /// For each tap and position the pixel in the first channel, and a mask: no bits where there is none.
    places: Vec<(usize, u32)>,
    /// Whether each position sees the pixel below it.
    identity: bool,
}

impl Places {
    /// What the kernel sees of the input.
    fn input(shape: &ConvShape) -> Self {
        let ConvShape { images, inputs: channels, size, kernel, result, .. } = *shape;
        let (pixels, area) = (size[0] * size[1], result[0] * result[1]);
        let seen = |axis: usize, position: usize, tap: usize| {
            let pixel = (position * shape.stride[axis] + tap * shape.dilation[axis]).checked_sub(shape.before[axis])?;
            (pixel < size[axis]).then_some(pixel)
        };
        let place = |tap: usize, position: usize| {
            let (image, position) = (position / area, position % area);
            let row = seen(0, position / result[1], tap / kernel[1]);
            let column = seen(1, position % result[1], tap % kernel[1]);
            let pixel = row.zip(column).map(|(row, column)| image * channels * pixels + row * size[1] + column);
            pixel.map_or((0, 0), |pixel| (pixel, u32::MAX))
        };
        let positions = images * area;
        let mut live: Vec<usize> =
            (0..kernel[0] * kernel[1]).filter(|&tap| (0..area).any(|position| place(tap, position).1 != 0)).collect();
        if live.is_empty() {
            live.push(0);
        }
        let places = live.iter().flat_map(|&tap| (0..positions).map(move |position| place(tap, position))).collect();
        let identity = (kernel, shape.stride, shape.before, size) == ([1, 1], [1, 1], [0, 0], result);
        Self { images, channels, pixels, taps: live.len(), kernel: kernel[0] * kernel[1], live, positions, places, identity }
    }

    /// The output's maps as they are.
    fn output(shape: &ConvShape) -> Self {
        let (kernel, stride, before) = ([1, 1], [1, 1], [0, 0]);
        Self::input(&ConvShape { inputs: shape.outputs, size: shape.result, kernel, stride, before, ..*shape })
    }

    /// Whether the maps, of one pixel each, are the matrix already, transposed.
    #[inline(always)]
    fn is_matrix(&self) -> bool {
        self.identity && self.pixels == 1
    }

    /// Rows of the matrix.
    fn rows(&self) -> usize {
        self.channels * self.taps
    }

    /// Which of a row of weights belongs to each row of the matrix; none if all do.
    fn chosen(&self) -> Option<Vec<usize>> {
        let weights = || (0..self.channels).flat_map(|channel| self.live.iter().map(move |tap| channel * self.kernel + tap));
        (self.taps < self.kernel).then(|| weights().collect())
    }

    /// Writes rows of the matrix of `values`, `pitch` apart.
    ///
    /// # Safety
    /// `values` are maps of all images and channels; `to` has room for these rows.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, values: &[f32], rows: Range<usize>, to: *mut f32, pitch: usize) {
        if self.is_matrix() && rows.len() == lanes::<S>() && self.images.is_multiple_of(lanes::<S>()) {
            for image in (0..self.images).step_by(lanes::<S>()) {
                // SAFETY: a square of the matrix `[images, channels]`.
                unsafe {
                    let from = values.as_ptr().add(image * self.channels + rows.start);
                    transpose::<S, f32, f32>(from, self.channels, lanes::<S>(), to.add(image), pitch);
                }
            }
            return;
        }
        let mut to = to;
        for row in rows {
            let (channel, tap) = (row / self.taps, row % self.taps);
            // SAFETY: pixels of this channel in each image.
            unsafe {
                let from = values.as_ptr().add(channel * self.pixels);
                if self.identity && self.pixels >= 4 {
                    for image in 0..self.images {
                        let from = from.add(image * self.channels * self.pixels);
                        copy_exact::<S>(from, to.add(image * self.pixels), self.pixels);
                    }
                } else {
                    let places = self.places.as_ptr().add(tap * self.positions);
                    for position in 0..self.positions {
                        let (place, mask) = *places.add(position);
                        *to.add(position) = f32::from_bits((*from.add(place)).to_bits() & mask);
                    }
                }
                to = to.add(pitch);
            }
        }
    }
}

/// Columns of a product, in panels of one to three vectors.
#[derive(Clone, Copy)]
struct Panels {
    lanes: usize,
    vectors: usize,
}

impl Panels {
    fn new(columns: usize) -> Self {
        let lanes = TileShape::detect().lanes;
        Self { lanes, vectors: columns.div_ceil(lanes) }
    }

    fn len(self) -> usize {
        self.vectors.div_ceil(VECTORS)
    }

    /// The vectors of a panel.
    #[inline(always)]
    fn get(self, panel: usize) -> Range<usize> {
        self.vectors * panel / self.len()..self.vectors * (panel + 1) / self.len()
    }

    /// Values of all panels for a depth.
    fn values(self, depth: usize) -> usize {
        self.vectors * self.lanes * depth
    }
}

/// Rows of a task's tiles that lie side by side in the left factor.
fn group() -> usize {
    let tile = TileShape::detect();
    tile.lanes.max(tile.rows)
}

/// The right factor with positions as columns: `[panel][row of the matrix][column of the panel]`.
fn by_row(places: &Places, values: &[f32]) -> Block {
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
fn by_position(places: &Places, values: &[f32], left: bool) -> Block {
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
fn padded(positions: usize) -> usize {
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
            // The padded depth is never multiplied.
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

/// The left factor.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// `[row][depth]`: weights `[outputs, pitch]`, of which those chosen count.
    ByRow(Weights<'a>),
    /// `[depth][row]`, likewise.
    ByDepth(Weights<'a>),
    /// [`by_position`].
    Packed(&'a Block),
}

#[derive(Clone, Copy)]
struct Weights<'a> {
    values: &'a [f32],
    pitch: usize,
    chosen: Option<&'a [usize]>,
}

/// Where the product goes.
#[derive(Clone, Copy)]
enum Finish<'a> {
    /// Rows are channels, columns positions of maps `[images, channels, area]`; a bias is added.
    Maps { area: usize, bias: Option<&'a [f32]> },
    /// Columns are added to the pixels that they saw; the planes of a channel are cleared first.
    Pixels(&'a Places),
    /// `[rows, columns]`, or rows of `pitch` of which those chosen are written, and zeros between.
    Matrix { pitch: usize, chosen: Option<&'a [usize]> },
}

/// `left[rows, depth] · right[depth, columns]`.
struct Product<'a> {
    rows: usize,
    columns: usize,
    depth: usize,
    left: Left<'a>,
    right: &'a Block,
    /// Values of a panel's column.
    pitch: usize,
    finish: Finish<'a>,
    target: Shared,
}

impl Product<'_> {
    /// Computes and writes all.
    ///
    /// # Safety
    /// The target has room for what `finish` says, and nobody else touches it.
    unsafe fn run(&self) {
        let panels = Panels::new(self.columns);
        // A channel's planes belong to one task.
        let (size, most) = match self.finish {
            Finish::Pixels(places) => (if places.taps == 1 { ROWS } else { group() * places.taps }, usize::MAX),
            _ => (ROWS, PANELS),
        };
        let blocks = self.rows.div_ceil(size);
        let mut parts = panels.len().div_ceil(most);
        if most < usize::MAX {
            parts = parts.max((2 * rayon::current_num_threads()).div_ceil(blocks)).min(panels.len());
        }
        (0..blocks * parts).into_par_iter().with_max_len(1).for_each(|task| {
            let (block, part) = (task / parts, task % parts);
            let rows = block * size..self.rows.min((block + 1) * size);
            let chosen = panels.len() * part / parts..panels.len() * (part + 1) / parts;
            AutoArch::new().dispatch(Task { product: self, rows, panels, chosen });
        });
    }
}

struct Task<'a> {
    product: &'a Product<'a>,
    rows: Range<usize>,
    panels: Panels,
    /// The panels of this task.
    chosen: Range<usize>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        if many_registers::<S>() {
            self.run::<S, 8>();
        } else {
            self.run::<S, 4>();
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self) {
        let Product { depth, left, right, pitch: deep, .. } = *self.product;
        let group = lanes::<S>().max(M);
        let rows = self.rows.len();
        let first = self.panels.get(self.chosen.start).start;
        let vectors = self.panels.get(self.chosen.end - 1).end - first;
        // A line more, lest all rows start in the same set of the cache.
        let pitch = vectors * lanes::<S>() + MAX_LANES;
        let pass_len = depth.min(DEPTH).next_multiple_of(MAX_LANES);
        let padded_rows = rows.next_multiple_of(group);
        let mut scratch = Scratch::new(padded_rows * (pitch + pass_len) + lanes::<S>() * (pass_len + MAX_LANES));
        let (sums, scratch) = scratch.values().split_at_mut(padded_rows * pitch);
        let (packed, lines) = scratch.split_at_mut(padded_rows * pass_len);
        for start in (0..depth).step_by(DEPTH) {
            let chosen = start..depth.min(start + DEPTH);
            let (a, groups) = match left {
                // SAFETY: blocks of whole groups.
                Left::Packed(values) => unsafe { (values.as_ptr().add(self.rows.start * deep + start * group), deep * group) },
                _ => {
                    self.pack::<S>(group, chosen.clone(), packed, pass_len * group, lines);
                    (packed.as_ptr(), pass_len * group)
                }
            };
            for panel in self.chosen.clone() {
                let panel = self.panels.get(panel);
                let width = (panel.end - panel.start) * lanes::<S>();
                for row in (0..rows).step_by(M) {
                    // SAFETY: both factors were packed before; a tile of this task's sums.
                    unsafe {
                        let a = a.add(row / group * groups + row % group);
                        let b = right.as_ptr().add(panel.start * lanes::<S>() * deep + start * width);
                        let to = sums.as_mut_ptr().add(row * pitch + (panel.start - first) * lanes::<S>());
                        match panel.end - panel.start {
                            1 => add::<S, M, 1>(&outer(chosen.len(), a, group, b), to, pitch, start == 0),
                            2 => add::<S, M, 2>(&outer(chosen.len(), a, group, b), to, pitch, start == 0),
                            _ => add::<S, M, 3>(&outer(chosen.len(), a, group, b), to, pitch, start == 0),
                        }
                    }
                }
            }
        }
        let columns = first * lanes::<S>()..self.product.columns.min((first + vectors) * lanes::<S>());
        // SAFETY: the rows' sums of these columns; what they go to is this task's.
        unsafe {
            match self.product.finish {
                Finish::Maps { area, bias } => self.maps::<S>(sums, pitch, columns, area, bias),
                Finish::Pixels(places) => self.pixels(sums, pitch, places),
                Finish::Matrix { pitch: to_pitch, chosen } => {
                    for row in 0..rows {
                        let (from, to) = (sums.as_ptr().add(row * pitch), self.product.target.at((self.rows.start + row) * to_pitch));
                        let Some(chosen) = chosen else {
                            std::ptr::copy_nonoverlapping(from, to.add(columns.start), columns.len());
                            continue;
                        };
                        // Zeros up to the next task's first.
                        let begin = if columns.start == 0 { 0 } else { chosen[columns.start] };
                        let end = chosen.get(columns.end).copied().unwrap_or(to_pitch);
                        std::slice::from_raw_parts_mut(to.add(begin), end - begin).fill(0.0);
                        for (index, &place) in chosen[columns.clone()].iter().enumerate() {
                            to.add(place).write(from.add(index).read());
                        }
                    }
                }
            }
        }
    }

    /// Packs this task's rows, in groups: `[group][depth][row of the group]`, groups `step` apart.
    #[inline(always)]
    fn pack<S: Simd>(&self, group: usize, depth: Range<usize>, to: &mut [f32], step: usize, lines: &mut [f32]) {
        let rows = self.rows.len();
        match self.product.left {
            Left::ByRow(Weights { values, pitch, chosen }) => {
                let len = depth.len().next_multiple_of(lanes::<S>());
                for row in (0..rows).step_by(lanes::<S>()) {
                    let count = lanes::<S>().min(rows - row);
                    let from = &values[(self.rows.start + row) * pitch..][..count * pitch];
                    let to = &mut to[row / group * step + row % group..][..(len - 1) * group + lanes::<S>()];
                    // SAFETY: rows of weights, or copies of them as long as lines; the group has room for as many vectors as `len`.
                    unsafe {
                        if count == lanes::<S>() && len == depth.len() && chosen.is_none() {
                            transpose::<S, f32, f32>(from.as_ptr().add(depth.start), pitch, len, to.as_mut_ptr(), group);
                            continue;
                        }
                        let line_pitch = lines.len() / lanes::<S>();
                        lines.fill(0.0);
                        for line in 0..count {
                            let (from, to) = (&from[line * pitch..][..pitch], &mut lines[line * line_pitch..][..depth.len()]);
                            match chosen {
                                None => to.copy_from_slice(&from[depth.clone()]),
                                Some(chosen) => {
                                    for (to, &index) in to.iter_mut().zip(&chosen[depth.clone()]) {
                                        *to = from[index];
                                    }
                                }
                            }
                        }
                        transpose::<S, f32, f32>(lines.as_ptr(), line_pitch, len, to.as_mut_ptr(), group);
                    }
                }
                // Rows past the last are multiplied too; what they give is not kept, but stale values may be slow ones.
                for row in (rows.next_multiple_of(lanes::<S>())..rows.next_multiple_of(group)).step_by(lanes::<S>()) {
                    for index in 0..len {
                        to[row / group * step + index * group + row % group..][..lanes::<S>()].fill(0.0);
                    }
                }
            }
            Left::ByDepth(Weights { values, pitch, chosen }) => {
                for (index, depth) in depth.enumerate() {
                    let from = &values[depth * pitch..][..pitch];
                    // Rows of weights are far apart: nothing but this asks for them in time.
                    ahead(values, (depth + AHEAD) * pitch + self.rows.start, rows);
                    for row in (0..rows).step_by(group) {
                        let to = &mut to[row / group * step + index * group..][..group];
                        let count = group.min(rows - row);
                        if count < group {
                            to[count..].fill(0.0);
                        }
                        let first = self.rows.start + row;
                        match chosen {
                            None if count == group => {
                                // SAFETY: slices of a group, which is whole vectors.
                                unsafe { copy_over::<S>(from[first..first + group].as_ptr(), to.as_mut_ptr(), group) };
                            }
                            None => to[..count].copy_from_slice(&from[first..first + count]),
                            Some(chosen) => {
                                for (to, &index) in to.iter_mut().zip(&chosen[first..first + count]) {
                                    *to = from[index];
                                }
                            }
                        }
                    }
                }
            }
            Left::Packed(_) => {}
        }
    }

    /// Writes sums to maps.
    ///
    /// # Safety
    /// `sums` holds these columns; their places in the target are this task's.
    #[inline(always)]
    unsafe fn maps<S: Simd>(&self, sums: &mut [f32], pitch: usize, columns: Range<usize>, area: usize, bias: Option<&[f32]>) {
        let Product { rows: channels, target, .. } = *self.product;
        if let Some(bias) = bias {
            for row in 0..self.rows.len() {
                let bias = bias[self.rows.start + row];
                sums[row * pitch..][..columns.len()].iter_mut().for_each(|sum| *sum += bias);
            }
        }
        // SAFETY: as the caller promises.
        unsafe {
            let squares = columns.len() / lanes::<S>() * lanes::<S>();
            if area == 1 && self.rows.len().is_multiple_of(lanes::<S>()) && squares == columns.len() {
                for row in (0..self.rows.len()).step_by(lanes::<S>()) {
                    let to = target.at(columns.start * channels + self.rows.start + row);
                    transpose::<S, f32, f32>(sums.as_ptr().add(row * pitch), pitch, squares, to, channels);
                }
                return;
            }
            if area == 1 {
                for (index, image) in columns.enumerate() {
                    let to = target.at(image * channels + self.rows.start);
                    for row in 0..self.rows.len() {
                        to.add(row).write(*sums.get_unchecked(row * pitch + index));
                    }
                }
                return;
            }
            for run in runs(columns, area, usize::MAX) {
                let (image, position) = (run.position / area, run.position % area);
                for row in 0..self.rows.len() {
                    let to = target.at((image * channels + self.rows.start + row) * area + position);
                    copy_exact::<S>(sums.as_ptr().add(row * pitch + run.at), to, run.len);
                }
            }
        }
    }

    /// Adds sums to the pixels they belong to.
    ///
    /// # Safety
    /// `sums` holds all columns; rows are whole channels, whose planes in the target are this task's.
    #[inline(always)]
    unsafe fn pixels(&self, sums: &[f32], pitch: usize, places: &Places) {
        let Places { images, channels, pixels, taps, positions, .. } = *places;
        let (area, own) = (positions / images, self.rows.start / taps..self.rows.end / taps);
        for image in 0..images {
            // SAFETY: planes of these channels, side by side, and places of pixels in them: those of the first image, moved.
            unsafe {
                let to = self.product.target.at((image * channels + own.start) * pixels);
                std::slice::from_raw_parts_mut(to, own.len() * pixels).fill(0.0);
                for channel in 0..own.len() {
                    for tap in 0..taps {
                        let sums = sums.as_ptr().add((channel * taps + tap) * pitch + image * area);
                        let places = places.places.as_ptr().add(tap * positions);
                        for position in 0..area {
                            let (place, mask) = *places.add(position);
                            if mask != 0 {
                                *to.add(channel * pixels + place) += *sums.add(position);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Asks for `len` values from `at` on, which will be read soon.
#[inline(always)]
fn ahead(values: &[f32], at: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if at + len <= values.len() {
        for line in (0..len).step_by(MAX_LANES) {
            // SAFETY: inside the slice; nothing is read.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(values.as_ptr().add(at + line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at, len);
}

/// Writes a tile to rows `pitch` apart, or adds it.
///
/// # Safety
/// Those values are there, and the caller's.
#[inline(always)]
unsafe fn add<S: Simd, const M: usize, const V: usize>(tile: &[[Lanes<S>; V]; M], to: *mut f32, pitch: usize, first: bool) {
    for m in 0..M {
        for v in 0..V {
            // SAFETY: as the caller promises.
            unsafe {
                let to = to.add(m * pitch + v * lanes::<S>());
                let sum = if first { tile[m][v] } else { vload_unaligned::<S, f32>(to) + tile[m][v] };
                vstore_unaligned(to, sum);
            }
        }
    }
}

/// The output.
pub(super) fn forward(shape: &ConvShape, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Block {
    let places = &Places::input(shape);
    let right = &by_row(places, input);
    let mut output = Output::new(shape.output_len());
    let chosen = places.chosen();
    let left = Left::ByRow(Weights { values: weight, pitch: places.channels * places.kernel, chosen: chosen.as_deref() });
    let finish = Finish::Maps { area: shape.result[0] * shape.result[1], bias };
    let (rows, columns, depth, target) = (shape.outputs, places.positions, places.rows(), output.pointer());
    // SAFETY: the whole output, written in full.
    unsafe {
        Product { rows, columns, depth, left, right, pitch: depth, finish, target }.run();
        output.finish()
    }
}

/// The gradient with respect to the input.
pub(super) fn input_gradient(shape: &ConvShape, gradient: &[f32], weight: &[f32]) -> Block {
    let places = &Places::input(shape);
    let right = &by_row(&Places::output(shape), gradient);
    let mut output = Output::new(shape.input_len());
    let chosen = places.chosen();
    let left = Left::ByDepth(Weights { values: weight, pitch: places.channels * places.kernel, chosen: chosen.as_deref() });
    let finish = if places.identity { Finish::Maps { area: places.pixels, bias: None } } else { Finish::Pixels(places) };
    let (rows, columns, depth, target) = (places.rows(), places.positions, shape.outputs, output.pointer());
    // SAFETY: the whole input's gradient, written in full.
    unsafe {
        Product { rows, columns, depth, left, right, pitch: depth, finish, target }.run();
        output.finish()
    }
}

/// The gradient with respect to the weight.
pub(super) fn weight_gradient(shape: &ConvShape, input: &[f32], gradient: &[f32]) -> Block {
    let places = &Places::input(shape);
    let right = &by_position(places, input, false);
    let left = Left::Packed(&by_position(&Places::output(shape), gradient, true));
    let (rows, columns, depth) = (shape.outputs, places.rows(), places.positions);
    let (width, chosen) = (places.channels * places.kernel, places.chosen());
    let mut output = Output::new(rows * width);
    let target = output.pointer();
    let finish = Finish::Matrix { pitch: width, chosen: chosen.as_deref() };
    // SAFETY: the whole weight's gradient, written in full.
    unsafe {
        Product { rows, columns, depth, left, right, pitch: padded(depth), finish, target }.run();
        output.finish()
    }
}
