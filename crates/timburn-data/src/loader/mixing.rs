//! Mixup and CutMix: each picture of a batch mixed with the one opposite, as timm's `Mixup` does it in mode `batch`.
//!
//! What is mixed how is drawn on the host, see [`Mixing::draw`]; [`mixup`], [`cutmix`] and [`mixed_targets`] are pure functions of it.

use burn::tensor::{Device, Tensor, TensorData, s};
use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_core::seed::Draws;

use super::options::argument;
use crate::image::Region;

/// First coordinate of a batch's draws.
const MIXING: u64 = 3;

/// Which mixing a batch may get, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixing {
    /// Mixup (Zhang et al. 2018), if wanted.
    pub mixup: Option<Mixup>,
    /// CutMix (Yun et al. 2019), if wanted.
    pub cutmix: Option<CutMix>,
    /// Chance that a batch is mixed at all. Default 1.
    pub prob: f64,
    /// Chance that a mixed batch gets CutMix where both are wanted. Default 0.5.
    pub switch_prob: f64,
}

impl Default for Mixing {
    fn default() -> Self {
        Self { mixup: None, cutmix: None, prob: 1.0, switch_prob: 0.5 }
    }
}

/// Weighted sums of two pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// The first picture's weight is drawn from Beta(alpha, alpha); above 0.
    pub alpha: f64,
}

/// A rectangle of the other picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutMix {
    /// The area left to the first picture is drawn from Beta(alpha, alpha); above 0.
    #[serde(default = "one")]
    pub alpha: f64,
    /// If given, `alpha` is not used: the rectangle's sides are drawn between these shares of the picture's, `0 <= min <= max <= 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minmax: Option<[f64; 2]>,
}

fn one() -> f64 {
    1.0
}

/// What one batch gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Nothing.
    None,
    /// [`mixup`] with this weight of the first picture.
    Mixup {
        /// In `0.0..=1.0`.
        lam: f64,
    },
    /// [`cutmix`] of this rectangle.
    CutMix {
        /// What is replaced; may be empty.
        region: Region,
        /// The share of the picture that is left, the clipping at its edges taken into account.
        lam: f64,
    },
}

impl Mixing {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`](timburn_core::Error::Argument) naming the first one.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("mixing.prob", self.prob), ("mixing.switch_prob", self.switch_prob)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(argument(name, value, "0 to 1".into()));
            }
        }
        let alphas =
            [("mixing.mixup.alpha", self.mixup.map(|mixup| mixup.alpha)), ("mixing.cutmix.alpha", self.cutmix.map(|cut| cut.alpha))];
        for (name, alpha) in alphas {
            if let Some(alpha) = alpha.filter(|alpha| !(alpha.is_finite() && *alpha > 0.0)) {
                return Err(argument(name, alpha, "a finite number above 0".into()));
            }
        }
        if let Some([min, max]) = self.cutmix.and_then(|cutmix| cutmix.minmax)
            && !(0.0 <= min && min <= max && max <= 1.0)
        {
            return Err(argument("mixing.cutmix.minmax", format!("[{min}, {max}]"), "0 <= min <= max <= 1".into()));
        }
        Ok(())
    }

    /// What batch number `batch` of an epoch gets: a function of the arguments alone. `height` and `width` are the pictures'.
    pub fn draw(&self, seed: u64, epoch: u64, batch: u64, height: usize, width: usize) -> Mix {
        let mut draws = Draws::new(seed, &[MIXING, epoch, batch]);
        if !draws.chance(self.prob) {
            return Mix::None;
        }
        match (self.mixup, self.cutmix) {
            (None, None) => Mix::None,
            (Some(mixup), None) => mixup.draw(&mut draws),
            (None, Some(cutmix)) => cutmix.draw(&mut draws, height, width),
            (Some(mixup), Some(cutmix)) => {
                if draws.chance(self.switch_prob) {
                    cutmix.draw(&mut draws, height, width)
                } else {
                    mixup.draw(&mut draws)
                }
            }
        }
    }
}

impl Mixup {
    fn draw(self, draws: &mut Draws) -> Mix {
        Mix::Mixup { lam: draws.beta(self.alpha, self.alpha) }
    }
}

impl CutMix {
    fn draw(self, draws: &mut Draws, height: usize, width: usize) -> Mix {
        let region = if let Some([min, max]) = self.minmax {
            let mut side = |size: usize| {
                // NumPy's `randint`: the upper end is not drawn.
                let (low, high) = ((size as f64 * min) as usize, (size as f64 * max) as usize);
                low.min(size) + draws.below(high.min(size).saturating_sub(low))
            };
            let (rows, columns) = (side(height), side(width));
            let top = draws.below(height - rows + 1);
            let left = draws.below(width - columns + 1);
            Region { left, top, width: columns, height: rows }
        } else {
            let lam = draws.beta(self.alpha, self.alpha);
            let (y, x) = (draws.below(height), draws.below(width));
            Region::around(y, x, (1.0 - lam).sqrt(), height, width)
        };
        let area = (height * width).max(1) as f64;
        Mix::CutMix { region, lam: 1.0 - (region.width * region.height) as f64 / area }
    }
}

impl Region {
    /// CutMix's rectangle: both sides `ratio` of the picture's, rounded down, centred at row `y` and column `x`, clipped at the edges.
    fn around(y: usize, x: usize, ratio: f64, height: usize, width: usize) -> Self {
        let span = |center: usize, size: usize| {
            let cut = (size as f64 * ratio) as usize;
            let (low, high) = (center.saturating_sub(cut / 2), (center + cut.div_ceil(2)).min(size));
            (low, high - low)
        };
        let ((top, height), (left, width)) = (span(y, height), span(x, width));
        Self { left, top, width, height }
    }
}

impl Mix {
    /// How much of the first picture's label stays.
    pub fn lam(&self) -> f64 {
        match *self {
            Self::None => 1.0,
            Self::Mixup { lam } | Self::CutMix { lam, .. } => lam,
        }
    }

    /// The mixed pictures, `[n, channels, height, width]`.
    pub fn images(&self, images: Tensor<4>) -> Tensor<4> {
        match *self {
            Self::None => images,
            Self::Mixup { lam } => mixup(images, lam),
            Self::CutMix { region, .. } => cutmix(images, region),
        }
    }
}

/// `lam * x + (1 - lam) * x'`, where `x'` is the batch in reverse order. In a batch of odd length the middle picture stays as it is.
pub fn mixup(images: Tensor<4>, lam: f64) -> Tensor<4> {
    if lam == 1.0 {
        return images;
    }
    let opposite = images.clone().flip([0]).mul_scalar(1.0 - lam);
    images.mul_scalar(lam).add(opposite)
}

/// Replaces `region`, clipped to the pictures, by the same region of the batch in reverse order.
pub fn cutmix(images: Tensor<4>, region: Region) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let (top, left) = (region.top.min(height), region.left.min(width));
    let (bottom, right) = (top + region.height.min(height - top), left + region.width.min(width - left));
    if top == bottom || left == right {
        return images;
    }
    let patch = images.clone().slice(s![.., .., top..bottom, left..right]).flip([0]);
    images.slice_assign(s![.., .., top..bottom, left..right], patch)
}

/// The soft targets of a mixed batch, `[n, classes]`: `lam` of the label and `1 - lam` of the opposite picture's, both smoothed.
///
/// A smoothed label is `1 - smoothing + smoothing / classes` at its class and `smoothing / classes` elsewhere.
///
/// # Errors
/// [`Error::Argument`](timburn_core::Error::Argument) for a label beyond `classes`.
pub fn mixed_targets(labels: &[usize], classes: usize, lam: f64, smoothing: f64, device: &Device) -> Result<Tensor<2>> {
    if let Some(label) = labels.iter().find(|label| **label >= classes) {
        return Err(argument("label", label, format!("below {classes}, the number of classes")));
    }
    let off = (smoothing / classes.max(1) as f64) as f32;
    let on = (1.0 - smoothing + smoothing / classes.max(1) as f64) as f32;
    let (lam, rest) = (lam as f32, (1.0 - lam) as f32);
    let mut values = vec![off * lam + off * rest; labels.len() * classes];
    for ((row, &label), &opposite) in values.chunks_exact_mut(classes.max(1)).zip(labels).zip(labels.iter().rev()) {
        for (class, value) in row.iter_mut().enumerate().filter(|(class, _)| [label, opposite].contains(class)) {
            let smoothed = |label| if class == label { on } else { off };
            *value = smoothed(label) * lam + smoothed(opposite) * rest;
        }
    }
    Ok(Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Mixing =
        Mixing { mixup: Some(Mixup { alpha: 0.2 }), cutmix: Some(CutMix { alpha: 1.0, minmax: None }), prob: 0.8, switch_prob: 0.25 };

    #[test]
    fn draws_have_their_distributions() {
        let n = 20_000;
        let (mut mixups, mut cuts, mut none) = (Vec::new(), Vec::new(), 0);
        for batch in 0..n {
            match BOTH.draw(7, batch / 100, batch % 100, 40, 60) {
                Mix::None => none += 1,
                Mix::Mixup { lam } => mixups.push(lam),
                Mix::CutMix { region, lam } => {
                    assert!(region.left + region.width <= 60 && region.top + region.height <= 40);
                    assert_eq!(lam, 1.0 - (region.width * region.height) as f64 / 2400.0);
                    cuts.push(lam);
                }
            }
        }
        let share = |count: usize, of: usize| count as f64 / of as f64;
        assert!((share(none, n as usize) - 0.2).abs() < 0.01);
        assert!((share(cuts.len(), mixups.len() + cuts.len()) - 0.25).abs() < 0.01);
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64)
        };
        // Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
        let (mean, variance) = moments(&mixups);
        assert!((mean - 0.5).abs() < 0.01 && (variance - 0.25 / 1.4).abs() < 0.005, "{mean} {variance}");
        // timm's own, 200,000 draws at this size: clipping leaves more than half to the first picture.
        let (mean, variance) = moments(&cuts);
        assert!((mean - TIMM_CUT.0).abs() < 0.01 && (variance - TIMM_CUT.1).abs() < 0.005, "{mean} {variance}");
    }

    /// Mean and variance of the corrected lam of `timm.data.mixup.cutmix_bbox_and_lam((3, 40, 60), beta(1, 1))`.
    const TIMM_CUT: (f64, f64) = (0.6866, 0.0350);

    #[test]
    fn sides_between_the_bounds_are_uniform() {
        let mixing = Mixing { cutmix: Some(CutMix { alpha: 1.0, minmax: Some([0.2, 0.8]) }), ..Mixing::default() };
        let mut rows = vec![0i32; 41];
        let (mut tops, mut lefts) = ([0i32; 2], [0i32; 2]);
        for batch in 0..24_000 {
            let Mix::CutMix { region, .. } = mixing.draw(1, 0, batch, 40, 60) else { panic!("prob is 1") };
            rows[region.height] += 1;
            tops[usize::from(2 * region.top + region.height > 40)] += 1;
            lefts[usize::from(2 * region.left + region.width > 60)] += 1;
            assert!((12..48).contains(&region.width));
        }
        assert!(rows[8..32].iter().all(|count| (850..1150).contains(count)), "{rows:?}");
        assert_eq!(rows[8..32].iter().sum::<i32>(), 24_000);
        assert!((tops[0] - tops[1]).abs() < 2000 && (lefts[0] - lefts[1]).abs() < 2000);
    }

    #[test]
    fn draws_are_functions_of_their_coordinates() {
        assert_eq!(BOTH.draw(1, 2, 3, 32, 32), BOTH.draw(1, 2, 3, 32, 32));
        let mixing = Mixing { prob: 1.0, ..BOTH };
        let some: Vec<Mix> =
            (0..4).flat_map(|x| [mixing.draw(x, 9, 9, 32, 32), mixing.draw(9, x, 9, 32, 32), mixing.draw(9, 9, x, 32, 32)]).collect();
        for (i, mix) in some.iter().enumerate() {
            assert!(!some[..i].contains(mix), "{i}");
        }
    }

    #[test]
    fn odd_sizes_and_values_are_no_trouble() {
        for minmax in [None, Some([0.0, 0.0]), Some([1.0, 1.0]), Some([0.3, 0.9])] {
            let mixing = Mixing { cutmix: Some(CutMix { alpha: 1e-3, minmax }), ..Mixing::default() };
            mixing.validate().unwrap();
            for (height, width) in [(0, 0), (1, 1), (1, 7), (224, 3)] {
                (0..50).for_each(|batch| assert!((0.0..=1.0).contains(&mixing.draw(0, 0, batch, height, width).lam())));
            }
        }
        for bad in [
            Mixing { prob: 1.5, ..BOTH },
            Mixing { switch_prob: f64::NAN, ..BOTH },
            Mixing { mixup: Some(Mixup { alpha: 0.0 }), ..BOTH },
            Mixing { cutmix: Some(CutMix { alpha: f64::INFINITY, minmax: None }), ..BOTH },
            Mixing { cutmix: Some(CutMix { alpha: 1.0, minmax: Some([0.5, 0.2]) }), ..BOTH },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(mixed_targets(&[0, 3], 3, 0.5, 0.1, &Device::flex()).is_err());
    }
}
