//! The kernels on bf16 tensors, with the machine's products of pairs and without, against plain twins in f64.

use half::bf16;

use super::conv::{self, ConvShape};
use super::norm::{Norm, NormShape};
use super::operand::NO_PAIRS;
use super::tests::{Random, assert_close, products};
use crate::Activation;

/// Rounded by half the distance of neighbours, a 256th of a value at most, where the sum in f32 is off by `tolerance` of the largest one.
fn assert_rounded(what: &str, found: &[bf16], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30f64, |scale, x| scale.max(x.abs()));
    for (index, (found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (found.to_f64() - expected).abs();
        assert!(error <= expected.abs() / 256.0 + tolerance * scale, "{what}: value {index} is {found}, not {expected}");
    }
}

/// A convolution of bf16 with f32 weights, with the machine's products of pairs and without.
pub(super) fn check_bf16_convolution(shape: &ConvShape) {
    let random = &mut Random(shape.input_len() as u64);
    let what = format!("bf16 {shape:?}");
    let weights = shape.outputs * shape.inputs / shape.groups * shape.kernel[0] * shape.kernel[1];
    let mut round = |len: usize| random.values(len).into_iter().map(bf16::from_f32).collect::<Vec<bf16>>();
    let (input, slope, weight) = (round(shape.input_len()), round(shape.output_len()), round(weights));
    let weight: Vec<f32> = weight.into_iter().map(bf16::to_f32).collect();
    let bias = random.values(shape.outputs);
    let area = shape.result[0] * shape.result[1];
    let mut output: Vec<f64> = (0..shape.output_len()).map(|i| f64::from(bias[i / area % shape.outputs])).collect();
    let (mut dx, mut dw) = (vec![0f64; input.len()], vec![0f64; weight.len()]);
    products(shape, |o, i, w| {
        output[o] += input[i].to_f64() * f64::from(weight[w]);
        dx[i] += slope[o].to_f64() * f64::from(weight[w]);
        dw[w] += slope[o].to_f64() * input[i].to_f64();
    });
    for no_pairs in [false, true] {
        NO_PAIRS.set(no_pairs);
        let what = format!("{what}, pairs {}", !no_pairs);
        assert_rounded(&format!("output of {what}"), &conv::forward(shape, &input, &weight, Some(&bias)), &output, 6e-6);
        assert_rounded(&format!("input gradient of {what}"), &conv::input_gradient(shape, &slope, &weight), &dx, 6e-6);
        assert_close(&format!("weight gradient of {what}"), &conv::weight_gradient(shape, &input, &slope), &dw, 6e-6);
        let mut db = vec![0f64; shape.outputs];
        slope.iter().enumerate().for_each(|(i, slope)| db[i / area % shape.outputs] += slope.to_f64());
        assert_close(&format!("bias gradient of {what}"), &conv::bias_gradient(shape, &slope), &db, 2e-6);
    }
    NO_PAIRS.set(false);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (size, before, dilation) = ([17, 18], [1, 1], [1, 1]);
    let (images, inputs, outputs, kernel, stride, groups) = (5, 40, 24, [3, 3], [1, 1], 1);
    let shape = ConvShape { images, inputs, outputs, size, kernel, stride, before, dilation, groups, result: size, dense: false };
    let winograd = ConvShape { inputs: 48, outputs: 32, ..shape };
    let strided = ConvShape { stride: [2, 2], result: [9, 9], ..shape };
    let pointwise = ConvShape { kernel: [1, 1], before: [0, 0], inputs: 500, ..shape };
    let joined = ConvShape { images: 4, inputs: 160, outputs: 90, size: [3, 3], stride: [2, 2], result: [2, 2], ..shape };
    for shape in [shape, winograd, strided, pointwise, joined, ConvShape { inputs: 24, groups: 24, ..strided }] {
        let random = &mut Random(11);
        let mut round = |len: usize| random.values(len).into_iter().map(bf16::from_f32).collect::<Vec<bf16>>();
        let (input, slope) = (round(shape.input_len()), round(shape.output_len()));
        let weights = shape.outputs * shape.inputs / shape.groups * shape.kernel[0] * shape.kernel[1];
        let (weight, parameters) = (random.values(weights), random.values(shape.outputs));
        let norm = NormShape { images: shape.images, channels: shape.outputs, area: shape.result[0] * shape.result[1] };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let output = conv::forward(&shape, &input, &weight, Some(&parameters));
                let norm = Norm { shape: norm, gamma: &parameters, beta: &parameters, epsilon: 1e-5, activation: Activation::Relu };
                let trained = norm.train(&output, None);
                let (dx, dw) = (conv::input_gradient(&shape, &slope, &weight), conv::weight_gradient(&shape, &input, &slope));
                let low = [&output[..], &trained.output, &dx].concat().into_iter().map(bf16::to_bits).collect::<Vec<u16>>();
                (low, [&trained.mean[..], &trained.variance, &dw].concat().into_iter().map(f32::to_bits).collect::<Vec<u32>>())
            })
        };
        let one = run(1);
        for threads in [1, 2, 3, 7] {
            assert!(run(threads) == one, "{threads} threads, {shape:?}");
        }
    }
}

#[test]
fn nan_and_infinity_are_not_swallowed() {
    let (kernel, stride, dilation, groups) = ([1, 1], [1, 1], [1, 1], 1);
    let size = [4, 5];
    let shape =
        ConvShape { images: 2, inputs: 3, outputs: 9, size, kernel, stride, before: [0, 0], dilation, groups, result: size, dense: false };
    let mut input = vec![bf16::ONE; shape.input_len()];
    (input[0], input[22]) = (bf16::NAN, bf16::INFINITY);
    for no_pairs in [false, true] {
        NO_PAIRS.set(no_pairs);
        let output = conv::forward(&shape, &input, &[1.0; 27], None);
        for (index, value) in output.iter().enumerate() {
            // Pixel 0 of the first image saw the first, pixel 2 the second.
            match index {
                0..180 if index % 20 == 0 => assert!(value.is_nan(), "{index}: {value}"),
                0..180 if index % 20 == 2 => assert_eq!(*value, bf16::INFINITY, "{index}"),
                _ => assert_eq!(value.to_f32(), 3.0, "{index}"),
            }
        }
    }
    NO_PAIRS.set(false);
}
