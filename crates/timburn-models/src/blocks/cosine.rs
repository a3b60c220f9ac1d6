use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::head::Cosine;
use super::{Builder, Init};

/// Cosines times a scale; see [`Cosine`].
#[derive(Module, Debug)]
pub struct CosineLinear {
    /// `[classes, features]`; only its rows' directions count.
    pub weight: Param<Tensor<2>>,
    /// `[1]`, where it is learned.
    pub scale: Option<Param<Tensor<1>>>,
    /// The scale where it is not learned; else the one it started from.
    pub fixed: f64,
}

impl CosineLinear {
    /// Vectors shorter than this count as so long when they are normalised: a row of zeros stays one.
    pub const SHORTEST: f64 = 1e-12;

    /// Weights start as PyTorch's linear layers do.
    pub fn new(inputs: usize, classes: usize, cosine: Cosine, builder: &Builder<'_>) -> Self {
        Self {
            weight: builder.parameter([classes, inputs], Init::Uniform(1.0 / (inputs as f64).sqrt())),
            scale: cosine.learned.then(|| builder.parameter([1], Init::Constant(cosine.scale as f32))),
            fixed: cosine.scale,
        }
    }

    /// `[n, features]` → `[n, classes]`.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let cosines = normalized(input).matmul(normalized(self.weight.val()).transpose());
        match &self.scale {
            Some(scale) => cosines * scale.val().unsqueeze(),
            None => cosines * self.fixed,
        }
    }
}

/// Rows of length 1, as `torch.nn.functional.normalize`.
fn normalized(rows: Tensor<2>) -> Tensor<2> {
    // The square is bounded, not the root: the root's slope at 0 is infinite, and would make the gradient of such a row no number.
    let squares = (rows.clone() * rows.clone()).sum_dim(1).clamp_min(CosineLinear::SHORTEST * CosineLinear::SHORTEST);
    rows / squares.sqrt()
}
