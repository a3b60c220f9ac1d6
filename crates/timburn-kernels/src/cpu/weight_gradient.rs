//! The weight gradient: the output's gradient times what the taps see, a sum of outer products over positions.
//!
//! Positions are divided into chunks by the shapes alone, and the chunks' sums are added in order: results do not depend on the number
//! of threads.

use std::marker::PhantomData;
use std::ops::Range;

use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::element::{Element, cast, copy};
use super::memory::Block;
use super::operand::Operand;
use super::tile::{MAX_LANES, VECTORS, lanes, many_registers};
use super::transpose::transpose;
use super::window::{Reach, Source, Window, runs};
use crate::level::AutoArch;

/// Steps of one block of positions: what keeps a panel of it in the first-level cache.
const STEPS: usize = 192;
/// Output channels, and channels times taps, of one task: what keeps a block of either in the second-level cache.
const OUTPUTS: usize = 128;
const ROWS: usize = 160;
/// Independent sums wanted, so that many threads find work.
const TASKS: usize = 48;

/// Values of the total that one task adds up.
const PIECE: usize = 4096;

/// `Σ gradient[n, g · outputs + o, p] · source[n, g · channels + c, p · stride + taps[t]]` as `[g][o][c][t]`.
pub(crate) struct WeightGradient<'a, T> {
    pub(crate) source: Source<'a, T>,
    pub(crate) gradient: Source<'a, T>,
    pub(crate) images: usize,
    pub(crate) groups: usize,
    pub(crate) reach: &'a Reach,
}

impl<T: Element> WeightGradient<'_, T> {
    fn outputs(&self) -> usize {
        self.gradient.channels / self.groups
    }

    fn channels(&self) -> usize {
        self.source.channels / self.groups
    }

    /// The gradient, by products of `P`.
    pub(super) fn run<P: Operand>(&self) -> Block {
        let (outputs, channels, taps) = (self.outputs(), self.channels(), self.reach.taps.len());
        let positions = self.images * self.reach.area();
        let output_parts = outputs.div_ceil(OUTPUTS);
        let channel_parts = channels.div_ceil((ROWS / taps).max(1));
        let parts = self.groups * output_parts * channel_parts;
        let blocks = positions.div_ceil(P::VALUES * STEPS);
        let chunks = TASKS.div_ceil(parts).clamp(1, blocks);
        let len = self.groups * outputs * channels * taps;
        let mut sums = Output::new(chunks * len);
        let pointer = sums.pointer();
        (0..chunks * parts).into_par_iter().for_each(|task| {
            let (chunk, part) = (task / parts, task % parts);
            let (group, part) = (part / (output_parts * channel_parts), part % (output_parts * channel_parts));
            let (output, channel) = (part / channel_parts, part % channel_parts);
            AutoArch::new().dispatch(Task::<T, P> {
                of: PhantomData,
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

struct Task<'a, T, P> {
    of: PhantomData<P>,
    job: &'a WeightGradient<'a, T>,
    group: usize,
    outputs: Range<usize>,
    channels: Range<usize>,
    blocks: Range<usize>,
    sums: Shared,
    offset: usize,
}

impl<T: Element, P: Operand> WithSimd for Task<'_, T, P> {
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

impl<T: Element, P: Operand> Task<'_, T, P> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self) {
        let WeightGradient { source, gradient, images, reach, .. } = self.job;
        let (area, taps) = (reach.area(), reach.taps.len());
        let positions = images * area;
        let rows = self.channels.len() * taps;
        // Both sides are transposed in groups of as many rows as a vector has lanes; a tile reads a part of a group of outputs.
        let group = lanes::<S>().max(M);
        let (padded_rows, padded_outputs) = (rows.next_multiple_of(lanes::<S>()), self.outputs.len().next_multiple_of(group));
        // Lines are sequences of positions; `longest` and `pitch` count steps, of one position or two. A line of the cache more than they need,
        // lest all rows start in the same set of the cache.
        let most = P::VALUES * STEPS;
        let longest = positions.min(most).div_ceil(P::VALUES).next_multiple_of(MAX_LANES);
        let pitch = longest + MAX_LANES;
        let plane = Window::bound(source, reach, P::VALUES * longest);
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
        let (lines, pixels) = (cast::<P>(lines), cast::<P>(pixels));
        sums.fill(0.0);
        for block in self.blocks.clone() {
            let range = block * most..positions.min((block + 1) * most);
            let steps = range.len().div_ceil(P::VALUES);
            let (padded_steps, line) = (steps.next_multiple_of(MAX_LANES), P::VALUES * pitch);
            let padded = P::VALUES * padded_steps;
            for first in (0..padded_outputs).step_by(group) {
                for row in 0..group {
                    let line = &mut lines[row * line..][..padded];
                    line[range.len()..].fill(P::default());
                    // Rows past the last are multiplied too; what they give is not kept, but stale values may be slow ones.
                    if first + row >= self.outputs.len() {
                        line.fill(P::default());
                        continue;
                    }
                    let output = first_output + self.outputs.start + first + row;
                    for run in runs(range.clone(), area, usize::MAX) {
                        let (image, position) = (run.position / area, run.position % area);
                        let plane = (image * gradient.channels + output) * area;
                        let (from, to) = (&gradient.values[plane + position..][..run.len], &mut line[run.at..run.at + run.len]);
                        // SAFETY: slices of the same length.
                        unsafe { copy::<S, T, P>(from.as_ptr(), to.as_mut_ptr(), run.len) };
                    }
                }
                for row in (0..group).step_by(lanes::<S>()) {
                    // SAFETY: a group of lines as steps, and its place in `left`: `longest` times `group` values for each.
                    unsafe {
                        let to = left.as_mut_ptr().add(first * longest + row);
                        transpose::<S, f32, f32>(lines.as_ptr().add(row * line).cast(), pitch, padded_steps, to, group);
                    }
                }
            }
            let window = Window::new(*source, reach, range.clone(), usize::MAX);
            let seen = first_channel + self.channels.start..first_channel + self.channels.end;
            window.fill::<S, P>(seen.clone(), pixels);
            // SAFETY: `lines` has `rows` rows of `line` and a vector more; `pixels` holds these channels and a vector more.
            unsafe { window.rows::<S, P>(window.runs(), 0, seen, pixels, lines.as_mut_ptr(), line) };
            if !range.len().is_multiple_of(P::VALUES) {
                // The other half of the last pair: it meets a zero, and must be finite.
                (0..rows).for_each(|row| lines[row * line + range.len()] = P::default());
            }
            for row in rows..padded_rows {
                lines[row * line..][..padded].fill(P::default());
            }
            let panels = || (0..padded_rows).step_by(VECTORS * lanes::<S>());
            for panel in panels() {
                let width = (padded_rows - panel).min(VECTORS * lanes::<S>());
                for row in (0..width).step_by(lanes::<S>()) {
                    // SAFETY: a vector's width of rows, and its place in `right`: `longest` times `width` values for each panel.
                    unsafe {
                        let to = right.as_mut_ptr().add(panel * longest + row);
                        transpose::<S, f32, f32>(lines.as_ptr().add((panel + row) * line).cast(), pitch, padded_steps, to, width);
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
                            1 => P::add::<S, M, 1>(steps, a, group, b, to, padded_rows, false),
                            2 => P::add::<S, M, 2>(steps, a, group, b, to, padded_rows, false),
                            _ => P::add::<S, M, 3>(steps, a, group, b, to, padded_rows, false),
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
