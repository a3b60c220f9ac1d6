use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_kernels::lerp;

use super::adam::{decayed, validate};
use super::rule::{Hyper, Rule, Slots};

/// Lion: the sign of an interpolated momentum.
///
/// `θ ← (1 - η λ) θ - η sign(β₁ m + (1 - β₁) g)`; `m ← β₂ m + (1 - β₂) g`. Source: `timm.optim.Lion`; Chen et al., arXiv 2302.06675.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lion {
    /// β₁ and β₂, in `[0, 1)`.
    pub betas: [f64; 2],
    /// λ, decoupled.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { betas: [0.9, 0.99], weight_decay: 0.0 }
    }
}

impl Rule for Lion {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let beta1 = hyper.momentum.unwrap_or(self.betas[0]);
        let mut direction = gradient.clone();
        slots.update("exp_avg", &param, |mean| {
            direction = lerp(mean.clone(), gradient.clone(), 1.0 - beta1).sign();
            lerp(mean, gradient, 1.0 - self.betas[1])
        });
        decayed(param, hyper) - direction * hyper.lr
    }

    fn validate(&self) -> Result<()> {
        validate(self.betas, 0.0, self.weight_decay)
    }
}
