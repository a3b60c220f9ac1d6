//! Random rotations and affine warps, torchvision's and Keras'.

use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::seed::Draws;

use super::ops::{self, FillMode, KerasAffine};
use super::params::{Amount, Filter, check, check_range};
use crate::image::Rgb8Image;

/// Turns by a random angle about the centre, the size unchanged (torchvision's `RandomRotation`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Degrees counter-clockwise, drawn uniformly: `±degrees`, or `[low, high]`.
    pub degrees: Amount,
    /// Default nearest.
    #[serde(default = "nearest")]
    pub interpolation: Filter,
    /// Colour of the corners, RGB. Default black.
    #[serde(default)]
    pub fill: [u8; 3],
}

impl Rotate {
    pub(crate) fn validate(&self) -> Result<()> {
        self.degrees.check("rotate.degrees", 360.0, (-360.0, 360.0), "up to 360 degrees")?;
        self.interpolation.check_warp("rotate.interpolation")
    }

    /// The angle for one picture, degrees counter-clockwise.
    pub fn draw(&self, draws: &mut Draws) -> f64 {
        let (low, high) = self.degrees.around(0.0);
        draws.range(low, high)
    }

    pub(crate) fn apply(&self, image: &Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let degrees = self.draw(draws);
        ops::rotate(image, degrees, self.interpolation.draw_sampling(draws), self.fill)
    }
}

/// A random rotation, shift, scale and shear about the centre (torchvision's `RandomAffine` on PIL images).
///
/// Differs from [`Generator`] (Keras) in the order of the matrices, in one scale for both axes (above 1 enlarges), in shifts of
/// whole pixels and in one colour beyond the edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Affine {
    /// Degrees clockwise: `±degrees`, or `[low, high]`. Default 0.
    pub degrees: Amount,
    /// Largest shift along x and y, as part of the width and the height. Default none.
    pub shift: [f64; 2],
    /// Range of the scale. Default `[1, 1]`.
    pub scale: [f64; 2],
    /// Degrees along x: `±shear`, or `[low, high]`. Default 0.
    pub shear: Amount,
    /// Degrees along y. Default 0.
    pub shear_y: Amount,
    /// Default nearest.
    pub interpolation: Filter,
    /// Colour beyond the edges, RGB. Default black.
    pub fill: [u8; 3],
}

/// Drawn parameters of [`Affine`], as [`ops::affine`] takes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AffineParameters {
    /// Degrees clockwise.
    pub degrees: f64,
    /// Whole pixels to the right and down.
    pub shift: (f64, f64),
    /// Above 1 enlarges.
    pub scale: f64,
    /// Degrees along x and y.
    pub shear: (f64, f64),
}

impl Default for Affine {
    fn default() -> Self {
        let none = Amount::Spread(0.0);
        Self { degrees: none, shift: [0.0; 2], scale: [1.0; 2], shear: none, shear_y: none, interpolation: Filter::Nearest, fill: [0; 3] }
    }
}

impl Affine {
    pub(crate) fn validate(&self) -> Result<()> {
        self.degrees.check("affine.degrees", 360.0, (-360.0, 360.0), "up to 360 degrees")?;
        for part in self.shift {
            check((0.0..=1.0).contains(&part), "affine.shift", self.shift, "two parts, 0 to 1")?;
        }
        check_range("affine.scale", self.scale, (0.01, 100.0), "[low, high] within 0.01 to 100")?;
        self.shear.check("affine.shear", 89.0, (-89.0, 89.0), "up to 89 degrees")?;
        self.shear_y.check("affine.shear_y", 89.0, (-89.0, 89.0), "up to 89 degrees")?;
        self.interpolation.check_warp("affine.interpolation")
    }

    /// The parameters for a picture of `width`×`height` pixels.
    pub fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> AffineParameters {
        let mut within = |amount: Amount| {
            let (low, high) = amount.around(0.0);
            draws.range(low, high)
        };
        let (degrees, shear) = (within(self.degrees), (within(self.shear), within(self.shear_y)));
        let mut pixels = |part: f64, size: usize| draws.range(-part * size as f64, part * size as f64).round_ties_even();
        let shift = (pixels(self.shift[0], width), pixels(self.shift[1], height));
        AffineParameters { degrees, shift, scale: draws.range(self.scale[0], self.scale[1]), shear }
    }

    pub(crate) fn apply(&self, image: &Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let AffineParameters { degrees, shift, scale, shear } = self.draw(image.width, image.height, draws);
        ops::affine(image, degrees, shift, scale, shear, self.interpolation.draw_sampling(draws), self.fill)
    }
}

/// A random rotation, shift, shear and zoom as Keras' `ImageDataGenerator` makes it, with its parameter ranges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generator {
    /// `rotation_range` in degrees. Default 0.
    pub rotation: f64,
    /// `width_shift_range`, as part of the width. Default 0.
    pub width_shift: f64,
    /// `height_shift_range`, as part of the height. Default 0.
    pub height_shift: f64,
    /// `shear_range` in degrees. Default 0.
    pub shear: f64,
    /// `zoom_range`: `1 ± zoom`, or `[low, high]`, drawn for each axis; above 1 shows more. Default 0.
    pub zoom: Amount,
    /// What lies beyond the edges. Default nearest.
    pub fill_mode: FillMode,
    /// Colour for `fill_mode = "constant"`, RGB. Default black.
    pub fill: [u8; 3],
}

impl Default for Generator {
    fn default() -> Self {
        let zoom = Amount::Spread(0.0);
        Self { rotation: 0.0, width_shift: 0.0, height_shift: 0.0, shear: 0.0, zoom, fill_mode: FillMode::Nearest, fill: [0; 3] }
    }
}

impl Generator {
    pub(crate) fn validate(&self) -> Result<()> {
        check((0.0..=360.0).contains(&self.rotation), "keras_affine.rotation", self.rotation, "0 to 360 degrees")?;
        check((0.0..=1.0).contains(&self.width_shift), "keras_affine.width_shift", self.width_shift, "a part of the width, 0 to 1")?;
        check((0.0..=1.0).contains(&self.height_shift), "keras_affine.height_shift", self.height_shift, "a part of the height, 0 to 1")?;
        check((0.0..=89.0).contains(&self.shear), "keras_affine.shear", self.shear, "0 to 89 degrees")?;
        self.zoom.check("keras_affine.zoom", 0.99, (0.01, 100.0), "a spread below 1 or [low, high] within 0.01 to 100")
    }

    /// The parameters for one picture, drawn in Keras' order.
    pub fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> KerasAffine {
        let theta = draws.range(-self.rotation, self.rotation);
        let tx = draws.range(-self.height_shift, self.height_shift) * height as f64;
        let ty = draws.range(-self.width_shift, self.width_shift) * width as f64;
        let shear = draws.range(-self.shear, self.shear);
        let (low, high) = self.zoom.around(1.0);
        KerasAffine { theta, tx, ty, shear, zx: draws.range(low, high), zy: draws.range(low, high) }
    }

    pub(crate) fn apply(&self, image: &Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let parameters = self.draw(image.width, image.height, draws);
        ops::keras_affine(image, parameters, self.fill_mode, self.fill)
    }
}

fn nearest() -> Filter {
    Filter::Nearest
}
