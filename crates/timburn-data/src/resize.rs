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
    let left = region.left.min(width);
    let top = region.top.min(height);
    let region = Region { left, top, width: region.width.min(width - left), height: region.height.min(height - top) };
    if region.width == 0 || region.height == 0 || image.width == 0 || image.height == 0 {
        return Rgb8Image { width: 0, height: 0, pixels: Vec::new() };
    }
    if (image.width, image.height) == (width, height) {
        return image.crop(region);
    }
    let pixels = match filter {
        Interpolation::Nearest => nearest(image, width, height, region),
        Interpolation::Bilinear => convolve(image, width, height, region, 1.0, triangle),
        Interpolation::Bicubic => convolve(image, width, height, region, 2.0, cubic),
        Interpolation::Lanczos => convolve(image, width, height, region, 3.0, lanczos),
    };
    Rgb8Image { width: region.width, height: region.height, pixels }
}

fn nearest(image: &Rgb8Image, width: usize, height: usize, region: Region) -> Vec<u8> {
    let sources = |from: usize, to: usize, first: usize, count: usize| -> Vec<usize> {
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
    };
    let columns = sources(image.width, width, region.left, region.width);
    let rows = sources(image.height, height, region.top, region.height);
    let pixels = image.pixels.as_chunks::<3>().0;
    let picked = rows.iter().flat_map(|y| columns.iter().map(move |x| pixels[y * image.width + x]));
    picked.flatten().collect()
}

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
    fn new(from: usize, to: usize, first: usize, count: usize, support: f64, filter: fn(f64) -> f64) -> Self {
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

fn convolve(image: &Rgb8Image, width: usize, height: usize, region: Region, support: f64, filter: fn(f64) -> f64) -> Vec<u8> {
    let across = Weights::new(image.width, width, region.left, region.width, support, filter);
    let down = Weights::new(image.height, height, region.top, region.height, support, filter);
    if image.width == width {
        // Pillow leaves an axis alone when its size does not change.
        return pass_down(&image.pixels, image.width, region.left..region.left + region.width, &down, 0);
    }
    if image.height == height {
        let rows = region.top * image.width * 3..(region.top + region.height) * image.width * 3;
        return pass_across(&image.pixels[rows], image.width, &across, 0);
    }
    if down_first(image, width, height) {
        let columns = across.span();
        let middle = pass_down(&image.pixels, image.width, columns.clone(), &down, 0);
        return pass_across(&middle, columns.len(), &across, columns.start);
    }
    let rows = down.span();
    let middle = pass_across(&image.pixels[rows.start * image.width * 3..rows.end * image.width * 3], image.width, &across, 0);
    pass_down(&middle, region.width, 0..region.width, &down, rows.start)
}

/// Since version 13 Pillow begins with the pass that loses most when the height shrinks much more than the width (its PR 9549); before, and
/// else, it begins across. Overshoots clipped between the passes make a difference of up to 13 LSB.
fn down_first(image: &Rgb8Image, width: usize, height: usize) -> bool {
    let (less_width, less_height) = (image.width as i64 - width as i64, image.height as i64 - height as i64);
    less_height > 0 && less_height > 2 * less_width
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
