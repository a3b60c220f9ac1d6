//! What a caller may change about an architecture.

use serde::{Deserialize, Serialize};

use crate::blocks::Head;

/// What may differ from an architecture's row. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelOptions {
    /// Outputs of the classifier; the row's number when absent. 1 for two classes: the logit of the second one.
    pub classes: Option<usize>,
    /// Channels of the images.
    pub in_channels: usize,
    /// Probability of dropout after the pool, in `[0, 1)`; when absent, the family's own before a linear or cosine head, none before a head
    /// with layers.
    pub dropout: Option<f64>,
    /// Rate of stochastic depth of the last block, in `[0, 1)`; it grows linearly from 0 at the first.
    pub drop_path: f64,
    /// ResNet: start every residual branch at zero (the last BN's γ), so that training starts from the identity.
    pub zero_init_residual: bool,
    /// ResNet: another stem than the row's.
    pub stem: Option<Stem>,
    /// ResNet with four stages: input pixels per output pixel, 8, 16 or 32; below 32 the late stages are dilated instead of strided.
    pub output_stride: usize,
    /// Seed of the initial weights.
    pub seed: u64,
    /// What follows the body.
    #[serde(skip_serializing_if = "Head::is_linear")]
    pub head: Head,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            classes: None,
            in_channels: 3,
            dropout: None,
            drop_path: 0.0,
            zero_init_residual: false,
            stem: None,
            output_stride: 32,
            seed: 0,
            head: Head::Linear,
        }
    }
}

impl ModelOptions {
    /// The defaults, with this many classes.
    pub fn classes(classes: usize) -> Self {
        Self { classes: Some(classes), ..Self::default() }
    }
}

/// What comes before the first residual stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7×7 stride 2, maximum pool stride 2: for 224 pixels.
    Standard,
    /// Three 3×3 (32, 32, 64 channels), the first with stride 2, then the pool: ResNet-D.
    Deep,
    /// 3×3 stride 1, no pool: for 32 pixels.
    Small,
}
