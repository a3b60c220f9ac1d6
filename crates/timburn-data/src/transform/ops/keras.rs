//! Keras' `apply_affine_transform`: other matrices than torchvision's, zoom by axis, and four ways to fill.

use serde::{Deserialize, Serialize};

use super::interpolate::{Positions, lanes, warped};
use crate::image::Rgb8Image;
use crate::simd::widest;

/// What lies beyond the edges, named as in Keras and SciPy. Letters are pixels of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FillMode {
    /// One colour, from the centre of the edge pixel on.
    Constant,
    /// The edge pixel: `a a | a b c`.
    #[default]
    Nearest,
    /// Mirrored, the edge pixel repeated: `b a | a b c`.
    Reflect,
    /// SciPy's `wrap`, the period one less than the size: `b c | a b c`, the last pixel taken for the first.
    Wrap,
}

impl FillMode {
    /// A point's two neighbours along an axis and the distance from the first; none where the colour is shown.
    #[inline(always)]
    fn neighbours(self, position: f64, size: usize) -> Option<([usize; 2], f64)> {
        let last = size as f64 - 1.0;
        let position = match self {
            _ if (0.0..=last).contains(&position) => position,
            Self::Constant => return None,
            Self::Nearest => position.clamp(0.0, last),
            // Into one period; the neighbours are mirrored below.
            Self::Reflect => folded(position, 2.0 * size as f64),
            Self::Wrap => folded(position, last.max(1.0)),
        };
        // Not negative after the folding.
        let floor = position as usize;
        let index = |pixel: usize| {
            if self != Self::Reflect {
                return pixel.min(size - 1);
            }
            let pixel = if pixel < 2 * size { pixel } else { pixel - 2 * size };
            if pixel < size { pixel } else { 2 * size - 1 - pixel }
        };
        Some(([index(floor), index(floor + 1)], position - floor as f64))
    }
}

/// `position.rem_euclid(period)`, without the division next to the first period.
#[inline(always)]
fn folded(position: f64, period: f64) -> f64 {
    if position < 0.0 && position >= -period {
        position + period
    } else if position >= period && position < 2.0 * period {
        position - period
    } else {
        position.rem_euclid(period)
    }
}

/// Parameters of [`keras_affine`], with the names and the meaning they have in `apply_affine_transform`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KerasAffine {
    /// Rotation in degrees.
    pub theta: f64,
    /// Shift in pixels. Keras draws it from `height_shift_range`, and yet it moves along x.
    pub tx: f64,
    /// Shift in pixels along y.
    pub ty: f64,
    /// Shear in degrees (so a `shear_range` of 0.2 is next to nothing).
    pub shear: f64,
    /// Zoom along x: above 1 shows more.
    pub zx: f64,
    /// Zoom along y.
    pub zy: f64,
}

/// Rotation, shift, shear and zoom about the centre, bilinear.
///
/// Equal to Keras' floating-point result rounded to bytes (Keras goes on in floating point), for square pictures. For others Keras takes
/// the height for the width when it looks for the centre; here the centre is the centre.
pub fn keras_affine(image: &Rgb8Image, parameters: KerasAffine, mode: FillMode, fill: [u8; 3]) -> Rgb8Image {
    let KerasAffine { theta, tx, ty, shear, zx, zy } = parameters;
    let (sin, cos) = theta.to_radians().sin_cos();
    let (shear_sin, shear_cos) = shear.to_radians().sin_cos();
    // rotation · shift · shear · zoom, from output to input points (x, y).
    let [a, b, c] = [cos * zx, (-cos * shear_sin - sin * shear_cos) * zy, cos * tx - sin * ty];
    let [d, e, f] = [sin * zx, (-sin * shear_sin + cos * shear_cos) * zy, sin * tx + cos * ty];
    let (center_x, center_y) = (image.width as f64 / 2.0 - 0.5, image.height as f64 / 2.0 - 0.5);
    let mut out = Rgb8Image { width: image.width, height: image.height, pixels: vec![0; image.pixels.len()] };
    let positions = Positions { matrix: [a, b, c, d, e, f], origin: (-center_x, -center_y), shift: (center_x, center_y), half: 0.0 };
    widest(
        #[inline(always)]
        || {
            warped::<2, 7>(
                image,
                &mut out,
                positions,
                #[inline(always)]
                |point| anywhere(image, point, mode).unwrap_or(fill),
                #[inline(always)]
                |[upper, lower], dx, dy| {
                    let [red, green, blue, _] = combined(lanes(upper, 0), lanes(upper, 1), lanes(lower, 0), lanes(lower, 1), dx, dy);
                    [red, green, blue]
                },
            );
        },
    );
    out
}

/// A pixel whose neighbours may lie beyond the edges.
#[inline(always)]
fn anywhere(image: &Rgb8Image, (x, y): (f64, f64), mode: FillMode) -> Option<[u8; 3]> {
    let ([x0, x1], dx) = mode.neighbours(x, image.width)?;
    let ([y0, y1], dy) = mode.neighbours(y, image.height)?;
    let pixels = image.pixels.as_chunks::<3>().0;
    let (upper, lower) = (&pixels[y0 * image.width..][..image.width], &pixels[y1 * image.width..][..image.width]);
    let value = |pixel: [u8; 3]| [f64::from(pixel[0]), f64::from(pixel[1]), f64::from(pixel[2])];
    Some(combined(value(upper[x0]), value(upper[x1]), value(lower[x0]), value(lower[x1]), dx, dy))
}

#[inline(always)]
fn combined<const C: usize>(a: [f64; C], b: [f64; C], c: [f64; C], d: [f64; C], dx: f64, dy: f64) -> [u8; C] {
    let mut bytes = [0; C];
    for channel in 0..C {
        let top = a[channel] * (1.0 - dx) + b[channel] * dx;
        let bottom = c[channel] * (1.0 - dx) + d[channel] * dx;
        bytes[channel] = rounded(top * (1.0 - dy) + bottom * dy);
    }
    bytes
}

/// What is within 0 to 255, rounded half to even: from 2^52 on, doubles are whole numbers and end in their bits.
#[inline(always)]
fn rounded(value: f64) -> u8 {
    (value + 4_503_599_627_370_496.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use timburn_core::seed::Draws;

    use super::*;

    #[test]
    fn rounding_is_half_to_even() {
        let near = |value: f64| [value.next_down(), value, value.next_up()];
        for value in (0..=255 * 64).map(|step| f64::from(step) / 64.0).flat_map(near) {
            assert_eq!(rounded(value.clamp(0.0, 255.0)), value.round_ties_even() as u8, "{value}");
        }
    }

    #[test]
    fn folding_is_the_remainder() {
        let mut draws = Draws::new(1, &[]);
        for period in [1.0, 2.0, 36.0, 448.0] {
            let drawn: Vec<f64> = (0..2000).map(|_| draws.range(-3.5, 3.5) * period).collect();
            let edges = (-12..=12).map(|step| f64::from(step) / 4.0 * period).flat_map(|at| [at.next_down(), at, at.next_up()]);
            for position in drawn.into_iter().chain(edges) {
                assert_eq!(folded(position, period), position.rem_euclid(period), "{position} {period}");
            }
        }
    }

    /// The runs give what every pixel by itself gives.
    #[test]
    fn runs_change_nothing() {
        let mut draws = Draws::new(2, &[]);
        for round in 0..400 {
            let (width, height) = (1 + draws.below(90), 1 + draws.below(40));
            let image = Rgb8Image::new(width, height, (0..width * height * 3).map(|_| draws.below(256) as u8).collect()).unwrap();
            let still = round % 5 == 0;
            let parameters = KerasAffine {
                theta: if still { 0.0 } else { draws.range(-180.0, 180.0) },
                tx: if still { 0.0 } else { draws.range(-1.5, 1.5) * width as f64 },
                ty: draws.range(-4.0, 4.0).round() * height as f64 / 4.0,
                shear: if still { 0.0 } else { draws.range(-30.0, 30.0) },
                zx: draws.range(0.3, 3.0),
                zy: if still { 1.0 } else { draws.range(0.3, 3.0) },
            };
            for mode in [FillMode::Constant, FillMode::Nearest, FillMode::Reflect, FillMode::Wrap] {
                let found = keras_affine(&image, parameters, mode, [9, 8, 7]);
                let KerasAffine { theta, tx, ty, shear, zx, zy } = parameters;
                let (sin, cos) = theta.to_radians().sin_cos();
                let (shear_sin, shear_cos) = shear.to_radians().sin_cos();
                let [a, b, c] = [cos * zx, (-cos * shear_sin - sin * shear_cos) * zy, cos * tx - sin * ty];
                let [d, e, f] = [sin * zx, (-sin * shear_sin + cos * shear_cos) * zy, sin * tx + cos * ty];
                let (center_x, center_y) = (width as f64 / 2.0 - 0.5, height as f64 / 2.0 - 0.5);
                for (index, pixel) in found.pixels.as_chunks::<3>().0.iter().enumerate() {
                    let (x, y) = ((index % width) as f64 - center_x, (index / width) as f64 - center_y);
                    let point = (a * x + b * y + c + center_x, d * x + e * y + f + center_y);
                    assert_eq!(*pixel, anywhere(&image, point, mode).unwrap_or([9, 8, 7]), "{parameters:?} {mode:?} {index}");
                }
            }
        }
    }
}
