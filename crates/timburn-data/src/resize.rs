//! Resampling, bit for bit as Pillow does it (`Resample.c`, and `ImagingScaleAffine` for nearest), antialiased when shrinking.
//!
//! Two passes in fixed point, one across and one down, rounded to 8 bits in between. Only what the asked-for region needs is computed.

use std::ops::Range;

use timburn_core::preprocessing::Interpolation;

use crate::image::{Region, Rgb8Image};
use crate::simd::widest;

/// Fractional bits of the weights: Pillow's, so that `255 * sum of |weights|` fits in 32 bits.
const PRECISION: u32 = 32 - 8 - 2;
/// Rows that the pass across works on together.
const ROWS: usize = 8;

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

    fn of(&self, output: usize) -> (usize, &[i32]) {
        (self.starts[output], &self.values[self.bounds[output]..self.bounds[output + 1]])
    }
}

/// Filters every row of `pixels`, whose first column is input `origin` of the weights.
fn pass_across(pixels: &[u8], width: usize, weights: &Weights, origin: usize) -> Vec<u8> {
    let stride = weights.starts.len() * 3;
    let mut filtered = vec![0; pixels.len() / (width * 3) * stride];
    let mut columns = vec![[0; ROWS * 3]; width];
    for (rows, out) in pixels.chunks(width * 3 * ROWS).zip(filtered.chunks_mut(stride * ROWS)) {
        widest(
            #[inline(always)]
            || horizontal(rows, &mut columns, weights, origin, out),
        );
    }
    filtered
}

/// Filters the given columns of `pixels`, whose first row is input `origin` of the weights.
fn pass_down(pixels: &[u8], width: usize, columns: Range<usize>, weights: &Weights, origin: usize) -> Vec<u8> {
    let stride = columns.len() * 3;
    let mut filtered = vec![0; weights.starts.len() * stride];
    let mut sums = vec![0; stride];
    for (output, out) in filtered.chunks_exact_mut(stride).enumerate() {
        let (start, weights) = weights.of(output);
        let rows = &pixels[(start - origin) * width * 3..];
        widest(
            #[inline(always)]
            || vertical(rows, width * 3, columns.start * 3, weights, &mut sums, out),
        );
    }
    filtered
}

/// Up to [`ROWS`] rows, gathered column by column so that one weight meets many values at once.
#[inline(always)]
fn horizontal(rows: &[u8], columns: &mut [[u8; ROWS * 3]], across: &Weights, origin: usize, out: &mut [u8]) {
    for (index, row) in rows.chunks_exact(columns.len() * 3).enumerate() {
        for (column, pixel) in columns.iter_mut().zip(row.as_chunks::<3>().0) {
            column[index * 3..index * 3 + 3].copy_from_slice(pixel);
        }
    }
    let stride = across.starts.len() * 3;
    for output in 0..across.starts.len() {
        let (start, weights) = across.of(output);
        let mut sums = [1 << (PRECISION - 1); ROWS * 3];
        for (column, &weight) in columns[start - origin..].iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(column) {
                *sum += i32::from(value) * weight;
            }
        }
        let clipped = sums.map(clip);
        for (row, pixel) in out.chunks_exact_mut(stride).zip(clipped.as_chunks::<3>().0) {
            row[output * 3..output * 3 + 3].copy_from_slice(pixel);
        }
    }
}

#[inline(always)]
fn vertical(rows: &[u8], stride: usize, offset: usize, weights: &[i32], sums: &mut [i32], out: &mut [u8]) {
    sums.fill(1 << (PRECISION - 1));
    for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
        for (sum, &value) in sums.iter_mut().zip(&row[offset..]) {
            *sum += i32::from(value) * weight;
        }
    }
    for (out, &sum) in out.iter_mut().zip(sums.iter()) {
        *out = clip(sum);
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
