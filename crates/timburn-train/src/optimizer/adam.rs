use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_kernels::{AdamStep, adam_step, lerp};

use super::rule::{Hyper, Rule, Slots, within};

/// Adam with an L2 penalty: `g ← g + λ θ`, then the step of [`AdamW`] without decay. Source: `torch.optim.Adam`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// β₁ and β₂, in `[0, 1)`.
    pub betas: [f64; 2],
    /// ε, added to the root.
    pub eps: f64,
    /// λ.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Adam with decoupled weight decay.
///
/// `θ ← (1 - η λ) θ`; `m ← β₁ m + (1 - β₁) g`; `v ← β₂ v + (1 - β₂) g²`; `θ ← θ - η / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)`, t the number
/// of updates of this parameter. Source: `torch.optim.AdamW`; Loshchilov and Hutter, arXiv 1711.05101.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// β₁ and β₂, in `[0, 1)`.
    pub betas: [f64; 2],
    /// ε, added to the root.
    pub eps: f64,
    /// λ.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-2 }
    }
}

pub(super) const SLOTS: &[&str] = &["exp_avg", "exp_avg_sq"];

impl Rule for Adam {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        SLOTS
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let step = AdamStep { penalty: hyper.weight_decay, decay: 0.0, ..step(slots, hyper, self.betas, self.eps) };
        adaptive(param, gradient, slots, step)
    }

    fn validate(&self) -> Result<()> {
        validate(self.betas, self.eps, self.weight_decay)
    }
}

impl Rule for AdamW {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        SLOTS
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let step = AdamStep { penalty: 0.0, decay: hyper.weight_decay, ..step(slots, hyper, self.betas, self.eps) };
        adaptive(param, gradient, slots, step)
    }

    fn validate(&self) -> Result<()> {
        validate(self.betas, self.eps, self.weight_decay)
    }
}

/// `(1 - η λ) θ`.
pub(super) fn decayed(param: Tensor<1>, hyper: &Hyper<'_>) -> Tensor<1> {
    if hyper.weight_decay == 0.0 { param } else { param * (1.0 - hyper.lr * hyper.weight_decay) }
}

/// What Adam and AdamW share; without weight decay.
fn step(slots: &Slots, hyper: &Hyper<'_>, betas: [f64; 2], eps: f64) -> AdamStep {
    let betas = [hyper.momentum.unwrap_or(betas[0]), betas[1]];
    AdamStep { lr: hyper.lr, betas, eps, penalty: 0.0, decay: 0.0, correction: correction(slots, betas) }
}

/// `1 - βᵗ` of both.
fn correction(slots: &Slots, betas: [f64; 2]) -> [f64; 2] {
    betas.map(|beta| 1.0 - beta.powf(slots.step as f64))
}

/// Adam's step.
fn adaptive(param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, step: AdamStep) -> Tensor<1> {
    let moments = ["exp_avg", "exp_avg_sq"].map(|name| slots.take(name, &param, 0.0));
    let (param, [mean, square]) = adam_step(param, gradient, moments, step);
    slots.put("exp_avg", mean);
    slots.put("exp_avg_sq", square);
    param
}

/// Running moments of the gradient after one more step, and `1 - βᵗ` of both.
pub(super) struct Moments {
    pub(super) mean: Tensor<1>,
    pub(super) square: Tensor<1>,
    pub(super) correction: [f64; 2],
}

pub(super) fn moments(param: &Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>, betas: [f64; 2]) -> Moments {
    let [beta1, beta2] = [hyper.momentum.unwrap_or(betas[0]), betas[1]];
    let mean = slots.update("exp_avg", param, |mean| lerp(mean, gradient.clone(), 1.0 - beta1));
    let square = slots.update("exp_avg_sq", param, |square| square * beta2 + gradient.square() * (1.0 - beta2));
    Moments { mean, square, correction: correction(slots, [beta1, beta2]) }
}

pub(super) fn validate(betas: [f64; 2], eps: f64, weight_decay: f64) -> Result<()> {
    within("optimizer.betas[0]", betas[0], 0.0, 1.0)?;
    within("optimizer.betas[1]", betas[1], 0.0, 1.0)?;
    within("optimizer.eps", eps, 0.0, f64::INFINITY)?;
    within("optimizer.weight_decay", weight_decay, 0.0, f64::INFINITY)
}
