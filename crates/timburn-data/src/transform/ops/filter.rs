//! Neighbourhoods: sharpness as PIL has it, Gaussian blur as torchvision has it.

use super::Padding;
use super::color::blend;
use crate::image::Rgb8Image;
use crate::simd::widest;

/// Blends with the smoothed picture: 0 is smooth, 1 the picture, 2 sharpened (`ImageEnhance.Sharpness`).
///
/// The outermost pixels are no different when smooth, as in PIL; nor is any of a picture with a side below 3.
pub fn adjust_sharpness(image: &mut Rgb8Image, factor: f64) {
    let (stride, factor) = (image.width * 3, factor as f32);
    if image.width < 3 || image.height < 3 {
        return;
    }
    let source = std::mem::take(&mut image.pixels);
    let mut sharpened = source.clone();
    widest(
        #[inline(always)]
        || {
            for (rows, out) in source.windows(stride * 3).step_by(stride).zip(sharpened[stride..].chunks_exact_mut(stride)) {
                sharpen_row(rows, stride, factor, out);
            }
        },
    );
    image.pixels = sharpened;
}

#[inline(always)]
fn sharpen_row(rows: &[u8], stride: usize, factor: f32, out: &mut [u8]) {
    const SIDE: f32 = 1.0 / 13.0;
    const CENTER: f32 = 5.0 / 13.0;
    let (above, rest) = rows.split_at(stride);
    let (row, below) = rest.split_at(stride);
    let inner = stride - 6;
    let (a0, a1, a2) = (&above[..inner], &above[3..3 + inner], &above[6..6 + inner]);
    let (b0, b1, b2) = (&row[..inner], &row[3..3 + inner], &row[6..6 + inner]);
    let (c0, c1, c2) = (&below[..inner], &below[3..3 + inner], &below[6..6 + inner]);
    let out = &mut out[3..3 + inner];
    for index in 0..inner {
        let sum = |x: u8, y: u8, z: u8, middle: f32| f32::from(x) * SIDE + f32::from(y) * middle + f32::from(z) * SIDE;
        // PIL's order of additions, from the row below upwards, after one half for rounding.
        let mut smooth = 0.5 + sum(c0[index], c1[index], c2[index], SIDE);
        smooth += sum(b0[index], b1[index], b2[index], CENTER);
        smooth += sum(a0[index], a1[index], a2[index], SIDE);
        out[index] = blend(smooth as u8, b1[index], factor);
    }
}

/// Gaussian blur over `kernel`×`kernel` pixels (odd), standard deviation `sigma` in pixels, the edges mirrored, rounded half to even.
///
/// torchvision's `gaussian_blur` of a byte tensor, to 1 LSB: the two axes one after the other in single precision instead of at once.
pub fn gaussian_blur(image: &mut Rgb8Image, kernel: usize, sigma: f64) {
    let half = (kernel / 2) as i64;
    let weights: Vec<f32> = (-half..=half).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp() as f32).collect();
    let sum: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|weight| weight / sum).collect();
    let stride = image.width * 3;
    if stride == 0 || !sum.is_normal() {
        return;
    }
    let mirrored = |position: i64, size: usize| Padding::Reflect.source(position, size).unwrap_or(0);
    let columns: Vec<usize> = (-half..image.width as i64 + half).map(|x| mirrored(x, image.width)).collect();
    let mut across = vec![0.0_f32; image.pixels.len()];
    let mut padded = vec![0.0_f32; columns.len() * 3];
    for (row, out) in image.pixels.chunks_exact(stride).zip(across.chunks_exact_mut(stride)) {
        for (padded, column) in padded.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            *padded = row.as_chunks::<3>().0[*column].map(f32::from);
        }
        widest(
            #[inline(always)]
            || {
                for (offset, weight) in weights.iter().enumerate() {
                    out.iter_mut().zip(&padded[offset * 3..]).for_each(|(sum, value)| *sum += weight * value);
                }
            },
        );
    }
    let mut sums = vec![0.0_f32; stride];
    for (y, out) in image.pixels.chunks_exact_mut(stride).enumerate() {
        sums.fill(0.0);
        for (offset, weight) in (-half..).zip(&weights) {
            let source = mirrored(y as i64 + offset, image.height) * stride;
            let row = &across[source..source + stride];
            widest(
                #[inline(always)]
                || sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value),
            );
        }
        out.iter_mut().zip(&sums).for_each(|(byte, sum)| *byte = sum.round_ties_even() as u8);
    }
}
