//! What an optimizer does to a parameter, as few passes over its values.

use burn::tensor::Tensor;

/// A step of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate η.
    pub lr: f64,
    /// μ; not read without a buffer.
    pub momentum: f64,
    /// Looks ahead along the momentum; not read without a buffer.
    pub nesterov: bool,
    /// λ, an L2 penalty.
    pub weight_decay: f64,
}

/// A step of Adam or AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate η.
    pub lr: f64,
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// ε, added to the root.
    pub eps: f64,
    /// Factor of an L2 penalty: Adam's weight decay.
    pub penalty: f64,
    /// Factor of a decay beside the gradient: AdamW's.
    pub decay: f64,
    /// `1 - β₁ᵗ` and `1 - β₂ᵗ` at step t.
    pub correction: [f64; 2],
}

/// `g ← g + λ θ`; `b ← μ b + g`; `θ ← θ - η (g + μ b)` with Nesterov, `θ - η b` without, `θ - η g` without a buffer. Gives θ and b.
///
/// All are flat and of one length. In place where nobody else holds the values. On every backend the bits are those of the formula's
/// single operations.
pub fn sgd_step(param: Tensor<1>, gradient: Tensor<1>, buffer: Option<Tensor<1>>, step: SgdStep) -> (Tensor<1>, Option<Tensor<1>>) {
    #[cfg(feature = "flex")]
    if in_place(&param, [&gradient].into_iter().chain(&buffer)) {
        return crate::flex::sgd_step(param, gradient, buffer, step);
    }
    let gradient = if step.weight_decay == 0.0 { gradient } else { gradient + param.clone() * step.weight_decay };
    let Some(buffer) = buffer else { return (param - gradient * step.lr, None) };
    let buffer = buffer * step.momentum + gradient.clone();
    let direction = if step.nesterov { gradient + buffer.clone() * step.momentum } else { buffer.clone() };
    (param - direction * step.lr, Some(buffer))
}

/// `g ← g + penalty θ`; `θ ← (1 - η decay) θ`; `m ← β₁ m + (1 - β₁) g`; `v ← β₂ v + (1 - β₂) g²`;
/// `θ ← θ - η / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)`. Gives θ, m and v. As [`sgd_step`].
pub fn adam_step(param: Tensor<1>, gradient: Tensor<1>, moments: [Tensor<1>; 2], step: AdamStep) -> (Tensor<1>, [Tensor<1>; 2]) {
    #[cfg(feature = "flex")]
    if in_place(&param, [&gradient].into_iter().chain(&moments)) {
        return crate::flex::adam_step(param, gradient, moments, step);
    }
    let AdamStep { lr, betas, eps, penalty, decay, correction } = step;
    let [mean, square] = moments;
    let gradient = if penalty == 0.0 { gradient } else { gradient + param.clone() * penalty };
    let mean = lerp(mean, gradient.clone(), 1.0 - betas[0]);
    let square = square * betas[1] + gradient.square() * (1.0 - betas[1]);
    let denominator = square.clone().sqrt() / correction[1].sqrt() + eps;
    let param = if decay == 0.0 { param } else { param * (1.0 - lr * decay) };
    (param - mean.clone() / denominator * (lr / correction[0]), [mean, square])
}

/// `start + weight · (end - start)`, computed from the nearer end as PyTorch's `lerp` does. As [`sgd_step`].
pub fn lerp(start: Tensor<1>, end: Tensor<1>, weight: f64) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if in_place(&start, [&end]) {
        return crate::flex::lerp(start, end, weight);
    }
    if weight < 0.5 { start.clone() + (end - start) * weight } else { end.clone() - (end - start) * (1.0 - weight) }
}

/// Whether all are f32 tensors of the flex backend without autodiff, of one length.
#[cfg(feature = "flex")]
fn in_place<'a>(tensor: &Tensor<1>, others: impl IntoIterator<Item = &'a Tensor<1>>) -> bool {
    let plain = |tensor: &Tensor<1>| crate::ops::parameters([tensor]) && !tensor.is_autodiff();
    plain(tensor) && others.into_iter().all(|other| plain(other) && other.dims() == tensor.dims())
}
