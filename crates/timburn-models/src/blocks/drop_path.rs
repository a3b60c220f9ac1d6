use burn::module::{Flag, Module, Param};
use burn::tensor::{Distribution, Tensor};

use super::Builder;
use super::autocast::matched;

/// Stochastic depth: in training, drops a block's whole branch for some samples and scales the rest up (Huang et al. 2016; timm's
/// `DropPath`). The identity when evaluating, frozen, or at rate 0.
#[derive(Module, Debug)]
pub struct DropPath {
    /// Probability that a sample's branch is dropped, in `[0, 1)`.
    pub rate: f64,
    /// On in training.
    pub training: Param<Flag>,
}

impl DropPath {
    /// Drops with this probability.
    pub fn new(rate: f64, builder: &Builder<'_>) -> Self {
        let training = Param::from_bool(true);
        Self { rate, training: if builder.device.is_autodiff() { training } else { training.valid() } }
    }

    /// Whether [`forward`](Self::forward) changes nothing.
    pub fn is_identity(&self) -> bool {
        self.rate == 0.0 || !self.training.is_enabled()
    }

    /// `[n, c, h, w]` → same shape.
    pub fn forward(&self, branch: Tensor<4>) -> Tensor<4> {
        if self.is_identity() {
            return branch;
        }
        let keep = 1.0 - self.rate;
        let [n, ..] = branch.dims();
        let mask = Tensor::<4>::random([n, 1, 1, 1], Distribution::Bernoulli(keep), &branch.device());
        let scale = matched(mask / keep, branch.dtype());
        branch * scale
    }
}
