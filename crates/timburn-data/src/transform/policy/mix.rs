//! AugMix: chains of operations, mixed.

use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::seed::Draws;

use super::Action;
use super::rand::with_sign;
use super::torchvision::{self, MIX_KINDS, Space};
use crate::image::Rgb8Image;
use crate::transform::ops::Sampling;
use crate::transform::params::{Filter, check};

/// A weighted sum of the picture and of several short chains of operations on it (Hendrycks et al. 2020; torchvision's).
///
/// torchvision does the operations on tensors here, whose warps and enhancements differ by some LSB from PIL's, which these are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugMix {
    /// Magnitudes are drawn from the lowest `severity` of ten. Default 3.
    pub severity: usize,
    /// Number of chains. Default 3.
    pub width: usize,
    /// Operations a chain; 0 draws 1 to 3. Default 0.
    pub depth: usize,
    /// Parameter of the Dirichlet and beta distributions of the weights. Default 1.
    pub alpha: f64,
    /// With brightness, colour, contrast and sharpness. Default true.
    pub all_ops: bool,
    /// Filter of the warps. Default bilinear.
    pub interpolation: Filter,
    /// Colour that the warps leave, RGB. Default black.
    pub fill: [u8; 3],
}

impl Default for AugMix {
    fn default() -> Self {
        Self { severity: 3, width: 3, depth: 0, alpha: 1.0, all_ops: true, interpolation: Filter::Bilinear, fill: [0; 3] }
    }
}

/// One chain of [`AugMix`].
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Its part of the sum.
    pub weight: f32,
    /// The operations in order, each with its filter.
    pub actions: Vec<(Action, Sampling)>,
}

const LEVELS: usize = 10;

impl AugMix {
    pub(crate) fn validate(&self) -> Result<()> {
        check((1..=LEVELS).contains(&self.severity), "aug_mix.severity", self.severity, "1 to 10")?;
        check((1..=100).contains(&self.width), "aug_mix.width", self.width, "1 to 100")?;
        check(self.depth <= 100, "aug_mix.depth", self.depth, "0 to 100")?;
        check((0.01..=1000.0).contains(&self.alpha), "aug_mix.alpha", self.alpha, "0.01 to 1000")?;
        self.interpolation.check_warp("aug_mix.interpolation")
    }

    /// The weight of the picture itself and the chains, for a picture of `width`×`height` pixels.
    pub fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> (f32, Vec<Chain>) {
        let kept = draws.beta(self.alpha, self.alpha);
        let parts: Vec<f64> = (0..self.width).map(|_| draws.gamma(self.alpha)).collect();
        let sum: f64 = parts.iter().sum();
        let kinds = if self.all_ops { &MIX_KINDS[..] } else { &MIX_KINDS[..9] };
        let chains = parts.iter().map(|part| {
            let depth = if self.depth > 0 { self.depth } else { 1 + draws.below(3) };
            let actions = (0..depth).map(|_| {
                let kind = kinds[draws.below(kinds.len())];
                let magnitude = torchvision::magnitude(Space::Mix, kind, draws.below(self.severity), LEVELS, width, height);
                let action = torchvision::action(kind, with_sign(kind, magnitude, draws), width, height);
                (action, self.interpolation.draw_sampling(draws))
            });
            let actions = actions.collect();
            // All parts underflow for a tiny alpha.
            let part = if sum > 0.0 { part / sum } else { 1.0 / self.width as f64 };
            Chain { weight: ((1.0 - kept) * part) as f32, actions }
        });
        let chains = chains.collect();
        (kept as f32, chains)
    }

    /// The sum of `kept` times the picture and of the chains by their weights, in single precision, cut off to bytes.
    pub fn mix(image: &Rgb8Image, kept: f32, chains: &[Chain], fill: [u8; 3]) -> Rgb8Image {
        let mut sums: Vec<f32> = image.pixels.iter().map(|byte| kept * f32::from(*byte)).collect();
        for Chain { weight, actions } in chains {
            let done = actions.iter().fold(image.clone(), |image, (action, sampling)| action.apply(image, *sampling, fill));
            sums.iter_mut().zip(&done.pixels).for_each(|(sum, byte)| *sum += weight * f32::from(*byte));
        }
        Rgb8Image { width: image.width, height: image.height, pixels: sums.iter().map(|sum| *sum as u8).collect() }
    }

    pub(crate) fn apply(&self, image: &Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let (kept, chains) = self.draw(image.width, image.height, draws);
        Self::mix(image, kept, &chains, self.fill)
    }
}
