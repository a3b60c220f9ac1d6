use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_kernels::lerp;

use super::rule::{Hyper, Rule, Slots, within};
use super::sgd::with_penalty;

/// RMSprop.
///
/// `g ← g + λ θ`; `v ← α v + (1 - α) g²`; centered: `a ← α a + (1 - α) g`, `d = √(v - a²) + ε`, else `d = √v + ε`; with momentum:
/// `b ← μ b + g / d`, `θ ← θ - η b`, else `θ ← θ - η g / d`. Source: `torch.optim.RMSprop`. ε is outside the root, unlike TensorFlow's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// α, in `[0, 1)`.
    pub alpha: f64,
    /// ε, added to the root.
    pub eps: f64,
    /// λ, an L2 penalty.
    pub weight_decay: f64,
    /// μ, in `[0, 1)`.
    pub momentum: f64,
    /// Divides by an estimate of the variance instead of the second moment.
    pub centered: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Rule for RmsProp {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        match (self.momentum > 0.0, self.centered) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "momentum_buffer"],
            (false, true) => &["square_avg", "grad_avg"],
            (true, true) => &["square_avg", "momentum_buffer", "grad_avg"],
        }
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let gradient = with_penalty(gradient, &param, hyper.weight_decay);
        let alpha = self.alpha;
        let square = slots.update("square_avg", &param, |square| square * alpha + gradient.clone().square() * (1.0 - alpha));
        let variance = if self.centered {
            let mean = slots.update("grad_avg", &param, |mean| lerp(mean, gradient.clone(), 1.0 - alpha));
            // Rounding can make the difference of equal numbers negative, whose root would be NaN.
            (square - mean.square()).clamp_min(0.0)
        } else {
            square
        };
        let step = gradient / (variance.sqrt() + self.eps);
        if self.momentum > 0.0 {
            let momentum = hyper.momentum.unwrap_or(self.momentum);
            let buffer = slots.update("momentum_buffer", &param, |buffer| buffer * momentum + step);
            param - buffer * hyper.lr
        } else {
            param - step * hyper.lr
        }
    }

    fn validate(&self) -> Result<()> {
        within("optimizer.alpha", self.alpha, 0.0, 1.0)?;
        within("optimizer.eps", self.eps, 0.0, f64::INFINITY)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, f64::INFINITY)?;
        within("optimizer.momentum", self.momentum, 0.0, 1.0)
    }
}
