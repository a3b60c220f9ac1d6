//! Convolution as a matrix product that never builds its patches: weights times what the taps see, panel by panel.
//!
//! The forward pass is one correlation; the input gradient is one for each residue of the stride. Each output value is a sum over
//! channels and taps in a fixed order, whatever the tiling: results do not depend on the number of threads.

use std::ops::Range;

use macerator::{Simd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::memory::Block;
use super::tile::{Lanes, MAX_LANES, MAX_TILE, TileShape, lanes, many_registers, outer, splat};
use super::window::{Reach, Run, Source, Window, runs};
use crate::level::AutoArch;

/// Depth of the products of one pass over a panel: what keeps a panel in the first-level cache.
const DEPTH: usize = 192;
/// Panels of one task, at most: their depth stays in the second-level cache.
const PANELS: usize = 8;

/// Weights in the order the tiles read them: `[group][tile of rows][channel][tap][row of tile]`.
pub(crate) struct PackedWeights {
    values: Block,
    /// Output channels of a group.
    rows: usize,
    /// Channels of a group times taps.
    depth: usize,
    tile: TileShape,
}

/// Where weights are: `group · self.group + row · self.row + channel · self.channel + taps[tap]`.
pub(crate) struct WeightLayout<'a> {
    pub(crate) group: usize,
    pub(crate) row: usize,
    pub(crate) channel: usize,
    pub(crate) taps: &'a [usize],
}

impl PackedWeights {
    /// `groups` groups of `rows` rows and `channels` channels.
    pub(crate) fn new(weight: &[f32], [groups, rows, channels]: [usize; 3], layout: &WeightLayout<'_>) -> Self {
        let tile = TileShape::detect();
        let (depth, tiles) = (channels * layout.taps.len(), rows.div_ceil(tile.rows));
        let mut values = Output::new(groups * tiles * depth * tile.rows);
        let pointer = values.pointer();
        (0..groups * tiles).into_par_iter().with_min_len(1 + 4096 / (depth * tile.rows).max(1)).for_each(|index| {
            let (group, first) = (index / tiles, index % tiles * tile.rows);
            let from = &weight[(group * layout.group + first * layout.row).min(weight.len())..];
            let count = (rows - first).min(tile.rows);
            // SAFETY: this tile's block, which is written whole.
            unsafe {
                let to = pointer.at(index * depth * tile.rows);
                match tile.rows {
                    8 => pack::<8>(from, count, channels, layout, to),
                    _ => pack::<4>(from, count, channels, layout, to),
                }
            }
        });
        // SAFETY: every block was written.
        Self { values: unsafe { values.finish() }, rows, depth, tile }
    }
}

/// Packs a tile of `M` rows of which `count` exist.
///
/// # Safety
/// `to` has room for `channels` times the number of taps times `M` values, the caller's to write.
unsafe fn pack<const M: usize>(from: &[f32], count: usize, channels: usize, layout: &WeightLayout<'_>, mut to: *mut f32) {
    let far = layout.taps.iter().copied().max().unwrap_or(0);
    for channel in 0..channels {
        let from = &from[channel * layout.channel..][..(count - 1) * layout.row + far + 1];
        for &tap in layout.taps {
            // SAFETY: `from` was cut to hold all these; `to` as the caller promises.
            unsafe {
                if count == M && layout.row == 1 {
                    to.cast::<[f32; M]>().write_unaligned(from.as_ptr().add(tap).cast::<[f32; M]>().read_unaligned());
                } else if count == M {
                    for m in 0..M {
                        to.add(m).write(*from.get_unchecked(tap + m * layout.row));
                    }
                } else {
                    for m in 0..M {
                        to.add(m).write(if m < count { *from.get_unchecked(tap + m * layout.row) } else { 0.0 });
                    }
                }
                to = to.add(M);
            }
        }
    }
}

/// `target[n, g · rows + m, p] = bias[m] + Σ weights[g, m, c, t] · source[n, g · channels + c, p · stride + taps[t]]`.
pub(crate) struct Correlation<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) images: usize,
    pub(crate) groups: usize,
    pub(crate) reach: &'a Reach,
    pub(crate) weights: &'a PackedWeights,
    /// One per output channel.
    pub(crate) bias: Option<&'a [f32]>,
    /// `[images, groups · rows, grid]`.
    pub(crate) target: Shared,
}

impl Correlation<'_> {
    /// Computes and writes every position of the grid.
    ///
    /// # Safety
    /// `target` points to as many values as its shape says, which nobody else touches.
    pub(crate) unsafe fn run(&self) {
        let tile = self.weights.tile;
        let positions = self.images * self.reach.area();
        let panels = positions.div_ceil(tile.columns());
        let row_tiles = self.weights.rows.div_ceil(tile.rows);
        let threads = rayon::current_num_threads();
        let share = panels.div_ceil(threads).clamp(1, PANELS);
        let columns = panels.div_ceil(share);
        // Few positions: rows are divided too, at the price of packing a panel once for each part.
        let parts = (2 * threads).div_ceil(self.groups * columns).min(row_tiles);
        (0..self.groups * columns * parts).into_par_iter().for_each(|task| {
            let (group, column, part) = (task / (columns * parts), task / parts % columns, task % parts);
            let start = column * share * tile.columns();
            let end = positions.min(start + share * tile.columns());
            let tiles = row_tiles * part / parts..row_tiles * (part + 1) / parts;
            AutoArch::new().dispatch(Task { correlation: self, group, positions: start..end, tiles });
        });
    }
}

struct Task<'a> {
    correlation: &'a Correlation<'a>,
    group: usize,
    positions: Range<usize>,
    /// Tiles of rows.
    tiles: Range<usize>,
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
        let Correlation { source, reach, weights, .. } = self.correlation;
        let taps = reach.taps.len();
        let channels = weights.depth / taps.max(1);
        let width = weights.tile.columns();
        let window = Window::new(*source, reach, self.positions.clone(), width);
        let sources = Panels::new(window.runs().to_vec(), width, |(run, _)| run.at);
        let targets = Panels::new(runs(self.positions.clone(), reach.area(), width).collect(), width, |run| run.at);

        // Without taps nothing is seen: a single pass of depth 0 writes zeros.
        let passes = (channels * taps).div_ceil(DEPTH).min(channels.max(1)).max(1);
        let deepest = channels.div_ceil(passes);
        let panels = self.positions.len().div_ceil(width);
        let panel_len = deepest * taps * width;
        let mut scratch = Scratch::new(deepest * window.plane() + MAX_LANES + panels * panel_len + MAX_LANES);
        let scratch = scratch.values();
        let (pixels, packed) = scratch.split_at_mut(deepest * window.plane() + MAX_LANES);
        for pass in 0..passes {
            let chosen = channels * pass / passes..channels * (pass + 1) / passes;
            let seen = self.group * channels + chosen.start..self.group * channels + chosen.end;
            let depth = chosen.len() * taps;
            if depth > 0 {
                window.fill::<S>(seen.clone(), pixels);
            }
            let mut start = 0;
            for panel in 0..panels {
                let columns = (self.positions.len() - panel * width).min(width);
                let vectors = columns.div_ceil(lanes::<S>());
                let pitch = vectors * lanes::<S>();
                // SAFETY: `packed` holds `panels` panels of `depth` rows and a vector more; `pixels` was filled and has its vector.
                let b = unsafe {
                    let b = packed.as_mut_ptr().add(start);
                    if depth > 0 {
                        window.rows::<S>(sources.get(panel), panel * width, seen.clone(), pixels, b, pitch);
                    }
                    b.cast_const()
                };
                start += depth * pitch;
                let place = Place { pass, panel, columns, targets: targets.get(panel) };
                for tile in self.tiles.clone() {
                    let block = (self.group * weights.rows.div_ceil(M) + tile) * weights.depth + chosen.start * taps;
                    // SAFETY: weights are packed in blocks of `depth · M`; `b` was packed just above. The tile's rows and the
                    // panel's positions belong to this task alone.
                    unsafe {
                        let a = weights.values.as_ptr().add(block * M);
                        match vectors {
                            1 => self.store::<S, M, 1>(&outer(depth, a, M, b), tile, &place),
                            2 => self.store::<S, M, 2>(&outer(depth, a, M, b), tile, &place),
                            _ => self.store::<S, M, 3>(&outer(depth, a, M, b), tile, &place),
                        }
                    }
                }
            }
        }
    }

    /// Writes a tile (first pass, with the bias) or adds it.
    ///
    /// # Safety
    /// The tile's part of the target belongs to this task.
    #[inline(always)]
    unsafe fn store<S: Simd, const M: usize, const V: usize>(&self, sums: &[[Lanes<S>; V]; M], tile: usize, place: &Place<'_>) {
        let Correlation { target, bias, weights, reach, groups, .. } = self.correlation;
        let rows = (weights.rows - tile * M).min(M);
        let first = self.group * weights.rows + tile * M;
        let plane = reach.area();
        let offset = |run: &Run| (run.position / plane * groups * weights.rows + first) * plane + run.position % plane;
        let start = |row: usize| bias.filter(|_| place.pass == 0).map_or(0.0, |bias| bias[first + row]);
        if let ([run], true) = (place.targets, place.columns == V * lanes::<S>()) {
            let offset = offset(run);
            for (row, sums) in sums.iter().enumerate().take(rows) {
                for (v, &sum) in sums.iter().enumerate() {
                    // SAFETY: a full tile in one image; see above.
                    unsafe {
                        let to = target.at(offset + row * plane + v * lanes::<S>());
                        let old = if place.pass == 0 { splat::<S>(start(row)) } else { vload_unaligned(to) };
                        vstore_unaligned(to, sum + old);
                    }
                }
            }
            return;
        }
        let mut values = [0f32; MAX_TILE];
        let pitch = V * lanes::<S>();
        for (row, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: a tile holds at most `MAX_TILE` values.
                unsafe { vstore_unaligned(values.as_mut_ptr().add(row * pitch + v * lanes::<S>()), sum) };
            }
        }
        for run in place.targets {
            let offset = offset(run);
            let at = run.at - place.panel * weights.tile.columns();
            for row in 0..rows {
                for (i, &value) in values[row * pitch + at..][..run.len].iter().enumerate() {
                    // SAFETY: positions of this task, inside the target.
                    unsafe {
                        let to = target.at(offset + row * plane + i);
                        to.write(value + if place.pass == 0 { start(row) } else { to.read() });
                    }
                }
            }
        }
    }
}

/// Which part of the output a tile is.
struct Place<'a> {
    /// Number of the pass over channels.
    pass: usize,
    panel: usize,
    /// Columns that count.
    columns: usize,
    targets: &'a [Run],
}

/// Runs, grouped by panel.
struct Panels<T> {
    runs: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Panels<T> {
    fn new(runs: Vec<T>, width: usize, at: impl Fn(&T) -> usize) -> Self {
        let mut ends = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let panel = at(run) / width;
            ends.resize(panel + 1, 0);
            ends[panel] = index + 1;
        }
        Self { runs, ends }
    }

    fn get(&self, panel: usize) -> &[T] {
        let start = if panel == 0 { 0 } else { self.ends[panel - 1] };
        &self.runs[start..self.ends[panel]]
    }
}
