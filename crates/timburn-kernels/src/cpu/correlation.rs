//! Convolution as a matrix product that never builds its patches: weights times what the taps see, panel by panel.
//!
//! The forward pass is one correlation; the input gradient is one for each residue of the stride. Each output value is a sum over
//! channels and taps in a fixed order, whatever the tiling: results do not depend on the number of threads.

use std::marker::PhantomData;
use std::ops::Range;

use macerator::{Simd, WithSimd, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::element::{Element, cast};
use super::memory::Block;
use super::operand::{Operand, Tile};
use super::tile::{Lanes, MAX_LANES, MAX_TILE, TileShape, lanes, many_registers, outer, splat};
use super::tile_bf16::Sums;
use super::window::{Reach, Run, Source, Window, runs};
use crate::level::AutoArch;

/// Steps of the products of one pass over a panel: what keeps a panel in the first-level cache.
const DEPTH: usize = 192;
/// Panels of one task, at most: their depth stays in the second-level cache.
const PANELS: usize = 8;

/// Weights in the order the tiles read them: `[group][tile of rows][pass][channel][tap][row of tile]`. Of pairs a pass has whole ones: the last is
/// filled with zeros.
pub(crate) struct PackedWeights<P> {
    values: Block,
    /// Output channels of a group.
    rows: usize,
    /// Channels of a group.
    channels: usize,
    tile: TileShape,
    of: PhantomData<P>,
}

/// Weights as they are: of so many groups, rows and channels.
pub(crate) struct Weights<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) sizes: [usize; 3],
    pub(crate) layout: WeightLayout<'a>,
}

/// Where weights are: `group · self.group + row · self.row + channel · self.channel + taps[tap]`.
pub(crate) struct WeightLayout<'a> {
    pub(crate) group: usize,
    pub(crate) row: usize,
    pub(crate) channel: usize,
    pub(crate) taps: &'a [usize],
}

/// The passes over `channels` channels of a kernel of `taps`: channels, and the steps before them.
fn passes<P: Operand>(channels: usize, taps: usize) -> Vec<(Range<usize>, usize)> {
    // Without taps nothing is seen: a single pass of depth 0 writes zeros.
    let passes = (channels * taps).div_ceil(P::VALUES * DEPTH).min(channels.max(1)).max(1);
    let mut steps = 0;
    let pass = |pass: usize| {
        let chosen = channels * pass / passes..channels * (pass + 1) / passes;
        let before = steps;
        steps += (chosen.len() * taps).div_ceil(P::VALUES);
        (chosen, before)
    };
    (0..passes).map(pass).collect()
}

impl<P: Operand> PackedWeights<P> {
    pub(crate) fn new(weights: &Weights<'_>) -> Self {
        let Weights { values: weight, sizes: [groups, rows, channels], ref layout } = *weights;
        let tile = TileShape::detect();
        let (taps, tiles) = (layout.taps.len(), rows.div_ceil(tile.rows));
        let passes = passes::<P>(channels, taps);
        let steps = passes.iter().map(|(chosen, _)| (chosen.len() * taps).div_ceil(P::VALUES)).sum::<usize>();
        let mut values = Output::new(groups * tiles * steps * tile.rows);
        let pointer = values.pointer();
        (0..groups * tiles).into_par_iter().with_min_len(1 + 4096 / (steps * tile.rows).max(1)).for_each(|index| {
            let (group, first) = (index / tiles, index % tiles * tile.rows);
            let from = &weight[(group * layout.group + first * layout.row).min(weight.len())..];
            let count = (rows - first).min(tile.rows);
            for (chosen, before) in &passes {
                // SAFETY: this pass of this tile's block, which is written whole.
                unsafe {
                    let to = pointer.at((index * steps + before) * tile.rows);
                    match tile.rows {
                        8 => P::pack_weights::<8>(from, count, chosen.clone(), layout, to),
                        _ => P::pack_weights::<4>(from, count, chosen.clone(), layout, to),
                    }
                }
            }
        });
        // SAFETY: every block was written.
        Self { values: unsafe { values.finish() }, rows, channels, tile, of: PhantomData }
    }
}

/// `target[n, g · rows + m, p] = bias[m] + Σ weights[g, m, c, t] · source[n, g · channels + c, p · stride + taps[t]]`.
pub(crate) struct Correlation<'a, T, P> {
    pub(crate) source: Source<'a, T>,
    pub(crate) images: usize,
    pub(crate) groups: usize,
    pub(crate) reach: &'a Reach,
    pub(crate) weights: &'a PackedWeights<P>,
    /// One per output channel.
    pub(crate) bias: Option<&'a [f32]>,
    /// `[images, groups · rows, grid]`.
    pub(crate) target: Shared<T>,
}

impl<T: Element, P: Tile<T>> Correlation<'_, T, P> {
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

struct Task<'a, T, P> {
    correlation: &'a Correlation<'a, T, P>,
    group: usize,
    positions: Range<usize>,
    /// Tiles of rows.
    tiles: Range<usize>,
}

impl<T: Element, P: Tile<T>> WithSimd for Task<'_, T, P> {
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

impl<T: Element, P: Tile<T>> Task<'_, T, P> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self) {
        let Correlation { source, reach, weights, .. } = self.correlation;
        let (taps, width, row_tiles) = (reach.taps.len(), weights.tile.columns(), weights.rows.div_ceil(M));
        let window = Window::new(*source, reach, self.positions.clone(), width);
        let sources = Panels::new(window.runs().to_vec(), width, |(run, _)| run.at);
        let targets = Panels::new(runs(self.positions.clone(), reach.area(), width).collect(), width, |run| run.at);

        let passes = passes::<P>(weights.channels, taps);
        let deepest = passes.iter().map(|(chosen, _)| chosen.len()).max().unwrap_or(0);
        let most = (deepest * taps).div_ceil(P::VALUES);
        let all = passes.last().map_or(0, |(chosen, before)| before + (chosen.len() * taps).div_ceil(P::VALUES));
        let panels = self.positions.len().div_ceil(width);
        let pixels_len = (deepest * window.plane() + 2 * MAX_LANES).next_multiple_of(MAX_LANES);
        // Sums that the target cannot hold until they are complete.
        let kept = if P::KEEPS_SUMS || passes.len() == 1 { 0 } else { panels * self.tiles.len() * M * width };
        let mut scratch = Scratch::new(pixels_len + panels * most * width + MAX_LANES + kept + MAX_TILE);
        let (pixels, scratch) = scratch.values().split_at_mut(pixels_len);
        let (packed, sums) = scratch.split_at_mut(panels * most * width + MAX_LANES);
        let pixels = cast::<P::Seen>(pixels);
        for (pass, (chosen, before)) in passes.iter().enumerate() {
            let seen = self.group * weights.channels + chosen.start..self.group * weights.channels + chosen.end;
            let steps = (chosen.len() * taps).div_ceil(P::VALUES);
            if steps > 0 {
                window.fill::<S, P::Seen>(seen.clone(), pixels);
            }
            let mut start = 0;
            for panel in 0..panels {
                let columns = (self.positions.len() - panel * width).min(width);
                let vectors = columns.div_ceil(lanes::<S>());
                let pitch = vectors * lanes::<S>();
                // SAFETY: `packed` holds `panels` panels of `steps` rows and a vector more; `pixels` was filled and has its vector.
                let b = unsafe {
                    let b = packed.as_mut_ptr().add(start);
                    if steps > 0 {
                        P::pack::<S>(&window, sources.get(panel), panel * width, seen.clone(), pixels, b, pitch);
                    }
                    b.cast_const()
                };
                start += steps * pitch;
                let place = Place { pass, panel, columns, targets: targets.get(panel) };
                for tile in self.tiles.clone() {
                    let block = (self.group * row_tiles + tile) * all + before;
                    // SAFETY: weights are packed in blocks of `all · M`; `b` was packed just above. The tile's rows and the
                    // panel's positions belong to this task alone.
                    unsafe {
                        let a = weights.values.as_ptr().add(block * M);
                        if P::KEEPS_SUMS {
                            match vectors {
                                1 => self.store::<S, M, 1>(&outer(steps, a, M, b), tile, &place),
                                2 => self.store::<S, M, 2>(&outer(steps, a, M, b), tile, &place),
                                _ => self.store::<S, M, 3>(&outer(steps, a, M, b), tile, &place),
                            }
                            continue;
                        }
                        let at = if kept == 0 { 0 } else { (panel * self.tiles.len() + tile - self.tiles.start) * M * width };
                        let to = sums.as_mut_ptr().add(at);
                        match vectors {
                            1 => P::add::<S, M, 1>(steps, a, M, b, to, pitch, pass == 0),
                            2 => P::add::<S, M, 2>(steps, a, M, b, to, pitch, pass == 0),
                            _ => P::add::<S, M, 3>(steps, a, M, b, to, pitch, pass == 0),
                        }
                        if pass + 1 == passes.len() {
                            self.round(to, pitch, tile, &place);
                        }
                    }
                }
            }
        }
    }

    /// Writes a tile of complete sums, `pitch` values to a row.
    ///
    /// # Safety
    /// The tile's part of the target belongs to this task.
    unsafe fn round(&self, sums: *const f32, pitch: usize, tile: usize, place: &Place<'_>) {
        let Correlation { target, bias, weights, reach, groups, .. } = self.correlation;
        let tile_rows = weights.tile.rows;
        let first = self.group * weights.rows + tile * tile_rows;
        let (rows, plane) = ((weights.rows - tile * tile_rows).min(tile_rows), reach.area());
        for run in place.targets {
            let offset = (run.position / plane * groups * weights.rows + first) * plane + run.position % plane;
            // SAFETY: columns of this tile; positions of this task, inside the target.
            unsafe {
                let values = sums.add(run.at - place.panel * weights.tile.columns());
                let sums = Sums { values, pitch, len: run.len, rows, bias: bias.map(|bias| &bias[first..first + rows]) };
                P::round(&sums, target.at(offset), plane);
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
                        let old = if place.pass == 0 { splat::<S>(start(row)) } else { T::load::<S>(to) };
                        T::store::<S>(to, sum + old);
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
                        to.write(T::from_f32(value + if place.pass == 0 { start(row) } else { to.read().to_f32() }));
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
