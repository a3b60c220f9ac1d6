//! Each kernel against a plain twin in f64, on random shapes.

use super::buffer::{Output, Shared};
use super::conv::{self, ConvShape};
use super::norm::{Backward, Norm, NormShape};
use super::tests_bf16::check_bf16_convolution;
use crate::Activation;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    pub(super) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }
}

/// Largest difference over the largest expected value.
pub(super) fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30f64, |scale, x| scale.max(x.abs()));
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs() / scale;
        assert!(error <= tolerance, "{what}: value {index} is {found}, not {expected}");
    }
}

/// Calls `visit(output index, input index, weight index)` for each product of the convolution.
pub(super) fn products(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (channels, rows) = (shape.inputs / shape.groups, shape.outputs / shape.groups);
    for n in 0..shape.images {
        for o in 0..shape.outputs {
            for y in 0..shape.result[0] {
                for x in 0..shape.result[1] {
                    for c in 0..channels {
                        for i in 0..shape.kernel[0] {
                            for j in 0..shape.kernel[1] {
                                let row = (y * shape.stride[0] + i * shape.dilation[0]).wrapping_sub(shape.before[0]);
                                let column = (x * shape.stride[1] + j * shape.dilation[1]).wrapping_sub(shape.before[1]);
                                if row < shape.size[0] && column < shape.size[1] {
                                    let input = n * shape.inputs + o / rows * channels + c;
                                    visit(
                                        ((n * shape.outputs + o) * shape.result[0] + y) * shape.result[1] + x,
                                        (input * shape.size[0] + row) * shape.size[1] + column,
                                        ((o * channels + c) * shape.kernel[0] + i) * shape.kernel[1] + j,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Errors of the direct sums, and those of Winograd's tiles of 2 and 4, whose products cancel.
fn tolerance(tile: Option<usize>) -> f64 {
    match tile {
        None => 2e-6,
        Some(2) => 4e-6,
        Some(_) => 6e-6,
    }
}

fn check_convolution(shape: &ConvShape, random: &mut Random) {
    let [forward, backward] = shape.winograd().map(tolerance);
    let what = format!("{shape:?}");
    let weights = shape.outputs * shape.inputs / shape.groups * shape.kernel[0] * shape.kernel[1];
    let (input, weight) = (random.values(shape.input_len()), random.values(weights));
    let (bias, slope) = (random.values(shape.outputs), random.values(shape.output_len()));
    let area = shape.result[0] * shape.result[1];
    let mut output: Vec<f64> = (0..shape.output_len()).map(|i| f64::from(bias[i / area % shape.outputs])).collect();
    let (mut dx, mut dw) = (vec![0f64; input.len()], vec![0f64; weight.len()]);
    products(shape, |o, i, w| {
        output[o] += f64::from(input[i]) * f64::from(weight[w]);
        dx[i] += f64::from(slope[o]) * f64::from(weight[w]);
        dw[w] += f64::from(slope[o]) * f64::from(input[i]);
    });
    assert_close(&format!("output of {what}"), &conv::forward(shape, &input, &weight, Some(&bias)), &output, forward);
    assert_close(&format!("input gradient of {what}"), &conv::input_gradient(shape, &slope, &weight), &dx, backward);
    assert_close(&format!("weight gradient of {what}"), &conv::weight_gradient(shape, &input, &slope), &dw, forward.max(5e-6));
    let mut db = vec![0f64; shape.outputs];
    slope.iter().enumerate().for_each(|(i, &slope)| db[i / area % shape.outputs] += f64::from(slope));
    assert_close(&format!("bias gradient of {what}"), &conv::bias_gradient(shape, &slope), &db, 2e-6);
    let without: Vec<f64> = output.iter().enumerate().map(|(i, x)| x - f64::from(bias[i / area % shape.outputs])).collect();
    assert_close(&format!("output without bias of {what}"), &conv::forward(shape, &input, &weight, None), &without, forward);
}

/// The result's size, if the kernel fits.
fn fit(mut shape: ConvShape, after: [usize; 2]) -> Option<ConvShape> {
    for (axis, after) in after.into_iter().enumerate() {
        let reach = shape.dilation[axis] * (shape.kernel[axis] - 1) + 1;
        shape.result[axis] = (shape.size[axis] + shape.before[axis] + after).checked_sub(reach)? / shape.stride[axis] + 1;
    }
    Some(shape)
}

#[test]
fn convolutions_of_random_shapes_agree_with_plain_loops() {
    let random = &mut Random(1);
    let mut checked = 0;
    while checked < 250 {
        let groups = [1, 1, 1, 2, 3, 5][random.between(0, 5)];
        let depthwise = random.between(0, 3) == 0;
        let channels = if depthwise { 1 } else { random.between(1, 21) };
        let rows = if depthwise { 1 } else { random.between(1, 19) };
        let groups = if depthwise { random.between(1, 19) } else { groups };
        let mut pair = |low, high| [random.between(low, high), random.between(low, high)];
        let (size, kernel, stride) = (pair(1, 19), pair(1, 5), pair(1, 3));
        let (before, after, dilation) = (pair(0, 4), pair(0, 4), pair(1, 2));
        let images = random.between(1, 9);
        let (inputs, outputs) = (groups * channels, groups * rows);
        let shape = ConvShape { images, inputs, outputs, size, kernel, stride, before, dilation, groups, result: [0; 2], dense: false };
        if let Some(shape) = fit(shape, after) {
            check_convolution(&shape, random);
            check_bf16_convolution(&shape);
            checked += 1;
        }
    }
}

#[test]
fn winograd_convolutions_of_random_shapes_agree_with_plain_loops() {
    let random = &mut Random(7);
    let mut tiles = [0; 5];
    while tiles[2].min(tiles[4]) < 20 {
        let mut pair = |low, high| [random.between(low, high), random.between(low, high)];
        let ([inputs, outputs], size, before, after) = (pair(1, 5).map(|blocks| 16 * blocks), pair(1, 23), pair(0, 2), pair(0, 2));
        let (kernel, stride, dilation) = ([3; 2], [1; 2], [1; 2]);
        let images = random.between(1, 5);
        let shape = ConvShape { images, inputs, outputs, size, kernel, stride, before, dilation, groups: 1, result: [0; 2], dense: false };
        // With zeros after the map that its gradient does not reach, too.
        if let Some(shape) = fit(shape, after)
            && shape.winograd() != [None; 2]
        {
            check_convolution(&shape, random);
            check_bf16_convolution(&shape);
            shape.winograd().into_iter().flatten().for_each(|tile| tiles[tile] += 1);
        }
    }
}

/// A convolution of square maps and kernel, padded to keep the size at stride 1.
fn base(inputs: usize, outputs: usize, size: usize, kernel: usize, stride: usize, images: usize) -> ConvShape {
    ConvShape {
        images,
        inputs,
        outputs,
        size: [size; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        before: [kernel / 2; 2],
        dilation: [1; 2],
        groups: 1,
        result: [0; 2],
        dense: false,
    }
}

/// The kinds of the networks: several passes over channels, several panels and tasks, blocks of positions that end inside an image.
#[test]
fn convolutions_of_the_networks_agree_with_plain_loops() {
    let random = &mut Random(2);
    let shapes = [
        base(3, 64, 45, 7, 2, 2),
        base(64, 64, 14, 3, 1, 3),
        base(64, 48, 28, 3, 2, 2),
        base(200, 72, 7, 1, 1, 5),
        base(96, 130, 14, 1, 2, 2),
        base(16, 16, 32, 3, 1, 9),
        base(70, 70, 7, 3, 1, 8),
        base(144, 160, 7, 3, 1, 2),
        base(160, 144, 2, 3, 1, 40),
        base(128, 144, 16, 3, 1, 9),
        base(40, 24, 1, 3, 1, 9),
        base(24, 200, 2, 3, 2, 40),
        base(33, 40, 23, 3, 2, 3),
        ConvShape { groups: 8, ..base(32, 32, 14, 3, 1, 2) },
        ConvShape { groups: 20, ..base(20, 20, 66, 3, 2, 9) },
        ConvShape { groups: 37, ..base(37, 37, 7, 5, 1, 6) },
        ConvShape { groups: 24, ..base(24, 24, 37, 5, 2, 3) },
        ConvShape { dilation: [4; 2], before: [4; 2], ..base(24, 20, 15, 3, 1, 2) },
    ];
    for shape in shapes {
        let after = shape.before;
        let shape = fit(shape, after).expect("fits");
        check_convolution(&shape, random);
        check_bf16_convolution(&shape);
    }
}

/// Positions joined: of maps of one pixel and of more, in whole vectors and not, with rows and depths that are no multiples of a tile's, with
/// taps that see nothing.
#[test]
fn convolutions_of_few_positions_agree_with_plain_loops() {
    let random = &mut Random(8);
    let shapes = [
        base(230, 70, 1, 1, 1, 64),
        base(70, 530, 1, 1, 1, 37),
        base(96, 200, 2, 1, 1, 64),
        base(200, 136, 4, 1, 1, 20),
        base(80, 210, 7, 1, 1, 8),
        base(130, 150, 4, 1, 2, 9),
        base(48, 70, 8, 3, 2, 11),
        base(40, 33, 7, 3, 2, 8),
        base(20, 56, 3, 5, 1, 7),
        ConvShape { dilation: [2; 2], before: [2; 2], ..base(36, 44, 6, 3, 1, 4) },
        base(70, 40, 1, 3, 1, 16),
        base(30, 50, 2, 3, 2, 19),
    ];
    for shape in shapes {
        let shape = fit(shape, shape.before).expect("fits");
        assert!(super::joined::fits(&shape));
        check_convolution(&shape, random);
        check_bf16_convolution(&shape);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let random = &mut Random(3);
    let shape = ConvShape {
        images: 5,
        inputs: 40,
        outputs: 24,
        size: [17, 18],
        kernel: [3, 3],
        stride: [1, 1],
        before: [1, 1],
        dilation: [1, 1],
        groups: 1,
        result: [17, 18],
        dense: false,
    };
    let strided = ConvShape { stride: [2, 2], result: [9, 9], ..shape };
    let (few, many) = (ConvShape { inputs: 48, outputs: 32, ..shape }, ConvShape { inputs: 144, outputs: 128, ..shape });
    assert!([few, many].iter().all(|shape| shape.winograd() == [Some(4); 2]));
    let joined = ConvShape { images: 40, inputs: 100, outputs: 90, size: [5, 6], result: [3, 3], stride: [2, 2], ..shape };
    for shape in
        [shape, few, many, strided, joined, ConvShape { inputs: 24, groups: 24, ..shape }, ConvShape { inputs: 24, groups: 24, ..strided }]
    {
        let weights = shape.outputs * shape.inputs / shape.groups * 9;
        let (input, weight, slope) = (random.values(shape.input_len()), random.values(weights), random.values(shape.output_len()));
        let norm = NormShape { images: shape.images, channels: shape.outputs, area: shape.result[0] * shape.result[1] };
        let parameters = random.values(shape.outputs);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let output = conv::forward(&shape, &input, &weight, Some(&parameters));
                let norm = Norm { shape: norm, gamma: &parameters, beta: &parameters, epsilon: 1e-5, activation: Activation::Relu };
                let trained = norm.train(&output, None);
                let (mean, variance) = (&trained.mean, &trained.variance);
                let backward = Backward { norm, input: &output, mean, variance, output: None, batch_statistics: true };
                let mut slopes = slope.clone();
                // SAFETY: the whole buffer.
                let gradients = unsafe { backward.run(Shared::from_slice(&mut slopes), None) };
                let (dx, dw) = (conv::input_gradient(&shape, &slope, &weight), conv::weight_gradient(&shape, &input, &slope));
                [&output[..], &trained.output, mean, variance, &slopes, &gradients.gamma, &gradients.beta, &dx, &dw]
                    .concat()
                    .into_iter()
                    .map(f32::to_bits)
                    .collect::<Vec<_>>()
            })
        };
        let one = run(1);
        for threads in [1, 2, 3, 7] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
    }
}

fn passes(activation: Activation, x: f64) -> bool {
    match activation {
        Activation::Identity => true,
        Activation::Relu => x > 0.0,
        Activation::Relu6 => x > 0.0 && x < 6.0,
    }
}

#[test]
fn normalisations_of_random_shapes_agree_with_plain_loops() {
    let random = &mut Random(4);
    for case in 0..120 {
        // Small planes are swept in blocks of images.
        let (images, area) =
            if case % 4 == 3 { (random.between(30, 80), random.between(1, 6)) } else { (random.between(1, 9), random.between(1, 130)) };
        let shape = NormShape { images, channels: random.between(1, if case % 8 == 7 { 150 } else { 21 }), area };
        let NormShape { images, channels, area } = shape;
        let (len, count) = (images * channels * area, (images * area) as f64);
        let activation = [Activation::Identity, Activation::Relu, Activation::Relu6][case % 3];
        let (with_residual, batch) = (case % 2 == 0, case % 5 != 0);
        let wide = |values: Vec<f32>| values.into_iter().map(|x| 4.0 * x + 0.5).collect::<Vec<f32>>();
        let (x, slope, residual) = (wide(random.values(len)), random.values(len), random.values(len));
        let (gamma, beta) = (wide(random.values(channels)), wide(random.values(channels)));
        let (given_mean, given_variance) =
            (random.values(channels), random.values(channels).iter().map(|x| x.abs() + 0.1).collect::<Vec<_>>());
        let epsilon = 1e-3;
        let norm = Norm { shape, gamma: &gamma, beta: &beta, epsilon, activation };
        let added = with_residual.then_some(&residual[..]);

        let channel_of = |i: usize| i / area % channels;
        let mean_of = |values: &dyn Fn(usize) -> f64| {
            let mut sums = vec![0f64; channels];
            (0..len).for_each(|i| sums[channel_of(i)] += values(i));
            sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
        };
        let (mean, variance) = if batch {
            let mean = mean_of(&|i| f64::from(x[i]));
            let variance = mean_of(&|i| (f64::from(x[i]) - mean[channel_of(i)]).powi(2));
            (mean, variance)
        } else {
            (given_mean.iter().map(|&x| f64::from(x)).collect(), given_variance.iter().map(|&x| f64::from(x)).collect())
        };
        let hat = |i: usize| (f64::from(x[i]) - mean[channel_of(i)]) / (variance[channel_of(i)] + epsilon).sqrt();
        let before = |i: usize| {
            let c = channel_of(i);
            f64::from(gamma[c]) * hat(i) + f64::from(beta[c]) + if with_residual { f64::from(residual[i]) } else { 0.0 }
        };
        let expected: Vec<f64> = (0..len).map(|i| activate(activation, before(i))).collect();
        let (output, found_mean, found_variance) = if batch {
            let trained = norm.train(&x, added);
            (trained.output, trained.mean, trained.variance)
        } else {
            let mut output = Output::new(len);
            let mut in_place = x.clone();
            // SAFETY: whole buffers of the shape's length.
            let output = unsafe {
                norm.fixed(Some(&x), added, &given_mean, &given_variance, output.pointer());
                norm.fixed(None, added, &given_mean, &given_variance, Shared::from_slice(&mut in_place));
                output.finish()
            };
            assert!(output.iter().zip(&in_place).all(|(a, b)| a.to_bits() == b.to_bits()), "in place");
            (output, given_mean, given_variance)
        };
        let what = format!("case {case}: {shape:?} {activation:?}");
        assert_close(&format!("output, {what}"), &output, &expected, 2e-6);
        assert_close(&format!("mean, {what}"), &found_mean, &mean, 1e-6);
        assert_close(&format!("variance, {what}"), &found_variance, &variance, 1e-6);
        // A value on the kink may fall on either side: such cases say nothing.
        if (0..len).any(|i| before(i).abs() < 1e-4 || (before(i) - 6.0).abs() < 1e-4) && activation != Activation::Identity {
            continue;
        }

        let through = |i: usize| if passes(activation, before(i)) { f64::from(slope[i]) } else { 0.0 };
        let (sum, product) = (mean_of(&through), mean_of(&|i| through(i) * hat(i)));
        let centred = |i: usize| if batch { sum[channel_of(i)] + hat(i) * product[channel_of(i)] } else { 0.0 };
        let scale = |i: usize| f64::from(gamma[channel_of(i)]) / (variance[channel_of(i)] + epsilon).sqrt();
        let dx: Vec<f64> = (0..len).map(|i| scale(i) * (through(i) - centred(i))).collect();
        let kept = with_residual && activation != Activation::Identity;
        let backward = Backward {
            norm,
            input: &x,
            mean: &found_mean,
            variance: &found_variance,
            output: kept.then_some(&output[..]),
            batch_statistics: batch,
        };
        let (mut found, mut passed) = (slope.clone(), vec![0f32; len]);
        // SAFETY: whole buffers of the shape's length.
        let gradients = unsafe { backward.run(Shared::from_slice(&mut found), kept.then(|| Shared::from_slice(&mut passed))) };
        // One value in a channel has no gradient but rounding.
        let largest = dx.iter().fold(0f64, |largest, x| largest.max(x.abs()));
        if largest > 1e-3 {
            assert_close(&format!("input gradient, {what}"), &found, &dx, 1e-5);
        }
        assert_close(&format!("γ gradient, {what}"), &gradients.gamma, &product.iter().map(|x| x * count).collect::<Vec<_>>(), 1e-5);
        assert_close(&format!("β gradient, {what}"), &gradients.beta, &sum.iter().map(|x| x * count).collect::<Vec<_>>(), 1e-5);
        if kept {
            assert_close(&format!("residual gradient, {what}"), &passed, &(0..len).map(through).collect::<Vec<_>>(), 0.0);
        }
    }
}

#[test]
fn a_large_mean_does_not_spoil_the_variance() {
    let x: Vec<f32> = (0..4096).map(|i| 1000.0 + (i % 2) as f32).collect();
    let shape = NormShape { images: 4, channels: 1, area: 1024 };
    let trained = Norm { shape, gamma: &[1.0], beta: &[0.0], epsilon: 0.0, activation: Activation::Identity }.train(&x, None);
    assert_close("mean", &trained.mean, &[1000.5], 1e-7);
    assert_close("variance", &trained.variance, &[0.25], 1e-6);
}

#[test]
fn nan_is_not_swallowed() {
    let mut x = vec![1f32; 64];
    x[40] = f32::NAN;
    let shape = NormShape { images: 1, channels: 2, area: 32 };
    for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
        let norm = Norm { shape, gamma: &[1.0, 1.0], beta: &[0.0, 0.0], epsilon: 1e-5, activation };
        let trained = norm.train(&x, None);
        assert!(trained.output[..32].iter().all(|x| x.is_finite()) && trained.output[32..].iter().all(|x| x.is_nan()), "{activation:?}");
        let mut output = x.clone();
        // SAFETY: the whole buffer.
        unsafe { norm.fixed(None, None, &[0.0; 2], &[1.0; 2], Shared::from_slice(&mut output)) };
        assert_eq!(output.iter().filter(|x| x.is_nan()).count(), 1, "{activation:?}");
    }
}
