//! The extension of Burn's flex backend: its operations, with and without autodiff.

mod autodiff;
mod bytes;
mod kernels;
mod update;

pub(crate) use update::{adam_step, lerp, sgd_step};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use crate::cpu::conv::ConvShape;
use crate::cpu::subsample::Subsample;
use crate::{Activation, BatchNorm, BatchNormTrained};

/// Operations that flex has kernels for. [`ops`](crate::ops) calls them for tensors of flex alone: Burn panics on a backend that is
/// not listed here.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Kernels: Backend {
    fn kernel_conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self>;
    fn kernel_conv_bias(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self>;
    /// Output, mean, biased variance.
    fn kernel_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        after: After,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    fn kernel_norm_train_residual(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        after: After,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    fn kernel_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        after: After,
    ) -> FloatTensor<Self>;
    fn kernel_norm_residual(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        after: After,
    ) -> FloatTensor<Self>;
    fn kernel_max_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;
    fn kernel_subsample(x: FloatTensor<Self>, shape: Subsample) -> FloatTensor<Self>;
}

/// What is not a tensor in a normalisation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After {
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
}

/// The sizes, if they fit together and nothing is empty; else the operation is Burn's, and so is the complaint.
pub(crate) fn conv_shape(input: [usize; 4], weight: [usize; 4], options: &ConvOptions<2>) -> Option<ConvShape> {
    let [images, inputs, height, width] = input;
    let [outputs, channels, kernel_height, kernel_width] = weight;
    let (size, kernel, groups) = ([height, width], [kernel_height, kernel_width], options.groups);
    if groups == 0 || channels * groups != inputs || !outputs.is_multiple_of(groups) || [images, outputs, channels].contains(&0) {
        return None;
    }
    let result = |axis: usize| {
        let (before, after) = options.padding[axis];
        let reach = options.dilation[axis].checked_mul(kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        let stride = options.stride[axis];
        (stride > 0 && size[axis] > 0).then_some(())?;
        Some(size[axis].checked_add(before)?.checked_add(after)?.checked_sub(reach)? / stride + 1)
    };
    let result = [result(0)?, result(1)?];
    // Burn's refuses what no memory holds.
    let len = [images, outputs, result[0]].into_iter().try_fold(result[1], usize::checked_mul)?;
    (len <= isize::MAX as usize / 16).then_some(())?;
    let [(before_rows, _), (before_columns, _)] = options.padding;
    Some(ConvShape {
        images,
        inputs,
        outputs,
        size,
        kernel,
        stride: options.stride,
        before: [before_rows, before_columns],
        dilation: options.dilation,
        groups,
        result,
        dense: false,
    })
}

/// `input` `[n, inputs]`, `weight` `[outputs, inputs]`: `[n, outputs]`, none of them 0.
pub(crate) fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let ([images, inputs], [outputs, _]) = (input.dims(), weight.dims());
    let (one, before) = ([1, 1], [0, 0]);
    let shape = ConvShape {
        images,
        inputs,
        outputs,
        size: one,
        kernel: one,
        stride: one,
        before,
        dilation: one,
        groups: 1,
        result: one,
        dense: true,
    };
    let (input, weight) = (input.reshape([images, inputs, 1, 1]), weight.reshape([outputs, inputs, 1, 1]));
    conv2d(input, weight, bias, shape).reshape([images, outputs])
}

pub(crate) fn conv2d(input: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, shape: ConvShape) -> Tensor<4> {
    let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::kernel_conv_bias(input, weight, bias.into_dispatch(), shape),
        None => Dispatch::kernel_conv(input, weight, shape),
    })
}

pub(crate) fn batch_norm_train(input: Tensor<4>, norm: BatchNorm) -> BatchNormTrained {
    let after = After { epsilon: norm.epsilon, activation: norm.activation };
    let (input, gamma, beta) = (input.into_dispatch(), norm.weight.into_dispatch(), norm.bias.into_dispatch());
    let (output, mean, variance) = match norm.residual {
        Some(residual) => Dispatch::kernel_norm_train_residual(input, gamma, beta, residual.into_dispatch(), after),
        None => Dispatch::kernel_norm_train(input, gamma, beta, after),
    };
    let [mean, variance] = [mean, variance].map(Tensor::from_dispatch);
    BatchNormTrained { output: Tensor::from_dispatch(output), mean, variance }
}

pub(crate) fn batch_norm(input: Tensor<4>, norm: BatchNorm, mean: Tensor<1>, variance: Tensor<1>) -> Tensor<4> {
    let after = After { epsilon: norm.epsilon, activation: norm.activation };
    let (input, gamma, beta) = (input.into_dispatch(), norm.weight.into_dispatch(), norm.bias.into_dispatch());
    let (mean, variance) = (mean.into_dispatch(), variance.into_dispatch());
    Tensor::from_dispatch(match norm.residual {
        Some(residual) => Dispatch::kernel_norm_residual(input, gamma, beta, mean, variance, residual.into_dispatch(), after),
        None => Dispatch::kernel_norm(input, gamma, beta, mean, variance, after),
    })
}

pub(crate) fn max_pool_3x3_s2(input: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::kernel_max_pool(input.into_dispatch()))
}

pub(crate) fn subsample(input: Tensor<4>, stride: usize, channels: usize) -> Tensor<4> {
    let [images, inputs, height, width] = input.dims();
    let shape = Subsample { images, inputs, outputs: channels, size: [height, width], stride };
    Tensor::from_dispatch(Dispatch::kernel_subsample(input.into_dispatch(), shape))
}
