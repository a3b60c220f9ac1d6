//! The operations on flex's own tensors.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};
use half::bf16;

use super::{After, Kernels};
use crate::cpu::buffer::{Output, Shared};
use crate::cpu::conv::{self, ConvShape};
use crate::cpu::convolved::Convolved;
use crate::cpu::elementwise;
use crate::cpu::max_pool::{self, PoolShape};
use crate::cpu::memory::Block;
use crate::cpu::norm::{Backward, Norm, NormShape};
use crate::cpu::subsample::Subsample;
use crate::profile::{ConvPass, Work, tell};

/// A type of tensors' values that the kernels take.
pub(super) trait Stored: Convolved {
    const DTYPE: DType;

    /// All values of the tensor's buffer.
    fn values(tensor: &FlexTensor) -> &[Self];

    /// The same to write; copied first if somebody else holds them.
    fn values_mut(tensor: &mut FlexTensor) -> &mut [Self];

    /// The same, if nobody else holds them.
    fn unshared(tensor: &mut FlexTensor) -> Option<&mut [Self]>;
}

macro_rules! stored {
    ($($type:ty: $dtype:ident),*) => {$(
        impl Stored for $type {
            const DTYPE: DType = DType::$dtype;

            fn values(tensor: &FlexTensor) -> &[Self] {
                tensor.storage()
            }

            fn values_mut(tensor: &mut FlexTensor) -> &mut [Self] {
                tensor.storage_mut()
            }

            fn unshared(tensor: &mut FlexTensor) -> Option<&mut [Self]> {
                tensor.try_storage_mut()
            }
        }
    )*};
}
stored!(f32: F32, bf16: BF16);

/// Calls a function for values of the tensor's type, bf16 or f32.
macro_rules! for_type {
    ($tensor:expr, $call:ident($($argument:expr),* $(,)?)) => {
        match $tensor.dtype() {
            DType::BF16 => $call::<bf16>($($argument),*),
            _ => $call::<f32>($($argument),*),
        }
    };
}

impl Kernels for Flex {
    fn kernel_conv(x: FlexTensor, weight: FlexTensor, shape: ConvShape) -> FlexTensor {
        for_type!(x, conv_forward(&x, &weight, None, &shape))
    }

    fn kernel_conv_bias(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, shape: ConvShape) -> FlexTensor {
        for_type!(x, conv_forward(&x, &weight, Some(&bias), &shape))
    }

    fn kernel_norm_train(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, after: After) -> (FlexTensor, FlexTensor, FlexTensor) {
        for_type!(x, norm_train(&x, &gamma, &beta, None, after))
    }

    fn kernel_norm_train_residual(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: FlexTensor,
        after: After,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        for_type!(x, norm_train(&x, &gamma, &beta, Some(&residual), after))
    }

    fn kernel_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, mean: FlexTensor, variance: FlexTensor, after: After) -> FlexTensor {
        for_type!(x, norm_fixed(x, [&gamma, &beta, &mean, &variance], None, after))
    }

    fn kernel_norm_residual(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        residual: FlexTensor,
        after: After,
    ) -> FlexTensor {
        for_type!(x, norm_fixed(x, [&gamma, &beta, &mean, &variance], Some(&residual), after))
    }

    fn kernel_max_pool(x: FlexTensor) -> FlexTensor {
        max_pool(&x).0
    }

    fn kernel_subsample(x: FlexTensor, shape: Subsample) -> FlexTensor {
        fn typed<T: Stored>(x: &FlexTensor, shape: &Subsample) -> FlexTensor {
            let (x, [height, width]) = (Values::new(x), shape.result());
            let subsample = || shape.forward::<T>(x.slice());
            tensor(tell(|| subsample_work::<T>(shape, false), subsample), [shape.images, shape.outputs, height, width])
        }
        for_type!(x, typed(&x, &shape))
    }
}

/// A tensor's values in order, copied only if they are not.
pub(super) struct Values(FlexTensor);

impl Values {
    pub(super) fn new(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    pub(super) fn slice<T: Stored>(&self) -> &[T] {
        T::values(&self.0)
    }
}

fn tensor<T: Stored>(values: impl Into<Block<T>>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(super::bytes::bytes(values.into()), Layout::contiguous(shape.into()), T::DTYPE)
}

/// The kernels read as many values as the shape says: a gradient of another one, as an operation of somebody else's may register, must not reach them.
fn whole(slope: &FlexTensor, expected: [usize; 4]) {
    let found = slope.layout().shape();
    assert!(found.iter().eq(&expected), "a gradient of shape {found:?} for an output of {expected:?}");
}

/// What a pass of a convolution computes, for who listens: all three have the same products.
fn conv_work<T>(shape: &ConvShape, pass: ConvPass) -> (Work, usize, usize) {
    let ConvShape { inputs, outputs, kernel, stride, groups, .. } = *shape;
    let weights = outputs * (inputs / groups) * kernel[0] * kernel[1];
    let convolution = Work::Convolution { pass, inputs, outputs, kernel, stride, groups };
    let work = if shape.dense { Work::Linear { pass } } else { convolution };
    if pass == ConvPass::BiasGradient {
        return (work, 0, size_of::<T>() * shape.output_len());
    }
    let bytes = size_of::<T>() * (shape.input_len() + shape.output_len()) + size_of::<f32>() * weights;
    (work, 2 * shape.images * shape.result[0] * shape.result[1] * weights, bytes)
}

fn conv_forward<T: Stored>(x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>, shape: &ConvShape) -> FlexTensor {
    let (x, weight, bias) = (Values::new(x), Values::new(weight), bias.map(Values::new));
    let forward = || conv::forward::<T>(shape, x.slice(), weight.slice(), bias.as_ref().map(Values::slice));
    let output = tell(|| conv_work::<T>(shape, ConvPass::Forward), forward);
    tensor(output, [shape.images, shape.outputs, shape.result[0], shape.result[1]])
}

pub(super) fn conv_input_gradient(slope: &FlexTensor, weight: &FlexTensor, shape: &ConvShape) -> FlexTensor {
    fn typed<T: Stored>(slope: &FlexTensor, weight: &FlexTensor, shape: &ConvShape) -> FlexTensor {
        whole(slope, [shape.images, shape.outputs, shape.result[0], shape.result[1]]);
        let (slope, weight) = (Values::new(slope), Values::new(weight));
        let gradient = || conv::input_gradient::<T>(shape, slope.slice(), weight.slice());
        let gradient = tell(|| conv_work::<T>(shape, ConvPass::InputGradient), gradient);
        tensor(gradient, [shape.images, shape.inputs, shape.size[0], shape.size[1]])
    }
    for_type!(slope, typed(slope, weight, shape))
}

/// In f32, as the weight.
pub(super) fn conv_weight_gradient(x: &FlexTensor, slope: &FlexTensor, shape: &ConvShape) -> FlexTensor {
    fn typed<T: Stored>(x: &FlexTensor, slope: &FlexTensor, shape: &ConvShape) -> FlexTensor {
        whole(slope, [shape.images, shape.outputs, shape.result[0], shape.result[1]]);
        let (x, slope) = (Values::new(x), Values::new(slope));
        let gradient = || conv::weight_gradient::<T>(shape, x.slice(), slope.slice());
        let gradient = tell(|| conv_work::<T>(shape, ConvPass::WeightGradient), gradient);
        tensor(gradient, [shape.outputs, shape.inputs / shape.groups, shape.kernel[0], shape.kernel[1]])
    }
    for_type!(slope, typed(x, slope, shape))
}

pub(super) fn conv_bias_gradient(slope: &FlexTensor, shape: &ConvShape) -> FlexTensor {
    fn typed<T: Stored>(slope: &FlexTensor, shape: &ConvShape) -> FlexTensor {
        let slope = Values::new(slope);
        tensor(tell(|| conv_work::<T>(shape, ConvPass::BiasGradient), || conv::bias_gradient::<T>(shape, slope.slice())), [shape.outputs])
    }
    for_type!(slope, typed(slope, shape))
}

/// The maxima, which pixel each is, and the shape of it all.
pub(super) fn max_pool(x: &FlexTensor) -> (FlexTensor, Vec<u8>, [usize; 4]) {
    fn typed<T: Stored>(x: &FlexTensor) -> (FlexTensor, Vec<u8>, [usize; 4]) {
        let dims = x.layout().shape();
        let dims = [dims[0], dims[1], dims[2], dims[3]];
        let shape = PoolShape { planes: dims[0] * dims[1], size: [dims[2], dims[3]] };
        let ([height, width], values) = (shape.result(), Values::new(x));
        let work = || (Work::MaxPool { backward: false }, 0, size_of::<T>() * shape.planes * (dims[2] * dims[3] + height * width));
        let (output, chosen) = tell(work, || max_pool::forward::<T>(&shape, values.slice()));
        (tensor(output, [dims[0], dims[1], height, width]), chosen, dims)
    }
    for_type!(x, typed(x))
}

pub(super) fn max_pool_gradient(slope: &FlexTensor, chosen: &[u8], dims: [usize; 4]) -> FlexTensor {
    fn typed<T: Stored>(slope: &FlexTensor, chosen: &[u8], dims: [usize; 4]) -> FlexTensor {
        let shape = PoolShape { planes: dims[0] * dims[1], size: [dims[2], dims[3]] };
        let ([height, width], slope) = (shape.result(), Values::new(slope));
        let work = || (Work::MaxPool { backward: true }, 0, size_of::<T>() * shape.planes * (dims[2] * dims[3] + height * width));
        tensor(tell(work, || max_pool::backward::<T>(&shape, slope.slice(), chosen)), dims)
    }
    for_type!(slope, typed(slope, chosen, dims))
}

fn subsample_work<T>(shape: &Subsample, backward: bool) -> (Work, usize, usize) {
    (Work::Subsample { backward }, 0, size_of::<T>() * (shape.input_len() + shape.output_len()))
}

pub(super) fn subsample_gradient(slope: &FlexTensor, shape: &Subsample) -> FlexTensor {
    fn typed<T: Stored>(slope: &FlexTensor, shape: &Subsample) -> FlexTensor {
        let slope = Values::new(slope);
        let gradient = tell(|| subsample_work::<T>(shape, true), || shape.backward::<T>(slope.slice()));
        tensor(gradient, [shape.images, shape.inputs, shape.size[0], shape.size[1]])
    }
    for_type!(slope, typed(slope, shape))
}

/// The sum of two gradients of a tensor, in place of one that nobody else holds.
pub(super) fn sum(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    fn typed<T: Stored>(mut sum: FlexTensor, added: &FlexTensor) -> FlexTensor {
        let added = Values::new(added);
        let values = T::values_mut(&mut sum);
        let bytes = 3 * size_of_val::<[T]>(values);
        tell(|| (Work::Sum, 0, bytes), || elementwise::add::<T>(values, added.slice()));
        sum
    }
    if left.dtype() != right.dtype() || left.layout().shape() != right.layout().shape() {
        return Flex::float_add(left, right);
    }
    let [left, right] = [left, right].map(owned);
    let (sum, added) = if left.is_unique() { (left, right) } else { (right, left) };
    for_type!(sum, typed(sum, &added))
}

fn norm_shape(x: &FlexTensor) -> NormShape {
    let shape = x.layout().shape();
    NormShape { images: shape[0], channels: shape[1], area: shape[2] * shape[3] }
}

fn norm_train<T: Stored>(
    x: &FlexTensor,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    residual: Option<&FlexTensor>,
    after: After,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let shape = norm_shape(x);
    let (values, gamma, beta, residual) = (Values::new(x), Values::new(gamma), Values::new(beta), residual.map(Values::new));
    let After { epsilon, activation } = after;
    let norm = Norm { shape, gamma: gamma.slice(), beta: beta.slice(), epsilon, activation };
    let residual = residual.as_ref().map(Values::slice);
    let work = || (Work::Norm { backward: false }, 0, size_of::<T>() * x.layout().num_elements() * (2 + usize::from(residual.is_some())));
    let trained = tell(work, || norm.train::<T>(values.slice(), residual));
    let statistic = |values: Vec<f32>| tensor::<f32>(values, [shape.channels]);
    (tensor(trained.output, x.layout().shape().clone()), statistic(trained.mean), statistic(trained.variance))
}

fn norm_fixed<T: Stored>(x: FlexTensor, parameters: [&FlexTensor; 4], residual: Option<&FlexTensor>, after: After) -> FlexTensor {
    let (shape, dims) = (norm_shape(&x), x.layout().shape().clone());
    let [gamma, beta, mean, variance] = parameters.map(Values::new);
    let residual = residual.map(Values::new);
    let After { epsilon, activation } = after;
    let norm = Norm { shape, gamma: gamma.slice(), beta: beta.slice(), epsilon, activation };
    let residual = residual.as_ref().map(Values::slice);
    let mut x = owned(x);
    let work = || (Work::Norm { backward: false }, 0, size_of::<T>() * dims.num_elements() * (2 + usize::from(residual.is_some())));
    if let Some(values) = T::unshared(&mut x) {
        // SAFETY: the whole buffer, borrowed mutably.
        tell(work, || unsafe { norm.fixed(None, residual, mean.slice(), variance.slice(), Shared::from_slice(values)) });
        return x;
    }
    let mut output = Output::<T>::new(dims.num_elements());
    // SAFETY: as many values as `x` has; all are written.
    let output = unsafe {
        tell(work, || norm.fixed(Some(T::values(&x)), residual, mean.slice(), variance.slice(), output.pointer()));
        output.finish()
    };
    tensor(output, dims)
}

/// The tensor in order, without a second owner if it had none.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.layout().num_elements() * tensor.dtype().size() == tensor.bytes().len();
    if tensor.is_contiguous() && tensor.layout().start_offset() == 0 && whole { tensor } else { tensor.to_contiguous() }
}

/// What a normalisation's backward pass needs of its forward pass.
pub(super) struct NormState<'a> {
    pub(super) x: &'a FlexTensor,
    pub(super) gamma: &'a FlexTensor,
    pub(super) beta: &'a FlexTensor,
    pub(super) mean: &'a FlexTensor,
    pub(super) variance: &'a FlexTensor,
    /// The output, if a residual was added and an activation followed.
    pub(super) output: Option<&'a FlexTensor>,
    pub(super) batch_statistics: bool,
    pub(super) after: After,
}

/// Gradients of a normalisation.
pub(super) struct NormGradients {
    pub(super) x: FlexTensor,
    pub(super) gamma: FlexTensor,
    pub(super) beta: FlexTensor,
    /// What passes the activation, if the output was kept.
    pub(super) residual: Option<FlexTensor>,
}

pub(super) fn norm_backward(state: &NormState<'_>, slope: FlexTensor) -> NormGradients {
    for_type!(slope, typed_norm_backward(state, slope))
}

fn typed_norm_backward<T: Stored>(state: &NormState<'_>, slope: FlexTensor) -> NormGradients {
    let (shape, dims) = (norm_shape(state.x), state.x.layout().shape().clone());
    let [x, gamma, beta, mean, variance] = [state.x, state.gamma, state.beta, state.mean, state.variance].map(Values::new);
    let output = state.output.map(Values::new);
    let After { epsilon, activation } = state.after;
    let backward = Backward {
        norm: Norm { shape, gamma: gamma.slice(), beta: beta.slice(), epsilon, activation },
        input: x.slice(),
        mean: mean.slice(),
        variance: variance.slice(),
        output: output.as_ref().map(Values::slice),
        batch_statistics: state.batch_statistics,
    };
    whole(&slope, [dims[0], dims[1], dims[2], dims[3]]);
    let mut residual = state.output.map(|_| Output::<T>::new(dims.num_elements()));
    let mut slope = owned(slope);
    // In place where nobody else holds the gradient, else in a copy.
    let gradients = {
        let values = T::values_mut(&mut slope);
        let times = if residual.is_some() { 5 } else { 3 };
        let work = || (Work::Norm { backward: true }, 0, size_of::<T>() * dims.num_elements() * times);
        // SAFETY: whole buffers of the shape's length, borrowed mutably.
        tell(work, || unsafe { backward.run(Shared::from_slice(values), residual.as_mut().map(Output::pointer)) })
    };
    // SAFETY: the backward pass has written all of it.
    let residual = residual.map(|residual| tensor(unsafe { residual.finish() }, dims));
    let parameter = |values: Vec<f32>| tensor::<f32>(values, [shape.channels]);
    NormGradients { x: slope, gamma: parameter(gradients.gamma), beta: parameter(gradients.beta), residual }
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::ConvOptions;

    use super::*;
    use crate::Activation;

    fn ones<const D: usize>(shape: [usize; D]) -> FlexTensor {
        tensor(vec![1f32; shape.iter().product()], shape)
    }

    /// An operation of somebody else's may register any gradient.
    #[test]
    #[should_panic(expected = "a gradient of shape")]
    fn a_gradient_of_another_shape_does_not_reach_the_normalisation() {
        let (x, parameter) = (ones([2, 3, 4, 4]), ones([3]));
        let after = After { epsilon: 1e-5, activation: Activation::Identity };
        let [gamma, beta, mean, variance] = [&parameter; 4];
        let state = NormState { x: &x, gamma, beta, mean, variance, output: None, after, batch_statistics: true };
        norm_backward(&state, ones([1, 3, 4, 4]));
    }

    #[test]
    #[should_panic(expected = "a gradient of shape")]
    fn a_gradient_of_another_shape_does_not_reach_the_convolution() {
        let shape = super::super::conv_shape([2, 3, 4, 4], [5, 3, 1, 1], &ConvOptions::new([1, 1], [0, 0], [1, 1], 1)).unwrap();
        conv_weight_gradient(&ones([2, 3, 4, 4]), &ones([1, 5, 4, 4]), &shape);
    }
}
