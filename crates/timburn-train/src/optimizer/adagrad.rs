use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;

use super::rule::{Hyper, Rule, Slots, within};
use super::sgd::with_penalty;

/// Adagrad.
///
/// `g ← g + λ θ`; `s ← s + g²`; `θ ← θ - η / (1 + (t - 1) · lr_decay) · g / (√s + ε)`. Source: `torch.optim.Adagrad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adagrad {
    /// How fast the learning rate falls with the number of updates.
    pub lr_decay: f64,
    /// λ, an L2 penalty.
    pub weight_decay: f64,
    /// s at the start.
    pub initial_accumulator_value: f64,
    /// ε, added to the root.
    pub eps: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { lr_decay: 0.0, weight_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10 }
    }
}

impl Rule for Adagrad {
    fn slots(&self, _shape: &[usize]) -> &'static [&'static str] {
        &["sum"]
    }

    fn initial(&self) -> f64 {
        self.initial_accumulator_value
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let gradient = with_penalty(gradient, &param, hyper.weight_decay);
        let lr = hyper.lr / (1.0 + slots.step.saturating_sub(1) as f64 * self.lr_decay);
        let sum = slots.update_from("sum", &param, self.initial(), |sum| sum + gradient.clone().square());
        param - gradient / (sum.sqrt() + self.eps) * lr
    }

    fn validate(&self) -> Result<()> {
        within("optimizer.lr_decay", self.lr_decay, 0.0, f64::INFINITY)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, f64::INFINITY)?;
        within("optimizer.initial_accumulator_value", self.initial_accumulator_value, 0.0, f64::INFINITY)?;
        within("optimizer.eps", self.eps, 0.0, f64::INFINITY)
    }
}
