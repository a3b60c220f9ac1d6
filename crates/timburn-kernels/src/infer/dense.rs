//! Convolution as a matrix product over the taps, without a matrix: a tile of output pixels times two blocks of output channels.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::{Buffer, Shared};
use super::conv::{ConvSpec, Job, taps};
use super::element::Product;
use super::map::Part;
use super::tile::{Finish, LINE_BYTES, Residual, Run, Tiles, most_pixels};
use super::{Element, vector_lanes};

/// Bytes of weights that are used on all of a task's pixels before the next: a part of a core's second-level cache.
const WEIGHTS: usize = 320 << 10;
/// Bytes of input that a task works on: likewise.
const INPUT: usize = 384 << 10;
/// Most bytes of input that each task reads as a whole, where there are more weights than that.
const FEW: usize = 512 << 10;
/// Blocks of pixels that are fetched ahead: the first to see an input block waits for another core's cache, or for memory.
const NEAR: usize = 2;
/// Tasks per thread when there is enough to do: threads are not equally fast.
const TASKS: usize = 4;
/// Fewest multiplications of a task: less is not worth handing over.
const GRAIN: usize = 1 << 19;
/// Most tiles of a span.
pub(super) const SPAN: usize = 8;

/// Packed weights of a dense or grouped convolution.
#[derive(Debug)]
pub(super) struct Dense<T: Element> {
    panels: Vec<Panel>,
    weights: Buffer<T>,
    /// `[output blocks][lanes]`.
    bias: Buffer,
    /// Channels of an input block, and of the last.
    depth: usize,
    last: usize,
    planar: bool,
}

/// One or two output blocks and the input blocks they see.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) blocks: usize,
    inputs: Range<usize>,
    weights: usize,
}

/// Tiles of one shape side by side in the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
    count: usize,
}

impl<T: Element> Dense<T> {
    pub(super) fn new(spec: &ConvSpec, planar: bool, weight: &[f32], bias: &[f32]) -> Self {
        let lanes = vector_lanes();
        let depth = if planar { 1 } else { lanes };
        let (channels, rows, taps) = (spec.inputs / spec.groups, spec.outputs / spec.groups, spec.kernel[0] * spec.kernel[1]);
        let blocks = spec.outputs.div_ceil(lanes);
        // With groups, two blocks of outputs mostly see different inputs: each is a panel.
        let pair = if spec.groups == 1 { 2 } else { 1 };
        let (mut panels, mut len) = (Vec::new(), 0);
        for first in (0..blocks).step_by(pair) {
            let count = pair.min(blocks - first);
            let last_output = ((first + count) * lanes).min(spec.outputs) - 1;
            let inputs = first * lanes / rows * channels / depth..((last_output / rows + 1) * channels).div_ceil(depth);
            let channels = spec.inputs.min(inputs.end * depth) - inputs.start * depth;
            // In a planar map an instruction multiplies taps side by side, in a blocked one channels.
            let size = lanes
                * if planar {
                    channels * spec.kernel[0] * spec.kernel[1].next_multiple_of(T::GROUP)
                } else {
                    channels.next_multiple_of(T::GROUP) * taps
                };
            panels.push(Panel { first, blocks: count, inputs, weights: len });
            len += count * size;
        }
        let mut packed = Buffer::<T>::beside(len);
        for panel in &panels {
            let outputs = panel.first * lanes..((panel.first + panel.blocks) * lanes).min(spec.outputs);
            let mut at = panel.weights;
            // One after the other, the values of an instruction: what it multiplies with each output's sum.
            let mut pack = |group: &mut dyn Iterator<Item = (usize, usize)>| {
                for (place, (input, tap)) in group.enumerate() {
                    let (group, input) = (input / channels, input % channels);
                    // Outside the output's group the weight stays zero.
                    for output in outputs.start.max(group * rows)..outputs.end.min((group + 1) * rows) {
                        let value = T::from_f32(weight[(output * channels + input) * taps + tap]);
                        packed[at + (output - outputs.start) * T::GROUP + place] = value;
                    }
                }
                at += panel.blocks * lanes * T::GROUP;
            };
            for input in panel.inputs.clone() {
                let inputs = input * depth..((input + 1) * depth).min(spec.inputs);
                if planar {
                    for first in (0..spec.kernel[0]).flat_map(|i| (0..spec.kernel[1]).step_by(T::GROUP).map(move |j| (i, j))) {
                        let row = first.0 * spec.kernel[1];
                        pack(&mut (first.1..spec.kernel[1].min(first.1 + T::GROUP)).map(|j| (input, row + j)));
                    }
                } else {
                    for tap in 0..taps {
                        for first in inputs.clone().step_by(T::GROUP) {
                            pack(&mut (first..inputs.end.min(first + T::GROUP)).map(|input| (input, tap)));
                        }
                    }
                }
            }
        }
        let mut padded = Buffer::zeros(blocks * lanes);
        padded[..bias.len()].copy_from_slice(bias);
        Self { panels, weights: packed, bias: padded, depth, last: (spec.inputs - 1) % depth + 1, planar }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.bias)
    }

    /// Groups of channels of an input block that has `channels` channels.
    #[inline(always)]
    fn groups(&self, channels: usize) -> usize {
        channels.div_ceil(T::GROUP)
    }

    /// Values of a panel's weights for a tap and an input block.
    #[inline(always)]
    fn per_block(&self, panel: &Panel) -> usize {
        self.groups(self.depth) * T::GROUP * panel.blocks * vector_lanes()
    }

    /// A pointwise convolution of `pixels` pixels of all blocks, `[blocks][pixels][lanes]` on both sides, without bias. `cover` covers them.
    ///
    /// # Safety
    /// Input and output have that many values, and the output is the caller's to write.
    pub(super) unsafe fn multiply(&self, cover: &[Span], pixels: usize, input: *const T, output: *mut f32) {
        let lanes = vector_lanes();
        let depth = [self.groups(self.depth), self.groups(self.last)];
        for panel in &self.panels {
            let per_block = self.per_block(panel);
            let weights = &self.weights[panel.weights..];
            let len = panel.inputs.len() * per_block;
            let lines = (size_of::<T>() * per_block).div_ceil(LINE_BYTES).div_ceil(pixels.div_ceil(most_pixels()).max(1));
            let mut ahead = weights.as_ptr().wrapping_add(len);
            let stop = ahead.wrapping_add(len);
            for span in cover {
                let Some(run): Option<Run<T, f32>> = T::kernel(1, span.columns, panel.blocks, 1, false) else { continue };
                let tiles = Tiles {
                    count: span.count,
                    // SAFETY: a pixel of the input.
                    input: unsafe { input.add(span.column * lanes) },
                    input_row: 0,
                    input_block: pixels * lanes,
                    blocks: panel.inputs.len(),
                    depth,
                    taps: &[0],
                    weights: weights.as_ptr(),
                    ahead,
                    ahead_lines: if ahead < stop { lines } else { 0 },
                    near: 0,
                    bias: Some(self.bias[panel.first * lanes..].as_ptr()),
                    // SAFETY: a pixel of the output.
                    output: unsafe { output.add((panel.first * pixels + span.column) * lanes) },
                    output_row: 0,
                    output_block: pixels * lanes,
                    finish: None,
                };
                ahead = ahead.wrapping_add(span.count * panel.inputs.len() * lines * LINE_BYTES / size_of::<T>());
                // SAFETY: as the caller promises.
                unsafe { run(&tiles) };
            }
        }
    }

    pub(super) fn run<O: Element>(&self, job: &Job<'_, T, O>, output: &mut [O])
    where
        T: Product<O>,
    {
        let (panels, threads) = (self.panels.len(), rayon::current_num_threads());
        let pixels = job.images * job.output.height * job.output.width;
        // Short enough for even parts.
        let most = (pixels / most_pixels()).div_ceil(2 * TASKS * threads).clamp(1, SPAN);
        let spans = spans(job, self.planar, most);
        let items = job.images * spans.len();
        if items == 0 {
            return;
        }
        let skipped: usize = job.spec.kernel.iter().map(|&taps| (job.spec.stride / taps).max(1)).product();
        let bytes = job.images * job.input.map.image() * size_of::<T>() / skipped;
        let tasks = (pixels * job.spec.multiplications() / GRAIN).clamp(1, TASKS * threads);
        let parts = match size_of_val(&*self.weights) {
            // Weights that stay in the cache: parts of the pixels alone, each read once.
            weights if weights <= WEIGHTS => bytes.div_ceil(INPUT).max(tasks),
            // More weights than pixels, which stay in the cache: parts of the channels alone.
            weights if bytes <= FEW.min(weights) => 1,
            // As many parts of the pixels as threads share evenly, such that their input stays in the cache.
            _ => bytes.div_ceil(INPUT).next_multiple_of(threads),
        };
        let parts = parts.clamp(1, items);
        // Then parts of the channels, until there are tasks for all threads.
        let slices = tasks.div_ceil(parts).clamp(1, panels);
        let group = if self.planar { T::GROUP } else { 1 };
        let (taps, pointer) = (taps(job.spec, job.input.map, group), Shared::from_slice(output));
        let output = Part::whole(job.output);
        let range = |index: usize, of: usize, len: usize| index * len / of..(index + 1) * len / of;
        (0..parts * slices).into_par_iter().with_max_len(1).for_each(|task| {
            for panel in &self.panels[range(task % slices, slices, panels)] {
                self.panel(job, panel, &spans, range(task / slices, parts, items), &taps, output, pointer);
            }
        });
    }

    pub(super) fn panels(&self) -> &[Panel] {
        &self.panels
    }

    /// One panel on some of the spans of all images, counted through. `output` says what of the output is where.
    #[allow(clippy::too_many_arguments, reason = "all of it differs from call to call")]
    pub(super) fn panel<O: Element>(
        &self,
        job: &Job<'_, T, O>,
        panel: &Panel,
        spans: &[Span],
        items: Range<usize>,
        taps: &[usize],
        output: Part<'_>,
        values: Shared<O>,
    ) where
        T: Product<O>,
    {
        let lanes = vector_lanes();
        let (map, stride) = (job.input.map, job.spec.stride);
        let per_block = self.per_block(panel) * taps.len();
        // Sums that are not complete wait in the output, if that keeps them.
        let chunk = if T::KEEPS_SUMS { (WEIGHTS / (size_of::<T>() * per_block)).max(1) } else { panel.inputs.len().max(1) };
        // Where few tiles share the weights, those that come next are fetched while these are used: each tile fetches its part.
        let tiles: usize = items.clone().map(|item| spans[item % spans.len()].count).sum();
        let lines = if self.planar { 0 } else { (size_of::<T>() * self.per_block(panel)).div_ceil(LINE_BYTES).div_ceil(tiles.max(1)) };
        for start in panel.inputs.clone().step_by(chunk) {
            let end = (start + chunk).min(panel.inputs.end);
            let last = (job.spec.inputs - (end - 1) * self.depth).min(self.depth);
            let depth = [self.groups(self.depth), self.groups(last)];
            let weights = &self.weights[panel.weights + (start - panel.inputs.start) * per_block..];
            let mut ahead = weights.as_ptr().wrapping_add((end - start) * per_block);
            let stop = ahead.wrapping_add((end - start) * per_block);
            for item in items.clone() {
                let (image, span) = (item / spans.len(), spans[item % spans.len()]);
                let kernel: Option<Run<T, O>> = T::kernel(span.rows, span.columns, panel.blocks, stride.min(2), self.planar);
                let Some(run) = kernel else { continue };
                // Where rows do not matter, a column may lie in any of them.
                let place = |part: Part<'_>| part.at(image, panel.first, span.row as isize, span.column as isize);
                let (row, column) = job.first(span.row, span.column);
                let residual = job.epilogue.residual.map(|residual| Residual {
                    values: residual.values[place(Part::whole(residual.map))..].as_ptr(),
                    row: residual.map.row(),
                    block: residual.map.plane(),
                });
                let finish = (end == panel.inputs.end).then_some(Finish { activation: job.epilogue.activation, residual });
                let tiles = Tiles {
                    count: span.count,
                    input: job.input.values[Part::whole(map).at(image, start, row, column)..].as_ptr(),
                    input_row: stride * map.row(),
                    input_block: map.plane(),
                    blocks: end - start,
                    depth,
                    taps,
                    weights: weights.as_ptr(),
                    ahead,
                    ahead_lines: if ahead < stop { lines } else { 0 },
                    near: if taps.len() == 1 && !self.planar { NEAR.min(end - start) } else { 0 },
                    bias: (start == panel.inputs.start).then(|| self.bias[panel.first * lanes..].as_ptr()),
                    // SAFETY: a pixel of the output.
                    output: unsafe { values.at(place(output)) },
                    output_row: output.map.row(),
                    output_block: output.map.plane(),
                    finish,
                };
                ahead = ahead.wrapping_add(span.count * (end - start) * taps.len() * lines * LINE_BYTES / size_of::<T>());
                // SAFETY: `Conv::run` has checked that the maps hold all pixels of all spans and, in their border, all that the taps see;
                // a task's spans and panels are its own, so that nobody else touches these outputs.
                unsafe { run(&tiles) };
            }
        }
    }
}

/// Whether rows do not matter: a pointwise convolution on maps without borders sees one long row.
fn is_flat<T: Element, O: Element>(job: &Job<'_, T, O>) -> bool {
    let bare = |map: &super::Map| map.border == super::Border::default();
    let residual = job.epilogue.residual.is_none_or(|residual| bare(residual.map));
    job.spec.kernel == [1, 1] && job.spec.stride == 1 && bare(job.input.map) && bare(job.output) && residual
}

/// Covers a row with tiles as evenly as possible, in spans of at most `most` tiles: a last tile of few pixels would wait for its sums.
pub(super) fn cover(width: usize, most: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut column = 0;
    while column < width {
        let left = width - column;
        let tiles = left.div_ceil(most_pixels());
        let columns = left.div_ceil(tiles);
        let count = if left.is_multiple_of(tiles) { tiles } else { left - (columns - 1) * tiles };
        let count = count.min(most);
        spans.push(Span { row: 0, column, rows: 1, columns, count });
        column += columns * count;
    }
    spans
}

/// Covers an output plane with spans of at most `most` tiles.
fn spans<T: Element, O: Element>(job: &Job<'_, T, O>, planar: bool, most: usize) -> Vec<Span> {
    let (height, width) = if is_flat(job) { (1, job.output.height * job.output.width) } else { (job.output.height, job.output.width) };
    rows_of_spans(0..height, width, job.spec.stride, planar, most)
}

/// Covers some rows of an output plane with spans of at most `most` tiles.
pub(super) fn rows_of_spans(rows: Range<usize>, width: usize, stride: usize, planar: bool, most: usize) -> Vec<Span> {
    let (widest, Range { start: mut row, end: height }) = (most_pixels(), rows);
    let mut spans = Vec::new();
    while row < height {
        let two = !planar && stride <= 2 && row + 1 < height && (2..=widest / 2).contains(&width);
        let rows = if two { 2 } else { 1 };
        if stride > 2 {
            // Single pixels: there is no kernel for several at this distance.
            spans.extend((0..width).map(|column| Span { row, column, rows, columns: 1, count: 1 }));
        } else if planar {
            let mut column = 0;
            while column < width {
                // Only even numbers of columns have kernels.
                let columns = (width - column).min(widest);
                let columns = if columns > 1 { columns & !1 } else { 1 };
                let count = ((width - column) / columns).min(most);
                spans.push(Span { row, column, rows, columns, count });
                column += columns * count;
            }
        } else {
            spans.extend(cover(width, most).into_iter().map(|span| Span { row, rows, ..span }));
        }
        row += rows;
    }
    spans
}
