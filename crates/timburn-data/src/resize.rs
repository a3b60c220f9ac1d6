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
