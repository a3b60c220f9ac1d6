//! torchvision's tables: which magnitudes an operation takes, and what a magnitude means.

use super::{Action, Kind};
use crate::transform::ops::affine_matrix;

/// The operations of `RandAugment` and `TrivialAugmentWide`, in torchvision's order.
pub const KINDS: [Kind; 14] = [
    Kind::Identity,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
    Kind::Rotate,
    Kind::Brightness,
    Kind::Color,
    Kind::Contrast,
    Kind::Sharpness,
    Kind::Posterize,
    Kind::Solarize,
    Kind::AutoContrast,
    Kind::Equalize,
];

/// The operations of `AugMix`; with `all_ops = false` only the first nine.
pub const MIX_KINDS: [Kind; 13] = [
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
    Kind::Rotate,
    Kind::Posterize,
    Kind::Solarize,
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Brightness,
    Kind::Color,
    Kind::Contrast,
    Kind::Sharpness,
];

/// Whose table of magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// `RandAugment` and `AutoAugment`.
    Augment,
    /// `TrivialAugmentWide`.
    Wide,
    /// `AugMix`.
    Mix,
}

/// Magnitude number `bin` of `bins` (2 or more) for a picture of `width`×`height` pixels, before any sign.
pub fn magnitude(space: Space, kind: Kind, bin: usize, bins: usize, width: usize, height: usize) -> f64 {
    let translate = |size: usize| match space {
        Space::Augment => 150.0 / 331.0 * size as f64,
        Space::Wide => 32.0,
        Space::Mix => size as f64 / 3.0,
    };
    let wide = |most: f64, wide: f64| if space == Space::Wide { wide } else { most };
    match kind {
        Kind::ShearX | Kind::ShearY => linspace(0.0, wide(0.3, 0.99), bin, bins),
        Kind::TranslateX => linspace(0.0, translate(width), bin, bins),
        Kind::TranslateY => linspace(0.0, translate(height), bin, bins),
        Kind::Rotate => linspace(0.0, wide(30.0, 135.0), bin, bins),
        Kind::Brightness | Kind::Color | Kind::Contrast | Kind::Sharpness => linspace(0.0, wide(0.9, 0.99), bin, bins),
        Kind::Posterize => {
            let most = if space == Space::Mix { 4.0 } else { 8.0 };
            let step = bins.saturating_sub(1).max(1) as f64 / wide(4.0, 6.0);
            most - f64::from((bin as f32 / step as f32).round_ties_even())
        }
        Kind::Solarize => linspace(255.0, 0.0, bin, bins),
        Kind::Identity | Kind::AutoContrast | Kind::Equalize | Kind::Invert | Kind::SolarizeAdd => 0.0,
    }
}

/// `torch.linspace(start, end, bins)[bin]`: in single precision, from the nearer end, multiplied and added in one rounding.
fn linspace(start: f64, end: f64, bin: usize, bins: usize) -> f64 {
    let (start, end) = (start as f32, end as f32);
    let last = bins.saturating_sub(1).max(1);
    let step = (end - start) / last as f32;
    f64::from(if bin < bins / 2 { step.mul_add(bin as f32, start) } else { (-step).mul_add(last.saturating_sub(bin) as f32, end) })
}

/// Whether the magnitude gets a random sign.
pub fn signed(kind: Kind) -> bool {
    use Kind::{Brightness, Color, Contrast, Rotate, Sharpness, ShearX, ShearY, TranslateX, TranslateY};
    matches!(kind, ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness)
}

/// What torchvision's `_apply_op` does with a signed magnitude to a picture of `width`×`height` pixels.
pub fn action(kind: Kind, magnitude: f64, width: usize, height: usize) -> Action {
    let center = (width as f64 * 0.5, height as f64 * 0.5);
    let shear = magnitude.atan().to_degrees();
    let warp = |center, shift, shear| Action::Warp(affine_matrix(center, 0.0, shift, 1.0, shear));
    match kind {
        Kind::Identity => Action::Identity,
        Kind::ShearX => warp((0.0, 0.0), (0.0, 0.0), (shear, 0.0)),
        Kind::ShearY => warp((0.0, 0.0), (0.0, 0.0), (0.0, shear)),
        Kind::TranslateX => warp(center, (magnitude.trunc(), 0.0), (0.0, 0.0)),
        Kind::TranslateY => warp(center, (0.0, magnitude.trunc()), (0.0, 0.0)),
        Kind::Rotate => Action::Rotate(magnitude),
        Kind::Brightness => Action::Brightness(1.0 + magnitude),
        Kind::Color => Action::Color(1.0 + magnitude),
        Kind::Contrast => Action::Contrast(1.0 + magnitude),
        Kind::Sharpness => Action::Sharpness(1.0 + magnitude),
        Kind::Posterize => Action::Posterize(magnitude as u32),
        Kind::Solarize => Action::Solarize(magnitude),
        Kind::SolarizeAdd => Action::SolarizeAdd(magnitude as u8),
        Kind::AutoContrast => Action::AutoContrast,
        Kind::Equalize => Action::Equalize,
        Kind::Invert => Action::Invert,
    }
}
