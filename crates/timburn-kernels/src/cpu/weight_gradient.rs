//! The weight gradient: the output's gradient times what the taps see, a sum of outer products over positions.
//!
//! Positions are divided into chunks by the shapes alone, and the chunks' sums are added in order: results do not depend on the number
//! of threads.

use std::ops::Range;

use macerator::{Simd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::memory::Block;
use super::tile::{Lanes, MAX_LANES, VECTORS, copy_exact, lanes, many_registers, outer};
use super::transpose::transpose;
use super::window::{Reach, Source, Window, runs};
use crate::level::AutoArch;

/// Positions of one block: what keeps a panel of it in the first-level cache.
const POSITIONS: usize = 192;
/// Output channels, and channels times taps, of one task: what keeps a block of either in the second-level cache.
const OUTPUTS: usize = 128;
const ROWS: usize = 160;
/// Independent sums wanted, so that many threads find work.
const TASKS: usize = 48;

/// Values of the total that one task adds up.
const PIECE: usize = 4096;

/// `Σ gradient[n, g · outputs + o, p] · source[n, g · channels + c, p · stride + taps[t]]` as `[g][o][c][t]`.
pub(crate) struct WeightGradient<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) gradient: Source<'a>,
    pub(crate) images: usize,
    pub(crate) groups: usize,
    pub(crate) reach: &'a Reach,
}

impl WeightGradient<'_> {
    fn outputs(&self) -> usize {
        self.gradient.channels / self.groups
    }

    fn channels(&self) -> usize {
        self.source.channels / self.groups
    }

    /// The gradient.
    pub(crate) fn run(&self) -> Block {
        let (outputs, channels, taps) = (self.outputs(), self.channels(), self.reach.taps.len());
        let positions = self.images * self.reach.area();
        let output_parts = outputs.div_ceil(OUTPUTS);
        let channel_parts = channels.div_ceil((ROWS / taps).max(1));
        let parts = self.groups * output_parts * channel_parts;
        let blocks = positions.div_ceil(POSITIONS);
        let chunks = TASKS.div_ceil(parts).clamp(1, blocks);
        let len = self.groups * outputs * channels * taps;
        let mut sums = Output::new(chunks * len);
        let pointer = sums.pointer();
        (0..chunks * parts).into_par_iter().for_each(|task| {
            let (chunk, part) = (task / parts, task % parts);
            let (group, part) = (part / (output_parts * channel_parts), part % (output_parts * channel_parts));
            let (output, channel) = (part / channel_parts, part % channel_parts);
            AutoArch::new().dispatch(Task {
                job: self,
                group,
                outputs: outputs * output / output_parts..outputs * (output + 1) / output_parts,
                channels: channels * channel / channel_parts..channels * (channel + 1) / channel_parts,
                blocks: blocks * chunk / chunks..blocks * (chunk + 1) / chunks,
                sums: pointer,
                offset: chunk * len,
            });
        });
        // SAFETY: the tasks cover all chunks, groups, outputs and channels, and each writes its part.
        let sums = unsafe { sums.finish() };
        total(sums, chunks, len)
    }
}

/// The sum of chunks of `len` values each, in their order.
pub(super) fn total(sums: Block, chunks: usize, len: usize) -> Block {
    if chunks == 1 {
        return sums;
    }
    let mut total = Output::new(len);
    let pointer = total.pointer();
    (0..len.div_ceil(PIECE)).into_par_iter().for_each(|piece| {
        let (first, count) = (piece * PIECE, (len - piece * PIECE).min(PIECE));
        let part = |chunk: usize| &sums[chunk * len + first..][..count];
        // SAFETY: this piece of the total, which is written first.
        let total = unsafe {
            std::ptr::copy_nonoverlapping(part(0).as_ptr(), pointer.at(first), count);
            std::slice::from_raw_parts_mut(pointer.at(first), count)
        };
        for chunk in 1..chunks {
            total.iter_mut().zip(part(chunk)).for_each(|(total, &value)| *total += value);
        }
    });
    // SAFETY: every piece was written.
    unsafe { total.finish() }
}

struct Task<'a> {
    job: &'a WeightGradient<'a>,
    group: usize,
    outputs: Range<usize>,
    channels: Range<usize>,
    blocks: Range<usize>,
    sums: Shared,
    offset: usize,
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
        let WeightGradient { source, gradient, images, reach, .. } = self.job;
        let (area, taps) = (reach.area(), reach.taps.len());
        let positions = images * area;
        let rows = self.channels.len() * taps;
        // Both sides are transposed in groups of as many rows as a vector has lanes; a tile reads a part of a group of outputs.
        let group = lanes::<S>().max(M);
        let (padded_rows, padded_outputs) = (rows.next_multiple_of(lanes::<S>()), self.outputs.len().next_multiple_of(group));
        // One line more than the positions, lest all rows start in the same set of the cache.
        let longest = positions.min(POSITIONS).next_multiple_of(MAX_LANES);
        let pitch = longest + MAX_LANES;
        let plane = Window::bound(source, reach, longest);
        let first_channel = self.group * self.job.channels();
        let first_output = self.group * self.job.outputs();
        let line_rows = padded_rows.max(group);
        let sizes = [line_rows * pitch + MAX_LANES, padded_outputs * longest, padded_rows * longest, padded_outputs * padded_rows];
        let mut scratch = Scratch::new(sizes.iter().sum::<usize>() + self.channels.len() * plane + MAX_LANES);
        let scratch = scratch.values();
        let (lines, scratch) = scratch.split_at_mut(sizes[0]);
        let (left, scratch) = scratch.split_at_mut(sizes[1]);
        let (right, scratch) = scratch.split_at_mut(sizes[2]);
        let (sums, pixels) = scratch.split_at_mut(sizes[3]);
        sums.fill(0.0);
        for block in self.blocks.clone() {
            let range = block * POSITIONS..positions.min((block + 1) * POSITIONS);
            let depth = range.len();
            let padded_depth = depth.next_multiple_of(MAX_LANES);
            for first in (0..padded_outputs).step_by(group) {
                for row in 0..group {
                    let line = &mut lines[row * pitch..][..padded_depth];
                    // Rows past the last are multiplied too; what they give is not kept, but stale values may be slow ones.
                    if first + row >= self.outputs.len() {
                        line.fill(0.0);
                        continue;
                    }
                    let output = first_output + self.outputs.start + first + row;
                    for run in runs(range.clone(), area, usize::MAX) {
                        let (image, position) = (run.position / area, run.position % area);
                        let plane = (image * gradient.channels + output) * area;
                        let (from, to) = (&gradient.values[plane + position..][..run.len], &mut line[run.at..run.at + run.len]);
                        // SAFETY: slices of the same length.
                        unsafe { copy_exact::<S>(from.as_ptr(), to.as_mut_ptr(), run.len) };
                    }
                }
                for row in (0..group).step_by(lanes::<S>()) {
                    // SAFETY: a group of lines, and its place in `left`: `longest` times `group` values for each.
                    unsafe {
                        let to = left.as_mut_ptr().add(first * longest + row);
                        transpose::<S>(lines.as_ptr().add(row * pitch), pitch, padded_depth, to, group);
                    }
                }
            }
            let window = Window::new(*source, reach, range, usize::MAX);
            let seen = first_channel + self.channels.start..first_channel + self.channels.end;
            window.fill::<S>(seen.clone(), pixels);
            // SAFETY: `lines` has `rows` rows of `pitch` and a vector more; `pixels` holds these channels and a vector more.
            unsafe { window.rows::<S>(window.runs(), 0, seen, pixels, lines.as_mut_ptr(), pitch) };
            for row in rows..padded_rows {
                lines[row * pitch..][..padded_depth].fill(0.0);
            }
            let panels = || (0..padded_rows).step_by(VECTORS * lanes::<S>());
            for panel in panels() {
                let width = (padded_rows - panel).min(VECTORS * lanes::<S>());
                for row in (0..width).step_by(lanes::<S>()) {
                    // SAFETY: a vector's width of rows, and its place in `right`: `longest` times `width` values for each panel.
                    unsafe {
                        let to = right.as_mut_ptr().add(panel * longest + row);
                        transpose::<S>(lines.as_ptr().add((panel + row) * pitch), pitch, padded_depth, to, width);
                    }
                }
            }
            for panel in panels() {
                let width = (padded_rows - panel).min(VECTORS * lanes::<S>());
                for output in (0..self.outputs.len()).step_by(M) {
                    // SAFETY: packed just above; a tile of `sums`.
                    unsafe {
                        let a = left.as_ptr().add(output / group * group * longest + output % group);
                        let b = right.as_ptr().add(panel * longest);
                        let to = sums.as_mut_ptr().add(output * padded_rows + panel);
                        match width / lanes::<S>() {
                            1 => add::<S, M, 1>(&outer(depth, a, group, b), to, padded_rows),
                            2 => add::<S, M, 2>(&outer(depth, a, group, b), to, padded_rows),
                            _ => add::<S, M, 3>(&outer(depth, a, group, b), to, padded_rows),
                        }
                    }
                }
            }
        }
        for (row, output) in self.outputs.clone().enumerate() {
            let target = ((first_output + output) * self.job.channels() + self.channels.start) * taps;
            // SAFETY: this task's outputs and channels in its chunk; `rows` values are there.
            unsafe {
                let to = self.sums.at(self.offset + target);
                std::ptr::copy_nonoverlapping(sums[row * padded_rows..].as_ptr(), to, rows);
            }
        }
    }
}

/// Adds a tile to rows `pitch` apart.
///
/// # Safety
/// Those values are there, and the caller's.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]
unsafe fn add<S: Simd, const M: usize, const V: usize>(tile: &[[Lanes<S>; V]; M], to: *mut f32, pitch: usize) {
    for m in 0..M {
        for v in 0..V {
            // SAFETY: as the caller promises.
            unsafe {
                let to = to.add(m * pitch + v * lanes::<S>());
                vstore_unaligned(to, vload_unaligned::<S, f32>(to) + tile[m][v]);
            }
        }
    }
}
