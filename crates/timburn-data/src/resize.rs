//! Resampling, bit for bit as Pillow does it (`Resample.c`, and `ImagingScaleAffine` for nearest), antialiased when shrinking.
//!
//! Two passes in fixed point, one across and one down, rounded to 8 bits in between. Only what the asked-for region needs is computed.

use std::ops::Range;

use timburn_core::preprocessing::Interpolation;

use crate::image::{Region, Rgb8Image};
use crate::simd::widest;

/// Fractional bits of the weights: Pillow's, so that `255 * sum of |weights|` fits in 32 bits.
const PRECISION: u32 = 32 - 8 - 2;
/// Rows that the pass across works on together: three colours of them fill three of the widest vectors.
const ROWS: usize = 16;
/// Bytes of one column of them.
const COLUMN: usize = ROWS * 3;
/// Bytes that the pass down works on together.
const STRIP: usize = 64;

/// Resizes to `width`×`height` pixels, equal to `PIL.Image.resize((width, height), filter)`.
pub fn resize(image: &Rgb8Image, width: usize, height: usize, filter: Interpolation) -> Rgb8Image {
    resize_region(image, width, height, filter, Region { left: 0, top: 0, width, height })
}

/// The part `region` of the image resized to `width`×`height`: the same pixels as [`resize`] and a crop, without computing the others.
///
/// A region that reaches beyond the resized image is cut off at its edges.
pub fn resize_region(image: &Rgb8Image, width: usize, height: usize, filter: Interpolation, region: Region) -> Rgb8Image {
    Scaling { from: (image.width, image.height), to: (width, height), filter, region: clipped(region, width, height) }.apply(image, (0, 0))
}

fn clipped(region: Region, width: usize, height: usize) -> Region {
    let (left, top) = (region.left.min(width), region.top.min(height));
    Region { left, top, width: region.width.min(width - left), height: region.height.min(height - top) }
}

/// A resize of which only a region is wanted, known from the sizes alone: what it reads can be decoded by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaling {
    /// Width and height of the whole source.
    pub(crate) from: (usize, usize),
    /// Width and height it is resized to.
    pub(crate) to: (usize, usize),
    pub(crate) filter: Interpolation,
    /// The pixels wanted, inside of `to`.
    pub(crate) region: Region,
}

impl Scaling {
    /// The pixels of the source that the wanted ones depend on.
    pub(crate) fn source(&self) -> Region {
        let Region { left, top, width, height } = self.region;
        if width == 0 || height == 0 || self.from.0 == 0 || self.from.1 == 0 {
            return Region { left: 0, top: 0, width: 0, height: 0 };
        }
        let (columns, rows) = (self.span(self.from.0, self.to.0, left, width), self.span(self.from.1, self.to.1, top, height));
        Region { left: columns.start, top: rows.start, width: columns.len(), height: rows.len() }
    }

    fn span(&self, from: usize, to: usize, first: usize, count: usize) -> Range<usize> {
        if from == to {
            return first..first + count;
        }
        match self.kernel() {
            Some((support, filter)) => Weights::new(from, to, first, count, support, filter).span(),
            None => {
                let sources = nearest_sources(from, to, first, count);
                sources.first().copied().unwrap_or(0)..sources.last().map_or(0, |last| last + 1)
            }
        }
    }

    /// Support and kernel of the filter; none for nearest.
    fn kernel(&self) -> Option<(f64, Kernel)> {
        match self.filter {
            Interpolation::Nearest => None,
            Interpolation::Bilinear => Some((1.0, triangle)),
            Interpolation::Bicubic => Some((2.0, cubic)),
            Interpolation::Lanczos => Some((3.0, lanczos)),
        }
    }

    /// The wanted pixels from a part of the source whose first pixel is at `origin` (column, row) and that holds all of [`Self::source`].
    pub(crate) fn apply(&self, part: &Rgb8Image, origin: (usize, usize)) -> Rgb8Image {
        let region = self.region;
        if region.width == 0 || region.height == 0 || part.width == 0 || part.height == 0 {
            return Rgb8Image { width: 0, height: 0, pixels: Vec::new() };
        }
        if self.from == self.to {
            return part.crop(Region { left: region.left - origin.0, top: region.top - origin.1, ..region });
        }
        let pixels = match self.kernel() {
            None => self.nearest(part, origin),
            Some((support, filter)) => self.convolve(part, origin, support, filter),
        };
        Rgb8Image { width: region.width, height: region.height, pixels }
    }

    fn nearest(&self, part: &Rgb8Image, origin: (usize, usize)) -> Vec<u8> {
        let columns = nearest_sources(self.from.0, self.to.0, self.region.left, self.region.width);
        let rows = nearest_sources(self.from.1, self.to.1, self.region.top, self.region.height);
        let pixels = part.pixels.as_chunks::<3>().0;
        let picked = rows.iter().flat_map(|y| columns.iter().map(move |x| pixels[(y - origin.1) * part.width + x - origin.0]));
        picked.flatten().collect()
    }

    fn convolve(&self, part: &Rgb8Image, (left, top): (usize, usize), support: f64, filter: Kernel) -> Vec<u8> {
        let (region, stride) = (self.region, part.width * 3);
        let across = Weights::new(self.from.0, self.to.0, region.left, region.width, support, filter);
        let down = Weights::new(self.from.1, self.to.1, region.top, region.height, support, filter);
        if self.from.0 == self.to.0 {
            // Pillow leaves an axis alone when its size does not change.
            let first = region.left - left;
            return pass_down(&part.pixels, part.width, first..first + region.width, &down, top);
        }
        if self.from.1 == self.to.1 {
            let first = region.top - top;
            return pass_across(&part.pixels[first * stride..(first + region.height) * stride], part.width, &across, left);
        }
        if self.down_first() {
            let columns = across.span();
            let middle = pass_down(&part.pixels, part.width, columns.start - left..columns.end - left, &down, top);
            return pass_across(&middle, columns.len(), &across, columns.start);
        }
        let rows = down.span();
        let middle = pass_across(&part.pixels[(rows.start - top) * stride..(rows.end - top) * stride], part.width, &across, left);
        pass_down(&middle, region.width, 0..region.width, &down, rows.start)
    }

    /// Since version 13 Pillow begins with the pass that loses most when the height shrinks much more than the width (its PR 9549); before,
    /// and else, it begins across. Overshoots clipped between the passes make a difference of up to 13 LSB.
    fn down_first(&self) -> bool {
        let less_width = self.from.0 as i64 - self.to.0 as i64;
        let less_height = self.from.1 as i64 - self.to.1 as i64;
        less_height > 0 && less_height > 2 * less_width
    }
}

fn nearest_sources(from: usize, to: usize, first: usize, count: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut position = step * 0.5;
    // Pillow adds up the step instead of multiplying; the sums differ in the last bit and that can be a pixel. Nobody waits for a
    // million additions.
    if first < 1 << 20 {
        (0..first).for_each(|_| position += step);
    } else {
        position += step * first as f64;
    }
    let steps = std::iter::successors(Some(position), |position| Some(position + step));
    steps.take(count).map(|position| (position as usize).min(from - 1)).collect()
}

/// Weight at a distance from the centre.
type Kernel = fn(f64) -> f64;

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Cubic convolution with a = -0.5 (Keys 1981).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// The weights of one axis: output `i` is the weighted sum of the inputs from `starts[i]`.
struct Weights {
    starts: Vec<usize>,
    /// Weights of all outputs one after the other, `PRECISION` fractional bits.
    values: Vec<i32>,
    /// Where an output's weights begin in `values`; one more entry than outputs.
    bounds: Vec<usize>,
}

impl Weights {
    /// For the outputs `first..first + count` of `to`, over `from` inputs.
    fn new(from: usize, to: usize, first: usize, count: usize, support: f64, filter: Kernel) -> Self {
        let scale = from as f64 / to as f64;
        let filter_scale = scale.max(1.0);
        let support = support * filter_scale;
        let mut weights = Self { starts: Vec::with_capacity(count), values: Vec::new(), bounds: vec![0] };
        let mut row = Vec::new();
        for output in first..first + count {
            let center = (output as f64 + 0.5) * scale;
            // A cast from a negative number gives 0, as wanted.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            row.clear();
            row.extend((start..end).map(|input| filter((input as f64 - center + 0.5) * (1.0 / filter_scale))));
            let sum: f64 = row.iter().sum();
            let scaled = row.iter().map(|weight| if sum == 0.0 { *weight } else { weight / sum } * f64::from(1 << PRECISION));
            weights.values.extend(scaled.map(|weight| (if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32));
            weights.starts.push(start);
            weights.bounds.push(weights.values.len());
        }
        weights
    }

    /// The inputs that any output needs.
    fn span(&self) -> Range<usize> {
        let ends = (0..self.starts.len()).map(|output| self.of(output)).map(|(start, weights)| start + weights.len());
        self.starts.first().copied().unwrap_or(0)..ends.max().unwrap_or(0)
    }

    #[inline(always)]
    fn of(&self, output: usize) -> (usize, &[i32]) {
        (self.starts[output], &self.values[self.bounds[output]..self.bounds[output + 1]])
    }
}

/// Filters every row of `pixels`, whose first column is input `origin` of the weights.
fn pass_across(pixels: &[u8], width: usize, weights: &Weights, origin: usize) -> Vec<u8> {
    let stride = weights.starts.len() * 3;
    let mut filtered = vec![0; pixels.len() / (width * 3) * stride];
    let span = weights.span();
    let (first, end) = (span.start - origin, span.end - origin);
    let mut columns = vec![0; (end - first) * COLUMN];
    widest(
        #[inline(always)]
        || {
            for (block, out) in filtered.chunks_mut(stride * ROWS).enumerate() {
                let rows = out.len() / stride;
                for row in 0..rows {
                    let start = (block * ROWS + row) * width * 3;
                    gather(&pixels[start + first * 3..start + end * 3], row, &mut columns);
                }
                for output in 0..weights.starts.len() {
                    let (start, weights) = weights.of(output);
                    let pixels = horizontal(&columns[(start - span.start) * COLUMN..], weights);
                    for row in 0..rows {
                        copy_pixel(&pixels[row * 3..], &mut out[row * stride + output * 3..]);
                    }
                }
            }
        },
    );
    filtered
}

/// Writes row `index` of a block of rows into their columns, so that one weight meets many values at once.
#[inline(always)]
fn gather(row: &[u8], index: usize, columns: &mut [u8]) {
    let count = row.len() / 3;
    for x in 0..count {
        copy_pixel(&row[x * 3..], &mut columns[x * COLUMN + index * 3..]);
    }
}

#[inline(always)]
fn copy_pixel(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<3>(), to.first_chunk_mut::<3>()) {
        *to = *from;
    }
}

/// The filtered pixel of each row of a block.
#[inline(always)]
fn horizontal(columns: &[u8], weights: &[i32]) -> [u8; COLUMN] {
    let mut sums = [1 << (PRECISION - 1); COLUMN];
    let columns = &columns.as_chunks::<COLUMN>().0[..weights.len()];
    for tap in 0..weights.len() {
        for i in 0..COLUMN {
            sums[i] += i32::from(columns[tap][i]) * weights[tap];
        }
    }
    let mut clipped = [0; COLUMN];
    for i in 0..COLUMN {
        clipped[i] = clip(sums[i]);
    }
    clipped
}

/// Filters the given columns of `pixels`, whose first row is input `origin` of the weights.
fn pass_down(pixels: &[u8], width: usize, columns: Range<usize>, weights: &Weights, origin: usize) -> Vec<u8> {
    let stride = columns.len() * 3;
    let mut filtered = vec![0; weights.starts.len() * stride];
    widest(
        #[inline(always)]
        || {
            for (output, out) in filtered.chunks_exact_mut(stride).enumerate() {
                let (start, weights) = weights.of(output);
                let rows = &pixels[((start - origin) * width + columns.start) * 3..];
                let (strips, rest) = out.as_chunks_mut::<STRIP>();
                let strips_end = strips.len() * STRIP;
                for (index, strip) in strips.iter_mut().enumerate() {
                    vertical(&rows[index * STRIP..], width * 3, weights, strip);
                }
                vertical_rest(&rows[strips_end..], width * 3, weights, rest);
            }
        },
    );
    filtered
}

#[inline(always)]
fn vertical(rows: &[u8], stride: usize, weights: &[i32], out: &mut [u8; STRIP]) {
    let mut sums = [1 << (PRECISION - 1); STRIP];
    for tap in 0..weights.len() {
        let Some(row) = rows[tap * stride..].first_chunk::<STRIP>() else { return };
        for i in 0..STRIP {
            sums[i] += i32::from(row[i]) * weights[tap];
        }
    }
    for i in 0..STRIP {
        out[i] = clip(sums[i]);
    }
}

#[inline(always)]
fn vertical_rest(rows: &[u8], stride: usize, weights: &[i32], out: &mut [u8]) {
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = 1 << (PRECISION - 1);
        for (index, &weight) in weights.iter().enumerate() {
            sum += i32::from(rows[index * stride + i]) * weight;
        }
        *out = clip(sum);
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
