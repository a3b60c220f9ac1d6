//! Each kernel, with each machine's instructions, against a plain twin: bit by bit.

use super::super::tests::Random;
use super::super::{Border, Buffer, ConvSpec, Map, Padding, View, ViewMut};
use super::*;
use crate::Activation;

fn quantization(random: &mut Random) -> Quantization {
    quantization_of(random, 3.0)
}

/// Of values up to `most`.
fn quantization_of(random: &mut Random, most: f32) -> Quantization {
    let [a, b] = [random.values(1)[0] * most, random.values(1)[0] * most];
    let low = [0.0, a.min(b)][random.between(0, 1)];
    Quantization::covering(low, a.max(b).max(low + 0.1 * most)).expect("a range")
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| (random.next() >> 56) as u8).collect()
}

/// Bytes `[n, c, h, w]` in a map whose border is the zero point; unused lanes hold anything.
fn laid_out(map: &Map, images: usize, values: &[u8], zero: u8) -> Buffer<u8> {
    let mut buffer = Buffer::zeros(map.len(images));
    buffer.fill(0xa5);
    map.fill_border(images, &mut buffer, zero);
    let mut values = values.iter();
    for at in places(map, images) {
        buffer[at] = *values.next().expect("a value for each place");
    }
    buffer
}

/// Where the values `[n, c, h, w]` are.
fn places(map: &Map, images: usize) -> Vec<usize> {
    let mut places = Vec::new();
    for image in 0..images {
        for channel in 0..map.channels {
            for row in 0..map.height {
                for column in 0..map.width {
                    let block = image * map.image() + channel / map.lanes * map.plane();
                    places.push(block + map.at(row as isize, column as isize) + channel % map.lanes);
                }
            }
        }
    }
    places
}

fn picked<T: Copy>(map: &Map, images: usize, values: &[T]) -> Vec<T> {
    places(map, images).into_iter().map(|at| values[at]).collect()
}

/// Bytes of the border that were changed.
fn border_is(map: &Map, images: usize, values: &[u8], zero: u8) -> bool {
    let mut again = values.to_vec();
    map.fill_border(images, &mut again, zero);
    again == values
}

struct Case {
    spec: ConvSpec,
    images: usize,
    size: [usize; 2],
    around: Quantizations,
    activation: Activation,
}

/// The definition, in the order of operations that is documented.
fn convolve(case: &Case, x: &[u8], weight: &[f32], bias: &[f32], shortcut: &[u8]) -> Vec<f32> {
    let Case { spec, images, size: [height, width], around, .. } = case;
    let (size, border) = spec.plan([*height, *width]).expect("a kernel that fits");
    let (channels, rows, taps) = (spec.inputs / spec.groups, spec.outputs / spec.groups, spec.kernel[0] * spec.kernel[1]);
    let zero = i64::from(around.input.zero_point());
    let (unit, output_zero) = around.output.map_or((1.0, 0.0), |q| (f64::from(q.scale()), f64::from(q.zero_point())));
    let mut output = Vec::new();
    for n in 0..*images {
        for o in 0..spec.outputs {
            let kernel = &weight[o * channels * taps..][..channels * taps];
            let most = kernel.iter().fold(0f32, |most, x| most.max(x.abs()));
            let scale = if most > 0.0 { f64::from(most) / 127.0 } else { 1.0 };
            let multiplier = (f64::from(around.input.scale()) * f64::from(scale as f32) / unit) as f32;
            let residual = around.residual.map(|q| ((f64::from(q.scale()) / unit), f64::from(q.zero_point())));
            let shift = output_zero - residual.map_or(0.0, |(scale, zero)| scale * zero);
            let offset = (f64::from(bias[o]) / unit + shift) as f32;
            for y in 0..size[0] {
                for x0 in 0..size[1] {
                    let mut sum = 0i64;
                    for (index, &weight) in kernel.iter().enumerate() {
                        let (c, i, j) = (index / taps, index % taps / spec.kernel[1], index % spec.kernel[1]);
                        let row = (y * spec.stride + i * spec.dilation).wrapping_sub(border.top);
                        let column = (x0 * spec.stride + j * spec.dilation).wrapping_sub(border.left);
                        if row < *height && column < *width {
                            let byte = x[((n * spec.inputs + o / rows * channels + c) * height + row) * width + column];
                            sum += (i64::from(byte) - zero) * (f64::from(weight) / scale).round_ties_even() as i64;
                        }
                    }
                    let mut value = sum as i32 as f32 * multiplier + offset;
                    if let Some((scale, _)) = residual {
                        value += f32::from(shortcut[output.len()]) * scale as f32;
                    }
                    output.push(value);
                }
            }
        }
    }
    output
}

/// What follows: activation and rounding, by other means than the kernels'.
fn rounded(values: &[f32], quantization: Quantization, activation: Activation) -> Vec<u8> {
    let zero = f32::from(quantization.zero_point());
    let six = (f64::from(zero) + 6.0 / f64::from(quantization.scale())) as f32;
    let byte = |&value: &f32| {
        let value = match activation {
            Activation::Identity => value,
            Activation::Relu => value.max(zero),
            Activation::Relu6 => value.clamp(zero, six.max(zero)),
        };
        value.clamp(0.0, 255.0).round_ties_even() as u8
    };
    values.iter().map(byte).collect()
}

fn check(case: &Case, random: &mut Random) {
    let Case { spec, images, size, around, activation } = case;
    let Some((result, _)) = spec.plan(*size) else { return };
    let x = bytes(random, images * spec.inputs * size[0] * size[1]);
    let (mut weight, bias) = (random.values(spec.weights()), random.values(spec.outputs));
    if random.between(0, 9) == 0 {
        // A channel of zeros, and one whose weights are all at the ends.
        let kernel = weight.len() / spec.outputs;
        weight[..kernel].fill(0.0);
        weight[(spec.outputs - 1) * kernel..].iter_mut().for_each(|weight| *weight = weight.signum());
    }
    let pixels = images * spec.outputs * result[0] * result[1];
    let shortcut = bytes(random, if around.residual.is_some() { pixels } else { 0 });
    let expected = convolve(case, &x, &weight, &bias, &shortcut);
    let borders = [random.border(), random.border(), random.border()];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
        let what = format!("{isa:?} {spec:?} on {images} of {size:?} {around:?} {activation:?}");
        let conv = Conv::with_isa(isa, *spec, &weight, &bias, *around, *activation);
        let (planned, border) = conv.plan(*size).expect("it fits");
        assert_eq!(planned, result, "{what}");
        let border = border.max(borders[0]);
        let map = if conv.planar() { Map::planar(spec.inputs, *size, border) } else { Map::bytes(spec.inputs, *size, border) };
        let zero = around.input.zero_point();
        let input = laid_out(&map, *images, &x, zero);
        let (to, residual) = (Map::bytes(spec.outputs, result, borders[1]), Map::bytes(spec.outputs, result, borders[2]));
        let added = around.residual.map(|_| laid_out(&residual, *images, &shortcut, 7));
        let added = added.as_deref().map(|values| View { map: &residual, values });
        let input = View { map: &map, values: &input };
        match around.output {
            Some(quantization) => {
                let mut output = laid_out(&to, *images, &vec![0x5a; pixels], 9);
                conv.run(*images, input, added, ViewMut { map: &to, values: &mut output });
                assert_eq!(picked(&to, *images, &output), rounded(&expected, quantization, *activation), "{what}");
                assert!(border_is(&to, *images, &output, 9), "{what}");
            }
            None => {
                let mut output = Buffer::<f32>::zeros(to.len(*images));
                conv.run_wide(*images, input, added, ViewMut { map: &to, values: &mut output });
                let expected: Vec<f32> = expected
                    .iter()
                    .map(|&value| match activation {
                        Activation::Identity => value,
                        Activation::Relu => value.max(0.0),
                        Activation::Relu6 => value.clamp(0.0, 6.0),
                    })
                    .collect();
                assert_eq!(picked(&to, *images, &output), expected, "{what}");
            }
        }
    }
}

fn case(spec: ConvSpec, images: usize, size: [usize; 2], random: &mut Random) -> Case {
    let residual = (random.between(0, 2) == 0).then(|| quantization(random));
    // As far as the sums of so many products go.
    let spread = ((spec.multiplications() / spec.outputs) as f32).sqrt();
    let output = (random.between(0, 5) > 0).then(|| quantization_of(random, 3.0 * spread));
    let around = Quantizations { input: quantization(random), residual, output };
    Case { spec, images, size, around, activation: random.activation() }
}

#[test]
fn convolutions_of_random_shapes() {
    let mut random = Random(21);
    for _ in 0..250 {
        let (spec, images, size) = super::super::tests::any_convolution(&mut random);
        check(&case(spec, images, size, &mut random), &mut random);
    }
}

#[test]
fn convolutions_on_all_widths() {
    let mut random = Random(22);
    for width in 1..50 {
        let padding = Padding::Zeros(0);
        let spec = ConvSpec { inputs: 33, outputs: 49, kernel: [1, 1], stride: 1 + width % 2, dilation: 1, groups: 1, padding };
        check(&case(spec, 2, [1 + width % 3, width], &mut random), &mut random);
        let spec = ConvSpec { kernel: [3, 3], padding: Padding::Same, inputs: 9, ..spec };
        check(&case(spec, 1, [1 + width % 4, width], &mut random), &mut random);
        // Planar maps: taps side by side are multiplied together.
        for (inputs, kernel, stride) in [(3, 7, 2), (1, 5, 1), (4, 3, 2), (2, 4, 2), (3, 3, 1)] {
            let spec = ConvSpec { inputs, outputs: 20, kernel: [kernel; 2], stride, ..spec };
            check(&case(spec, 2, [1 + width % 5, width], &mut random), &mut random);
        }
    }
}

#[test]
fn depthwise_convolutions() {
    let mut random = Random(23);
    for width in 1..40 {
        for (kernel, stride, dilation) in
            [([3, 3], 1, 1), ([3, 3], 2, 1), ([5, 5], 1, 1), ([5, 5], 2, 1), ([7, 2], 3, 1), ([3, 9], 1, 1), ([3, 3], 1, 2)]
        {
            let channels = random.between(5, 40);
            let padding = [Padding::Same, Padding::Zeros(random.between(0, 2))][random.between(0, 1)];
            let spec = ConvSpec { inputs: channels, outputs: channels, kernel, stride, dilation, groups: channels, padding };
            check(&case(spec, random.between(1, 2), [random.between(1, 9), width], &mut random), &mut random);
        }
    }
}

/// The largest sums that there are: bytes of 255 times weights at their ends, as many as a deep layer has.
#[test]
fn sums_do_not_saturate() {
    let one = Quantization::covering(0.0, 255.0).expect("a range");
    for (inputs, kernel) in [(2048, 1), (512, 3), (37, 5)] {
        let spec = ConvSpec { inputs, outputs: 5, kernel: [kernel; 2], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) };
        let weight: Vec<f32> = (0..spec.weights()).map(|index| if index * 5 < spec.weights() { -1.0 } else { 1.0 }).collect();
        let around = Quantizations { input: one, residual: None, output: None };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
            let conv = Conv::with_isa(isa, spec, &weight, &[0.0; 5], around, Activation::Identity);
            let map = Map::bytes(inputs, [kernel; 2], Border::default());
            let input = laid_out(&map, 1, &vec![255; inputs * kernel * kernel], 0);
            let to = Map::bytes(5, [1, 1], Border::default());
            let mut output = Buffer::<f32>::zeros(to.len(1));
            conv.run_wide(1, View { map: &map, values: &input }, None, ViewMut { map: &to, values: &mut output });
            let sum = (255 * 127 * inputs * kernel * kernel) as f32 * (1.0 / 127.0);
            for (value, sign) in picked(&to, 1, &output).into_iter().zip([-1.0, 1.0, 1.0, 1.0, 1.0]) {
                assert!((value - sign * sum).abs() <= 1e-6 * sum, "{isa:?}: {value}, not {}", sign * sum);
            }
        }
    }
}

#[test]
fn pictures_there_and_back() {
    let mut random = Random(24);
    for round in 0..30 {
        let (images, channels, size) = (random.between(1, 3), random.between(1, 40), [random.between(1, 9), random.between(1, 40)]);
        let border = random.border();
        let map = if round % 2 == 0 { Map::planar(channels, size, border) } else { Map::bytes(channels, size, border) };
        let by = quantization(&mut random);
        let values: Vec<f32> = random.values(images * channels * size[0] * size[1]).into_iter().map(|value| value * 4.0).collect();
        let mut found = Buffer::zeros(map.len(images));
        found.fill(0xa5);
        from_nchw(&map, images, &values, by, &mut found);
        let expected: Vec<u8> = values.iter().map(|&value| by.byte(value)).collect();
        assert_eq!(picked(&map, images, &found), expected);
        assert!(border_is(&map, images, &found, by.zero_point()));
        assert_eq!(to_nchw(&map, images, &found, by), expected.iter().map(|&byte| by.value(byte)).collect::<Vec<f32>>());
    }
}

/// Windows of `[n, c, h, w]`.
fn windows(x: &[u8], [planes, height, width]: [usize; 3], size: [usize; 2], [kernel, stride, padding]: [usize; 3]) -> Vec<Vec<u8>> {
    let mut windows = Vec::new();
    for plane in 0..planes {
        for y in 0..size[0] {
            for x0 in 0..size[1] {
                let inside =
                    |start: usize, len: usize| (start..start + kernel).filter_map(move |at| at.checked_sub(padding).filter(|&at| at < len));
                let rows = inside(y * stride, height).collect::<Vec<_>>();
                let columns = inside(x0 * stride, width).collect::<Vec<_>>();
                windows.push(
                    rows.iter().flat_map(|row| columns.iter().map(move |column| x[(plane * height + row) * width + column])).collect(),
                );
            }
        }
    }
    windows
}

#[test]
fn pools_gates_and_picked_pixels() {
    let mut random = Random(25);
    for _ in 0..60 {
        let (images, channels, size) = (random.between(1, 3), random.between(1, 40), [random.between(2, 20), random.between(2, 20)]);
        let (map, planes) = (Map::bytes(channels, size, random.border()), images * channels);
        let x = bytes(&mut random, planes * size[0] * size[1]);
        let values = laid_out(&map, images, &x, 3);
        let input = View { map: &map, values: &values };
        let dims = [planes, size[0], size[1]];
        let half = Map::bytes(channels, size.map(|size| size.div_ceil(2)), random.border());
        let result = [half.height, half.width];
        let blank = laid_out(&half, images, &vec![0; planes * result[0] * result[1]], 9);
        let (by, more) = (quantization(&mut random), quantization(&mut random));

        let mut found = blank.clone();
        max_pool(images, [3, 2, 1], input, ViewMut { map: &half, values: &mut found });
        let most = |window: &Vec<u8>| window.iter().copied().max().expect("a window");
        assert_eq!(picked(&half, images, &found), windows(&x, dims, result, [3, 2, 1]).iter().map(most).collect::<Vec<u8>>());
        assert!(border_is(&half, images, &found, 9));

        let mut found = blank.clone();
        average_pool(images, [2, 2], input, ViewMut { map: &half, values: &mut found });
        let mean = |window: &Vec<u8>| {
            let sum: u32 = window.iter().map(|&byte| u32::from(byte)).sum();
            (f64::from(sum) / window.len() as f64).round_ties_even() as u8
        };
        assert_eq!(picked(&half, images, &found), windows(&x, dims, result, [2, 2, 0]).iter().map(mean).collect::<Vec<u8>>());

        let means = global_average_pool(images, input, by);
        for (mean, plane) in means.iter().zip(x.chunks_exact(size[0] * size[1])) {
            let expected = plane.iter().map(|&byte| f64::from(by.value(byte))).sum::<f64>() / plane.len() as f64;
            assert!((f64::from(*mean) - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{mean}, not {expected}");
        }

        let (before, after) = (random.between(0, 20), random.between(0, 20));
        let wide = Map::bytes(before + channels + after, result, random.border());
        let mut found = laid_out(&wide, images, &vec![0; images * wide.channels * result[0] * result[1]], 9);
        subsample(images, 2, before, 77, input, ViewMut { map: &wide, values: &mut found });
        for (index, &byte) in picked(&wide, images, &found).iter().enumerate() {
            let (column, row) = (index % result[1], index / result[1] % result[0]);
            let (channel, image) = (index / (result[0] * result[1]) % wide.channels, index / (result[0] * result[1] * wide.channels));
            let source = channel.checked_sub(before).filter(|&channel| channel < channels);
            let at = |channel: usize| x[((image * channels + channel) * size[0] + 2 * row) * size[1] + 2 * column];
            assert_eq!(byte, source.map_or(77, at));
        }

        let (gates, added) = (random.values(planes), bytes(&mut random, x.len()));
        let (activation, to) = (random.activation(), quantization(&mut random));
        let shortcut = laid_out(&map, images, &added, 0);
        let residual = (random.between(0, 1) == 0).then_some((View { map: &map, values: &shortcut[..] }, more));
        let output = Map::bytes(channels, size, random.border());
        let mut found = laid_out(&output, images, &vec![0; x.len()], 9);
        scale(images, (input, by), &gates, residual, activation, (ViewMut { map: &output, values: &mut found }, to));
        for (index, &byte) in picked(&output, images, &found).iter().enumerate() {
            let gate = f64::from(gates[index / (size[0] * size[1])]);
            let mut value = f64::from(by.value(x[index])) * gate;
            value += residual.map_or(0.0, |_| f64::from(more.value(added[index])));
            let value = super::super::tests::apply(activation, value) / f64::from(to.scale()) + f64::from(to.zero_point());
            assert!((f64::from(byte) - value.clamp(0.0, 255.0)).abs() < 0.501, "{byte}, not {value}");
        }
    }
}
