//! How pixels become the tensor a set of weights was trained on. It travels with the weights: the wrong mean or crop cannot happen.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Resampling filter of the resize, always antialiased when shrinking, as PIL defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Nearest neighbour.
    Nearest,
    /// Triangle filter, support 1.
    Bilinear,
    /// Cubic convolution with a = -0.5, support 2 (PIL's, not OpenCV's -0.75).
    Bicubic,
    /// Windowed sinc, support 3.
    Lanczos,
}

/// What happens to the picture's shape before the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// The shorter side becomes `resize`, the other keeps the aspect ratio (truncated to an integer); then a centre crop.
    ShorterSide,
    /// Both sides become `resize`, whatever the aspect ratio (Keras' `target_size`); then a centre crop.
    Squash,
}

/// Order of the colour channels in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue: everybody but Caffe's heirs.
    #[default]
    Rgb,
    /// Blue, green, red: Keras' `caffe` mode.
    Bgr,
}

/// Resize, centre crop and normalisation that belong to a set of weights.
///
/// The tensor is `(x / 255 - mean) / std` per channel, `x` in 0..=255, laid out `[3, input, input]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Height and width of the model's input in pixels.
    pub input: usize,
    /// Target of the resize in pixels, see [`ResizeMode`].
    pub resize: usize,
    /// Which sides the resize sets.
    pub mode: ResizeMode,
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Channel means, in units of full scale (0..=1), in the tensor's channel order.
    pub mean: [f32; 3],
    /// Channel standard deviations, same units and order.
    pub std: [f32; 3],
    /// Channel order of the tensor.
    #[serde(default)]
    pub channels: ChannelOrder,
}

/// ImageNet channel means, RGB, full scale = 1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet channel standard deviations, RGB, full scale = 1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Largest height and width of a model's input, in pixels: four times what any published classifier takes.
const MAX_SIDE: usize = 4096;

impl Preprocessing {
    /// Refuses values that no model was trained with and that would exhaust memory or divide by zero: they come from files.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first value out of range.
    pub fn validate(&self) -> Result<()> {
        let argument = |name, value: String, expected: &str| Err(Error::Argument { name, value, expected: expected.into() });
        for (name, side) in [("preprocessing.input", self.input), ("preprocessing.resize", self.resize)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return argument(name, side.to_string(), "1 to 4096 pixels");
            }
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return argument("preprocessing.mean", format!("{:?}", self.mean), "finite numbers");
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return argument("preprocessing.std", format!("{:?}", self.std), "finite numbers above 0");
        }
        Ok(())
    }

    /// torchvision's evaluation preset: shorter side to `resize`, bilinear with antialias, centre crop, ImageNet statistics.
    pub const fn torchvision(input: usize, resize: usize) -> Self {
        Self {
            input,
            resize,
            mode: ResizeMode::ShorterSide,
            interpolation: Interpolation::Bilinear,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            channels: ChannelOrder::Rgb,
        }
    }

    /// timm's evaluation preset: shorter side to `floor(input / crop_fraction)`, bicubic, centre crop, ImageNet statistics.
    pub fn timm(input: usize, crop_fraction: f64) -> Self {
        let resize = (input as f64 / crop_fraction).floor() as usize;
        Self { interpolation: Interpolation::Bicubic, ..Self::torchvision(input, resize) }
    }

    /// EfficientNet-Lite's: bicubic, a margin of 32 pixels before the crop, `(x - 127) / 128`.
    pub const fn efficientnet_lite(input: usize) -> Self {
        Self {
            interpolation: Interpolation::Bicubic,
            mean: [127.0 / 255.0; 3],
            std: [128.0 / 255.0; 3],
            ..Self::torchvision(input, input + 32)
        }
    }

    /// Keras' ResNet50: squashed to 224×224 with the nearest pixel (`load_img`'s default), BGR, channel means subtracted, no scaling.
    pub fn keras_caffe(input: usize) -> Self {
        Self {
            input,
            resize: input,
            mode: ResizeMode::Squash,
            interpolation: Interpolation::Nearest,
            mean: [103.939 / 255.0, 116.779 / 255.0, 123.68 / 255.0],
            std: [1.0 / 255.0; 3],
            channels: ChannelOrder::Bgr,
        }
    }

    /// CIFAR-10: 32×32 as it is, the training set's statistics.
    pub const fn cifar10() -> Self {
        Self {
            input: 32,
            resize: 32,
            mode: ResizeMode::ShorterSide,
            interpolation: Interpolation::Bilinear,
            mean: [0.4914, 0.4822, 0.4465],
            std: [0.2470, 0.2435, 0.2616],
            channels: ChannelOrder::Rgb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_files_are_checked() {
        let good = Preprocessing::torchvision(224, 256);
        assert!(good.validate().is_ok());
        for bad in [
            Preprocessing { input: 0, ..good.clone() },
            Preprocessing { resize: 1 << 40, ..good.clone() },
            Preprocessing { mean: [f32::NAN; 3], ..good.clone() },
            Preprocessing { std: [0.2, 0.0, 0.2], ..good.clone() },
        ] {
            assert!(matches!(bad.validate(), Err(Error::Argument { .. })), "{bad:?}");
        }
    }

    #[test]
    fn timm_resize_is_floored() {
        assert_eq!(Preprocessing::timm(224, 0.95).resize, 235);
        assert_eq!(Preprocessing::efficientnet_lite(224).resize, 256);
        assert_eq!(Preprocessing::efficientnet_lite(380).resize, 412);
    }
}
