//! Each kernel against a plain twin in f64, on random shapes.
//!
//! Buffers are NaN wherever a kernel has no business. A reader of memory beyond them is found by AddressSanitizer and valgrind: see
//! tools/README.md.

use super::element::Product;
use super::*;
use crate::Activation;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
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

    pub(super) fn border(&mut self) -> Border {
        let mut side = || self.between(0, 5).saturating_sub(3);
        Border { top: side(), bottom: side(), left: side(), right: side() }
    }

    pub(super) fn activation(&mut self) -> Activation {
        [Activation::Identity, Activation::Relu, Activation::Relu6][self.between(0, 2)]
    }
}

/// Largest difference over the largest expected value.
fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_rounded::<f32>(what, found, expected, tolerance);
}

/// The same of values that were then rounded to an element.
pub(super) fn assert_rounded<T: Element>(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30f64, |scale, x| scale.max(x.abs()));
    // Half a unit in the last of eight binary places.
    let rounding = if T::GROUP == 2 { 0.5f64.powi(8) } else { 0.0 };
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        let most = tolerance * scale + rounding * (expected.abs() + tolerance * scale);
        assert!(error <= most, "{what}: value {index} is {found}, not {expected}");
    }
}

/// Values that an element holds exactly.
pub(super) fn exact<T: Element>(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| T::from_f32(value).to_f32()).collect()
}

pub(super) fn apply(activation: Activation, value: f64) -> f64 {
    match activation {
        Activation::Identity => value,
        Activation::Relu => value.max(0.0),
        Activation::Relu6 => value.clamp(0.0, 6.0),
    }
}

/// A map filled with values, everything else in its buffer as it should be: zeros.
fn laid_out(map: &Map, images: usize, values: &[f32]) -> Buffer {
    laid_out_as(map, images, values)
}

pub(super) fn laid_out_as<T: Element>(map: &Map, images: usize, values: &[f32]) -> Buffer<T> {
    let mut buffer = Buffer::zeros(map.len(images));
    buffer.fill(T::from_f32(f32::NAN));
    map.from_nchw(images, values, &mut buffer);
    buffer
}

/// A buffer that shows what was not written.
fn unwritten(map: &Map, images: usize) -> Buffer {
    unwritten_as(map, images)
}

pub(super) fn unwritten_as<T: Element>(map: &Map, images: usize) -> Buffer<T> {
    let mut buffer = Buffer::zeros(map.len(images));
    buffer.fill(T::from_f32(f32::NAN));
    map.clear_border(images, &mut buffer);
    buffer
}

/// Border and unused lanes are zeros.
pub(super) fn assert_clean<T: Element>(what: &str, map: &Map, images: usize, values: &[T]) {
    let again: Buffer<T> = laid_out_as(map, images, &map.to_nchw(images, values));
    assert_eq!(&again[..], &values[..map.len(images)], "{what}");
}

pub(super) fn convolve(spec: &ConvSpec, images: usize, [height, width]: [usize; 2], x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f64> {
    let (size, border) = spec.plan([height, width]).expect("a kernel that fits");
    let (channels, rows) = (spec.inputs / spec.groups, spec.outputs / spec.groups);
    let mut output = Vec::new();
    for n in 0..images {
        for (o, &bias) in bias.iter().enumerate() {
            for y in 0..size[0] {
                for x0 in 0..size[1] {
                    let mut sum = f64::from(bias);
                    for c in 0..channels {
                        for i in 0..spec.kernel[0] {
                            for j in 0..spec.kernel[1] {
                                let row = (y * spec.stride + i * spec.dilation).wrapping_sub(border.top);
                                let column = (x0 * spec.stride + j * spec.dilation).wrapping_sub(border.left);
                                if row < height && column < width {
                                    let input = ((n * spec.inputs + o / rows * channels + c) * height + row) * width + column;
                                    let weight = ((o * channels + c) * spec.kernel[0] + i) * spec.kernel[1] + j;
                                    sum += f64::from(x[input]) * f64::from(w[weight]);
                                }
                            }
                        }
                    }
                    output.push(sum);
                }
            }
        }
    }
    output
}

fn check_convolution(spec: ConvSpec, images: usize, size: [usize; 2], random: &mut Random) {
    check_convolution_as::<f32, f32>(spec, images, size, random);
}

/// Of inputs and weights stored as `T`, to outputs stored as `O`.
pub(super) fn check_convolution_as<T: Product<O> + Element, O: Element>(
    spec: ConvSpec,
    images: usize,
    size: [usize; 2],
    random: &mut Random,
) {
    let Some((result, _)) = spec.plan(size) else { return };
    let (activation, with_residual) = (random.activation(), random.between(0, 1) == 1);
    let what = format!("{spec:?} on {images} of {size:?}, {activation:?}, residual {with_residual}");
    let x = exact::<T>(random.values(images * spec.inputs * size[0] * size[1]));
    let (w, bias) = (exact::<T>(random.values(spec.weights())), random.values(spec.outputs));
    let shortcut = exact::<O>(random.values(images * spec.outputs * result[0] * result[1]));
    let mut expected = convolve(&spec, images, size, &x, &w, &bias);
    // Rounding errors are those of the sums, however small an activation makes them.
    let sums = expected.iter().fold(0f64, |most, x| most.max(x.abs()));
    for (value, &more) in expected.iter_mut().zip(&shortcut) {
        *value = apply(activation, *value + if with_residual { f64::from(more) } else { 0.0 });
    }
    let conv = Conv::<T>::new(spec, &w, &bias);
    // Sometimes the borders are no wider than they need be: pointwise convolutions then see one long row.
    let more = |random: &mut Random| if random.between(0, 1) == 1 { random.border() } else { Border::default() };
    let (_, border) = conv.plan(size).expect("as before");
    let input = border.max(more(random));
    let input = if conv.planar() { Map::planar(spec.inputs, size, input) } else { Map::new(spec.inputs, size, input) };
    let output = Map::new(spec.outputs, result, more(random));
    let residual = Map::new(spec.outputs, result, more(random));
    let (x, shortcut): (Buffer<T>, Buffer<O>) = (laid_out_as(&input, images, &x), laid_out_as(&residual, images, &shortcut));
    let epilogue = Epilogue { residual: with_residual.then_some(View { map: &residual, values: &shortcut }), activation };
    let mut values: Buffer<O> = unwritten_as(&output, images);
    conv.run(images, View { map: &input, values: &x }, ViewMut { map: &output, values: &mut values }, epilogue);
    let most = expected.iter().fold(1e-30f64, |most, x| most.max(x.abs()));
    // Errors of a long sum grow as the root of its length.
    let direct = (4e-8 * (spec.multiplications() as f64 / spec.outputs as f64).sqrt()).max(3e-6);
    let tolerance = if winograd::suits::<T>(&spec) { 1e-5 } else { direct } * (sums / most).max(1.0);
    assert_rounded::<O>(&what, &output.to_nchw(images, &values), &expected, tolerance);
    assert_clean(&what, &output, images, &values);
    // The same on one thread, bit by bit.
    let mut again: Buffer<O> = unwritten_as(&output, images);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    pool.install(|| conv.run(images, View { map: &input, values: &x }, ViewMut { map: &output, values: &mut again }, epilogue));
    assert_eq!(&values[..], &again[..], "{what}");
}

/// All that a convolution may be.
pub(super) fn any_convolution(random: &mut Random) -> (ConvSpec, usize, [usize; 2]) {
    let groups = [1, 1, 1, 2, 3, 4, 8][random.between(0, 6)];
    let kernel = [[1, 1], [3, 3], [1, 1], [3, 3], [7, 7], [5, 5], [1, 3], [2, 2]][random.between(0, 7)];
    let spec = ConvSpec {
        inputs: groups * random.between(1, 40 / groups),
        outputs: groups * random.between(1, 70 / groups),
        kernel,
        stride: [1, 1, 1, 2, 2, 3][random.between(0, 5)],
        dilation: [1, 1, 1, 2, 3][random.between(0, 4)],
        groups,
        padding: if random.between(0, 3) == 0 { Padding::Same } else { Padding::Zeros(random.between(0, 3)) },
    };
    let size = [random.between(1, 20), random.between(1, 31)];
    (spec, random.between(1, 3), size)
}

#[test]
fn convolutions_of_random_shapes() {
    let mut random = Random(1);
    for _ in 0..250 {
        let (spec, images, size) = any_convolution(&mut random);
        check_convolution(spec, images, size, &mut random);
    }
}

#[test]
fn pointwise_convolutions_on_all_widths() {
    let mut random = Random(2);
    for width in 1..50 {
        let padding = Padding::Zeros(0);
        let spec = ConvSpec { inputs: 33, outputs: 49, kernel: [1, 1], stride: 1 + width % 2, dilation: 1, groups: 1, padding };
        check_convolution(spec, 2, [1 + width % 3, width], &mut random);
        check_convolution(ConvSpec { kernel: [3, 3], padding: Padding::Same, inputs: 9, ..spec }, 1, [1 + width % 4, width], &mut random);
    }
}

#[test]
fn depthwise_convolutions_of_random_shapes() {
    let mut random = Random(3);
    for _ in 0..150 {
        let channels = random.between(5, 50);
        let kernel = [[3, 3], [5, 5], [3, 3], [2, 4]][random.between(0, 3)];
        let spec = ConvSpec {
            inputs: channels,
            outputs: channels,
            kernel,
            stride: [1, 2, 2, 3][random.between(0, 3)],
            dilation: random.between(1, 2),
            groups: channels,
            padding: if random.between(0, 1) == 0 { Padding::Same } else { Padding::Zeros(random.between(0, 3)) },
        };
        let size = [random.between(1, 20), random.between(1, 40)];
        check_convolution(spec, random.between(1, 3), size, &mut random);
    }
}

/// Convolutions that are computed by Winograd's method, with tiles of 4 and of 2, on all remainders of a tile.
#[test]
fn small_kernels_on_many_channels() {
    let mut random = Random(7);
    for case in 0..60 {
        let most = if case % 3 == 0 { 200 } else { 100 };
        let padding = if case % 2 == 0 { Padding::Same } else { Padding::Zeros(random.between(0, 2)) };
        let (inputs, outputs) = (random.between(32, most), random.between(32, most));
        let spec = ConvSpec { inputs, outputs, kernel: [3, 3], stride: 1, dilation: 1, groups: 1, padding };
        let size = [random.between(1, 18), random.between(1, 18)];
        check_convolution(spec, random.between(1, 3), size, &mut random);
    }
}

#[test]
fn expansions_are_the_two_convolutions() {
    let mut random = Random(8);
    for case in 0..80 {
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
        // Wide ones are computed in bands of rows.
        let size =
            if case % 8 == 0 { [random.between(20, 60), random.between(100, 160)] } else { [random.between(1, 20), random.between(1, 20)] };
        let Some((result, border)) = spec.plan(size) else { continue };
        let images = random.between(1, 2);
        let convs = [&dense, &spec].map(|spec| Conv::<f32>::new(*spec, &random.values(spec.weights()), &random.values(channels)));
        let activations = [random.activation(), random.activation()];
        let map = Map::new(inputs, size, random.border());
        let x = laid_out(&map, images, &random.values(images * inputs * size[0] * size[1]));
        let input = View { map: &map, values: &x };
        let (middle, output) = (Map::new(channels, size, border), Map::new(channels, result, random.border()));
        let (mut between, mut expected, mut found) = (unwritten(&middle, images), unwritten(&output, images), unwritten(&output, images));
        convs[0].run(images, input, ViewMut { map: &middle, values: &mut between }, activations[0].into());
        let to = ViewMut { map: &output, values: &mut expected };
        convs[1].run(images, View { map: &middle, values: &between }, to, activations[1].into());
        assert!(expands(&convs[0], &convs[1]));
        let to = ViewMut { map: &output, values: &mut found };
        expand_depthwise(images, [&convs[0], &convs[1]], activations, input, to);
        assert_eq!(&found[..], &expected[..], "{dense:?} {spec:?} on {images} of {size:?}");
    }
}

/// Sums long enough to be computed in several passes over the weights.
#[test]
fn convolutions_with_many_channels() {
    let mut random = Random(4);
    for (inputs, outputs, kernel, size) in [(600, 40, 3, [5, 7]), (1300, 33, 3, [3, 4]), (3000, 24, 1, [4, 9]), (3, 64, 7, [30, 61])] {
        let spec = ConvSpec { inputs, outputs, kernel: [kernel; 2], stride: 1, dilation: 1, groups: 1, padding: Padding::Same };
        check_convolution(spec, 2, size, &mut random);
    }
}

#[test]
fn pools_of_random_shapes() {
    let mut random = Random(5);
    for case in 0..60 {
        let (images, channels, size) = (random.between(1, 3), random.between(1, 40), [random.between(2, 20), random.between(2, 20)]);
        let x = random.values(images * channels * size[0] * size[1]);
        let map = Map::new(channels, size, random.border());
        let values = laid_out(&map, images, &x);
        let input = View { map: &map, values: &values };
        let mean = case % 2 == 0;
        let [kernel, stride, padding] = if mean { [2, 2, 0] } else { [3, 2, 1] };
        let result = size.map(|size| size.div_ceil(2));
        let output = Map::new(channels, result, random.border());
        let mut found = unwritten(&output, images);
        let to = ViewMut { map: &output, values: &mut found };
        if mean {
            average_pool(images, [kernel, stride], input, to);
        } else {
            max_pool(images, [kernel, stride, padding], input, to);
        }
        let mut expected = Vec::new();
        for plane in x.chunks_exact(size[0] * size[1]) {
            for y in 0..result[0] {
                for x in 0..result[1] {
                    let seen = |place: usize, size: usize| {
                        (place * stride..place * stride + kernel).filter_map(move |at| at.checked_sub(padding).filter(|&at| at < size))
                    };
                    let pixels: Vec<f64> =
                        seen(y, size[0]).flat_map(|i| seen(x, size[1]).map(move |j| f64::from(plane[i * size[1] + j]))).collect();
                    let most = pixels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    expected.push(if mean { pixels.iter().sum::<f64>() / pixels.len() as f64 } else { most });
                }
            }
        }
        assert_close("pool", &output.to_nchw(images, &found), &expected, 1e-6);
        assert_clean("pool", &output, images, &found);

        let pooled = Map::new(channels, [1, images], Border::default());
        let mut means = unwritten(&pooled, 1);
        global_average_pool(images, input, ViewMut { map: &pooled, values: &mut means });
        let area = (size[0] * size[1]) as f64;
        let expected: Vec<f64> = (0..channels * images)
            .map(|i| x.chunks_exact(size[0] * size[1]).nth(i % images * channels + i / images).expect("a plane"))
            .map(|plane| plane.iter().map(|&x| f64::from(x)).sum::<f64>() / area)
            .collect();
        assert_close("means", &pooled.to_nchw(1, &means), &expected, 1e-5);

        let shortcut = random.values(x.len());
        let other = Map::new(channels, size, random.border());
        let residual = laid_out(&other, images, &shortcut);
        let activation = random.activation();
        let epilogue = Epilogue { residual: Some(View { map: &other, values: &residual }), activation };
        let output = Map::new(channels, size, random.border());
        let mut found = unwritten(&output, images);
        scale(images, input, View { map: &pooled, values: &means }, epilogue, ViewMut { map: &output, values: &mut found });
        let gates = pooled.to_nchw(1, &means);
        let expected: Vec<f64> = (0..x.len())
            .map(|i| (i, i / (size[0] * size[1])))
            .map(|(i, plane)| (i, f64::from(gates[plane % channels * images + plane / channels])))
            .map(|(i, gate)| apply(activation, f64::from(x[i]) * gate + f64::from(shortcut[i])))
            .collect();
        assert_close("scale", &output.to_nchw(images, &found), &expected, 1e-6);
        assert_clean("scale", &output, images, &found);
    }
}

#[test]
fn maximum_keeps_nan() {
    let map = Map::new(1, [3, 3], Border::default());
    for place in 0..9 {
        let mut x = [1.0; 9];
        x[place] = f32::NAN;
        let values = laid_out(&map, 1, &x);
        let output = Map::new(1, [1, 1], Border::default());
        let mut found = unwritten(&output, 1);
        max_pool(1, [3, 3, 0], View { map: &map, values: &values }, ViewMut { map: &output, values: &mut found });
        assert!(found[0].is_nan(), "at {place}");
    }
}

#[test]
fn activations_keep_nan() {
    let spec = ConvSpec { inputs: 5, outputs: 3, kernel: [1, 1], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) };
    let conv = Conv::<f32>::new(spec, &[1.0; 15], &[f32::NAN, -9.0, 9.0]);
    let (map, to) = (Map::new(5, [1, 1], Border::default()), Map::new(3, [1, 1], Border::default()));
    for (activation, bounds) in [(Activation::Relu, [0.0, 9.0]), (Activation::Relu6, [0.0, 6.0]), (Activation::Identity, [-9.0, 9.0])] {
        let (input, mut output) = (laid_out(&map, 1, &[0.0; 5]), unwritten(&to, 1));
        conv.run(1, View { map: &map, values: &input }, ViewMut { map: &to, values: &mut output }, activation.into());
        let found = to.to_nchw(1, &output);
        assert!(found[0].is_nan() && found[1..] == bounds, "{activation:?}: {found:?}");
    }
}

#[test]
fn subsampling_pads_channels() {
    let mut random = Random(6);
    for _ in 0..20 {
        let (images, channels, size) = (2, random.between(1, 20), [random.between(1, 9), random.between(1, 9)]);
        let x = random.values(images * channels * size[0] * size[1]);
        let (before, after) = (random.between(0, 9), random.between(0, 9));
        let map = Map::new(channels, size, random.border());
        let values = laid_out(&map, images, &x);
        let output = Map::new(before + channels + after, size.map(|size| size.div_ceil(2)), random.border());
        let mut found = unwritten(&output, images);
        subsample(images, 2, before, View { map: &map, values: &values }, ViewMut { map: &output, values: &mut found });
        let mut expected = Vec::new();
        for n in 0..images {
            for c in 0..output.channels {
                for y in 0..output.height {
                    for x0 in 0..output.width {
                        let inside = (before..before + channels).contains(&c);
                        let at = |c: usize| ((n * channels + c) * size[0] + y * 2) * size[1] + x0 * 2;
                        expected.push(if inside { f64::from(x[at(c - before)]) } else { 0.0 });
                    }
                }
            }
        }
        assert_close("subsample", &output.to_nchw(images, &found), &expected, 0.0);
        assert_clean("subsample", &output, images, &found);
    }
}
