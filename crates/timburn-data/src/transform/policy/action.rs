//! What a policy does to a picture.

use crate::image::Rgb8Image;
use crate::transform::ops::{self, Sampling};

/// The operations that policies choose from, named as in the papers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    SolarizeAdd,
    AutoContrast,
    Equalize,
    Invert,
}

/// An operation with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Nothing.
    Identity,
    /// [`ops::warp`] by this matrix.
    Warp([f64; 6]),
    /// Degrees counter-clockwise.
    Rotate(f64),
    /// Factor.
    Brightness(f64),
    /// Factor of the saturation.
    Color(f64),
    /// Factor.
    Contrast(f64),
    /// Factor.
    Sharpness(f64),
    /// Bits kept.
    Posterize(u32),
    /// First byte inverted.
    Solarize(f64),
    /// Added to the bytes below 128.
    SolarizeAdd(u8),
    /// [`ops::autocontrast`].
    AutoContrast,
    /// [`ops::equalize`].
    Equalize,
    /// [`ops::invert`].
    Invert,
}

impl Action {
    /// Does it; `sampling` and `fill` are for the warps and the rotation.
    pub fn apply(self, mut image: Rgb8Image, sampling: Sampling, fill: [u8; 3]) -> Rgb8Image {
        match self {
            Self::Identity => {}
            Self::Warp(matrix) => return ops::warp(&image, matrix, sampling, fill),
            Self::Rotate(degrees) => return ops::rotate(&image, degrees, sampling, fill),
            Self::Brightness(factor) => ops::adjust_brightness(&mut image, factor),
            Self::Color(factor) => ops::adjust_saturation(&mut image, factor),
            Self::Contrast(factor) => ops::adjust_contrast(&mut image, factor),
            Self::Sharpness(factor) => ops::adjust_sharpness(&mut image, factor),
            Self::Posterize(bits) => ops::posterize(&mut image, bits),
            Self::Solarize(threshold) => ops::solarize(&mut image, threshold),
            Self::SolarizeAdd(amount) => ops::solarize_add(&mut image, amount, 128),
            Self::AutoContrast => ops::autocontrast(&mut image),
            Self::Equalize => ops::equalize(&mut image),
            Self::Invert => ops::invert(&mut image),
        }
        image
    }
}
