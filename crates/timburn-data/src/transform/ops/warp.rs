//! Affine warps in `PIL.Image.transform`'s arithmetic, to the bit.

use serde::{Deserialize, Serialize};

use super::geometry::{horizontal_flip, vertical_flip};
use super::interpolate::interpolated;
use crate::image::Rgb8Image;

/// How a warp reads between the pixels. Nothing is averaged when shrinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The pixel that holds the point; in 16.16 fixed point unless the axes stay parallel, as PIL does it.
    Nearest,
    /// From the 4 nearest, double precision, cut off and not rounded.
    Bilinear,
    /// From the 16 nearest (Hermite, a = -1), double precision, cut off and not rounded.
    Bicubic,
}

/// Turns by `degrees` counter-clockwise about the centre, the size unchanged (`PIL.Image.rotate`). Corners left empty show `fill`.
pub fn rotate(image: &Rgb8Image, degrees: f64, sampling: Sampling, fill: [u8; 3]) -> Rgb8Image {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return image.clone();
    }
    if degrees == 180.0 {
        let mut turned = image.clone();
        horizontal_flip(&mut turned);
        vertical_flip(&mut turned);
        return turned;
    }
    if (degrees == 90.0 || degrees == 270.0) && image.width == image.height {
        return quarter_turn(image, degrees == 90.0);
    }
    let angle = -degrees.to_radians();
    let (sin, cos) = (round15(angle.sin()), round15(angle.cos()));
    let (x, y) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
    let shift_x = cos * -x + sin * -y + x;
    let shift_y = -sin * -x + cos * -y + y;
    warp(image, [cos, sin, shift_x, -sin, cos, shift_y], sampling, fill)
}

fn quarter_turn(image: &Rgb8Image, counter_clockwise: bool) -> Rgb8Image {
    let side = image.width;
    let pixels = image.pixels.as_chunks::<3>().0;
    let source = |y: usize, x: usize| if counter_clockwise { pixels[x * side + side - 1 - y] } else { pixels[(side - 1 - x) * side + y] };
    let turned = (0..side).flat_map(|y| (0..side).map(move |x| source(y, x))).flatten().collect();
    Rgb8Image { width: side, height: side, pixels: turned }
}

/// Rounded to 15 decimals as Python does: correctly, through the decimal digits.
fn round15(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// torchvision's `affine` on PIL images: turned by `degrees` clockwise, scaled and sheared about the centre, then shifted by
/// `shift` = (right, down) in pixels; `shear` in degrees along x and y.
pub fn affine(
    image: &Rgb8Image,
    degrees: f64,
    shift: (f64, f64),
    scale: f64,
    shear: (f64, f64),
    sampling: Sampling,
    fill: [u8; 3],
) -> Rgb8Image {
    let center = (image.width as f64 * 0.5, image.height as f64 * 0.5);
    warp(image, affine_matrix(center, degrees, shift, scale, shear), sampling, fill)
}

/// The matrix that takes output to input points for torchvision's [`affine`] about a centre: the inverse of
/// `shift · rotation · scale · shear_y · shear_x`.
pub fn affine_matrix(center: (f64, f64), degrees: f64, shift: (f64, f64), scale: f64, shear: (f64, f64)) -> [f64; 6] {
    let (angle, shear_x, shear_y) = (degrees.to_radians(), shear.0.to_radians(), shear.1.to_radians());
    let a = (angle - shear_y).cos() / shear_y.cos();
    let b = -(angle - shear_y).cos() * shear_x.tan() / shear_y.cos() - angle.sin();
    let c = (angle - shear_y).sin() / shear_y.cos();
    let d = -(angle - shear_y).sin() * shear_x.tan() / shear_y.cos() + angle.cos();
    let [m0, m1, m3, m4] = [d, -b, -c, a].map(|value| value / scale);
    let (x, y) = (-center.0 - shift.0, -center.1 - shift.1);
    [m0, m1, m0 * x + m1 * y + center.0, m3, m4, m3 * x + m4 * y + center.1]
}

/// Every output pixel from the input at `(a·x + b·y + c, d·x + e·y + f)`, x and y at pixel centres, `matrix = [a, b, c, d, e, f]`.
///
/// Equal to `image.transform(image.size, AFFINE, matrix, sampling, fillcolor=fill)`.
pub fn warp(image: &Rgb8Image, matrix: [f64; 6], sampling: Sampling, fill: [u8; 3]) -> Rgb8Image {
    warp_to(image, image.width, image.height, matrix, sampling, fill)
}

/// [`warp`] into another size.
pub(crate) fn warp_to(image: &Rgb8Image, width: usize, height: usize, m: [f64; 6], sampling: Sampling, fill: [u8; 3]) -> Rgb8Image {
    let mut out = Rgb8Image { width, height, pixels: vec![0; width * height * 3] };
    if image.width > 0 && image.height > 0 {
        match sampling {
            Sampling::Nearest => {
                nearest(image, width, height, m, fill, &mut out.pixels);
            }
            Sampling::Bilinear => interpolated::<2, 7>(image, &mut out, m, fill),
            Sampling::Bicubic => interpolated::<4, 13>(image, &mut out, m, fill),
        }
    }
    out
}

fn nearest(image: &Rgb8Image, width: usize, height: usize, [a, b, c, d, e, f]: [f64; 6], fill: [u8; 3], pixels: &mut [u8]) {
    let source = image.pixels.as_chunks::<3>().0;
    // What is negative is a large number as an unsigned one.
    let (columns, lines) = (image.width as u64, image.height as u64);
    let at = |x: i64, y: i64| if (x as u64) < columns && (y as u64) < lines { source[y as usize * image.width + x as usize] } else { fill };
    let rows = pixels.chunks_exact_mut((width * 3).max(1)).map(|row| row.as_chunks_mut::<3>().0);
    // PIL's COORD: what is negative is outside, also just below zero.
    let coordinate = |value: f64| if value < 0.0 { -1 } else { value as i64 };
    let mut start = (c + a * 0.5, f + e * 0.5);
    if b == 0.0 && d == 0.0 {
        let across: Vec<i64> = std::iter::successors(Some(start.0), |x| Some(x + a)).take(width).map(coordinate).collect();
        for row in rows {
            let y = coordinate(start.1);
            row.iter_mut().zip(&across).for_each(|(pixel, x)| *pixel = at(*x, y));
            start.1 += e;
        }
        return;
    }
    let fits = |x: usize, y: usize| {
        let (x, y) = (x as f64, y as f64);
        (x * a + y * b + c).abs() < 32768.0 && (x * d + y * e + f).abs() < 32768.0
    };
    if fits(0, 0) && fits(width, height) && fits(0, height) && fits(width, 0) {
        let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i32;
        let [a, b, c, d, e, f] = [a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5].map(fixed);
        let (mut row_x, mut row_y) = (c, f);
        for row in rows {
            let (mut x, mut y) = (row_x, row_y);
            for pixel in row {
                *pixel = at(i64::from(x >> 16), i64::from(y >> 16));
                (x, y) = (x.wrapping_add(a), y.wrapping_add(d));
            }
            (row_x, row_y) = (row_x.wrapping_add(b), row_y.wrapping_add(e));
        }
        return;
    }
    let mut first = (c + b * 0.5 + a * 0.5, f + e * 0.5 + d * 0.5);
    for row in rows {
        let mut point = first;
        for pixel in row {
            *pixel = at(coordinate(point.0), coordinate(point.1));
            point = (point.0 + a, point.1 + d);
        }
        first = (first.0 + b, first.1 + e);
    }
}
