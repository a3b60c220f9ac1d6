//! Convolution as a matrix product over the taps, without a matrix: a tile of output pixels times two blocks of output channels.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::conv::{ConvSpec, Job, taps};
use super::map::Part;
use super::tile::{Finish, LINE, Residual, Run, Tiles, kernel, most_pixels};
use super::vector_lanes;
use crate::cpu::buffer::Shared;

/// Bytes of weights that are used on all of a task's pixels before the next: a part of a core's second-level cache.
const WEIGHTS: usize = 320 << 10;
/// Bytes of input that a task works on: likewise.
const INPUT: usize = 384 << 10;
/// Tasks per thread when there is enough to do: threads are not equally fast.
const TASKS: usize = 4;
/// Fewest multiplications of a task: less is not worth handing over.
const GRAIN: usize = 1 << 19;
/// Most tiles of a span.
const SPAN: usize = 8;

/// Packed weights of a dense or grouped convolution.
#[derive(Debug)]
pub(super) struct Dense {
    panels: Vec<Panel>,
    weights: Buffer,
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

impl Dense {
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
            let size = (spec.inputs.min(inputs.end * depth) - inputs.start * depth) * taps * lanes;
            panels.push(Panel { first, blocks: count, inputs, weights: len });
            len += count * size;
        }
        let mut packed = Buffer::zeros(len);
        for panel in &panels {
            let mut at = panel.weights;
            for input in panel.inputs.clone() {
                let inputs = input * depth..((input + 1) * depth).min(spec.inputs);
                for tap in 0..taps {
                    for input in inputs.clone() {
                        let (group, input) = (input / channels, input % channels);
                        let outputs = panel.first * lanes..((panel.first + panel.blocks) * lanes).min(spec.outputs);
                        // Outside the output's group the weight stays zero.
                        for output in outputs.start.max(group * rows)..outputs.end.min((group + 1) * rows) {
                            packed[at + output - outputs.start] = weight[(output * channels + input) * taps + tap];
                        }
                        at += panel.blocks * lanes;
                    }
                }
            }
        }
        let mut padded = Buffer::zeros(blocks * lanes);
        padded[..bias.len()].copy_from_slice(bias);
        Self { panels, weights: packed, bias: padded, depth, last: (spec.inputs - 1) % depth + 1, planar }
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// A pointwise convolution of `pixels` pixels of all blocks, `[blocks][pixels][lanes]` on both sides, without bias. `cover` covers them.
    ///
    /// # Safety
    /// Input and output have that many values, and the output is the caller's to write.
    pub(super) unsafe fn multiply(&self, cover: &[Span], pixels: usize, input: *const f32, output: *mut f32) {
        let lanes = vector_lanes();
        for panel in &self.panels {
            let per_block = self.depth * panel.blocks * lanes;
            let weights = &self.weights[panel.weights..];
            let len = panel.inputs.len() * per_block;
            let lines = (self.depth * panel.blocks * lanes).div_ceil(LINE).div_ceil(pixels.div_ceil(most_pixels()).max(1));
            let mut ahead = weights.as_ptr().wrapping_add(len);
            let stop = ahead.wrapping_add(len);
            for span in cover {
                let Some(run) = kernel(1, span.columns, panel.blocks, 1, false) else { continue };
                let tiles = Tiles {
                    count: span.count,
                    // SAFETY: a pixel of the input.
                    input: unsafe { input.add(span.column * lanes) },
                    input_row: 0,
                    input_block: pixels * lanes,
                    blocks: panel.inputs.len(),
                    depth: [self.depth, self.last],
                    taps: &[0],
                    weights: weights.as_ptr(),
                    ahead,
                    ahead_lines: if ahead < stop { lines } else { 0 },
                    bias: Some(self.bias[panel.first * lanes..].as_ptr()),
                    // SAFETY: a pixel of the output.
                    output: unsafe { output.add((panel.first * pixels + span.column) * lanes) },
                    output_row: 0,
                    output_block: pixels * lanes,
                    finish: None,
                };
                ahead = ahead.wrapping_add(span.count * panel.inputs.len() * lines * LINE);
                // SAFETY: as the caller promises.
                unsafe { run(&tiles) };
            }
        }
    }

    pub(super) fn run(&self, job: &Job<'_>, output: &mut [f32]) {
        let spans = spans(job, self.planar);
        let items = job.images * spans.len();
        if items == 0 {
            return;
        }
        let (panels, threads) = (self.panels.len(), rayon::current_num_threads());
        // Parts of the pixels such that their input stays in the cache; then parts of the channels until there are tasks for all threads.
        let bytes = job.images * job.input.map.image() * size_of::<f32>();
        let work = job.images * job.output.height * job.output.width * job.spec.multiplications();
        let tasks = (work / GRAIN).clamp(1, TASKS * threads);
        let parts = bytes.div_ceil(INPUT).clamp(1, items);
        let slices = tasks.div_ceil(parts).clamp(1, panels);
        let parts = if parts * slices < tasks { tasks.div_ceil(slices).clamp(1, items) } else { parts };
        let (taps, pointer) = (taps(job.spec, job.input.map), Shared::from_slice(output));
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
    pub(super) fn panel(
        &self,
        job: &Job<'_>,
        panel: &Panel,
        spans: &[Span],
        items: Range<usize>,
        taps: &[usize],
        output: Part<'_>,
        values: Shared,
    ) {
        let lanes = vector_lanes();
        let (map, stride) = (job.input.map, job.spec.stride);
        let per_block = self.depth * taps.len() * panel.blocks * lanes;
        let chunk = (WEIGHTS / (size_of::<f32>() * per_block)).max(1);
        // Where few tiles share the weights, those that come next are fetched while these are used: each tile fetches its part.
        let tiles: usize = items.clone().map(|item| spans[item % spans.len()].count).sum();
        let lines = if self.planar { 0 } else { (self.depth * panel.blocks * lanes).div_ceil(LINE).div_ceil(tiles.max(1)) };
        for start in panel.inputs.clone().step_by(chunk) {
            let end = (start + chunk).min(panel.inputs.end);
            let last = (job.spec.inputs - (end - 1) * self.depth).min(self.depth);
            let weights = &self.weights[panel.weights + (start - panel.inputs.start) * per_block..];
            let mut ahead = weights.as_ptr().wrapping_add((end - start) * per_block);
            let stop = ahead.wrapping_add((end - start) * per_block);
            for item in items.clone() {
                let (image, span) = (item / spans.len(), spans[item % spans.len()]);
                let Some(run): Option<Run> = kernel(span.rows, span.columns, panel.blocks, stride.min(2), self.planar) else { continue };
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
                    depth: [self.depth, last],
                    taps,
                    weights: weights.as_ptr(),
                    ahead,
                    ahead_lines: if ahead < stop { lines } else { 0 },
                    bias: (start == panel.inputs.start).then(|| self.bias[panel.first * lanes..].as_ptr()),
                    // SAFETY: a pixel of the output.
                    output: unsafe { values.at(place(output)) },
                    output_row: output.map.row(),
                    output_block: output.map.plane(),
                    finish,
                };
                ahead = ahead.wrapping_add(span.count * (end - start) * taps.len() * lines * LINE);
                // SAFETY: `Conv::run` has checked that the maps hold all pixels of all spans and, in their border, all that the taps see;
                // a task's spans and panels are its own, so that nobody else touches these outputs.
                unsafe { run(&tiles) };
            }
        }
    }
}

/// Whether rows do not matter: a pointwise convolution on maps without borders sees one long row.
fn is_flat(job: &Job<'_>) -> bool {
    let bare = |map: &super::Map| map.border == super::Border::default();
    let residual = job.epilogue.residual.is_none_or(|residual| bare(residual.map));
    job.spec.kernel == [1, 1] && job.spec.stride == 1 && bare(job.input.map) && bare(job.output) && residual
}

/// Covers a row with tiles as evenly as possible: a last tile of few pixels would wait for its sums.
pub(super) fn cover(width: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut column = 0;
    while column < width {
        let left = width - column;
        let tiles = left.div_ceil(most_pixels());
        let columns = left.div_ceil(tiles);
        let count = if left.is_multiple_of(tiles) { tiles } else { left - (columns - 1) * tiles };
        let count = count.min(SPAN);
        spans.push(Span { row: 0, column, rows: 1, columns, count });
        column += columns * count;
    }
    spans
}

/// Covers an output plane with tiles.
fn spans(job: &Job<'_>, planar: bool) -> Vec<Span> {
    let (height, width) = if is_flat(job) { (1, job.output.height * job.output.width) } else { (job.output.height, job.output.width) };
    rows_of_spans(0..height, width, job.spec.stride, planar)
}

/// Covers some rows of an output plane.
pub(super) fn rows_of_spans(rows: Range<usize>, width: usize, stride: usize, planar: bool) -> Vec<Span> {
    let (most, Range { start: mut row, end: height }) = (most_pixels(), rows);
    let mut spans = Vec::new();
    while row < height {
        let two = !planar && stride <= 2 && row + 1 < height && (2..=most / 2).contains(&width);
        let rows = if two { 2 } else { 1 };
        if stride > 2 {
            // Single pixels: there is no kernel for several at this distance.
            spans.extend((0..width).map(|column| Span { row, column, rows, columns: 1, count: 1 }));
        } else if planar {
            let mut column = 0;
            while column < width {
                // Only even numbers of columns have kernels.
                let columns = (width - column).min(most);
                let columns = if columns > 1 { columns & !1 } else { 1 };
                let count = ((width - column) / columns).min(SPAN);
                spans.push(Span { row, column, rows, columns, count });
                column += columns * count;
            }
        } else {
            spans.extend(cover(width).into_iter().map(|span| Span { row, rows, ..span }));
        }
        row += rows;
    }
    spans
}
