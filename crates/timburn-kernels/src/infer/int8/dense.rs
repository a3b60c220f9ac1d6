//! Convolution as a matrix product over the taps, without a matrix: as the dense convolution of floats.

use std::ops::Range;

use rayon::prelude::*;

use super::super::buffer::Buffer;
use super::super::conv::{ConvSpec, taps};
use super::super::map::{Border, Map, Part};
use super::conv::Job;
use super::tile::{End, Residual, Run, Tiles, kernel};
use super::{GROUP, Isa, LANES};

/// Bytes of input that a task works on: a part of a core's second-level cache.
const INPUT: usize = 384 << 10;
/// Tasks per thread when there is enough to do: threads are not equally fast.
const TASKS: usize = 4;
/// Fewest multiplications of a task: less is not worth handing over.
const GRAIN: usize = 1 << 21;
/// Most tiles of a span.
const SPAN: usize = 8;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Packed weights of a dense or grouped convolution.
#[derive(Debug)]
pub(super) struct Dense {
    isa: Isa,
    panels: Vec<Panel>,
    weights: Buffer<i8>,
    /// Groups of channels of an input block, and of the last.
    depth: [usize; 2],
    planar: bool,
}

/// One or two output blocks and the input blocks they see.
#[derive(Debug, Clone)]
struct Panel {
    first: usize,
    blocks: usize,
    inputs: Range<usize>,
    weights: usize,
}

/// Tiles of one shape side by side in the output.
#[derive(Debug, Clone, Copy)]
struct Span {
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
    count: usize,
}

impl Dense {
    pub(super) fn new(isa: Isa, spec: &ConvSpec, planar: bool, weight: &[i8]) -> Self {
        let depth = if planar { 1 } else { LANES };
        let (channels, rows, taps) = (spec.inputs / spec.groups, spec.outputs / spec.groups, spec.kernel[0] * spec.kernel[1]);
        let blocks = spec.outputs.div_ceil(LANES);
        // With groups, two blocks of outputs mostly see different inputs: each is a panel.
        let pair = if spec.groups == 1 { 2 } else { 1 };
        // In a planar map an instruction multiplies taps side by side, in a blocked one channels.
        let groups = |channels: usize| {
            if planar {
                channels * spec.kernel[0] * spec.kernel[1].div_ceil(GROUP)
            } else {
                (channels / LANES * (LANES / GROUP) + (channels % LANES).div_ceil(GROUP)) * taps
            }
        };
        let (mut panels, mut len) = (Vec::new(), 0);
        for first in (0..blocks).step_by(pair) {
            let count = pair.min(blocks - first);
            let last_output = ((first + count) * LANES).min(spec.outputs) - 1;
            let inputs = first * LANES / rows * channels / depth..((last_output / rows + 1) * channels).div_ceil(depth);
            let seen = spec.inputs.min(inputs.end * depth) - inputs.start * depth;
            panels.push(Panel { first, blocks: count, inputs, weights: len });
            len += count * LANES * GROUP * groups(seen);
        }
        let mut packed = Buffer::<i8>::zeros(len);
        for panel in &panels {
            let outputs = panel.first * LANES..((panel.first + panel.blocks) * LANES).min(spec.outputs);
            let mut at = panel.weights;
            // One after the other, the values of an instruction: what it multiplies with each output's sum.
            let mut pack = |group: &mut dyn Iterator<Item = (usize, usize)>| {
                for (place, (input, tap)) in group.enumerate() {
                    let (group, input) = (input / channels, input % channels);
                    // Outside the output's group the weight stays zero.
                    for output in outputs.start.max(group * rows)..outputs.end.min((group + 1) * rows) {
                        packed[at + (output - outputs.start) * GROUP + place] = weight[(output * channels + input) * taps + tap];
                    }
                }
                at += panel.blocks * LANES * GROUP;
            };
            for input in panel.inputs.clone() {
                let inputs = input * depth..((input + 1) * depth).min(spec.inputs);
                if planar {
                    for (i, first) in (0..spec.kernel[0]).flat_map(|i| (0..spec.kernel[1]).step_by(GROUP).map(move |j| (i, j))) {
                        let row = i * spec.kernel[1];
                        pack(&mut (first..spec.kernel[1].min(first + GROUP)).map(|j| (input, row + j)));
                    }
                } else {
                    for tap in 0..taps {
                        for first in inputs.clone().step_by(GROUP) {
                            pack(&mut (first..inputs.end.min(first + GROUP)).map(|input| (input, tap)));
                        }
                    }
                }
            }
        }
        let last = (spec.inputs - 1) % depth + 1;
        Self { isa, panels, weights: packed, depth: [depth, last].map(|channels| channels.div_ceil(GROUP)), planar }
    }

    pub(super) fn bytes(&self) -> usize {
        self.weights.len()
    }

    pub(super) fn run(&self, job: &Job<'_>) {
        let spans = self.spans(job);
        let items = job.images * spans.len();
        if items == 0 {
            return;
        }
        let (panels, threads) = (self.panels.len(), rayon::current_num_threads());
        // Parts of the pixels such that their input stays in the cache; then parts of the channels until there are tasks for all threads.
        let work = job.images * job.output.height * job.output.width * job.spec.multiplications();
        let tasks = (work / GRAIN).clamp(1, TASKS * threads);
        let parts = (job.images * job.input.map.image()).div_ceil(INPUT).clamp(1, items);
        let slices = tasks.div_ceil(parts).clamp(1, panels);
        let parts = if parts * slices < tasks { tasks.div_ceil(slices).clamp(1, items) } else { parts };
        let taps = taps(job.spec, job.input.map, if self.planar { GROUP } else { 1 });
        let range = |index: usize, of: usize, len: usize| index * len / of..(index + 1) * len / of;
        (0..parts * slices).into_par_iter().with_max_len(1).for_each(|task| {
            for panel in &self.panels[range(task % slices, slices, panels)] {
                self.panel(job, panel, &spans, range(task / slices, parts, items), &taps);
            }
        });
    }

    /// One panel on some of the spans of all images, counted through.
    fn panel(&self, job: &Job<'_>, panel: &Panel, spans: &[Span], items: Range<usize>, taps: &[usize]) {
        let (map, stride, finish) = (job.input.map, job.spec.stride, job.finish);
        let last = if panel.inputs.end == map.blocks() { self.depth[1] } else { self.depth[0] };
        let per_block = self.depth[0] * panel.blocks * LANES * GROUP;
        // Where few tiles share the weights, those that come next are fetched while these are used: each tile fetches its part.
        let tiles: usize = items.clone().map(|item| spans[item % spans.len()].count).sum();
        let lines = if self.planar { 0 } else { per_block.div_ceil(LINE).div_ceil(tiles.max(1)) };
        let weights = self.weights[panel.weights..].as_ptr();
        let len = panel.inputs.len() * taps.len() * per_block;
        let mut ahead = weights.wrapping_add(len);
        let stop = ahead.wrapping_add(len);
        for item in items {
            let (image, span) = (item / spans.len(), spans[item % spans.len()]);
            let kernel: Option<Run> = kernel(self.isa, span.rows, span.columns, panel.blocks, stride.min(2), self.planar);
            let Some(run) = kernel else { continue };
            // Where rows do not matter, a column may lie in any of them.
            let place = |map: &Map| Part::whole(map).at(image, panel.first, span.row as isize, span.column as isize);
            let (row, column) = job.first(span.row, span.column);
            let residual = job.residual.map(|residual| Residual {
                values: residual.values[place(residual.map)..].as_ptr(),
                row: residual.map.row(),
                block: residual.map.plane(),
                multiplier: finish.residual,
            });
            let first = panel.first * LANES;
            let tiles = Tiles {
                count: span.count,
                columns: span.columns,
                panel: panel.blocks,
                input: job.input.values[Part::whole(map).at(image, panel.inputs.start, row, column)..].as_ptr(),
                step: stride * map.lanes,
                input_row: stride * map.row(),
                input_block: map.plane(),
                blocks: panel.inputs.len(),
                depth: [self.depth[0], last],
                taps,
                weights,
                ahead,
                ahead_lines: if ahead < stop { lines } else { 0 },
                end: End {
                    start: finish.start[first..].as_ptr(),
                    multiplier: finish.multiplier[first..].as_ptr(),
                    offset: finish.offset[first..].as_ptr(),
                    bounds: finish.bounds,
                    residual,
                    wide: job.wide,
                },
                // SAFETY: a pixel of the output.
                output: unsafe { job.values.at(place(job.output) * job.size()) },
                output_row: job.output.row(),
                output_block: job.output.plane(),
            };
            ahead = ahead.wrapping_add(span.count * panel.inputs.len() * taps.len() * lines * LINE);
            // SAFETY: `Conv::compute` has checked that the maps hold all pixels of all spans and, in their border, all that the taps see;
            // a task's spans and panels are its own, so that nobody else touches these outputs.
            unsafe { run(&tiles) };
        }
    }

    /// Covers an output plane with tiles.
    fn spans(&self, job: &Job<'_>) -> Vec<Span> {
        let (spec, to, most) = (job.spec, job.output, self.isa.most_pixels());
        let bare = |map: &Map| map.border == Border::default();
        // A pointwise convolution on maps without borders sees one long row.
        let flat = spec.kernel == [1, 1]
            && spec.stride == 1
            && bare(job.input.map)
            && bare(to)
            && job.residual.is_none_or(|residual| bare(residual.map));
        let [height, width] = if flat { [1, to.height * to.width] } else { [to.height, to.width] };
        // Other distances have kernels of single pixels where loops are unrolled.
        let single = spec.stride > 2 && self.isa == Isa::Vnni512;
        let mut spans = Vec::new();
        let mut row = 0;
        while row < height {
            let two = self.isa == Isa::Vnni512 && !self.planar && !single && row + 1 < height && (2..=most / 2).contains(&width);
            let rows = if two { 2 } else { 1 };
            let mut column = 0;
            while column < width {
                let left = width - column;
                let (columns, count) = if single {
                    (1, 1)
                } else if self.planar && self.isa == Isa::Vnni512 {
                    // Only even numbers of columns have kernels.
                    let columns = if left > 1 { left.min(most) & !1 } else { 1 };
                    (columns, left / columns)
                } else {
                    // As evenly as possible: a last tile of few pixels would wait for its sums.
                    let tiles = left.div_ceil(most);
                    let columns = left.div_ceil(tiles);
                    (columns, if left.is_multiple_of(tiles) { tiles } else { left - (columns - 1) * tiles })
                };
                let count = count.min(SPAN);
                spans.push(Span { row, column, rows, columns, count });
                column += columns * count;
            }
            row += rows;
        }
        spans
    }
}
