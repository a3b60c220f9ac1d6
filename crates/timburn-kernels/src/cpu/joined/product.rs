//! The matrix product, and where it goes.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::{Simd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::super::buffer::{Scratch, Shared};
use super::super::memory::Block;
use super::super::tile::{Lanes, MAX_LANES, copy_exact, copy_over, lanes, many_registers, outer};
use super::super::transpose::transpose;
use super::super::window::runs;
use super::factor::{Panels, group};
use super::places::Places;
use crate::level::AutoArch;

/// Depth of the products of one pass: what keeps a panel in the first-level cache.
const DEPTH: usize = 192;
/// Rows, and at most so many panels of columns, of one task: their sums stay in the second-level cache.
const ROWS: usize = 64;
const PANELS: usize = 9;
/// Rows of weights from the one that is packed to the one that is asked for.
const AHEAD: usize = 8;

/// The left factor.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// `[row][depth]`: weights `[outputs, pitch]`, of which those chosen count.
    ByRow(Weights<'a>),
    /// `[depth][row]`, likewise.
    ByDepth(Weights<'a>),
    /// [`by_position`].
    Packed(&'a Block),
}

#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) values: &'a [f32],
    pub(super) pitch: usize,
    pub(super) chosen: Option<&'a [usize]>,
}

/// Where the product goes.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// Rows are channels, columns positions of maps `[images, channels, area]`; a bias is added.
    Maps { area: usize, bias: Option<&'a [f32]> },
    /// Columns are added to the pixels that they saw; the planes of a channel are cleared first.
    Pixels(&'a Places),
    /// `[rows, columns]`, or rows of `pitch` of which those chosen are written, and zeros between.
    Matrix { pitch: usize, chosen: Option<&'a [usize]> },
}

/// `left[rows, depth] · right[depth, columns]`.
pub(super) struct Product<'a> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) left: Left<'a>,
    pub(super) right: &'a Block,
    /// Values of a panel's column.
    pub(super) pitch: usize,
    pub(super) finish: Finish<'a>,
    pub(super) target: Shared,
}

impl Product<'_> {
    /// Computes and writes all.
    ///
    /// # Safety
    /// The target has room for what `finish` says, and nobody else touches it.
    pub(super) unsafe fn run(&self) {
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
