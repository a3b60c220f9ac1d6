//! timm's RandAugment: what a level from 0 to 10 (or `magnitude_max`) means.

use super::{Action, Kind};

/// The operations timm draws from, in its order; `Color`, `Contrast`, … increase with the level or not, see [`action`].
pub const KINDS: [Kind; 15] = [
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Invert,
    Kind::Rotate,
    Kind::Posterize,
    Kind::Solarize,
    Kind::SolarizeAdd,
    Kind::Color,
    Kind::Contrast,
    Kind::Brightness,
    Kind::Sharpness,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
];

/// Whether [`action`] looks at `negative`.
pub fn signed(kind: Kind, increasing: bool) -> bool {
    match kind {
        Kind::Rotate | Kind::ShearX | Kind::ShearY | Kind::TranslateX | Kind::TranslateY => true,
        Kind::Color | Kind::Contrast | Kind::Brightness | Kind::Sharpness => increasing,
        _ => false,
    }
}

/// What timm does at a level (not below 0) to a picture of `width`×`height` pixels. `increasing` is its `inc1`: the stronger, the higher the level.
///
/// Posterize leaves 0 bits, a black picture, at level 10 with `increasing` and below 2.5 without; Pillow from version 12 on refuses that.
pub fn action(kind: Kind, level: f64, increasing: bool, negative: bool, width: usize, height: usize) -> Action {
    let part = level / 10.0;
    let sign = |value: f64| if negative { -value } else { value };
    let factor = if increasing { (1.0 + sign(part * 0.9)).max(0.1) } else { part * 1.8 + 0.1 };
    match kind {
        Kind::Identity => Action::Identity,
        Kind::AutoContrast => Action::AutoContrast,
        Kind::Equalize => Action::Equalize,
        Kind::Invert => Action::Invert,
        Kind::Rotate => Action::Rotate(sign(part * 30.0)),
        Kind::Posterize => {
            let bits = (part * 4.0) as u32;
            Action::Posterize(if increasing { 4_u32.saturating_sub(bits) } else { bits })
        }
        Kind::Solarize => {
            let threshold = (part * 256.0).trunc().min(256.0);
            Action::Solarize(if increasing { 256.0 - threshold } else { threshold })
        }
        Kind::SolarizeAdd => Action::SolarizeAdd((part * 110.0).min(128.0) as u8),
        Kind::Color => Action::Color(factor),
        Kind::Contrast => Action::Contrast(factor),
        Kind::Brightness => Action::Brightness(factor),
        Kind::Sharpness => Action::Sharpness(factor),
        Kind::ShearX => Action::Warp([1.0, sign(part * 0.3), 0.0, 0.0, 1.0, 0.0]),
        Kind::ShearY => Action::Warp([1.0, 0.0, 0.0, sign(part * 0.3), 1.0, 0.0]),
        Kind::TranslateX => Action::Warp([1.0, 0.0, sign(part * 0.45) * width as f64, 0.0, 1.0, 0.0]),
        Kind::TranslateY => Action::Warp([1.0, 0.0, 0.0, 0.0, 1.0, sign(part * 0.45) * height as f64]),
    }
}
