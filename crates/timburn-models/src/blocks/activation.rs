use burn::tensor::{Tensor, activation::relu};

/// The non-linearity of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

impl Activation {
    /// Elementwise, shape unchanged.
    pub fn forward<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Relu => relu(input),
            Self::Relu6 => input.clamp(0.0, 6.0),
        }
    }
}
