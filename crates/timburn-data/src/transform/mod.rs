//! Augmentation: an ordered list of transforms, each a pure function of the picture and of random draws.
//!
//! | level | what |
//! |---|---|
//! | [`ops`] | pixels, with explicit parameters: the arithmetic of PIL, torchvision, Keras |
//! | [`Transform`] | what a recipe writes; draws the parameters and calls an op |
//! | [`Pipeline`] | the list, checked; knows its output size, its normalisation, and which part of a picture it needs |
//! | [`presets`] | the lists of published recipes |
//!
//! Pixels stay bytes throughout; [`Normalize`] ends the list and is done by whoever makes the tensor. Draws come from
//! [`Draws`], so a sample is a function of (seed, epoch, index): the parameters have torchvision's distributions and not its numbers.

mod color;
mod crop;
mod erase;
pub mod ops;
mod params;
mod pipeline;
pub mod policy;
pub mod presets;
mod warp;

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use timburn_core::Result;
use timburn_core::preprocessing::{ChannelOrder, IMAGENET_MEAN, IMAGENET_STD};
use timburn_core::seed::Draws;

pub use color::{Chance, ColorJitter, Enhance, GaussianBlur, Grayscale, Jitter, Posterize, Solarize, SolarizeAdd};
pub use crop::{CenterCrop, Flip, RandomCrop, RandomResizedCrop, Resize};
pub use erase::{Cutout, Erased, RandomErasing};
pub use params::{Amount, Filter, Size};
pub use pipeline::{FirstCrop, Pipeline};
pub use policy::{AugMix, AutoAugment, RandAugment, TrivialAugmentWide};
pub use warp::{Affine, AffineParameters, Generator, Rotate};

use crate::image::Rgb8Image;
use params::{check, check_probability};

/// One step of a pipeline. In a recipe a table `{ op = "random_resized_crop", size = 224 }`, or just the name where nothing is required:
/// `"horizontal_flip"`. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "op", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is documented at its parameters or its op")]
pub enum Transform {
    Resize(Resize),
    CenterCrop(CenterCrop),
    RandomResizedCrop(RandomResizedCrop),
    RandomCrop(RandomCrop),
    HorizontalFlip(Flip),
    VerticalFlip(Flip),
    Rotate(Rotate),
    Affine(Affine),
    KerasAffine(Generator),
    ColorJitter(ColorJitter),
    Grayscale(Grayscale),
    GaussianBlur(GaussianBlur),
    AutoContrast(Chance),
    Equalize(Chance),
    Invert(Chance),
    Posterize(Posterize),
    Solarize(Solarize),
    SolarizeAdd(SolarizeAdd),
    Brightness(Enhance),
    Contrast(Enhance),
    Color(Enhance),
    Sharpness(Enhance),
    RandAugment(RandAugment),
    AutoAugment(AutoAugment),
    TrivialAugmentWide(TrivialAugmentWide),
    AugMix(AugMix),
    RandomErasing(RandomErasing),
    Cutout(Cutout),
    Normalize(Normalize),
    ToTensor(ToTensor),
}

/// `(x / 255 - mean) / std` by channel; ends a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Normalize {
    /// Channel means, full scale = 1, in the tensor's channel order. Default ImageNet's.
    pub mean: [f32; 3],
    /// Channel standard deviations, same units and order. Default ImageNet's.
    pub std: [f32; 3],
    /// Channel order of the tensor. Default RGB.
    pub channels: ChannelOrder,
}

impl Default for Normalize {
    fn default() -> Self {
        Self { mean: IMAGENET_MEAN, std: IMAGENET_STD, channels: ChannelOrder::Rgb }
    }
}

/// Nothing: every pipeline ends in a tensor. Accepted so that lists written for torchvision read the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToTensor {}

impl Transform {
    /// Checks every parameter.
    ///
    /// # Errors
    /// [`timburn_core::Error::Argument`] naming the first key out of range, as `op.key`.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Resize(step) => step.validate(),
            Self::CenterCrop(step) => step.size.check("center_crop.size"),
            Self::RandomResizedCrop(step) => step.validate(),
            Self::RandomCrop(step) => step.validate(),
            Self::HorizontalFlip(step) => check_probability("horizontal_flip.p", step.p),
            Self::VerticalFlip(step) => check_probability("vertical_flip.p", step.p),
            Self::Rotate(step) => step.validate(),
            Self::Affine(step) => step.validate(),
            Self::KerasAffine(step) => step.validate(),
            Self::ColorJitter(step) => step.validate(),
            Self::Grayscale(step) => check_probability("grayscale.p", step.p),
            Self::GaussianBlur(step) => step.validate(),
            Self::AutoContrast(step) => check_probability("auto_contrast.p", step.p),
            Self::Equalize(step) => check_probability("equalize.p", step.p),
            Self::Invert(step) => check_probability("invert.p", step.p),
            Self::Posterize(step) => {
                check(step.bits <= 8, "posterize.bits", step.bits, "0 to 8")?;
                check_probability("posterize.p", step.p)
            }
            Self::Solarize(step) => {
                check((0.0..=256.0).contains(&step.threshold), "solarize.threshold", step.threshold, "0 to 256")?;
                check_probability("solarize.p", step.p)
            }
            Self::SolarizeAdd(step) => check_probability("solarize_add.p", step.p),
            Self::Brightness(step) => step.validate("brightness.factor", "brightness.p"),
            Self::Contrast(step) => step.validate("contrast.factor", "contrast.p"),
            Self::Color(step) => step.validate("color.factor", "color.p"),
            Self::Sharpness(step) => step.validate("sharpness.factor", "sharpness.p"),
            Self::RandAugment(step) => step.validate(),
            Self::AutoAugment(step) => step.validate(),
            Self::TrivialAugmentWide(step) => step.validate(),
            Self::AugMix(step) => step.validate(),
            Self::RandomErasing(step) => step.validate(),
            Self::Cutout(step) => step.validate(),
            Self::Normalize(step) => {
                check(step.mean.iter().all(|mean| mean.is_finite()), "normalize.mean", step.mean, "finite numbers")?;
                check(step.std.iter().all(|std| std.is_finite() && *std > 0.0), "normalize.std", step.std, "finite numbers above 0")
            }
            Self::ToTensor(_) => Ok(()),
        }
    }

    /// Draws the parameters and transforms. Never panics for parameters that [`validate`](Self::validate) passes; [`Normalize`] and
    /// [`ToTensor`] leave the bytes alone.
    pub fn apply(&self, mut image: Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        if image.width == 0 || image.height == 0 {
            return image;
        }
        match self {
            Self::Resize(step) => return step.apply(&image, draws),
            Self::CenterCrop(step) => {
                let (height, width) = step.size.height_width();
                return ops::center_crop(&image, width, height);
            }
            Self::RandomResizedCrop(step) => {
                let region = step.region(image.width, image.height, draws);
                let (height, width) = step.size.height_width();
                return crate::resize(&image.crop(region), width, height, step.interpolation.draw(draws));
            }
            Self::RandomCrop(step) => return step.apply(image, draws),
            Self::Rotate(step) => return step.apply(&image, draws),
            Self::Affine(step) => return step.apply(&image, draws),
            Self::KerasAffine(step) => return step.apply(&image, draws),
            Self::RandAugment(step) => return step.apply(image, draws),
            Self::AutoAugment(step) => return step.apply(image, draws),
            Self::TrivialAugmentWide(step) => return step.apply(image, draws),
            Self::AugMix(step) => return step.apply(&image, draws),
            _ => self.apply_in_place(&mut image, draws),
        }
        image
    }

    fn apply_in_place(&self, image: &mut Rgb8Image, draws: &mut Draws) {
        let mut with = |p: f64, op: &dyn Fn(&mut Rgb8Image)| {
            if draws.chance(p) {
                op(image);
            }
        };
        match self {
            Self::HorizontalFlip(step) => with(step.p, &ops::horizontal_flip),
            Self::VerticalFlip(step) => with(step.p, &ops::vertical_flip),
            Self::Grayscale(step) => with(step.p, &ops::grayscale),
            Self::AutoContrast(step) => with(step.p, &ops::autocontrast),
            Self::Equalize(step) => with(step.p, &ops::equalize),
            Self::Invert(step) => with(step.p, &ops::invert),
            Self::Posterize(step) => with(step.p, &|image| ops::posterize(image, step.bits)),
            Self::Solarize(step) => with(step.p, &|image| ops::solarize(image, step.threshold)),
            Self::SolarizeAdd(step) => with(step.p, &|image| ops::solarize_add(image, step.amount, step.threshold)),
            Self::ColorJitter(step) => step.apply(image, draws),
            Self::GaussianBlur(step) => step.apply(image, draws),
            Self::Brightness(step) => step.apply(image, draws, ops::adjust_brightness),
            Self::Contrast(step) => step.apply(image, draws, ops::adjust_contrast),
            Self::Color(step) => step.apply(image, draws, ops::adjust_saturation),
            Self::Sharpness(step) => step.apply(image, draws, ops::adjust_sharpness),
            Self::RandomErasing(step) => step.apply(image, draws),
            Self::Cutout(step) => {
                let region = step.region(image.width, image.height, draws);
                ops::erase(image, region, || step.fill);
            }
            _ => {}
        }
    }

    /// Whether two samples of one picture can differ.
    pub fn is_random(&self) -> bool {
        let chance = |p: f64| 0.0 < p && p < 1.0;
        let enhance = |step: &Enhance| step.p > 0.0 && (step.p < 1.0 || matches!(step.factor, Amount::Between(low, high) if low < high));
        match self {
            Self::Resize(step) => step.interpolation == Filter::Random,
            Self::CenterCrop(_) | Self::Normalize(_) | Self::ToTensor(_) => false,
            Self::HorizontalFlip(step) | Self::VerticalFlip(step) => chance(step.p),
            Self::Grayscale(step) => chance(step.p),
            Self::AutoContrast(step) | Self::Equalize(step) | Self::Invert(step) => chance(step.p),
            Self::Posterize(step) => chance(step.p),
            Self::Solarize(step) => chance(step.p),
            Self::SolarizeAdd(step) => chance(step.p),
            Self::Brightness(step) | Self::Contrast(step) | Self::Color(step) | Self::Sharpness(step) => enhance(step),
            Self::RandomErasing(step) => step.p > 0.0,
            Self::GaussianBlur(step) => step.p > 0.0 && (step.p < 1.0 || matches!(step.sigma, Amount::Between(low, high) if low < high)),
            _ => true,
        }
    }

    /// Height and width after the step, `before` being those before it; none where they depend on the picture.
    pub fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        match self {
            Self::Resize(step) => match (step.fixed_size(), before) {
                (Some(size), _) => Some(size),
                (None, Some((height, width))) => {
                    let (width, height) = step.target(width, height);
                    Some((height, width))
                }
                (None, None) => None,
            },
            Self::CenterCrop(step) => Some(step.size.height_width()),
            Self::RandomResizedCrop(step) => Some(step.size.height_width()),
            Self::RandomCrop(step) => Some(step.size.height_width()),
            _ => before,
        }
    }
}

impl Serialize for Transform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Transform;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a transform or a table with its name as `op`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Transform, E> {
                Transform::deserialize(MapDeserializer::new(std::iter::once(("op", name))))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Transform, A::Error> {
                Transform::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}
