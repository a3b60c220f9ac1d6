use burn::module::{Module, Param};
use burn::tensor::Tensor;
use timburn_kernels::linear;

use super::{Builder, Init};

/// A fully connected layer, `y = x Wᵀ + b` (or without `b`), with PyTorch's weight layout.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// PyTorch's default initialisation: weight and bias uniform on `±1/√inputs`.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder<'_>) -> Self {
        let init = Init::Uniform(1.0 / (inputs as f64).sqrt());
        Self { weight: builder.parameter([outputs, inputs], init), bias: Some(builder.parameter([outputs], init)) }
    }

    /// `[n, inputs]` → `[n, outputs]`.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        linear(input, self.weight.val(), self.bias.as_ref().map(Param::val))
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.weight.lazy_shape()[1]
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weight.lazy_shape()[0]
    }
}
