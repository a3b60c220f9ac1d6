//! Key layouts: the names under which others publish the tensors of timburn's architectures.
//!
//! Canonical are torchvision's keys for ResNet, ResNeXt, Wide ResNet and MobileNetV2, and timm's for ResNet-D, SE-ResNet and
//! EfficientNet-Lite: those of timburn's own modules.

mod keras;
mod mobile;

use serde::{Deserialize, Serialize};
use timburn_core::WeightsError;
use timburn_models::StateDict;

/// Names and axes of a file's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As timburn's modules have them.
    Canonical,
    /// `_conv_stem`, `_blocks.{i}._expand_conv`, …: Luke Melas-Kyriazi's EfficientNet-PyTorch and its descendants.
    EfficientNetLite,
    /// `conv1_conv/kernel:0`, …: Keras' ResNet50, kernels HWIO, matrices `[in, out]`.
    #[serde(rename = "keras_resnet50")]
    KerasResNet50,
    /// `linear.*` for `fc.*`, `shortcut` for `downsample`: akamaster's and kuangliu's CIFAR ResNets.
    CifarLinear,
    /// `conv_stem`, `blocks.{stage}.{i}.conv_pw`, …: timm's `mobilenetv2_100`.
    #[serde(rename = "timm_mobilenet_v2")]
    TimmMobileNetV2,
}

impl Layout {
    /// The layout that the keys of `dict` show.
    pub fn detect(dict: &StateDict) -> Self {
        let has = |key: &str| dict.tensors.contains_key(key);
        let any = |test: &dyn Fn(&str) -> bool| dict.tensors.keys().any(|key| test(key));
        if has("_conv_stem.weight") {
            Self::EfficientNetLite
        } else if any(&|key| keras::split(key) == Some(("conv1_conv", "kernel"))) {
            Self::KerasResNet50
        } else if has("linear.weight") && !has("fc.weight") {
            Self::CifarLinear
        } else if has("conv_stem.weight") && any(&|key| key.starts_with("blocks.3.3.")) && !any(&|key| key.starts_with("blocks.5.3.")) {
            // EfficientNet-Lite has timm's keys too, with three blocks in stage 3, or four there and five in stage 5.
            Self::TimmMobileNetV2
        } else {
            Self::Canonical
        }
    }

    /// The tensors under canonical keys with PyTorch's axes. A key that the layout does not know stays, for the strict load to name.
    ///
    /// # Errors
    /// [`WeightsError::Corrupt`] for two tensors of one name, or a depth that no EfficientNet-Lite has.
    pub fn canonical(self, dict: StateDict) -> Result<StateDict, WeightsError> {
        match self {
            Self::Canonical => Ok(dict),
            Self::EfficientNetLite => mobile::efficientnet_lite(dict),
            Self::KerasResNet50 => keras::resnet50(dict),
            Self::CifarLinear => dict.rename(|key| {
                let key = key.strip_prefix("linear.").map_or_else(|| key.to_owned(), |rest| format!("fc.{rest}"));
                Some(key.replace(".shortcut.", ".downsample."))
            }),
            Self::TimmMobileNetV2 => mobile::timm_mobilenet_v2(dict),
        }
    }
}

#[cfg(test)]
mod tests {
    use timburn_models::WeightTensor;

    use super::*;

    fn dict(keys: &[&str]) -> StateDict {
        let tensors = keys.iter().map(|key| ((*key).to_owned(), WeightTensor::from_f32(vec![1], vec![0.0]))).collect();
        StateDict { name: "test".into(), tensors }
    }

    #[test]
    fn cifar_keys() {
        let found = dict(&["conv1.weight", "linear.weight", "linear.bias", "layer2.0.shortcut.0.weight"]);
        assert_eq!(Layout::detect(&found), Layout::CifarLinear);
        let keys: Vec<String> = Layout::CifarLinear.canonical(found).unwrap().tensors.into_keys().collect();
        assert_eq!(keys, ["conv1.weight", "fc.bias", "fc.weight", "layer2.0.downsample.0.weight"]);
    }

    #[test]
    fn a_stranger_is_canonical() {
        assert_eq!(Layout::detect(&dict(&["conv1.weight", "fc.weight"])), Layout::Canonical);
        assert_eq!(Layout::detect(&dict(&["conv_stem.weight", "blocks.3.2.conv_dw.weight"])), Layout::Canonical);
        assert_eq!(Layout::detect(&dict(&["conv_stem.weight", "blocks.3.3.a", "blocks.5.3.a"])), Layout::Canonical);
    }
}
