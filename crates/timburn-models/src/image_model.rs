//! The contract that every family, trainer, Grad-CAM and exporter speaks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use timburn_core::Result;
use timburn_core::error::ModelError;

use crate::blocks::global_average_pool;

/// A part of a model's body: what intermediate features, freezing and per-group learning rates are named after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name: `stem`, `layer1`, …
    pub name: String,
    /// First parts of the keys of its parameters (`conv1`, `bn1`), as whole path segments.
    pub keys: Vec<String>,
    /// Channels of its output.
    pub channels: usize,
    /// Input pixels per output pixel, in each direction.
    pub reduction: usize,
}

/// A named group of parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroup {
    /// A stage's name, or `head`.
    pub name: String,
    /// First parts of the keys of its parameters, as whole path segments.
    pub keys: Vec<String>,
}

impl LayerGroup {
    /// Whether the parameter with this key belongs to the group.
    pub fn contains(&self, key: &str) -> bool {
        self.keys.iter().any(|prefix| key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

/// An image classifier: a body of stages and a head. Images are `[n, channels, height, width]`, normalised as the weights ask.
pub trait ImageModel: Module {
    /// The body's stages, from the stem on.
    fn stages(&self) -> Vec<Stage>;

    /// Runs one stage on the output of the one before, or on images. `index` counts [`stages`](Self::stages); one past the last is the
    /// identity.
    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4>;

    /// Classifies pooled features: `[n, f]` → logits `[n, classes]`. With a body that is not trained, the features of an image stay the same,
    /// and this is all that is left to train.
    fn classify(&self, pooled: Tensor<2>) -> Tensor<2>;

    /// Channels of the last stage.
    fn num_features(&self) -> usize;

    /// Outputs of the classifier: the classes, or 1 for two classes, the logit of the second one.
    fn num_classes(&self) -> usize;

    /// First parts of the keys of the head's parameters.
    fn head_keys(&self) -> Vec<String>;

    /// The same body with a fresh linear classifier for `classes` classes, on `device`, drawn from `seed`.
    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self;

    /// The last stage's output `[n, c, h, w]` → what [`classify`](Self::classify) reads, `[n, f]`: the mean over all positions, unless the
    /// head pools otherwise.
    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        global_average_pool(features)
    }

    /// Pools the last stage's output and classifies it: `[n, c, h, w]` → logits `[n, classes]`.
    fn forward_head(&self, features: Tensor<4>) -> Tensor<2> {
        self.classify(self.pool(features))
    }

    /// `[n, channels, h, w]` → the last stage's output `[n, c, h / r, w / r]`, `r` the last stage's reduction: mostly 32.
    fn forward_features(&self, images: Tensor<4>) -> Tensor<4> {
        (0..self.stages().len()).fold(images, |features, stage| self.forward_stage(stage, features))
    }

    /// `[n, channels, h, w]` → logits `[n, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_head(self.forward_features(images))
    }

    /// Outputs of the named stages, in the order of the stages; later stages are not run.
    ///
    /// # Errors
    /// [`ModelError::UnknownStage`].
    fn forward_intermediates(&self, images: Tensor<4>, names: &[&str]) -> Result<Vec<Tensor<4>>> {
        let stages: Vec<String> = self.stages().into_iter().map(|stage| stage.name).collect();
        if let Some(name) = names.iter().find(|name| !stages.iter().any(|stage| stage == *name)) {
            return Err(ModelError::UnknownStage { name: (*name).to_owned(), stages }.into());
        }
        let mut found = Vec::with_capacity(names.len());
        let mut features = images;
        for (index, stage) in stages.iter().enumerate() {
            if found.len() == names.len() {
                break;
            }
            features = self.forward_stage(index, features);
            if names.contains(&stage.as_str()) {
                found.push(features.clone());
            }
        }
        Ok(found)
    }

    /// Stages and head as groups of parameters, from the input on.
    fn layer_groups(&self) -> Vec<LayerGroup> {
        let body = self.stages().into_iter().map(|stage| LayerGroup { name: stage.name, keys: stage.keys });
        body.chain([LayerGroup { name: "head".into(), keys: self.head_keys() }]).collect()
    }
}

/// Whether a model with `outputs` outputs tells `classes` classes apart: one each; or one for two, the logit of the class with index 1.
pub const fn outputs_fit(outputs: usize, classes: usize) -> bool {
    outputs == classes || (outputs == 1 && classes == 2)
}
