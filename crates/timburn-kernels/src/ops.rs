use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
#[cfg(feature = "flex")]
use burn::tensor::{DType, Device};

use crate::Activation;

/// Parameters of a batch normalisation, and what follows it.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// Scale γ, `[channels]`.
    pub weight: Tensor<1>,
    /// Shift β, `[channels]`.
    pub bias: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Added after the normalisation, before the activation: a shortcut, of the input's shape.
    pub residual: Option<Tensor<4>>,
    /// Applied at the end.
    pub activation: Activation,
}

/// What [`batch_norm_train`] gives.
#[derive(Debug, Clone)]
pub struct BatchNormTrained {
    /// `[n, channels, h, w]`.
    pub output: Tensor<4>,
    /// Mean of the batch, `[channels]`; no gradient flows through it.
    pub mean: Tensor<1>,
    /// Biased variance of the batch, `[channels]`; no gradient flows through it.
    pub variance: Tensor<1>,
}

/// Convolution of `input` `[n, inputs, h, w]` with `weight` `[outputs, inputs / groups, kernel height, kernel width]`.
///
/// # Panics
/// As Burn's `conv2d`: when shapes and groups do not fit together.
pub fn conv2d(input: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions<2>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if has_kernels(&input, [&weight])
        && bias.as_ref().is_none_or(|bias| has_kernels(bias, []) && bias.dims() == [weight.dims()[0]])
        && let Some(shape) = crate::flex::conv_shape(input.dims(), weight.dims(), &options)
    {
        return crate::flex::conv2d(input, weight, bias, shape);
    }
    module::conv2d(input, weight, bias, options)
}

/// Batch normalisation of `input` `[n, channels, h, w]` with the statistics of the batch itself.
pub fn batch_norm_train(input: Tensor<4>, norm: BatchNorm) -> BatchNormTrained {
    #[cfg(feature = "flex")]
    if norm.has_kernels(&input) {
        return crate::flex::batch_norm_train(input, norm);
    }
    let trained = module::batch_norm_train(input, norm.weight, norm.bias, norm.epsilon);
    let output = finish(trained.output, norm.residual, norm.activation);
    BatchNormTrained { output, mean: trained.mean.detach(), variance: trained.variance.detach() }
}

/// Batch normalisation of `input` `[n, channels, h, w]` with given statistics, `[channels]` each: a frozen layer, or inference.
///
/// Gradients flow to the input, the parameters and the residual; the statistics are constants.
pub fn batch_norm(input: Tensor<4>, norm: BatchNorm, mean: Tensor<1>, variance: Tensor<1>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    let statistics = || has_kernels(&mean, [&variance]) && mean.dims() == variance.dims() && mean.dims() == norm.weight.dims();
    #[cfg(feature = "flex")]
    if norm.has_kernels(&input) && statistics() {
        return crate::flex::batch_norm(input, norm, mean, variance);
    }
    let output = module::batch_norm(input, norm.weight, norm.bias, mean.detach(), variance.detach(), norm.epsilon);
    finish(output, norm.residual, norm.activation)
}

/// Maximum over 3×3 windows, stride 2, padding 1: `[n, c, h, w]` → `[n, c, ⌈h/2⌉, ⌈w/2⌉]`. The gradient goes to the first of equal maxima.
pub fn max_pool_3x3_s2(input: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if has_kernels(&input, []) && !input.dims().contains(&0) {
        return crate::flex::max_pool_3x3_s2(input);
    }
    module::max_pool2d(input, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]))
}

fn finish(output: Tensor<4>, residual: Option<Tensor<4>>, activation: Activation) -> Tensor<4> {
    activation.forward(match residual {
        Some(residual) => residual + output,
        None => output,
    })
}

#[cfg(feature = "flex")]
impl BatchNorm {
    fn has_kernels(&self, input: &Tensor<4>) -> bool {
        let shape = input.dims();
        let fits = |tensor: &Tensor<1>| tensor.dims() == [shape[1]] && has_kernels(tensor, []);
        let residual = self.residual.as_ref().is_none_or(|residual| residual.dims() == shape && has_kernels(residual, []));
        has_kernels(input, []) && fits(&self.weight) && fits(&self.bias) && residual && !shape.contains(&0)
    }
}

/// Whether all are f32 tensors of the flex backend, autodiff or not.
#[cfg(feature = "flex")]
pub(crate) fn has_kernels<const D: usize, const N: usize>(tensor: &Tensor<D>, others: [&Tensor<D>; N]) -> bool {
    let flex = Device::flex();
    [tensor].into_iter().chain(others).all(|tensor| tensor.dtype() == DType::F32 && tensor.device() == flex)
}
