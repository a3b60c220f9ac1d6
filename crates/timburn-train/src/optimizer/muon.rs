use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::Result;
use timburn_kernels::lerp;

use super::adam::{AdamW, SLOTS, decayed};
use super::rule::{Hyper, Rule, Slots, within};

/// How the learning rate follows a matrix' shape `[rows, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrAdjustment {
    /// `√max(1, rows / columns)`: Jordan's.
    #[default]
    Original,
    /// `0.2 √max(rows, columns)`: steps as large as AdamW's, so that its learning rate and decay can be kept. arXiv 2502.16982.
    MatchRmsAdamw,
}

/// Muon: momentum whose matrices are made nearly orthogonal by five Newton–Schulz iterations.
///
/// `b ← μ b + (1 - μ) g`; `u = NS(μ b + (1 - μ) g)` with Nesterov, `NS(b)` without; `θ ← (1 - η λ) θ - η s u`, s by [`LrAdjustment`]. `NS`
/// divides by the norm and repeats `X ← a X + (b A + c A²) X`, `A = X Xᵀ`. Source: `torch.optim.Muon`, which takes matrices only and
/// iterates in bf16; here it is `f32`. As in `timm.optim.Muon`, a convolution is the matrix `[outputs, inputs · height · width]`, and
/// everything that is no matrix (vectors, depthwise convolutions) is trained by AdamW at the same learning rate, with `betas` and ε 1e-8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// μ, in `[0, 1)`.
    pub momentum: f64,
    /// Looks ahead along the momentum.
    pub nesterov: bool,
    /// λ, decoupled.
    pub weight_decay: f64,
    /// Number of Newton–Schulz iterations, 1 to 99.
    pub ns_steps: u32,
    /// Smallest norm divided by.
    pub eps: f64,
    /// Scale of the step by shape.
    pub adjust_lr_fn: LrAdjustment,
    /// AdamW's β₁ and β₂ for parameters that are no matrices.
    pub betas: [f64; 2],
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.1,
            ns_steps: 5,
            eps: 1e-7,
            adjust_lr_fn: LrAdjustment::Original,
            betas: [0.9, 0.95],
        }
    }
}

impl Muon {
    fn fallback(&self) -> AdamW {
        AdamW { betas: self.betas, eps: 1e-8, weight_decay: self.weight_decay }
    }
}

impl Rule for Muon {
    fn slots(&self, shape: &[usize]) -> &'static [&'static str] {
        if as_matrix(shape).is_some() { &["momentum_buffer"] } else { SLOTS }
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1> {
        let Some([rows, columns]) = as_matrix(hyper.shape) else {
            // One-Cycle's momentum is Muon's, not β₁.
            return self.fallback().update(param, gradient, slots, &Hyper { momentum: None, ..*hyper });
        };
        let momentum = hyper.momentum.unwrap_or(self.momentum);
        let buffer = slots.update("momentum_buffer", &param, |buffer| lerp(buffer, gradient.clone(), 1.0 - momentum));
        let update = if self.nesterov { lerp(gradient, buffer, momentum) } else { buffer };
        let [count] = update.dims();
        let update = orthogonal(update.reshape([rows, columns]), self.ns_steps, self.eps).reshape([count]);
        let scale = match self.adjust_lr_fn {
            LrAdjustment::Original => (rows as f64 / columns as f64).max(1.0).sqrt(),
            LrAdjustment::MatchRmsAdamw => 0.2 * (rows.max(columns) as f64).sqrt(),
        };
        decayed(param, hyper) - update * (hyper.lr * scale)
    }

    fn validate(&self) -> Result<()> {
        within("optimizer.momentum", self.momentum, 0.0, 1.0)?;
        within("optimizer.ns_steps", f64::from(self.ns_steps), 1.0, 100.0)?;
        within("optimizer.eps", self.eps, 0.0, f64::INFINITY)?;
        self.fallback().validate()
    }
}

/// Rows and columns of a parameter that acts as a matrix.
fn as_matrix(shape: &[usize]) -> Option<[usize; 2]> {
    match shape {
        [rows, columns] => Some([*rows, *columns]),
        // A depthwise kernel mixes no channels.
        [rows, inputs, rest @ ..] if *inputs > 1 && !rest.is_empty() => Some([*rows, inputs * rest.iter().product::<usize>()]),
        _ => None,
    }
}

/// Newton–Schulz iteration towards `U Vᵀ` of the matrix `U S Vᵀ`.
fn orthogonal(matrix: Tensor<2>, steps: u32, eps: f64) -> Tensor<2> {
    const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];
    let [rows, columns] = matrix.dims();
    let tall = rows > columns;
    let mut x = if tall { matrix.transpose() } else { matrix };
    let norm = crate::tensors::norm(&crate::tensors::flatten(x.clone())).clamp_min(eps);
    x = x / norm.unsqueeze();
    for _ in 0..steps {
        let [a, b, c] = COEFFICIENTS;
        let gram = x.clone().matmul(x.clone().transpose());
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    if tall { x.transpose() } else { x }
}
