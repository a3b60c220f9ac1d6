//! Resizes, crops and flips: what their parameters are and how the random ones are drawn.

use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::preprocessing::ResizeMode;
use timburn_core::seed::Draws;

use super::ops::{self, Padding};
use super::params::{Filter, MAX_SIDE, Size, check, check_range, sampling};
use crate::image::{Region, Rgb8Image};
use crate::preprocess::Span;
use crate::resize::{Scaling, resize};

/// Resizes the whole picture (torchvision's `Resize` on PIL images).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// `[height, width]`, or one number read as `mode` says.
    pub size: Size,
    /// What a single number sets: the shorter side (the other keeps the aspect ratio, cut off to an integer), or both sides (`squash`).
    #[serde(default = "shorter_side")]
    pub mode: ResizeMode,
    /// Filter. Default bilinear.
    #[serde(default = "bilinear")]
    pub interpolation: Filter,
    /// Whether to average when shrinking. Default true. Without, the filter reads only next to the point, in the arithmetic of
    /// `PIL.Image.transform`.
    #[serde(default = "yes")]
    pub antialias: bool,
}

/// Longest side that a resize of the shorter side makes, in multiples of the shorter: a picture of 1×60,000 pixels would else fill the
/// memory. Without meaning where a centre crop follows: only what it keeps is computed.
const MAX_ASPECT: usize = 64;

impl Resize {
    /// Width and height after the resize.
    pub(crate) fn target(&self, width: usize, height: usize) -> (usize, usize) {
        match self.size {
            Size::Exact { height, width } => (width, height),
            Size::Side(side) if self.mode == ResizeMode::Squash => (side, side),
            Size::Side(side) if width <= height => (side, (side * height / width.max(1)).max(1)),
            Size::Side(side) => ((side * width / height.max(1)).max(1), side),
        }
    }

    pub(crate) fn fixed_size(&self) -> Option<(usize, usize)> {
        let fixed = self.mode == ResizeMode::Squash || matches!(self.size, Size::Exact { .. });
        fixed.then(|| self.size.height_width())
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.size.check("resize.size")?;
        check(self.antialias || self.interpolation != Filter::Lanczos, "resize.antialias", self.antialias, "true for lanczos")
    }

    pub(crate) fn apply(&self, image: &Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let (width, height) = self.target(image.width, image.height);
        let longest = width.min(height).saturating_mul(MAX_ASPECT).max(MAX_SIDE);
        let (width, height) = (width.min(longest), height.min(longest));
        let filter = self.interpolation.draw(draws);
        if self.antialias {
            return resize(image, width, height, filter);
        }
        let (across, down) = (image.width as f64 / width as f64, image.height as f64 / height as f64);
        ops::warp_to(image, width, height, [across, 0.0, 0.0, 0.0, down, 0.0], sampling(filter), [0; 3])
    }
}

/// Cuts the middle out, padded with black where the picture is smaller (torchvision's `CenterCrop`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Height and width of the crop.
    pub size: Size,
}

/// A part of random area and aspect ratio, resized (torchvision's `RandomResizedCrop`): the training crop of ImageNet.
///
/// Ten tries at an area uniform in `scale` and a ratio log-uniform in `ratio`; if none fits, the largest central part within `ratio`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Height and width after the resize.
    pub size: Size,
    /// Range of the area, as part of the picture's. Default `[0.08, 1.0]`.
    #[serde(default = "inception_scale")]
    pub scale: [f64; 2],
    /// Range of width / height. Default `[3/4, 4/3]`.
    #[serde(default = "inception_ratio")]
    pub ratio: [f64; 2],
    /// Filter. Default bilinear.
    #[serde(default = "bilinear")]
    pub interpolation: Filter,
}

impl RandomResizedCrop {
    /// torchvision's defaults.
    pub fn new(size: usize) -> Self {
        Self { size: Size::Side(size), scale: inception_scale(), ratio: inception_ratio(), interpolation: Filter::Bilinear }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.size.check("random_resized_crop.size")?;
        check(self.scale[0] > 0.0, "random_resized_crop.scale", self.scale, "[low, high] above 0 and up to 1")?;
        check_range("random_resized_crop.scale", self.scale, (0.0, 1.0), "[low, high] above 0 and up to 1")?;
        check_range("random_resized_crop.ratio", self.ratio, (1e-3, 1e3), "[low, high] within 0.001 to 1000")
    }

    /// The part of a picture of `width`×`height` pixels.
    pub fn region(&self, width: usize, height: usize, draws: &mut Draws) -> Region {
        let area = width as f64 * height as f64;
        let [low, high] = self.ratio;
        for _ in 0..10 {
            let target = area * draws.range(self.scale[0], self.scale[1]);
            let ratio = draws.range(low.ln(), high.ln()).exp();
            let columns = (target * ratio).sqrt().round_ties_even() as usize;
            let rows = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&columns) && (1..=height).contains(&rows) {
                let top = draws.below(height - rows + 1);
                let left = draws.below(width - columns + 1);
                return Region { left, top, width: columns, height: rows };
            }
        }
        let found = width as f64 / height.max(1) as f64;
        let (columns, rows) = if found < low {
            (width, ((width as f64 / low).round_ties_even() as usize).clamp(1, height.max(1)))
        } else if found > high {
            (((height as f64 * high).round_ties_even() as usize).clamp(1, width.max(1)), height)
        } else {
            (width, height)
        };
        Region { left: (width - columns) / 2, top: (height - rows) / 2, width: columns, height: rows }
    }
}

/// A part of fixed size at a random place of the padded picture (torchvision's `RandomCrop`); the augmentation of CIFAR.
///
/// What is smaller than the crop even with its padding is padded further (`pad_if_needed`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Height and width of the crop.
    pub size: Size,
    /// Pixels added on every side before. Default 0.
    #[serde(default)]
    pub padding: usize,
    /// What the padding shows. Default constant.
    #[serde(default)]
    pub padding_mode: Padding,
    /// Colour of constant padding, RGB. Default black.
    #[serde(default)]
    pub fill: [u8; 3],
}

impl RandomCrop {
    pub(crate) fn validate(&self) -> Result<()> {
        self.size.check("random_crop.size")?;
        check(self.padding <= MAX_SIDE, "random_crop.padding", self.padding, "0 to 4096 pixels")
    }

    /// Left column and top row in the picture without its padding; negative inside of the padding.
    pub fn offset(&self, width: usize, height: usize, draws: &mut Draws) -> (i64, i64) {
        let (rows, columns) = self.size.height_width();
        let mut axis = |size: usize, crop: usize| {
            // torchvision adds what is missing on both sides.
            let before = self.padding + crop.saturating_sub(size + 2 * self.padding);
            draws.below(size + 2 * before - crop + 1) as i64 - before as i64
        };
        let top = axis(height, rows);
        (axis(width, columns), top)
    }

    pub(crate) fn apply(&self, image: Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let (left, top) = self.offset(image.width, image.height, draws);
        let (height, width) = self.size.height_width();
        if (left, top, width, height) == (0, 0, image.width, image.height) {
            return image;
        }
        ops::crop_padded(&image, left, top, width, height, self.padding_mode, self.fill)
    }
}

/// Mirrors left and right, or top and bottom, with a probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flip {
    /// Probability. Default 0.5.
    pub p: f64,
}

impl Default for Flip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

/// A resize of which a centre crop keeps `width`×`height` pixels, for a picture of the size `from`.
pub(crate) fn center_scaling(resize: &Resize, from: (usize, usize), (height, width): (usize, usize), draws: &mut Draws) -> Scaling {
    let to = resize.target(from.0, from.1);
    let (columns, rows) = (Span::center(to.0, width), Span::center(to.1, height));
    let region = Region { left: columns.from, top: rows.from, width: columns.count, height: rows.count };
    Scaling { from, to, filter: resize.interpolation.draw(draws), region }
}

fn shorter_side() -> ResizeMode {
    ResizeMode::ShorterSide
}

fn bilinear() -> Filter {
    Filter::Bilinear
}

fn yes() -> bool {
    true
}

fn inception_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn inception_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}
