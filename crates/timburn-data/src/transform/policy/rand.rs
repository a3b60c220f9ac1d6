//! RandAugment and TrivialAugment: operations at random, no search.

use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::seed::Draws;

use super::torchvision::Space;
use super::{Action, Kind, timm, torchvision};
use crate::image::Rgb8Image;
use crate::transform::params::{Filter, MEAN_COLOR, check, check_probability};

/// Whose operations and magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// 14 operations, `magnitude` counts bins.
    #[default]
    Torchvision,
    /// 15 operations, `magnitude` is a level from 0 to 10, each operation happens with probability `p`.
    Timm,
}

/// A few operations drawn with replacement, all at one magnitude (Cubuk et al. 2020).
///
/// torchvision's `RandAugment` and timm's differ much; `set` chooses. timm's `rand-m9-mstd0.5-inc1` is
/// `{ op = "rand_augment", set = "timm", magnitude = 9, magnitude_std = 0.5, increasing = true }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Whose. Default torchvision's.
    pub set: Set,
    /// Operations a picture. Default 2.
    pub ops: usize,
    /// torchvision: a bin, 0 to `bins` - 1; timm: a level, 0 to `magnitude_max`. Default 9.
    pub magnitude: f64,
    /// torchvision: number of bins. Default 31.
    pub bins: usize,
    /// timm: standard deviation of the level. Default 0.
    pub magnitude_std: f64,
    /// timm: upper bound of the level. Default 10.
    pub magnitude_max: f64,
    /// timm: operations that get stronger with the level (`inc1`). Default false.
    pub increasing: bool,
    /// timm: probability of each operation. Default 0.5.
    pub p: f64,
    /// Filter of the warps. Default nearest (torchvision), random of bilinear and bicubic (timm).
    pub interpolation: Option<Filter>,
    /// Colour that the warps leave, RGB. Default black (torchvision), ImageNet's mean colour (timm).
    pub fill: Option<[u8; 3]>,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            set: Set::Torchvision,
            ops: 2,
            magnitude: 9.0,
            bins: 31,
            magnitude_std: 0.0,
            magnitude_max: 10.0,
            increasing: false,
            p: 0.5,
            interpolation: None,
            fill: None,
        }
    }
}

impl RandAugment {
    pub(crate) fn validate(&self) -> Result<()> {
        check(self.ops <= 100, "rand_augment.ops", self.ops, "0 to 100")?;
        self.filter().check_warp("rand_augment.interpolation")?;
        check_probability("rand_augment.p", self.p)?;
        let torchvision = Self::default();
        match self.set {
            Set::Torchvision => {
                check_bins("rand_augment.bins", self.bins)?;
                let bin = self.magnitude.fract() == 0.0 && (0.0..self.bins as f64).contains(&self.magnitude);
                check(bin, "rand_augment.magnitude", self.magnitude, "a whole number from 0, below bins")?;
                let only = "its default: only set = \"timm\" has it";
                check(self.magnitude_std == 0.0, "rand_augment.magnitude_std", self.magnitude_std, only)?;
                check(self.magnitude_max == torchvision.magnitude_max, "rand_augment.magnitude_max", self.magnitude_max, only)?;
                check(self.p == torchvision.p, "rand_augment.p", self.p, only)?;
                check(!self.increasing, "rand_augment.increasing", self.increasing, only)
            }
            Set::Timm => {
                let only = "its default: only set = \"torchvision\" has it";
                check(self.bins == torchvision.bins, "rand_augment.bins", self.bins, only)?;
                check((0.0..=100.0).contains(&self.magnitude_max), "rand_augment.magnitude_max", self.magnitude_max, "0 to 100")?;
                let within = (0.0..=self.magnitude_max).contains(&self.magnitude);
                check(within, "rand_augment.magnitude", self.magnitude, "0 to magnitude_max")?;
                check((0.0..=100.0).contains(&self.magnitude_std), "rand_augment.magnitude_std", self.magnitude_std, "0 to 100")
            }
        }
    }

    fn filter(&self) -> Filter {
        self.interpolation.unwrap_or(if self.set == Set::Timm { Filter::Random } else { Filter::Nearest })
    }

    /// One operation of the kind drawn, for a picture of `width`×`height` pixels; identity where timm leaves it out.
    pub fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> (Kind, Action) {
        match self.set {
            Set::Torchvision => {
                let kind = torchvision::KINDS[draws.below(torchvision::KINDS.len())];
                let magnitude = torchvision::magnitude(Space::Augment, kind, self.magnitude as usize, self.bins, width, height);
                (kind, torchvision::action(kind, with_sign(kind, magnitude, draws), width, height))
            }
            Set::Timm => {
                let kind = timm::KINDS[draws.below(timm::KINDS.len())];
                if !draws.chance(self.p) {
                    return (kind, Action::Identity);
                }
                let noise = if self.magnitude_std > 0.0 { self.magnitude_std * draws.normal() } else { 0.0 };
                let level = (self.magnitude + noise).clamp(0.0, self.magnitude_max);
                let negative = timm::signed(kind, self.increasing) && draws.chance(0.5);
                (kind, timm::action(kind, level, self.increasing, negative, width, height))
            }
        }
    }

    pub(crate) fn apply(&self, mut image: Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let fill = self.fill.unwrap_or(if self.set == Set::Timm { MEAN_COLOR } else { [0; 3] });
        for _ in 0..self.ops {
            let (_, action) = self.draw(image.width, image.height, draws);
            image = action.apply(image, self.filter().draw_sampling(draws), fill);
        }
        image
    }
}

/// One operation at a random magnitude of a wide range (Müller and Hutter 2021; torchvision's).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrivialAugmentWide {
    /// Number of magnitudes. Default 31.
    pub bins: usize,
    /// Filter of the warps. Default nearest.
    pub interpolation: Filter,
    /// Colour that the warps leave, RGB. Default black.
    pub fill: [u8; 3],
}

impl Default for TrivialAugmentWide {
    fn default() -> Self {
        Self { bins: 31, interpolation: Filter::Nearest, fill: [0; 3] }
    }
}

impl TrivialAugmentWide {
    pub(crate) fn validate(&self) -> Result<()> {
        check_bins("trivial_augment_wide.bins", self.bins)?;
        self.interpolation.check_warp("trivial_augment_wide.interpolation")
    }

    /// The operation for a picture of `width`×`height` pixels.
    pub fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> (Kind, Action) {
        let kind = torchvision::KINDS[draws.below(torchvision::KINDS.len())];
        let magnitude = torchvision::magnitude(Space::Wide, kind, draws.below(self.bins), self.bins, width, height);
        (kind, torchvision::action(kind, with_sign(kind, magnitude, draws), width, height))
    }

    pub(crate) fn apply(&self, image: Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let (_, action) = self.draw(image.width, image.height, draws);
        action.apply(image, self.interpolation.draw_sampling(draws), self.fill)
    }
}

fn check_bins(name: &'static str, bins: usize) -> Result<()> {
    check((2..=1000).contains(&bins), name, bins, "2 to 1000")
}

/// torchvision's random sign, where the operation has one.
pub(super) fn with_sign(kind: Kind, magnitude: f64, draws: &mut Draws) -> f64 {
    if torchvision::signed(kind) && draws.chance(0.5) { -magnitude } else { magnitude }
}
