use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;

use super::lamb::one_where_zero;
use super::rule::{Hyper, Rule, Slots, within};
use super::sgd::{nesterov, with_penalty};
use crate::tensors::norm;

/// LARS: SGD whose gradient is scaled, tensor by tensor, to the norm of the parameter.
///
/// `r = c ‖θ‖ / (‖g‖ + λ ‖θ‖ + ε)`, 1 where a norm is 0 and, unless `always_adapt`, for parameters without weight decay;
/// `g ← r (g + λ θ)`; then [`Sgd`](super::Sgd)'s momentum. With `trust_clip` (LARC) `r ← min(r / η, 1)`. Source: `timm.optim.Lars`; You et
/// al., arXiv 1708.03888.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lars {
    /// μ, in `[0, 1)`.
    pub momentum: f64,
    /// Looks ahead along the momentum; needs momentum.
    pub nesterov: bool,
    /// λ.
    pub weight_decay: f64,
    /// c.
    pub trust_coeff: f64,
    /// ε.
    pub eps: f64,
    /// LARC's clipping.
    pub trust_clip: bool,
    /// Scales the gradient of parameters without weight decay too.
    pub always_adapt: bool,
}

impl Default for Lars {
    fn default() -> Self {
        Self { momentum: 0.0, nesterov: false, weight_decay: 0.0, trust_coeff: 0.001, eps: 1e-8, trust_clip: false, always_adapt: false }
    }
}

impl Rule for Lars {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        if self.momentum > 0.0 { &["momentum_buffer"] } else { &[] }
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let mut gradient = gradient;
        if hyper.weight_decay != 0.0 || self.always_adapt {
            let (param_norm, gradient_norm) = (norm(&param), norm(&gradient));
            let denominator = gradient_norm.clone() + param_norm.clone() * hyper.weight_decay + self.eps;
            let ratio = param_norm.clone() * self.trust_coeff / denominator;
            let mut ratio = one_where_zero(ratio, param_norm, gradient_norm);
            if self.trust_clip {
                ratio = (ratio / hyper.lr).clamp_max(1.0);
            }
            gradient = with_penalty(gradient, &param, hyper.weight_decay) * ratio;
        }
        if self.momentum > 0.0 {
            let momentum = hyper.momentum.unwrap_or(self.momentum);
            let buffer = slots.update("momentum_buffer", &param, |buffer| buffer * momentum + gradient.clone());
            gradient = if self.nesterov { gradient + buffer * momentum } else { buffer };
        }
        param - gradient * hyper.lr
    }

    fn validate(&self) -> Result<()> {
        within("optimizer.momentum", self.momentum, 0.0, 1.0)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, f64::INFINITY)?;
        within("optimizer.trust_coeff", self.trust_coeff, 0.0, f64::INFINITY)?;
        within("optimizer.eps", self.eps, 0.0, f64::INFINITY)?;
        nesterov(self.nesterov, self.momentum)
    }
}
