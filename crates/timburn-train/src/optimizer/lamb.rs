use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;

use super::adam::{Moments, SLOTS, moments, validate};
use super::rule::{Hyper, Rule, Slots, within};
use crate::gradients::ParameterGradients;
use crate::tensors::norm;

/// LAMB: Adam whose step is scaled, tensor by tensor, to the norm of the parameter.
///
/// All gradients `/ max(1, ‖g‖ / max_grad_norm)`; m and v as [`AdamW`](super::AdamW)'s; `u = m̂ / (√v̂ + ε) + λ θ`;
/// `θ ← θ - η (‖θ‖ / ‖u‖) u`. The ratio is 1 where a norm is 0, and, unless `always_adapt`, for parameters without weight decay. Source:
/// `timm.optim.Lamb`; You et al., arXiv 1904.00962.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lamb {
    /// β₁ and β₂, in `[0, 1)`.
    pub betas: [f64; 2],
    /// ε, added to the root.
    pub eps: f64,
    /// λ.
    pub weight_decay: f64,
    /// Limit of the global norm of the gradients; 0 turns it off.
    pub max_grad_norm: f64,
    /// Keeps the ratio at most 1.
    pub trust_clip: bool,
    /// Scales the step of parameters without weight decay too.
    pub always_adapt: bool,
}

impl Default for Lamb {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.01, max_grad_norm: 1.0, trust_clip: false, always_adapt: false }
    }
}

impl Rule for Lamb {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        SLOTS
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn prepare(&self, gradients: ParameterGradients) -> Result<ParameterGradients> {
        if self.max_grad_norm == 0.0 {
            return Ok(gradients);
        }
        let excess = gradients.norm()? / self.max_grad_norm;
        Ok(if excess > 1.0 { gradients.scaled(1.0 / excess) } else { gradients })
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let Moments { mean, square, correction } = moments(&param, gradient, slots, hyper, self.betas);
        let denominator = square.sqrt() / correction[1].sqrt() + self.eps;
        let mut update = mean / correction[0] / denominator;
        if hyper.weight_decay != 0.0 {
            update = update + param.clone() * hyper.weight_decay;
        }
        if hyper.weight_decay != 0.0 || self.always_adapt {
            let (param_norm, update_norm) = (norm(&param), norm(&update));
            let mut ratio = one_where_zero(param_norm.clone() / update_norm.clone(), param_norm, update_norm);
            if self.trust_clip {
                ratio = ratio.clamp_max(1.0);
            }
            update = update * ratio;
        }
        param - update * hyper.lr
    }

    fn validate(&self) -> Result<()> {
        within("optimizer.max_grad_norm", self.max_grad_norm, 0.0, f64::INFINITY)?;
        validate(self.betas, self.eps, self.weight_decay)
    }
}

/// A trust ratio, 1 where either norm is 0. All are `[1]`.
pub(super) fn one_where_zero(ratio: Tensor<1>, param_norm: Tensor<1>, update_norm: Tensor<1>) -> Tensor<1> {
    ratio.mask_fill(param_norm.lower_equal_elem(0.0).bool_or(update_norm.lower_equal_elem(0.0)), 1.0)
}
