use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};
use timburn_kernels::{SgdStep, sgd_step};

use super::rule::{Hyper, Rule, Slots, within};

/// Stochastic gradient descent with momentum, dampening 0.
///
/// `g ← g + λ θ`; `b ← μ b + g`; `θ ← θ - η (g + μ b)` with Nesterov, `θ - η b` without, `θ - η g` without momentum. Source:
/// `torch.optim.SGD`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// μ, in `[0, 1)`.
    pub momentum: f64,
    /// Looks ahead along the momentum; needs momentum.
    pub nesterov: bool,
    /// λ, an L2 penalty.
    pub weight_decay: f64,
}

impl Rule for Sgd {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        if self.momentum > 0.0 { &["momentum_buffer"] } else { &[] }
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let momentum = hyper.momentum.unwrap_or(self.momentum);
        let step = SgdStep { lr: hyper.lr, momentum, nesterov: self.nesterov, weight_decay: hyper.weight_decay };
        // From zeros the first buffer is the gradient itself, as in PyTorch.
        let buffer = (self.momentum > 0.0).then(|| slots.take("momentum_buffer", &param, 0.0));
        let (param, buffer) = sgd_step(param, gradient, buffer, step);
        if let Some(buffer) = buffer {
            slots.put("momentum_buffer", buffer);
        }
        param
    }

    fn validate(&self) -> Result<()> {
        within("optimizer.momentum", self.momentum, 0.0, 1.0)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, f64::INFINITY)?;
        nesterov(self.nesterov, self.momentum)
    }
}

/// `g + λ θ`.
pub(super) fn with_penalty(gradient: Tensor<1>, param: &Tensor<1>, weight_decay: f64) -> Tensor<1> {
    if weight_decay == 0.0 { gradient } else { gradient + param.clone() * weight_decay }
}

/// Nesterov's variant is one of momentum.
pub(super) fn nesterov(nesterov: bool, momentum: f64) -> Result<()> {
    if nesterov && momentum == 0.0 {
        let expected = "a momentum above 0 beside it".into();
        return Err(Error::Argument { name: "optimizer.nesterov", value: "true".into(), expected });
    }
    Ok(())
}
