//! Random colours and blur.

use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::seed::Draws;

use super::ops;
use super::params::{Amount, check, check_probability, half};
use crate::image::Rgb8Image;

/// Brightness, contrast, saturation and hue by random factors in random order (torchvision's `ColorJitter` on PIL images).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// Factor: `max(0, 1 - b)..1 + b`, or `[low, high]`. Default 0: left alone.
    pub brightness: Amount,
    /// As brightness.
    pub contrast: Amount,
    /// As brightness.
    pub saturation: Amount,
    /// Turns of the colour circle: `±h`, or `[low, high]`, within -0.5 to 0.5. Default 0.
    pub hue: Amount,
}

/// Drawn parameters of [`ColorJitter`]: what happens, in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// Brightness factor.
    Brightness(f64),
    /// Contrast factor.
    Contrast(f64),
    /// Saturation factor.
    Saturation(f64),
    /// Turns of the colour circle.
    Hue(f64),
}

impl Default for ColorJitter {
    fn default() -> Self {
        let none = Amount::Spread(0.0);
        Self { brightness: none, contrast: none, saturation: none, hue: none }
    }
}

impl ColorJitter {
    pub(crate) fn validate(&self) -> Result<()> {
        let factor = "a number from 0, or [low, high] from 0, up to 100";
        self.brightness.check("color_jitter.brightness", 100.0, (0.0, 100.0), factor)?;
        self.contrast.check("color_jitter.contrast", 100.0, (0.0, 100.0), factor)?;
        self.saturation.check("color_jitter.saturation", 100.0, (0.0, 100.0), factor)?;
        self.hue.check("color_jitter.hue", 0.5, (-0.5, 0.5), "0 to 0.5, or [low, high] within -0.5 to 0.5")
    }

    /// The factors and their order. What can only leave the picture as it is is not drawn.
    pub fn draw(&self, draws: &mut Draws) -> Vec<Jitter> {
        let mut steps = Vec::with_capacity(4);
        let mut push = |step: fn(f64) -> Jitter, (low, high): (f64, f64), neutral: f64| {
            if (low, high) != (neutral, neutral) {
                steps.push(step(draws.range(low, high)));
            }
        };
        push(Jitter::Brightness, self.brightness.factor(), 1.0);
        push(Jitter::Contrast, self.contrast.factor(), 1.0);
        push(Jitter::Saturation, self.saturation.factor(), 1.0);
        push(Jitter::Hue, self.hue.around(0.0), 0.0);
        draws.shuffle(&mut steps);
        steps
    }

    pub(crate) fn apply(&self, image: &mut Rgb8Image, draws: &mut Draws) {
        for step in self.draw(draws) {
            match step {
                Jitter::Brightness(factor) => ops::adjust_brightness(image, factor),
                Jitter::Contrast(factor) => ops::adjust_contrast(image, factor),
                Jitter::Saturation(factor) => ops::adjust_saturation(image, factor),
                Jitter::Hue(turns) => ops::adjust_hue(image, turns),
            }
        }
    }
}

/// Gray in all three channels, with a probability (torchvision's `RandomGrayscale`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grayscale {
    /// Probability. Default 0.1.
    pub p: f64,
}

impl Default for Grayscale {
    fn default() -> Self {
        Self { p: 0.1 }
    }
}

/// Gaussian blur of random width (torchvision's `GaussianBlur` on byte tensors).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Side of the kernel in pixels, odd.
    pub kernel: usize,
    /// Standard deviation in pixels: a number, or `[low, high]` drawn uniformly. Default `[0.1, 2]`.
    #[serde(default = "sigma")]
    pub sigma: Amount,
    /// Probability. Default 1.
    #[serde(default = "one")]
    pub p: f64,
}

impl GaussianBlur {
    pub(crate) fn validate(&self) -> Result<()> {
        check(self.kernel % 2 == 1 && self.kernel <= 255, "gaussian_blur.kernel", self.kernel, "an odd number, 1 to 255")?;
        let (low, high) = self.range();
        let good = 0.01 <= low && low <= high && high <= 1000.0;
        check(good, "gaussian_blur.sigma", self.sigma, "a number or [low, high] within 0.01 to 1000")?;
        check_probability("gaussian_blur.p", self.p)
    }

    fn range(&self) -> (f64, f64) {
        match self.sigma {
            Amount::Spread(sigma) => (sigma, sigma),
            Amount::Between(low, high) => (low, high),
        }
    }

    pub(crate) fn apply(&self, image: &mut Rgb8Image, draws: &mut Draws) {
        if draws.chance(self.p) {
            let (low, high) = self.range();
            ops::gaussian_blur(image, self.kernel, draws.range(low, high));
        }
    }
}

/// Fewer bits (torchvision's `RandomPosterize`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posterize {
    /// Bits kept of each channel, 0 to 8.
    pub bits: u32,
    /// Probability. Default 0.5.
    #[serde(default = "half")]
    pub p: f64,
}

/// Inverts what is not dark (torchvision's `RandomSolarize`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Solarize {
    /// First byte that is inverted. Default 128.
    #[serde(default = "middle")]
    pub threshold: f64,
    /// Probability. Default 0.5.
    #[serde(default = "half")]
    pub p: f64,
}

/// Lightens what is dark (timm's `solarize_add`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolarizeAdd {
    /// What is added, 0 to 255.
    pub amount: u8,
    /// First byte that is left alone. Default 128.
    #[serde(default = "middle_byte")]
    pub threshold: u8,
    /// Probability. Default 0.5.
    #[serde(default = "half")]
    pub p: f64,
}

/// A colour operation without parameters, with a probability (torchvision's `RandomInvert`, `RandomEqualize`, `RandomAutocontrast`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chance {
    /// Probability. Default 0.5.
    pub p: f64,
}

impl Default for Chance {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

/// One of `PIL.ImageEnhance`, with a probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enhance {
    /// 1 is the picture as it is: a number, or `[low, high]` drawn uniformly.
    pub factor: Amount,
    /// Probability. Default 0.5.
    #[serde(default = "half")]
    pub p: f64,
}

impl Enhance {
    pub(crate) fn validate(&self, factor: &'static str, p: &'static str) -> Result<()> {
        self.factor.check(factor, 100.0, (0.0, 100.0), "0 to 100, or [low, high] within")?;
        check_probability(p, self.p)
    }

    pub(crate) fn apply(&self, image: &mut Rgb8Image, draws: &mut Draws, op: fn(&mut Rgb8Image, f64)) {
        if draws.chance(self.p) {
            let (low, high) = match self.factor {
                Amount::Spread(factor) => (factor, factor),
                Amount::Between(low, high) => (low, high),
            };
            op(image, draws.range(low, high));
        }
    }
}

fn sigma() -> Amount {
    Amount::Between(0.1, 2.0)
}

fn one() -> f64 {
    1.0
}

fn middle() -> f64 {
    128.0
}

fn middle_byte() -> u8 {
    128
}
