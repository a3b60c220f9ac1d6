//! Rectangles painted over: random erasing and cutout.

use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::preprocessing::{IMAGENET_MEAN, IMAGENET_STD};
use timburn_core::seed::Draws;

use super::ops;
use super::params::{MAX_SIDE, MEAN_COLOR, check, check_probability, check_range};
use crate::image::{Region, Rgb8Image};

/// What an erased rectangle shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Erased {
    /// The mean colour: what 0 is after normalisation (timm's `const`).
    #[default]
    Constant,
    /// One random colour a rectangle, normal with the given mean and standard deviation (timm's `rand`).
    Random,
    /// A random colour a pixel (timm's `pixel`, torchvision's `"random"`).
    Pixel,
}

/// Erases random rectangles (Zhong et al. 2017; timm's `RandomErasing`, and torchvision's with `count = [1, 1]`).
///
/// Works on bytes, before normalisation; the references erase after it. So the mean colour is rounded to bytes and random colours are cut
/// off at black and white: a normal draw leaves 0..=255 in about 4 of 100 cases with ImageNet's statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomErasing {
    /// Probability that anything is erased. Default 0.5.
    pub p: f64,
    /// Range of the erased area, as part of the picture's, divided among the rectangles. Default `[0.02, 1/3]`.
    pub scale: [f64; 2],
    /// Range of height / width, drawn log-uniformly. Default `[0.3, 3.3]`.
    pub ratio: [f64; 2],
    /// Range of the number of rectangles. Default `[1, 1]`.
    pub count: [usize; 2],
    /// What they show. Default the mean colour.
    pub value: Erased,
    /// Mean colour, full scale = 1, RGB. Default ImageNet's.
    pub mean: [f32; 3],
    /// Standard deviation of random colours, full scale = 1, RGB. Default ImageNet's.
    pub std: [f32; 3],
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            p: 0.5,
            scale: [0.02, 1.0 / 3.0],
            ratio: [0.3, 3.3],
            count: [1, 1],
            value: Erased::Constant,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}

impl RandomErasing {
    pub(crate) fn validate(&self) -> Result<()> {
        check_probability("random_erasing.p", self.p)?;
        check_range("random_erasing.scale", self.scale, (0.0, 1.0), "[low, high] within 0 to 1")?;
        check_range("random_erasing.ratio", self.ratio, (1e-3, 1e3), "[low, high] within 0.001 to 1000")?;
        let [least, most] = self.count;
        check((1..=most).contains(&least) && most <= 1000, "random_erasing.count", self.count, "[least, most] within 1 to 1000")?;
        check(self.mean.iter().all(|mean| (0.0..=1.0).contains(mean)), "random_erasing.mean", self.mean, "colours, 0 to 1")?;
        check(self.std.iter().all(|std| (0.0..=10.0).contains(std)), "random_erasing.std", self.std, "numbers, 0 to 10")
    }

    /// The rectangles for a picture of `width`×`height` pixels; some or none where ten tries did not fit.
    pub fn regions(&self, width: usize, height: usize, draws: &mut Draws) -> Vec<Region> {
        if !draws.chance(self.p) {
            return Vec::new();
        }
        let [least, most] = self.count;
        let count = least + draws.below(most.saturating_sub(least) + 1);
        (0..count).filter_map(|_| self.region(width, height, count, draws)).collect()
    }

    fn region(&self, width: usize, height: usize, count: usize, draws: &mut Draws) -> Option<Region> {
        (0..10).find_map(|_| {
            let area = draws.range(self.scale[0], self.scale[1]) * width as f64 * height as f64 / count as f64;
            let ratio = draws.range(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let rows = (area * ratio).sqrt().round_ties_even() as usize;
            let columns = (area / ratio).sqrt().round_ties_even() as usize;
            if rows >= height || columns >= width {
                return None;
            }
            let top = draws.below(height - rows + 1);
            let left = draws.below(width - columns + 1);
            Some(Region { left, top, width: columns, height: rows })
        })
    }

    pub(crate) fn apply(&self, image: &mut Rgb8Image, draws: &mut Draws) {
        for region in self.regions(image.width, image.height, draws) {
            let color = |noise: f64, channel: usize| {
                let value = f64::from(self.mean[channel]) + f64::from(self.std[channel]) * noise;
                (value * 255.0).round() as u8
            };
            match self.value {
                Erased::Constant => ops::erase(image, region, || std::array::from_fn(|channel| color(0.0, channel))),
                Erased::Random => {
                    let drawn = std::array::from_fn(|channel| color(draws.normal(), channel));
                    ops::erase(image, region, || drawn);
                }
                Erased::Pixel => ops::erase(image, region, || std::array::from_fn(|channel| color(draws.normal(), channel))),
            }
        }
    }
}

/// Paints a square over, its centre uniform over all pixels, cut off at the edges (DeVries and Taylor 2017).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// Side of the square in pixels.
    pub size: usize,
    /// Its colour, RGB. Default ImageNet's mean colour, as good as 0 after normalisation.
    #[serde(default = "mean_color")]
    pub fill: [u8; 3],
}

impl Cutout {
    pub(crate) fn validate(&self) -> Result<()> {
        check((1..=MAX_SIDE).contains(&self.size), "cutout.size", self.size, "1 to 4096 pixels")
    }

    /// The part of the square that lies inside a picture of `width`×`height` pixels.
    pub fn region(&self, width: usize, height: usize, draws: &mut Draws) -> Region {
        let mut axis = |size: usize| {
            let center = draws.below(size);
            let from = center.saturating_sub(self.size / 2);
            // The paper's code takes `size // 2` on both sides; an odd side is kept whole here.
            (from, (center + self.size.div_ceil(2)).min(size) - from.min(size))
        };
        let (top, rows) = axis(height);
        let (left, columns) = axis(width);
        Region { left, top, width: columns, height: rows }
    }
}

fn mean_color() -> [u8; 3] {
    MEAN_COLOR
}
