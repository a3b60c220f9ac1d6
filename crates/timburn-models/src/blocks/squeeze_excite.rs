use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};

use super::{Builder, Conv2d, Conv2dConfig};

/// Squeeze-and-excitation: channels scaled by a gate computed from their means (Hu et al. 2018), named as timm's `SEModule`.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    fc1: Conv2d,
    fc2: Conv2d,
}

impl SqueezeExcite {
    /// Reduction 1/16, rounded to a multiple of 8.
    pub fn new(channels: usize, builder: &Builder<'_>) -> Self {
        let reduced = ((channels / 16 + 4) / 8 * 8).max(8);
        Self {
            fc1: Conv2dConfig::new(channels, reduced, 1).bias(true).build(builder),
            fc2: Conv2dConfig::new(reduced, channels, 1).bias(true).build(builder),
        }
    }

    /// The pointwise convolutions that make the gates of the means: ReLU follows the first, the logistic function the second.
    pub fn layers(&self) -> [&Conv2d; 2] {
        [&self.fc1, &self.fc2]
    }

    /// `[n, channels, h, w]` → same shape.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mean = input.clone().mean_dim(2).mean_dim(3);
        let gate = sigmoid(self.fc2.forward(relu(self.fc1.forward(mean))));
        input * gate
    }
}
