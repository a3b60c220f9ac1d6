//! The weight gradient: dot products of the output's gradient with what the taps see.
//!
//! Positions are divided into chunks by the shapes alone, and the chunks' sums are added in order: results do not depend on the number
//! of threads.

use std::ops::Range;

use macerator::{AutoArch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::tile::{MAX_LANES, copy_exact, dots, lanes, many_registers};
use super::window::{Reach, Source, Window, runs};

/// Positions of one block: long enough that adding up the lanes at its end costs little.
const POSITIONS: usize = 1024;
/// Output channels, and channels times taps, of one block.
const OUTPUTS: usize = 64;
const ROWS: usize = 96;
/// Independent sums wanted, so that many threads find work.
const TASKS: usize = 48;

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
    pub(crate) fn run(&self) -> Vec<f32> {
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
        let mut sums = unsafe { sums.finish() };
        if chunks > 1 {
            let (total, rest) = sums.split_at_mut(len);
            total.par_chunks_mut(4096).enumerate().for_each(|(index, total)| {
                for chunk in rest.chunks_exact(len) {
                    for (sum, &value) in total.iter_mut().zip(&chunk[index * 4096..]) {
                        *sum += value;
                    }
                }
            });
            sums.truncate(len);
            sums.shrink_to_fit();
        }
        sums
    }
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
            self.run::<S, 4, 6>();
        } else {
            self.run::<S, 4, 3>();
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const N: usize>(self) {
        let WeightGradient { source, gradient, images, reach, .. } = self.job;
        let (area, taps) = (reach.area(), reach.taps.len());
        let positions = images * area;
        let rows = self.channels.len() * taps;
        let (padded_rows, padded_outputs) = (rows.next_multiple_of(N), self.outputs.len().next_multiple_of(M));
        // One line more than the positions, lest all rows start in the same set of the cache.
        let pitch = POSITIONS + MAX_LANES;
        let longest = positions.min(POSITIONS);
        let plane = Window::bound(source, reach, longest);
        let first_channel = self.group * self.job.channels();
        let first_output = self.group * self.job.outputs();
        let sizes = [padded_outputs * pitch + MAX_LANES, padded_rows * pitch + MAX_LANES, padded_outputs * padded_rows];
        let mut scratch = Scratch::new(sizes.iter().sum::<usize>() + self.channels.len() * plane + MAX_LANES);
        let scratch = scratch.values();
        let (left, scratch) = scratch.split_at_mut(sizes[0]);
        let (right, scratch) = scratch.split_at_mut(sizes[1]);
        let (sums, pixels) = scratch.split_at_mut(sizes[2]);
        // Rows past the last are multiplied too; what they give is not kept, but stale values may be slow ones.
        left.fill(0.0);
        right.fill(0.0);
        sums.fill(0.0);
        for block in self.blocks.clone() {
            let range = block * POSITIONS..positions.min((block + 1) * POSITIONS);
            let depth = range.len().div_ceil(lanes::<S>());
            let (tail, end) = (range.len(), depth * lanes::<S>());
            for (row, output) in self.outputs.clone().enumerate() {
                let row = &mut left[row * pitch..];
                for run in runs(range.clone(), area, usize::MAX) {
                    let (image, position) = (run.position / area, run.position % area);
                    let plane = (image * gradient.channels + first_output + output) * area;
                    let (from, to) = (&gradient.values[plane + position..][..run.len], &mut row[run.at..run.at + run.len]);
                    // SAFETY: slices of the same length.
                    unsafe { copy_exact::<S>(from.as_ptr(), to.as_mut_ptr(), run.len) };
                }
                row[tail..end].fill(0.0);
            }
            let window = Window::new(*source, reach, range, usize::MAX);
            let seen = first_channel + self.channels.start..first_channel + self.channels.end;
            window.fill::<S>(seen.clone(), pixels);
            // SAFETY: `right` has `rows` rows of `pitch` and a vector more; `pixels` holds these channels and a vector more.
            unsafe { window.rows::<S>(window.runs(), 0, seen, pixels, right.as_mut_ptr(), pitch) };
            for row in 0..rows {
                right[row * pitch + tail..row * pitch + end].fill(0.0);
            }
            for row in (0..padded_rows).step_by(N) {
                for output in (0..padded_outputs).step_by(M) {
                    // SAFETY: M rows of `left` and N of `right`, each of `depth` vectors.
                    let tile: [[f32; N]; M] =
                        unsafe { dots::<S, M, N>(depth, left.as_ptr().add(output * pitch), right.as_ptr().add(row * pitch), pitch) };
                    for (m, tile) in tile.iter().enumerate() {
                        for (sum, &value) in sums[(output + m) * padded_rows + row..].iter_mut().zip(tile) {
                            *sum += value;
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
