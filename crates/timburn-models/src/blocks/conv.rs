use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use timburn_kernels::conv2d;

use super::autocast::lowered;
use super::{BatchNorm2d, Builder, Init};

/// How a convolution pads height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The same number of zeros on each side (PyTorch).
    Symmetric(usize),
    /// TensorFlow's SAME: output size `ceil(size / stride)`, the odd zero at the bottom and right.
    Same,
}

/// Shape of a square convolution; see [`Conv2dConfig::new`] for the usual one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2dConfig {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Distance of kernel taps in both directions.
    pub dilation: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Whether there is a bias.
    pub bias: bool,
    /// Initial weights; a bias starts at zero.
    pub init: Init,
}

impl Conv2dConfig {
    /// Stride 1, no bias, padding that keeps odd kernels' sizes, He's normal initialisation by fan-out (torchvision's for ResNets).
    pub fn new(inputs: usize, outputs: usize, kernel: usize) -> Self {
        let fan_out = (outputs * kernel * kernel) as f64;
        let init = Init::Normal((2.0 / fan_out).sqrt());
        let padding = Padding::Symmetric(kernel / 2);
        Self { inputs, outputs, kernel, stride: 1, dilation: 1, groups: 1, padding, bias: false, init }
    }

    /// With this stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With this dilation, and the padding that keeps the size.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, padding: Padding::Symmetric(dilation * (self.kernel / 2)), ..self }
    }

    /// With this number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// With or without bias.
    pub fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// With this padding.
    pub fn padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Makes the layer.
    pub fn build(self, builder: &Builder<'_>) -> Conv2d {
        Conv2d {
            weight: builder.parameter([self.outputs, self.inputs / self.groups, self.kernel, self.kernel], self.init),
            bias: self.bias.then(|| builder.parameter([self.outputs], Init::Constant(0.0))),
            stride: self.stride,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding,
        }
    }
}

/// A 2-D convolution with PyTorch's weight layout.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[outputs, inputs / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Step in both directions.
    pub stride: usize,
    /// Distance of kernel taps.
    pub dilation: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Zeros around the input.
    #[module(skip)]
    pub padding: Padding,
}

impl Conv2d {
    /// `[n, inputs, h, w]` → `[n, outputs, h', w']`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = input.dims();
        let padding = [self.zeros_around(height), self.zeros_around(width)];
        let options = ConvOptions::new_with_padding([self.stride; 2], padding, [self.dilation; 2], self.groups);
        conv2d(lowered(input), self.weight.val(), self.bias.as_ref().map(Param::val), options)
    }

    /// Zeros before and after an axis of this size.
    fn zeros_around(&self, size: usize) -> (usize, usize) {
        match self.padding {
            Padding::Symmetric(zeros) => (zeros, zeros),
            Padding::Same => {
                let kernel = self.weight.lazy_shape()[2];
                let reach = (size.div_ceil(self.stride) - 1) * self.stride + (kernel - 1) * self.dilation + 1;
                let zeros = reach.saturating_sub(size);
                (zeros / 2, zeros - zeros / 2)
            }
        }
    }
}

/// One convolution that does what `conv` and then `norm` in evaluation mode do.
///
/// `γ(W x + b - μ)/√(σ² + ε) + β = (γ/√(σ² + ε) W) x + (γ(b - μ)/√(σ² + ε) + β)`.
pub fn fold_batch_norm(conv: &Conv2d, norm: &BatchNorm2d) -> Conv2d {
    let scale = norm.weight.val() / (norm.running_var.value() + norm.epsilon).sqrt();
    let [outputs] = scale.dims();
    let device: Device = scale.device();
    let bias = conv.bias.as_ref().map_or_else(|| Tensor::zeros([outputs], &device), Param::val);
    let bias = (bias - norm.running_mean.value()) * scale.clone() + norm.bias.val();
    Conv2d {
        weight: Param::from_tensor((conv.weight.val() * scale.reshape([outputs, 1, 1, 1])).detach()),
        bias: Some(Param::from_tensor(bias.detach())),
        ..conv.clone()
    }
}
