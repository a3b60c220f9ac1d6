//! The operations against Burn's own, values and gradients, through Burn's dispatch and autodiff.
#![cfg(feature = "flex")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Tensor, s};
use common::{host, random};
use timburn_kernels::{Activation, BatchNorm, batch_norm, batch_norm_train, conv2d, linear, max_pool_3x3_s2, subsample};

fn device() -> Device {
    Device::flex().autodiff()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30f32, |scale, x| scale.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0f32, |worst, (a, b)| if (a - b).is_nan() { f32::NAN } else { worst.max((a - b).abs()) });
    assert!(worst / scale <= tolerance, "{what}: relative error {}", worst / scale);
}

/// Input, weight, padding (before, after), stride, dilation, groups.
type Case = ([usize; 4], [usize; 4], [(usize, usize); 2], [usize; 2], [usize; 2], usize);

const CASES: [Case; 6] = [
    ([3, 5, 9, 11], [7, 5, 3, 3], [(1, 1), (1, 1)], [1, 1], [1, 1], 1),
    ([2, 6, 12, 9], [4, 3, 3, 2], [(0, 1), (2, 1)], [2, 1], [1, 2], 2),
    ([2, 8, 7, 7], [8, 1, 5, 5], [(2, 2), (2, 2)], [2, 2], [1, 1], 8),
    ([1, 4, 6, 6], [9, 4, 1, 1], [(0, 0), (0, 0)], [1, 1], [1, 1], 1),
    ([4, 4, 8, 8], [6, 4, 1, 1], [(0, 0), (0, 0)], [2, 2], [1, 1], 1),
    ([2, 3, 4, 4], [2, 3, 7, 7], [(3, 3), (3, 3)], [2, 2], [1, 1], 1),
];

/// Output, and gradients of input, weight and bias.
fn run_conv(case: &Case, tensors: &(Tensor<4>, Tensor<4>, Tensor<1>), kernels: bool) -> [Vec<f32>; 4] {
    let (_, _, padding, stride, dilation, groups) = *case;
    let (x, w, b) = (tensors.0.clone().require_grad(), tensors.1.clone().require_grad(), tensors.2.clone().require_grad());
    let options = ConvOptions::new_with_padding(stride, padding, dilation, groups);
    let y = if kernels {
        conv2d(x.clone(), w.clone(), Some(b.clone()), options)
    } else {
        module::conv2d(x.clone(), w.clone(), Some(b.clone()), options)
    };
    let gradients = (y.clone() * y.clone()).sum().backward();
    [host(y), host(x.grad(&gradients).unwrap()), host(w.grad(&gradients).unwrap()), host(b.grad(&gradients).unwrap())]
}

#[test]
fn convolution_agrees_with_burns() {
    for case in &CASES {
        let device = device();
        let tensors = (random(case.0, &device), random(case.1, &device), random([case.1[0]], &device));
        for (what, (found, expected)) in
            ["output", "input", "weight", "bias"].iter().zip(run_conv(case, &tensors, true).iter().zip(&run_conv(case, &tensors, false)))
        {
            assert_close(&format!("{what} of {case:?}"), found, expected, 1e-5);
        }
    }
}

fn rounded<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.cast(DType::BF16).cast(DType::F32)
}

#[test]
fn bf16_inputs_and_f32_parameters_agree_with_f32_on_rounded_values() {
    for case in &CASES {
        let device = device();
        let (_, _, padding, stride, dilation, groups) = *case;
        let tensors = [random(case.0, &device), random(case.1, &device)].map(rounded).map(Tensor::detach);
        let bias = random([case.1[0]], &device);
        let run = |low: bool| {
            let [x, w] = tensors.clone().map(Tensor::require_grad);
            let b = bias.clone().require_grad();
            let input = if low { x.clone().cast(DType::BF16) } else { x.clone() };
            let y = conv2d(input, w.clone(), Some(b.clone()), ConvOptions::new_with_padding(stride, padding, dilation, groups));
            assert_eq!(y.dtype(), if low { DType::BF16 } else { DType::F32 });
            // A slope that bf16 holds.
            let slope = rounded(y.clone().detach().cast(DType::F32)) * 0.0 + rounded(tensors[0].clone().mean().reshape([1, 1, 1, 1]));
            let gradients = (y.clone().cast(DType::F32) * slope).sum().backward();
            let (dx, dw, db) = (x.grad(&gradients).unwrap(), w.grad(&gradients).unwrap(), b.grad(&gradients).unwrap());
            assert!(dw.dtype() == DType::F32 && db.dtype() == DType::F32, "gradients have their parameters' type");
            [host(y), host(dx), host(dw), host(db)]
        };
        for (what, (found, expected)) in ["output", "input", "weight", "bias"].iter().zip(run(true).iter().zip(&run(false))) {
            // Those of the parameters are sums in f32 of products of bf16 values.
            let tolerance = if ["weight", "bias"].contains(what) { 1e-5 } else { 1.0 / 256.0 };
            assert_close(&format!("{what} of {case:?}"), found, expected, tolerance);
        }
    }
}

/// Small planes, which one task takes whole, in one group and in several; larger ones.
const NORMALISED: [[usize; 4]; 3] = [[4, 6, 7, 5], [35, 20, 3, 5], [4, 6, 9, 8]];

#[test]
fn bf16_normalisation_agrees_with_f32_on_rounded_values() {
    NORMALISED.into_iter().for_each(bf16_normalisation_agrees);
}

fn bf16_normalisation_agrees(shape: [usize; 4]) {
    let channels = shape[1];
    for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
        for (residual, train) in [(false, false), (false, true), (true, false), (true, true)] {
            let device = device();
            let tensors = [random(shape, &device) * 3.0, random(shape, &device), random(shape, &device)].map(rounded).map(Tensor::detach);
            let parameters = [random([channels], &device) + 1.0, random([channels], &device)];
            let run = |low: bool, activation: Activation, slope: &Tensor<4>| {
                let [x, added] = [&tensors[0], &tensors[1]].map(|tensor| tensor.clone().require_grad());
                let [gamma, beta] = parameters.clone().map(Tensor::require_grad);
                let lower = |tensor: &Tensor<4>| if low { tensor.clone().cast(DType::BF16) } else { tensor.clone() };
                let residual = residual.then(|| lower(&added));
                let norm = BatchNorm { weight: gamma.clone(), bias: beta.clone(), epsilon: 1e-5, residual, activation };
                let (y, mut all) = if train {
                    let trained = batch_norm_train(lower(&x), norm);
                    (trained.output, vec![host(trained.mean), host(trained.variance)])
                } else {
                    let statistics = [Tensor::ones([channels], &device) * 0.1, Tensor::ones([channels], &device) * 1.7];
                    let [mean, variance] = statistics;
                    (batch_norm(lower(&x), norm, mean, variance), Vec::new())
                };
                assert_eq!(y.dtype(), lower(&x).dtype());
                let gradients = (y.clone().cast(DType::F32) * slope.clone()).sum().backward();
                all.extend([host(gamma.grad(&gradients).unwrap()), host(beta.grad(&gradients).unwrap())]);
                let mut rounded = vec![host(y), host(x.grad(&gradients).unwrap())];
                rounded.extend(added.grad(&gradients).map(host));
                (all, rounded)
            };
            // No slope where rounding may carry a value over a kink: there one of the two would rightly pass what the other stops.
            let (_, identity) = run(false, Activation::Identity, &tensors[2]);
            let before = Tensor::<1>::from_floats(identity[0].as_slice(), &device).reshape(shape);
            let near = |kink: f32| (before.clone() - kink).abs().lower_elem(0.05);
            let slope = tensors[2].clone().mask_fill(near(0.0), 0.0).mask_fill(near(6.0), 0.0);
            let (found, expected) = (run(true, activation, &slope), run(false, activation, &slope));
            let what = format!("{shape:?}, {activation:?}, residual {residual}, train {train}");
            assert_eq!(found.1.len(), if residual { 3 } else { 2 });
            for (number, (found, expected)) in found.0.iter().zip(&expected.0).enumerate() {
                assert_close(&format!("{what}: {number} in f32"), found, expected, 1e-5);
            }
            for (number, (found, expected)) in found.1.iter().zip(&expected.1).enumerate() {
                assert_close(&format!("{what}: {number} in bf16"), found, expected, 1.0 / 256.0);
            }
        }
    }
}

#[test]
fn transposed_and_sliced_inputs_are_read_in_their_order() {
    let device = device();
    let x = random([2, 9, 7, 4], &device).permute([0, 3, 1, 2]).slice([0..2, 1..4, 2..9, 0..7]);
    let w = random([3, 5, 3, 3], &device).swap_dims(0, 1);
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let (found, expected) = (conv2d(x.clone(), w.clone(), None, options.clone()), module::conv2d(x, w, None, options));
    assert_close("output", &host(found), &host(expected), 1e-5);
}

#[test]
fn other_precisions_are_burns() {
    let device = device();
    let x = random([1, 3, 6, 6], &device).cast(DType::F64).require_grad();
    let w = random([4, 3, 3, 3], &device).cast(DType::F64);
    let y = conv2d(x.clone(), w, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    assert_eq!(y.dtype(), DType::F64);
    let norm = BatchNorm {
        weight: Tensor::<1>::ones([4], &device).cast(DType::F64),
        bias: Tensor::<1>::zeros([4], &device).cast(DType::F64),
        epsilon: 1e-5,
        residual: None,
        activation: Activation::Relu,
    };
    let y = batch_norm_train(y, norm).output;
    assert_eq!(y.dtype(), DType::F64);
    assert!(x.grad(&y.sum().backward()).is_some());
}

struct NormCase {
    residual: bool,
    activation: Activation,
    train: bool,
}

/// Output, statistics, and gradients of input, γ, β and residual.
fn run_norm(case: &NormCase, tensors: &(Tensor<4>, Tensor<1>, Tensor<1>, Tensor<4>), kernels: bool) -> Vec<Vec<f32>> {
    let x = tensors.0.clone().require_grad();
    let (gamma, beta, residual) = (tensors.1.clone().require_grad(), tensors.2.clone().require_grad(), tensors.3.clone().require_grad());
    let channels = gamma.dims()[0];
    let (mean, variance) = (Tensor::<1>::ones([channels], &x.device()) * 0.1, Tensor::<1>::ones([channels], &x.device()) * 1.7);
    let (y, statistics) = if kernels {
        let norm = BatchNorm {
            weight: gamma.clone(),
            bias: beta.clone(),
            epsilon: 1e-5,
            residual: case.residual.then(|| residual.clone()),
            activation: case.activation,
        };
        if case.train {
            let trained = batch_norm_train(x.clone(), norm);
            (trained.output, vec![host(trained.mean), host(trained.variance)])
        } else {
            (batch_norm(x.clone(), norm, mean, variance), Vec::new())
        }
    } else {
        let (y, statistics) = if case.train {
            let trained = module::batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-5);
            (trained.output, vec![host(trained.mean), host(trained.variance)])
        } else {
            (module::batch_norm(x.clone(), gamma.clone(), beta.clone(), mean, variance, 1e-5), Vec::new())
        };
        let y = if case.residual { y + residual.clone() } else { y };
        (case.activation.forward(y), statistics)
    };
    // Not a function of the output: of a gradient linear in it the normalisation leaves nothing.
    let factor = tensors.3.clone() + tensors.0.clone().exp();
    let gradients = (y.clone() * factor).sum().backward();
    let mut all = vec![host(y)];
    all.extend(statistics);
    all.extend([host(x.grad(&gradients).unwrap()), host(gamma.grad(&gradients).unwrap()), host(beta.grad(&gradients).unwrap())]);
    if case.residual {
        all.push(host(residual.grad(&gradients).unwrap()));
    }
    all
}

#[test]
fn batch_norm_agrees_with_burns() {
    NORMALISED.into_iter().for_each(batch_norm_agrees);
}

fn batch_norm_agrees(shape: [usize; 4]) {
    let channels = shape[1];
    for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
        for (residual, train) in [(false, false), (false, true), (true, false), (true, true)] {
            let device = device();
            let tensors =
                (random(shape, &device) * 3.0, random([channels], &device) + 1.0, random([channels], &device), random(shape, &device));
            let case = NormCase { residual, activation, train };
            let pairs = run_norm(&case, &tensors, true).into_iter().zip(run_norm(&case, &tensors, false));
            for (number, (found, expected)) in pairs.enumerate() {
                assert_close(&format!("{shape:?}, {activation:?}, residual {residual}, train {train}: {number}"), &found, &expected, 1e-5);
            }
        }
    }
}

/// Two residual blocks with operations between them that checkpointing computes again. Loss and gradients, as bits.
fn small_network(device: &Device, values: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let tensor =
        |index: usize, shape: [usize; 4]| Tensor::<1>::from_floats(values[index].as_slice(), device).reshape(shape).detach().require_grad();
    let vector = |index: usize| Tensor::<1>::from_floats(values[index].as_slice(), device).require_grad();
    let (x, first, second) = (tensor(0, [4, 3, 9, 9]), tensor(1, [6, 3, 3, 3]), tensor(2, [6, 6, 3, 3]));
    let (gamma, beta) = (vector(3), vector(4));
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let norm = |residual| BatchNorm { weight: gamma.clone(), bias: beta.clone(), epsilon: 1e-5, residual, activation: Activation::Relu };
    // exp and the product are memory bound: under checkpointing they are computed again in the backward pass.
    let a = batch_norm_train(conv2d(x.clone(), first.clone(), None, options()), norm(None)).output;
    let a = (a * 0.1).exp() * 0.5;
    let b = batch_norm_train(conv2d(a.clone(), second.clone(), None, options()), norm(Some(a.clone()))).output;
    let c = batch_norm((b * 0.3).tanh(), norm(None), beta.clone() * 0.0, gamma.clone() * 0.0 + 1.0);
    let loss = c.powf_scalar(2.0).mean();
    let gradients = loss.backward();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    vec![
        bits(host(loss)),
        bits(host(x.grad(&gradients).unwrap())),
        bits(host(first.grad(&gradients).unwrap())),
        bits(host(second.grad(&gradients).unwrap())),
        bits(host(gamma.grad(&gradients).unwrap())),
        bits(host(beta.grad(&gradients).unwrap())),
    ]
}

#[test]
fn gradient_checkpointing_and_repetition_change_no_bit() {
    let plain = Device::flex();
    let sizes = [4 * 3 * 9 * 9, 6 * 3 * 9, 6 * 6 * 9, 6, 6];
    let values: Vec<Vec<f32>> = sizes.iter().map(|&size| host(random([size], &plain))).collect();
    let expected = small_network(&device(), &values);
    assert_eq!(small_network(&device(), &values), expected, "again");
    assert_eq!(small_network(&Device::flex().autodiff().gradient_checkpointing(), &values), expected, "checkpointing");
}

#[test]
fn what_needs_no_gradient_gets_none_and_disturbs_no_other() {
    let device = device();
    let (x, w) = (random([2, 3, 6, 6], &device), random([4, 3, 3, 3], &device).require_grad());
    let norm = || BatchNorm {
        weight: Tensor::ones([4], &device),
        bias: Tensor::zeros([4], &device).require_grad(),
        epsilon: 1e-5,
        residual: None,
        activation: Activation::Relu,
    };
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let run = |x: Tensor<4>| {
        let norm = norm();
        let bias = norm.bias.clone();
        let y = batch_norm_train(conv2d(x.clone(), w.clone(), None, options()), norm).output;
        let gradients = y.powf_scalar(3.0).sum().backward();
        (x.grad(&gradients).is_some(), host(w.grad(&gradients).unwrap()), host(bias.grad(&gradients).unwrap()))
    };
    let (constant, tracked) = (run(x.clone()), run(x.clone().require_grad()));
    assert!(!constant.0 && tracked.0);
    assert_eq!((constant.1, constant.2), (tracked.1, tracked.2));
    // An input from a device without autodiff is a constant too.
    let plain = run(Tensor::from_data(x.into_data(), &Device::flex().autodiff()));
    assert!(!plain.0);
}

#[test]
fn evaluation_does_not_touch_tensors_others_hold() {
    let device = Device::flex();
    let x = random([2, 3, 5, 5], &device);
    let before = host(x.clone());
    let norm = BatchNorm {
        weight: Tensor::ones([3], &device) * 2.0,
        bias: Tensor::ones([3], &device),
        epsilon: 1e-5,
        residual: None,
        activation: Activation::Relu,
    };
    let y = batch_norm(x.clone(), norm, Tensor::zeros([3], &device), Tensor::ones([3], &device));
    assert_eq!(host(x), before);
    assert_ne!(host(y), before);
}

#[test]
fn max_pool_agrees_with_burns() {
    let device = device();
    let pools: [fn(Tensor<4>) -> Tensor<4>; 2] =
        [max_pool_3x3_s2, |x| module::max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]))];
    for size in [[2, 3, 9, 12], [1, 2, 1, 1], [3, 1, 16, 35]] {
        let values = random(size, &device);
        let [found, expected] = pools.map(|pool| {
            let x = values.clone().detach().require_grad();
            let y = pool(x.clone());
            let gradients = (y.clone() * y.clone()).sum().backward();
            [host(y), host(x.grad(&gradients).unwrap())]
        });
        assert_eq!(found, expected, "{size:?}");
    }
}

#[test]
fn subsampling_is_a_slice_between_zeros() {
    let device = device();
    for (size, stride, channels) in
        [([2, 3, 9, 12], 2, 8), ([1, 2, 1, 1], 2, 2), ([3, 16, 32, 32], 2, 32), ([2, 4, 7, 5], 3, 5), ([1, 1, 2, 3], 1, 4)]
    {
        let values = rounded(random(size, &device));
        let slope = rounded(random([size[0], channels, size[2].div_ceil(stride), size[3].div_ceil(stride)], &device));
        let run = |kernel: bool, low: bool| {
            let x = values.clone().detach().require_grad();
            let input = if low { x.clone().cast(DType::BF16) } else { x.clone() };
            let y = if kernel {
                subsample(input, stride, channels)
            } else {
                let step = stride as isize;
                let kept = input.slice(s![.., .., ..;step, ..;step]);
                let [n, c, h, w] = kept.dims();
                let zeros = |count| Tensor::<4>::zeros([n, count, h, w], &device).cast(kept.dtype());
                Tensor::cat(vec![zeros((channels - c) / 2), kept.clone(), zeros(channels - c - (channels - c) / 2)], 1)
            };
            let gradients = (y.clone().cast(DType::F32) * slope.clone()).sum().backward();
            [host(y), host(x.grad(&gradients).unwrap())]
        };
        let expected = run(false, false);
        assert_eq!(run(true, false), expected, "{size:?}, stride {stride}");
        // Nothing is computed, so that nothing is rounded.
        assert_eq!(run(true, true), expected, "{size:?}, stride {stride}, bf16");
    }
}

/// Gradients where tensors are read several times: of the leaf `x`, and through a product that is none.
fn shared_reads(tensors: &[Tensor<4>; 4], kernels: bool, low: bool) -> [Vec<f32>; 3] {
    let [x, first, second] = [0, 1, 2].map(|index| tensors[index].clone().detach().require_grad());
    let device = x.device();
    let conv = |x: Tensor<4>, weight: Tensor<4>| {
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        if kernels { conv2d(x, weight, None, options) } else { module::conv2d(x, weight, None, options) }
    };
    let join = |x: Tensor<4>, residual: Tensor<4>| {
        let (weight, bias) = (Tensor::ones([6], &device), Tensor::zeros([6], &device));
        let (mean, variance) = (Tensor::zeros([6], &device), Tensor::ones([6], &device));
        if kernels {
            let norm = BatchNorm { weight, bias, epsilon: 1e-5, residual: Some(residual), activation: Activation::Identity };
            batch_norm(x, norm, mean, variance)
        } else {
            module::batch_norm(x, weight, bias, mean, variance, 1e-5) + residual
        }
    };
    let input = if low { x.clone().cast(DType::BF16) } else { x.clone() };
    // A leaf (in f32) that two convolutions and a shortcut read.
    let leaf = join(conv(input.clone(), first.clone()) + conv(input.clone(), second.clone()), input);
    // A tensor that is none, and that a shortcut, two convolutions, and an operation of Burn's read.
    let inner = leaf * 0.5;
    let both = conv(inner.clone(), first.clone()) + conv(inner.clone(), second.clone()) + inner.clone() * 0.25;
    let y = join(both, inner);
    let gradients = (y.cast(DType::F32) * tensors[3].clone()).sum().backward();
    [x.grad(&gradients), first.grad(&gradients), second.grad(&gradients)].map(|gradient| host(gradient.unwrap()))
}

#[test]
fn gradients_of_tensors_that_many_read_are_added() {
    let device = device();
    let tensors = [
        random([3, 6, 9, 7], &device),
        random([6, 6, 3, 3], &device) * 0.2,
        random([6, 6, 3, 3], &device) * 0.2,
        random([3, 6, 9, 7], &device),
    ]
    .map(rounded)
    .map(Tensor::detach);
    let expected = shared_reads(&tensors, false, false);
    for (low, tolerance) in [(false, 1e-5), (true, 2e-2)] {
        for (what, (found, expected)) in ["x", "first", "second"].iter().zip(shared_reads(&tensors, true, low).iter().zip(&expected)) {
            assert_close(&format!("{what}, bf16 {low}"), found, expected, tolerance);
        }
    }
}

/// What the sums of gradients rely on: a tensor that is no leaf belongs to one backward pass.
#[test]
fn burn_refuses_a_second_backward_pass_through_a_tensor() {
    let device = device();
    let weight = (random([6, 6, 3, 3], &device) * 0.2).detach().require_grad();
    let x = random([1, 6, 5, 5], &device).detach().require_grad();
    let trunk = x.clone() * 2.0;
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let (left, right) = (conv2d(trunk.clone(), weight.clone(), None, options()), conv2d(trunk, weight, None, options()));
    assert!(x.grad(&left.sum().backward()).is_some());
    assert!(catch_unwind(AssertUnwindSafe(|| right.sum().backward())).is_err(), "else notes of the first pass would be read in the second");
    // Other passes go on.
    let y = conv2d(x.clone() * 1.0, random([2, 6, 3, 3], &device), None, options());
    assert!(x.grad(&y.sum().backward()).is_some());
}

#[test]
fn linear_layers_agree_with_burns() {
    let device = device();
    // Many weights and few rows, which are joined, and the other ways.
    for (n, inputs, outputs) in [(64, 512, 100), (1, 2048, 1000), (7, 5, 3), (300, 64, 10), (2, 1, 1)] {
        let tensors = [random([n, inputs], &device), random([outputs, inputs], &device)];
        let (b, slope) = (random([outputs], &device), random([n, outputs], &device));
        let run = |kernel: bool, biased: bool| {
            let [x, w] = tensors.clone().map(|tensor| tensor.detach().require_grad());
            let b = b.clone().detach().require_grad();
            let y = if kernel {
                linear(x.clone(), w.clone(), biased.then(|| b.clone()))
            } else {
                let y = x.clone().matmul(w.clone().transpose());
                if biased { y + b.clone().unsqueeze() } else { y }
            };
            let gradients = (y.clone() * slope.clone()).sum().backward();
            let mut all = vec![host(y), host(x.grad(&gradients).unwrap()), host(w.grad(&gradients).unwrap())];
            all.extend(b.grad(&gradients).map(host));
            all
        };
        for biased in [false, true] {
            let pairs = run(true, biased).into_iter().zip(run(false, biased));
            assert_eq!(pairs.len(), if biased { 4 } else { 3 });
            for (number, (found, expected)) in pairs.enumerate() {
                assert_close(&format!("{n}x{inputs} to {outputs}, bias {biased}: {number}"), &found, &expected, 1e-5);
            }
        }
    }
}

#[test]
#[should_panic(expected = "more than any memory holds")]
fn channels_that_no_memory_holds_are_refused() {
    // 2 × 2^63 wraps to 0.
    subsample(Tensor::zeros([2, 1, 1, 1], &Device::flex()), 1, 1 << 63);
}
