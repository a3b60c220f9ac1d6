//! The kernels of bf16 against the same plain twin: its products are exact there, so that beside the order of the sums only the results'
//! rounding differs.

use std::io::Write;

use super::tests::*;
use super::*;
use crate::Activation;

/// Whether this machine has what is tested; says so, past the harness, if not.
fn supported() -> bool {
    if !supports_bf16() {
        let _ = writeln!(std::io::stderr(), "skipped: this processor does not multiply bf16");
    }
    supports_bf16()
}

#[test]
fn convolutions_of_random_shapes() {
    let mut random = Random(11);
    for case in 0..300 {
        let (spec, images, size) = any_convolution(&mut random);
        if !supported() {
            return;
        }
        if case % 3 == 0 {
            check_convolution_as::<bf16, f32>(spec, images, size, &mut random);
        } else {
            check_convolution_as::<bf16, bf16>(spec, images, size, &mut random);
        }
    }
}

#[test]
fn convolutions_on_all_widths() {
    if !supported() {
        return;
    }
    let mut random = Random(12);
    for width in 1..50 {
        let padding = Padding::Zeros(0);
        let spec = ConvSpec { inputs: 33, outputs: 49, kernel: [1, 1], stride: 1 + width % 2, dilation: 1, groups: 1, padding };
        check_convolution_as::<bf16, bf16>(spec, 2, [1 + width % 3, width], &mut random);
        let spec = ConvSpec { kernel: [3, 3], padding: Padding::Same, inputs: 9, ..spec };
        check_convolution_as::<bf16, bf16>(spec, 1, [1 + width % 4, width], &mut random);
        // Planar maps: taps side by side are multiplied together, and a kernel of odd width has one too few.
        for (inputs, kernel, stride) in [(3, 7, 2), (1, 5, 1), (4, 3, 2), (2, 2, 2), (3, 3, 1)] {
            let spec = ConvSpec { inputs, kernel: [kernel; 2], stride, ..spec };
            check_convolution_as::<bf16, bf16>(spec, 2, [1 + width % 5, width], &mut random);
        }
    }
}

/// More weights than a cache holds.
#[test]
fn convolutions_with_many_channels() {
    if !supported() {
        return;
    }
    let mut random = Random(14);
    for (inputs, outputs, kernel, size) in [
        (600, 40, 3, [5, 7]),
        (1301, 33, 3, [3, 4]),
        (3000, 24, 1, [4, 9]),
        (3, 64, 7, [30, 61]),
        (64, 64, 3, [9, 30]),
        (256, 256, 3, [7, 7]),
    ] {
        let spec = ConvSpec { inputs, outputs, kernel: [kernel; 2], stride: 1, dilation: 1, groups: 1, padding: Padding::Same };
        check_convolution_as::<bf16, bf16>(spec, 2, size, &mut random);
    }
}

/// What is between the two is not rounded.
#[test]
fn expansions_of_random_shapes() {
    if !supported() {
        return;
    }
    let mut random = Random(18);
    for case in 0..60 {
        let (inputs, channels) = (random.between(5, 40), random.between(5, 90));
        let dense = ConvSpec { inputs, outputs: channels, kernel: [1, 1], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) };
        let kernel = [3, 5][random.between(0, 1)];
        let spec = ConvSpec {
            inputs: channels,
            kernel: [kernel; 2],
            stride: random.between(1, 2),
            groups: channels,
            padding: if case % 2 == 0 { Padding::Same } else { Padding::Zeros(random.between(0, kernel - 1)) },
            ..dense
        };
        let size =
            if case % 8 == 0 { [random.between(20, 60), random.between(100, 160)] } else { [random.between(1, 20), random.between(1, 20)] };
        let Some((result, _)) = spec.plan(size) else { continue };
        let images = random.between(1, 2);
        let x = exact::<bf16>(random.values(images * inputs * size[0] * size[1]));
        let weights = [exact::<bf16>(random.values(dense.weights())), random.values(spec.weights())];
        let biases = [random.values(channels), random.values(channels)];
        let activations = [random.activation(), random.activation()];
        let after = |activation: Activation, values: Vec<f64>| values.into_iter().map(move |value| apply(activation, value));
        let between = after(activations[0], convolve(&dense, images, size, &x, &weights[0], &biases[0])).map(|value| value as f32);
        let sums = convolve(&spec, images, size, &between.collect::<Vec<f32>>(), &weights[1], &biases[1]);
        let scale = sums.iter().fold(0f64, |most, x| most.max(x.abs()));
        let expected: Vec<f64> = after(activations[1], sums).collect();
        let most = expected.iter().fold(1e-30f64, |most, x| most.max(x.abs()));

        let convs = [Conv::<bf16>::new(dense, &weights[0], &biases[0]), Conv::new(spec, &weights[1], &biases[1])];
        let (map, output) = (Map::new(inputs, size, random.border()), Map::new(channels, result, random.border()));
        let x: Buffer<bf16> = laid_out_as(&map, images, &x);
        let mut found: Buffer<bf16> = unwritten_as(&output, images);
        assert!(expands(&convs[0], &convs[1]));
        let to = ViewMut { map: &output, values: &mut found };
        expand_depthwise(images, [&convs[0], &convs[1]], activations, View { map: &map, values: &x }, to);
        let what = format!("{dense:?} {spec:?} on {images} of {size:?}");
        assert_rounded::<bf16>(&what, &output.to_nchw(images, &found), &expected, 3e-6 * (scale / most).max(1.0));
        assert_clean(&what, &output, images, &found);
    }
}

/// Pools, gates and picked pixels, each with the same on f32, which has a plain twin: the means differ by their rounding, the rest not.
#[test]
fn pools_are_those_of_f32_rounded() {
    let mut random = Random(15);
    for _ in 0..40 {
        let (images, channels, size) = (random.between(1, 3), random.between(1, 40), [random.between(2, 20), random.between(2, 20)]);
        let map = Map::new(channels, size, random.border());
        let x = exact::<bf16>(random.values(images * channels * size[0] * size[1]));
        let (wide, narrow): (Buffer<f32>, Buffer<bf16>) = (laid_out_as(&map, images, &x), laid_out_as(&map, images, &x));
        let (wide, narrow) = (View { map: &map, values: &wide }, View { map: &map, values: &narrow });
        let rounded = |values: &[f32]| exact::<bf16>(values.to_vec());

        let half = Map::new(channels, size.map(|size| size.div_ceil(2)), random.border());
        let (mut expected, mut found): (Buffer<f32>, Buffer<bf16>) = (unwritten_as(&half, images), unwritten_as(&half, images));
        max_pool(images, [3, 2, 1], wide, ViewMut { map: &half, values: &mut expected });
        max_pool(images, [3, 2, 1], narrow, ViewMut { map: &half, values: &mut found });
        assert_eq!(half.to_nchw(images, &found), half.to_nchw(images, &expected));
        assert_clean("maximum", &half, images, &found);
        average_pool(images, [2, 2], wide, ViewMut { map: &half, values: &mut expected });
        average_pool(images, [2, 2], narrow, ViewMut { map: &half, values: &mut found });
        assert_eq!(half.to_nchw(images, &found), rounded(&half.to_nchw(images, &expected)));

        let pooled = Map::new(channels, [1, images], Border::default());
        let (mut expected, mut found): (Buffer<f32>, Buffer<f32>) = (unwritten_as(&pooled, 1), unwritten_as(&pooled, 1));
        global_average_pool(images, wide, ViewMut { map: &pooled, values: &mut expected });
        global_average_pool(images, narrow, ViewMut { map: &pooled, values: &mut found });
        assert_eq!(found[..], expected[..]);

        let shortcut = exact::<bf16>(random.values(x.len()));
        let (more, other): (Buffer<f32>, Buffer<bf16>) = (laid_out_as(&map, images, &shortcut), laid_out_as(&map, images, &shortcut));
        let (activation, gates) = (random.activation(), View { map: &pooled, values: &found });
        let output = Map::new(channels, size, random.border());
        let (mut expected, mut found): (Buffer<f32>, Buffer<bf16>) = (unwritten_as(&output, images), unwritten_as(&output, images));
        let epilogue = Epilogue { residual: Some(View { map: &map, values: &more }), activation };
        scale(images, wide, gates, epilogue, ViewMut { map: &output, values: &mut expected });
        let epilogue = Epilogue { residual: Some(View { map: &map, values: &other }), activation };
        scale(images, narrow, gates, epilogue, ViewMut { map: &output, values: &mut found });
        assert_eq!(output.to_nchw(images, &found), rounded(&output.to_nchw(images, &expected)));
        assert_clean("scale", &output, images, &found);

        let before = random.between(0, 9);
        let picked = Map::new(before + channels + random.between(0, 9), half_of(size), random.border());
        let (mut expected, mut found): (Buffer<f32>, Buffer<bf16>) = (unwritten_as(&picked, images), unwritten_as(&picked, images));
        subsample(images, 2, before, wide, ViewMut { map: &picked, values: &mut expected });
        subsample(images, 2, before, narrow, ViewMut { map: &picked, values: &mut found });
        assert_eq!(picked.to_nchw(images, &found), picked.to_nchw(images, &expected));
    }
}

fn half_of(size: [usize; 2]) -> [usize; 2] {
    size.map(|size| size.div_ceil(2))
}

/// Bits near every kind of tie, and of every kind.
fn bits(random: &mut Random) -> f32 {
    let high = (random.next() as u32) << 16;
    let low = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, random.next() as u32 & 0xffff][random.between(0, 6)];
    f32::from_bits(high | low)
}

#[test]
fn pictures_are_rounded_to_the_nearest() {
    let mut random = Random(16);
    let mut values: Vec<f32> = (0..100_003).map(|_| bits(&mut random)).collect();
    values.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, f32::from_bits(0x7f80_0001)]);
    let mut found = Buffer::<bf16>::zeros(values.len());
    <bf16 as element::Stored>::round(&values, &mut found);
    for (value, found) in values.into_iter().zip(found.iter()) {
        assert_eq!(found.to_bits(), bf16::from_f32(value).to_bits(), "{value:e} {:x}", value.to_bits());
    }
}

/// The instruction that rounds sums takes denormal numbers for zero; all others go to the nearest.
#[test]
fn sums_are_rounded_to_the_nearest() {
    if !supported() {
        return;
    }
    let mut random = Random(17);
    let bias: Vec<f32> = (0..4096).map(|_| bits(&mut random)).collect();
    let spec = ConvSpec { inputs: 5, outputs: bias.len(), kernel: [1, 1], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) };
    let conv = Conv::<bf16>::new(spec, &vec![0.0; spec.weights()], &bias);
    let (map, to) = (Map::new(5, [1, 1], Border::default()), Map::new(bias.len(), [1, 1], Border::default()));
    let (x, mut found): (Buffer<bf16>, Buffer<bf16>) = (laid_out_as(&map, 1, &[1.0; 5]), unwritten_as(&to, 1));
    conv.run(1, View { map: &map, values: &x }, ViewMut { map: &to, values: &mut found }, Activation::Identity.into());
    for (&value, found) in bias.iter().zip(found.iter()) {
        let expected = if value.is_subnormal() { bf16::from_f32(0.0) } else { bf16::from_f32(value) };
        let same = found.to_f32() == expected.to_f32() || (found.is_nan() && expected.is_nan());
        assert!(same, "{value:e} {:x} became {found:e}", value.to_bits());
    }
}

#[test]
fn activations_keep_nan() {
    if !supported() {
        return;
    }
    let spec = ConvSpec { inputs: 5, outputs: 3, kernel: [1, 1], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) };
    let conv = Conv::<bf16>::new(spec, &[1.0; 15], &[f32::NAN, -9.0, 9.0]);
    let (map, to) = (Map::new(5, [1, 1], Border::default()), Map::new(3, [1, 1], Border::default()));
    for (activation, bounds) in [(Activation::Relu, [0.0, 9.0]), (Activation::Relu6, [0.0, 6.0]), (Activation::Identity, [-9.0, 9.0])] {
        let (input, mut output): (Buffer<bf16>, Buffer<bf16>) = (laid_out_as(&map, 1, &[0.0; 5]), unwritten_as(&to, 1));
        conv.run(1, View { map: &map, values: &input }, ViewMut { map: &to, values: &mut output }, activation.into());
        let found = to.to_nchw(1, &output);
        assert!(found[0].is_nan() && found[1..] == bounds, "{activation:?}: {found:?}");
    }
}
