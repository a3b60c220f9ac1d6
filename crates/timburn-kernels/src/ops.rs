#[cfg(feature = "flex")]
use burn::tensor::Device;
use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Tensor, s};

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
/// The output has the input's type; weight and bias may have another one, and have gradients of it. So f32 weights train in bf16: their
/// gradients are sums in f32. On flex they stay f32, but for weights where the processor multiplies pairs of bf16; elsewhere they are
/// rounded to the input's type.
///
/// # Panics
/// As Burn's `conv2d`: when shapes and groups do not fit together.
pub fn conv2d(input: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions<2>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if activations(&input)
        && parameters([&weight])
        && bias.as_ref().is_none_or(|bias| parameters([bias]) && bias.dims() == [weight.dims()[0]])
        && let Some(shape) = crate::flex::conv_shape(input.dims(), weight.dims(), &options)
    {
        return crate::flex::conv2d(input, weight, bias, shape);
    }
    let dtype = input.dtype();
    module::conv2d(input, typed(weight, dtype), bias.map(|bias| typed(bias, dtype)), options)
}

/// A fully connected layer: `input` `[n, inputs]` times `weight` `[outputs, inputs]`, transposed, plus a bias `[outputs]`: `[n, outputs]`.
///
/// On flex it is a convolution of maps of one pixel, and may have another type than its parameters as [`conv2d`] may.
///
/// # Panics
/// As Burn's `matmul`: when the shapes do not fit together.
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    let ([n, inputs], [outputs, columns]) = (input.dims(), weight.dims());
    #[cfg(feature = "flex")]
    if inputs == columns
        && ![n, inputs, outputs].contains(&0)
        && activations(&input)
        && parameters([&weight])
        && bias.as_ref().is_none_or(|bias| parameters([bias]) && bias.dims() == [outputs])
    {
        return crate::flex::linear(input, weight, bias);
    }
    let dtype = input.dtype();
    let products = input.matmul(typed(weight, dtype).transpose());
    match bias {
        Some(bias) => products + typed(bias, dtype).unsqueeze(),
        None => products,
    }
}

/// Batch normalisation of `input` `[n, channels, h, w]` with the statistics of the batch itself.
///
/// Computed, with the statistics, in the parameters' type; the output has the input's.
pub fn batch_norm_train(input: Tensor<4>, norm: BatchNorm) -> BatchNormTrained {
    #[cfg(feature = "flex")]
    if norm.has_kernels(&input) {
        return crate::flex::batch_norm_train(input, norm);
    }
    let (dtype, parameters) = (input.dtype(), norm.weight.dtype());
    let trained = module::batch_norm_train(typed(input, parameters), norm.weight, norm.bias, norm.epsilon);
    let output = typed(finish(trained.output, norm.residual, norm.activation), dtype);
    BatchNormTrained { output, mean: trained.mean.detach(), variance: trained.variance.detach() }
}

/// Batch normalisation of `input` `[n, channels, h, w]` with given statistics, `[channels]` each: a frozen layer, or inference.
///
/// Gradients flow to the input, the parameters and the residual; the statistics are constants. Computed in the parameters' type; the output has
/// the input's.
pub fn batch_norm(input: Tensor<4>, norm: BatchNorm, mean: Tensor<1>, variance: Tensor<1>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    let statistics = || parameters([&mean, &variance]) && mean.dims() == variance.dims() && mean.dims() == norm.weight.dims();
    #[cfg(feature = "flex")]
    if norm.has_kernels(&input) && statistics() {
        return crate::flex::batch_norm(input, norm, mean, variance);
    }
    let (dtype, parameters) = (input.dtype(), norm.weight.dtype());
    let output = module::batch_norm(typed(input, parameters), norm.weight, norm.bias, mean.detach(), variance.detach(), norm.epsilon);
    typed(finish(output, norm.residual, norm.activation), dtype)
}

/// Maximum over 3×3 windows, stride 2, padding 1: `[n, c, h, w]` → `[n, c, ⌈h/2⌉, ⌈w/2⌉]`. The gradient goes to the first of equal maxima.
pub fn max_pool_3x3_s2(input: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if activations(&input) && !input.dims().contains(&0) {
        return crate::flex::max_pool_3x3_s2(input);
    }
    module::max_pool2d(input, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]))
}

/// Every `stride`-th pixel in both directions, in `channels` channels, those that are missing zero, half of them before (rounded down), half
/// after: `[n, c, h, w]` → `[n, channels, ⌈h / stride⌉, ⌈w / stride⌉]`. The shortcut without parameters of He et al. (2015), option A.
///
/// # Panics
/// For a stride of 0, fewer channels than the input's, or more than any memory holds.
pub fn subsample(input: Tensor<4>, stride: usize, channels: usize) -> Tensor<4> {
    let [n, inputs, height, width] = input.dims();
    assert!(stride > 0 && channels >= inputs, "a stride of {stride}, {channels} channels of {inputs}: expected at least 1, and as many");
    let len = [n, height.div_ceil(stride), width.div_ceil(stride)].into_iter().try_fold(channels, usize::checked_mul);
    assert!(
        len.is_some_and(|len| len <= isize::MAX as usize / 16),
        "{channels} channels of {:?}: more than any memory holds",
        input.dims()
    );
    #[cfg(feature = "flex")]
    if activations(&input) && !input.dims().contains(&0) {
        return crate::flex::subsample(input, stride, channels);
    }
    let step = stride as isize;
    let kept = input.slice(s![.., .., ..;step, ..;step]);
    let [n, c, h, w] = kept.dims();
    let zeros = |count| Tensor::zeros([n, count, h, w], (&kept.device(), kept.dtype()));
    let before = (channels - c) / 2;
    let (before, after) = (zeros(before), zeros(channels - c - before));
    Tensor::cat(vec![before, kept, after], 1)
}

fn finish(output: Tensor<4>, residual: Option<Tensor<4>>, activation: Activation) -> Tensor<4> {
    activation.forward(match residual {
        Some(residual) => typed(residual, output.dtype()) + output,
        None => output,
    })
}

fn typed<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype { tensor } else { tensor.cast(dtype) }
}

#[cfg(feature = "flex")]
impl BatchNorm {
    fn has_kernels(&self, input: &Tensor<4>) -> bool {
        let shape = input.dims();
        let fits = |tensor: &Tensor<1>| tensor.dims() == [shape[1]] && parameters([tensor]);
        let alike = |residual: &Tensor<4>| residual.dims() == shape && residual.dtype() == input.dtype() && activations(residual);
        let residual = self.residual.as_ref().is_none_or(alike);
        activations(input) && fits(&self.weight) && fits(&self.bias) && residual && !shape.contains(&0)
    }
}

/// Whether the kernels take this tensor as an input: f32 or bf16 of the flex backend, autodiff or not.
#[cfg(feature = "flex")]
fn activations<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.dtype(), DType::F32 | DType::BF16) && tensor.device() == Device::flex()
}

/// Whether the kernels take these tensors as parameters: f32 of the flex backend, autodiff or not.
#[cfg(feature = "flex")]
pub(crate) fn parameters<const D: usize, const N: usize>(tensors: [&Tensor<D>; N]) -> bool {
    let flex = Device::flex();
    tensors.into_iter().all(|tensor| tensor.dtype() == DType::F32 && tensor.device() == flex)
}
