//! Implicit im2col: what the taps of a kernel see, for a range of output positions.

use std::ops::Range;

use half::bf16;
use macerator::Simd;

use super::element::{Element, copy, copy_rounded_up};
use super::tile_bf16;

/// Pairs that are written at once.
const PAIRS: usize = 16;

/// A tensor `[images, channels, height, width]` that is read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// Which pixels each position of a grid sees: `position · stride + tap`. Those outside the source are zero.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) taps: Vec<(isize, isize)>,
    pub(crate) stride: (usize, usize),
    /// Rows and columns of positions.
    pub(crate) grid: (usize, usize),
    /// The least of the taps.
    low: (isize, isize),
    /// The greatest.
    high: (isize, isize),
}

impl Reach {
    pub(crate) fn new(taps: Vec<(isize, isize)>, stride: (usize, usize), grid: (usize, usize)) -> Self {
        let rows = || taps.iter().map(|tap| tap.0);
        let columns = || taps.iter().map(|tap| tap.1);
        let low = (rows().min().unwrap_or(0), columns().min().unwrap_or(0));
        let high = (rows().max().unwrap_or(0), columns().max().unwrap_or(0));
        Self { taps, stride, grid, low, high }
    }

    /// Positions in an image.
    pub(crate) fn area(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Whether positions see just the pixel below them.
    fn is_identity<T>(&self, source: &Source<'_, T>) -> bool {
        self.taps == [(0, 0)] && self.stride == (1, 1) && self.grid == (source.height, source.width)
    }

    /// Values of one residue class of columns in a padded row; a row holds `stride` of them, so that a step of `stride` is contiguous.
    fn phase(&self) -> usize {
        self.grid.1 + ((self.high.1 - self.low.1) as usize).div_ceil(self.stride.1)
    }

    /// Padded rows that `rows` of the grid see.
    fn padded(&self, rows: usize) -> usize {
        (rows - 1) * self.stride.0 + (self.high.0 - self.low.0) as usize + 1
    }

    /// Values of a padded row.
    fn pitch(&self) -> usize {
        self.phase() * self.stride.1
    }
}

/// `target[i] = source[i · stride]`.
#[inline(always)]
pub(super) fn pick<T: Element, U: Element>(target: &mut [U], source: &[T], stride: usize) {
    if target.is_empty() {
        return;
    }
    if stride == 2 {
        let source = &source[..2 * target.len() - 1];
        let mut i = 0;
        while i < target.len() {
            // SAFETY: value `2 i` for each `i` below the target's length; checked just above.
            target[i] = unsafe { *source.get_unchecked(2 * i) }.into_element();
            i += 1;
        }
        return;
    }
    let source = &source[..(target.len() - 1) * stride + 1];
    for (target, &pixel) in target.iter_mut().zip(source.iter().step_by(stride)) {
        *target = pixel.into_element();
    }
}

/// Adjacent positions that see adjacent pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// The first, counted from the start of the range.
    pub(crate) at: usize,
    pub(crate) len: usize,
    /// The first, counted from the first image's first.
    pub(crate) position: usize,
}

/// Splits a range of positions at multiples of `unit` and, counted from the range's start, of `split`.
pub(crate) fn runs(range: Range<usize>, unit: usize, split: usize) -> impl Iterator<Item = Run> {
    let Range { start, end } = range;
    let mut position = start;
    std::iter::from_fn(move || {
        (position < end).then(|| {
            let at = position - start;
            let next = end.min((position / unit + 1) * unit).min(start.saturating_add((at / split + 1) * split));
            let run = Run { at, len: next - position, position };
            position = next;
            run
        })
    })
}

/// The part of an image that a window covers.
struct Part {
    image: usize,
    /// The first row of the grid, and how many.
    first: usize,
    rows: usize,
    /// Number of the first padded row among those of all parts.
    base: usize,
}

/// The window on a source that a range of positions needs.
pub(crate) struct Window<'a, T = f32> {
    source: Source<'a, T>,
    reach: &'a Reach,
    parts: Vec<Part>,
    /// Padded rows of all parts.
    height: usize,
    /// Without a copy: the source itself is the window.
    direct: bool,
    /// Runs, and where in the window the first tap of each sees its first pixel.
    runs: Vec<(Run, usize)>,
    /// Offset of each tap.
    taps: Vec<usize>,
}

impl<'a, T: Element> Window<'a, T> {
    /// The window of `range` of the positions of all images, with runs that do not cross multiples of `split`.
    pub(crate) fn new(source: Source<'a, T>, reach: &'a Reach, range: Range<usize>, split: usize) -> Self {
        let direct = reach.is_identity(&source);
        Self::build(source, reach, range, split, direct)
    }

    /// The same for a single image, copied in any case.
    pub(crate) fn image(source: Source<'a, T>, reach: &'a Reach, image: usize) -> Self {
        Self::build(source, reach, image * reach.area()..(image + 1) * reach.area(), usize::MAX, false)
    }

    /// A window of [`image`](Self::image) on another image.
    pub(crate) fn move_to(&mut self, image: usize) {
        if let [part] = &mut self.parts[..] {
            part.image = image;
        }
    }

    fn build(source: Source<'a, T>, reach: &'a Reach, range: Range<usize>, split: usize, direct: bool) -> Self {
        let (area, width) = (reach.area(), reach.grid.1);
        let mut height = 0;
        let part = |run: Run| {
            let (image, first) = (run.position / area, run.position % area / width);
            let rows = (run.position % area + run.len).div_ceil(width) - first;
            let base = height;
            height += reach.padded(rows);
            Part { image, first, rows, base }
        };
        let parts: Vec<Part> = runs(range.clone(), area, usize::MAX).map(part).collect();
        let pitch = reach.pitch();
        let unit = if direct { area } else { width };
        let place = |run: Run| {
            let (image, position) = (run.position / area, run.position % area);
            let offset = if direct {
                image * source.channels * area + position
            } else {
                let part = &parts[image - parts[0].image];
                (part.base + (position / width - part.first) * reach.stride.0) * pitch + position % width
            };
            (run, offset)
        };
        let runs = runs(range, unit, split).map(place).collect();
        let tap = |&(row, column): &(isize, isize)| {
            let (row, column) = ((row - reach.low.0) as usize, (column - reach.low.1) as usize);
            row * pitch + column % reach.stride.1 * reach.phase() + column / reach.stride.1
        };
        let taps = if direct { vec![0] } else { reach.taps.iter().map(tap).collect() };
        Self { source, reach, parts, height, direct, runs, taps }
    }

    /// Values of a channel in the scratch that [`fill`](Self::fill) fills.
    pub(crate) fn plane(&self) -> usize {
        if self.direct { 0 } else { self.height * self.reach.pitch() }
    }

    /// The most that [`plane`](Self::plane) can be for a range of `positions`.
    pub(crate) fn bound(source: &Source<'_, T>, reach: &Reach, positions: usize) -> usize {
        if reach.is_identity(source) {
            return 0;
        }
        let rows = (positions / reach.grid.1 + 2) * reach.stride.0;
        let images = positions / reach.area() + 2;
        (rows + images * reach.padded(1)) * reach.pitch()
    }

    /// Copies channels of the source into `scratch`, which may be of another type, padded with zeros, columns sorted by their residue.
    #[inline(always)]
    pub(crate) fn fill<S: Simd, P: Element>(&self, channels: Range<usize>, scratch: &mut [P]) {
        if self.direct {
            return;
        }
        let Source { values, height, width, .. } = self.source;
        let mut lines = scratch.chunks_exact_mut(self.reach.pitch());
        for channel in channels {
            for part in &self.parts {
                let plane = &values[(part.image * self.source.channels + channel) * height * width..][..height * width];
                let first = (part.first * self.reach.stride.0) as isize + self.reach.low.0;
                for (row, target) in (first..).zip(lines.by_ref().take(self.reach.padded(part.rows))) {
                    if row < 0 || row >= height as isize {
                        target.fill(P::default());
                    } else {
                        self.fill_row::<S, P>(&plane[row as usize * width..][..width], target);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn fill_row<S: Simd, P: Element>(&self, line: &[T], target: &mut [P]) {
        let (phase, stride, first) = (self.reach.phase(), self.reach.stride.1, self.reach.low.1);
        if stride == 1 {
            let left = (-first).clamp(0, phase as isize) as usize;
            let begin = first.clamp(0, line.len() as isize) as usize;
            let len = (line.len() - begin).min(phase - left);
            target[..left].fill(P::default());
            let (from, to) = (&line[begin..begin + len], &mut target[left..left + len]);
            // SAFETY: slices of the same length.
            unsafe { copy::<S, T, P>(from.as_ptr(), to.as_mut_ptr(), len) };
            target[left + len..].fill(P::default());
            return;
        }
        for (residue, target) in target.chunks_exact_mut(phase).enumerate() {
            let column = first + residue as isize;
            // The first and the past-the-last of the columns that lie inside the line.
            let left = if column < 0 { column.unsigned_abs().div_ceil(stride) } else { 0 }.min(phase);
            let right = ((line.len() as isize - column).max(0) as usize).div_ceil(stride).clamp(left, phase);
            target[..left].fill(P::default());
            if right > left {
                let begin = (column + (left * stride) as isize) as usize;
                pick(&mut target[left..right], &line[begin..], stride);
            }
            target[right..].fill(P::default());
        }
    }

    /// Writes what each tap sees of `channels` as rows of `target`: run by run, row `channel · taps + tap` at `pitch` times its number.
    ///
    /// # Safety
    /// `target` has room for all rows and a vector more; rows are written in order and overshoot into the next by less than a vector.
    /// `scratch` was filled with these channels and has room for a vector more.
    #[inline(always)]
    pub(crate) unsafe fn rows<S: Simd, P: Element>(
        &self,
        runs: &[(Run, usize)],
        origin: usize,
        channels: Range<usize>,
        scratch: &[P],
        target: *mut P,
        pitch: usize,
    ) {
        let mut target = target;
        if self.direct {
            let values = self.source.values;
            for channel in channels {
                for &(run, offset) in runs {
                    let offset = offset + channel * self.reach.area();
                    let rounded = run.len.next_multiple_of(super::tile::lanes::<S>());
                    // SAFETY: the run is inside the source; only if the rounded length is too may the copy overshoot.
                    unsafe {
                        let (from, to) = (values.as_ptr().add(offset), target.add(run.at - origin));
                        if offset + rounded <= values.len() {
                            copy_rounded_up::<S, T, P>(from, to, run.len);
                        } else {
                            copy::<S, T, P>(from, to, run.len);
                        }
                    }
                }
                // SAFETY: a row further, within the room the caller promises.
                target = unsafe { target.add(pitch) };
            }
            return;
        }
        let plane = self.plane();
        for channel in 0..channels.len() {
            for &tap in &self.taps {
                // SAFETY: `fill` has laid the pixels of this tap and channel here; overshoot stays in the room promised.
                unsafe {
                    let from = scratch.as_ptr().add(channel * plane + tap);
                    if let [(run, offset)] = runs {
                        copy_rounded_up::<S, P, P>(from.add(*offset), target.add(run.at - origin), run.len);
                    } else {
                        for &(run, offset) in runs {
                            copy_rounded_up::<S, P, P>(from.add(offset), target.add(run.at - origin), run.len);
                        }
                    }
                    target = target.add(pitch);
                }
            }
        }
    }

    /// The runs.
    pub(crate) fn runs(&self) -> &[(Run, usize)] {
        &self.runs
    }

    /// Offset of each tap in the scratch.
    pub(crate) fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// Values between rows of the grid in the scratch.
    pub(crate) fn row_step(&self) -> usize {
        self.reach.stride.0 * self.reach.pitch()
    }
}

impl Window<'_, bf16> {
    /// As [`rows`](Self::rows), each two rows side by side as pairs, the last with zeros if they are odd: `pitch` counts pairs.
    ///
    /// # Safety
    /// As there; the machine has the instructions of [`tile_bf16`].
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl"))]
    pub(crate) unsafe fn pairs(
        &self,
        runs: &[(Run, usize)],
        origin: usize,
        channels: Range<usize>,
        scratch: &[bf16],
        target: *mut f32,
        pitch: usize,
    ) {
        let (rows, plane, area) = (channels.len() * self.taps.len(), self.plane(), self.reach.area());
        // Where a row's pixels start: in the source, if that is the window, else in the scratch.
        let values = if self.direct { self.source.values } else { scratch };
        let (mut channel, mut tap) = (0, 0);
        let mut next = || {
            let start = if self.direct { (channels.start + channel) * area } else { channel * plane + self.taps[tap] };
            tap += 1;
            if tap == self.taps.len() {
                (channel, tap) = (channel + 1, 0);
            }
            start
        };
        let mut target = target;
        for row in (0..rows).step_by(2) {
            let (a, b) = (next(), (row + 1 < rows).then(&mut next));
            for &(run, offset) in runs {
                let (a, b) = (a + offset, b.map(|b| b + offset));
                // SAFETY: the pixels of these rows; what is read beyond the run is inside the values, else the run is copied first.
                unsafe {
                    let to = target.add(run.at - origin);
                    if a.max(b.unwrap_or(0)) + run.len.next_multiple_of(PAIRS) <= values.len() {
                        let at = |row: usize| values.as_ptr().add(row);
                        tile_bf16::interleave(at(a), b.map(at), to, run.len);
                    } else {
                        let value = |row: usize, i: usize| u32::from(values[row + i].to_bits());
                        for i in 0..run.len {
                            let pair = value(a, i) | b.map_or(0, |b| value(b, i)) << 16;
                            to.add(i).write(f32::from_bits(pair));
                        }
                    }
                }
            }
            // SAFETY: a row further, within the room the caller promises.
            target = unsafe { target.add(pitch) };
        }
    }
}
