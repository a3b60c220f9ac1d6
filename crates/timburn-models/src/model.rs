//! Any family's model as one type, for names chosen at run time.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use timburn_core::Result;

use crate::blocks::{Classifier, Head};
use crate::efficientnet_lite::EfficientNetLite;
use crate::graph::{Describe, ModelGraph};
use crate::image_model::{ImageModel, Stage};
use crate::mobilenet_v2::MobileNetV2;
use crate::resnet::ResNet;

/// A model of a family chosen at run time.
#[derive(Module, Debug)]
pub enum Model {
    /// ResNet and everything built like it.
    ResNet(ResNet),
    /// EfficientNet-Lite.
    EfficientNetLite(EfficientNetLite),
    /// MobileNetV2.
    MobileNetV2(MobileNetV2),
}

macro_rules! each_family {
    ($model:expr, $inner:ident => $body:expr) => {
        match $model {
            Model::ResNet($inner) => $body,
            Model::EfficientNetLite($inner) => $body,
            Model::MobileNetV2($inner) => $body,
        }
    };
}

impl Model {
    /// The head.
    pub fn classifier(&self) -> &Classifier {
        each_family!(self, model => model.classifier())
    }

    /// The same body with a fresh head for `classes` classes, on `device`, drawn from `seed`.
    ///
    /// # Errors
    /// Those of [`Head::validate`].
    pub fn reset_head(self, head: &Head, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::ResNet(model) => Self::ResNet(model.reset_head(head, classes, seed, device)?),
            Self::EfficientNetLite(model) => Self::EfficientNetLite(model.reset_head(head, classes, seed, device)?),
            Self::MobileNetV2(model) => Self::MobileNetV2(model.reset_head(head, classes, seed, device)?),
        })
    }
}

impl Describe for Model {
    fn describe(&self) -> ModelGraph {
        each_family!(self, model => model.describe())
    }
}

impl ImageModel for Model {
    fn stages(&self) -> Vec<Stage> {
        each_family!(self, model => model.stages())
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        each_family!(self, model => model.forward_stage(index, input))
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        each_family!(self, model => model.pool(features))
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        each_family!(self, model => model.classify(pooled))
    }

    fn num_features(&self) -> usize {
        each_family!(self, model => model.num_features())
    }

    fn num_classes(&self) -> usize {
        each_family!(self, model => model.num_classes())
    }

    fn head_keys(&self) -> Vec<String> {
        each_family!(self, model => model.head_keys())
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        match self {
            Self::ResNet(model) => Self::ResNet(model.reset_classifier(classes, seed, device)),
            Self::EfficientNetLite(model) => Self::EfficientNetLite(model.reset_classifier(classes, seed, device)),
            Self::MobileNetV2(model) => Self::MobileNetV2(model.reset_classifier(classes, seed, device)),
        }
    }
}
