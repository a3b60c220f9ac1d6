//! Keras' `apply_affine_transform`: other matrices than torchvision's, zoom by axis, and four ways to fill.

use serde::{Deserialize, Serialize};

use crate::image::Rgb8Image;

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
    fn neighbours(self, position: f64, size: usize) -> Option<([usize; 2], f64)> {
        let last = size as f64 - 1.0;
        let position = match self {
            _ if (0.0..=last).contains(&position) => position,
            Self::Constant => return None,
            Self::Nearest => position.clamp(0.0, last),
            // Into one period; the neighbours are mirrored below.
            Self::Reflect => position.rem_euclid(2.0 * size as f64),
            Self::Wrap => position.rem_euclid(last.max(1.0)),
        };
        // Not negative after the folding.
        let floor = position as i64;
        let index = |offset: i64| {
            let pixel = (floor + offset).rem_euclid(2 * size as i64);
            let pixel = if pixel < size as i64 { pixel } else { 2 * size as i64 - 1 - pixel };
            (if self == Self::Reflect { pixel } else { (floor + offset).clamp(0, size as i64 - 1) }) as usize
        };
        Some(([index(0), index(1)], position - floor as f64))
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
    let pixels = image.pixels.as_chunks::<3>().0;
    let sample = |x: f64, y: f64| {
        let ([x0, x1], dx) = mode.neighbours(x, image.width)?;
        let ([y0, y1], dy) = mode.neighbours(y, image.height)?;
        let [upper, lower] = [y0, y1].map(|y| &pixels[y * image.width..][..image.width]);
        let [a, b, c, d] = [upper[x0], upper[x1], lower[x0], lower[x1]].map(|pixel| pixel.map(f64::from));
        Some(std::array::from_fn(|channel| {
            let top = a[channel] * (1.0 - dx) + b[channel] * dx;
            let bottom = c[channel] * (1.0 - dx) + d[channel] * dx;
            (top * (1.0 - dy) + bottom * dy).round_ties_even() as u8
        }))
    };
    let mut out = Vec::with_capacity(image.pixels.len());
    for y in 0..image.height {
        let y = y as f64 - center_y;
        for x in 0..image.width {
            let x = x as f64 - center_x;
            let pixel = sample(a * x + b * y + c + center_x, d * x + e * y + f + center_y).unwrap_or(fill);
            out.extend_from_slice(&pixel);
        }
    }
    Rgb8Image { width: image.width, height: image.height, pixels: out }
}
