//! Two-dimensional convolution and its gradients on plain slices, `[n, c, h, w]` throughout.

use rayon::prelude::*;

use super::buffer::Output;
use super::correlation::{Correlation, PackedWeights, Target};
use super::depthwise::{self, Depthwise};
use super::weight_gradient::WeightGradient;
use super::window::{Reach, Source};

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvShape {
    pub(crate) images: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Height and width of the input.
    pub(crate) size: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Zeros before the first row and column.
    pub(crate) before: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
    /// Height and width of the output.
    pub(crate) result: [usize; 2],
}

impl ConvShape {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Input channels of a group.
    fn channels(&self) -> usize {
        self.inputs / self.groups
    }

    /// Output channels of a group.
    fn rows(&self) -> usize {
        self.outputs / self.groups
    }

    fn is_depthwise(&self) -> bool {
        self.channels() == 1 && self.rows() == 1
    }

    pub(crate) fn input_len(&self) -> usize {
        self.images * self.inputs * self.size[0] * self.size[1]
    }

    pub(crate) fn output_len(&self) -> usize {
        self.images * self.outputs * self.result[0] * self.result[1]
    }

    fn input<'a>(&self, values: &'a [f32]) -> Source<'a> {
        Source { values, channels: self.inputs, height: self.size[0], width: self.size[1] }
    }

    fn output<'a>(&self, values: &'a [f32]) -> Source<'a> {
        Source { values, channels: self.outputs, height: self.result[0], width: self.result[1] }
    }

    /// What the kernel's taps see of the input.
    fn reach(&self) -> Reach {
        let tap = |axis: usize, k: usize| (k * self.dilation[axis]) as isize - self.before[axis] as isize;
        let taps = (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| (tap(0, i), tap(1, j)))).collect();
        Reach::new(taps, (self.stride[0], self.stride[1]), (self.result[0], self.result[1]))
    }
}

/// The convolution of stride 1 that a pointwise one of larger stride is on the pixels it sees.
fn on_seen_pixels(shape: &ConvShape) -> Option<ConvShape> {
    let strided = shape.kernel == [1, 1] && shape.before == [0, 0] && shape.stride != [1, 1];
    let inside = (0..2).all(|axis| (shape.result[axis] - 1) * shape.stride[axis] < shape.size[axis]);
    (strided && inside).then_some(ConvShape { size: shape.result, stride: [1, 1], ..*shape })
}

/// The pixels that a pointwise convolution sees.
fn seen_pixels(shape: &ConvShape, input: &[f32]) -> Vec<f32> {
    let [height, width] = shape.result;
    let mut seen = vec![0f32; shape.images * shape.inputs * height * width];
    let planes = seen.par_chunks_exact_mut(height * width).zip(input.par_chunks_exact(shape.size[0] * shape.size[1]));
    planes.for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(shape.size[1]).step_by(shape.stride[0])) {
            to.iter_mut().zip(from.iter().step_by(shape.stride[1])).for_each(|(to, &from)| *to = from);
        }
    });
    seen
}

/// Back to their places, zeros between.
fn spread_pixels(shape: &ConvShape, seen: &[f32]) -> Vec<f32> {
    let [height, width] = shape.result;
    let mut input = vec![0f32; shape.input_len()];
    let planes = input.par_chunks_exact_mut(shape.size[0] * shape.size[1]).zip(seen.par_chunks_exact(height * width));
    planes.for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(shape.size[1]).step_by(shape.stride[0]).zip(from.chunks_exact(width)) {
            to.iter_mut().step_by(shape.stride[1]).zip(from).for_each(|(to, &from)| *to = from);
        }
    });
    input
}

/// The output of a convolution with `weight` `[outputs, inputs / groups, kernel…]`.
pub(crate) fn forward(shape: &ConvShape, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    if let Some(dense) = on_seen_pixels(shape) {
        return forward(&dense, &seen_pixels(shape, input), weight, bias);
    }
    let mut output = Output::new(shape.output_len());
    let target = Target {
        values: output.pointer(),
        channels: shape.outputs,
        height: shape.result[0],
        width: shape.result[1],
        stride: (1, 1),
        offset: (0, 0),
    };
    let reach = &shape.reach();
    let (source, images) = (shape.input(input), shape.images);
    // SAFETY: the grid is the whole output, of which there is no other user; so `finish` finds every value written.
    unsafe {
        if shape.is_depthwise() {
            Depthwise { source, images, reach, weights: weight, bias, target }.run();
        } else {
            let (rows, channels, taps) = (shape.rows(), shape.channels(), shape.taps());
            let weights = &PackedWeights::new(shape.groups, rows, channels, taps, |[group, row, channel, tap]| {
                weight[((group * rows + row) * channels + channel) * taps + tap]
            });
            Correlation { source, images, groups: shape.groups, reach, weights, bias, target }.run();
        }
        output.finish()
    }
}

/// The gradient with respect to the input.
///
/// An input pixel was seen by those taps whose distance to it is a multiple of the stride: for each residue of the pixel's row and
/// column these are fixed, and the gradient is a correlation of stride 1 with them.
pub(crate) fn input_gradient(shape: &ConvShape, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
    if let Some(dense) = on_seen_pixels(shape) {
        return spread_pixels(shape, &input_gradient(&dense, gradient, weight));
    }
    let mut output = Output::new(shape.input_len());
    let pointer = output.pointer();
    let (source, images) = (shape.output(gradient), shape.images);
    // Kernel positions seen from pixels of this residue, and the distance of the output they contributed to.
    let seen = |axis: usize, residue: usize| -> Vec<(usize, isize)> {
        let step = shape.stride[axis] as isize;
        let distance = |k: usize| (residue + shape.before[axis]) as isize - (k * shape.dilation[axis]) as isize;
        (0..shape.kernel[axis]).filter(|&k| distance(k) % step == 0).map(|k| (k, distance(k) / step)).collect()
    };
    for row in 0..shape.stride[0].min(shape.size[0]) {
        for column in 0..shape.stride[1].min(shape.size[1]) {
            let (down, across) = (seen(0, row), seen(1, column));
            let pairs: Vec<_> = down.iter().flat_map(|&i| across.iter().map(move |&j| (i, j))).collect();
            let kernel: &Vec<usize> = &pairs.iter().map(|&(i, j)| i.0 * shape.kernel[1] + j.0).collect();
            let grid = ((shape.size[0] - row).div_ceil(shape.stride[0]), (shape.size[1] - column).div_ceil(shape.stride[1]));
            let reach = &Reach::new(pairs.iter().map(|&(i, j)| (i.1, j.1)).collect(), (1, 1), grid);
            let target = Target {
                values: pointer,
                channels: shape.inputs,
                height: shape.size[0],
                width: shape.size[1],
                stride: (shape.stride[0], shape.stride[1]),
                offset: (row, column),
            };
            // SAFETY: the residues' grids do not overlap and together are the whole input.
            unsafe {
                if shape.is_depthwise() {
                    let chosen = |channel: usize| kernel.iter().map(move |&tap| weight[channel * shape.taps() + tap]);
                    let weights: &Vec<f32> = &(0..shape.inputs).flat_map(chosen).collect();
                    Depthwise { source, images, reach, weights, bias: None, target }.run();
                } else {
                    let (rows, channels) = (shape.rows(), shape.channels());
                    let weights = &PackedWeights::new(shape.groups, channels, rows, kernel.len(), |[group, input, output, tap]| {
                        weight[((group * rows + output) * channels + input) * shape.taps() + kernel[tap]]
                    });
                    Correlation { source, images, groups: shape.groups, reach, weights, bias: None, target }.run();
                }
            }
        }
    }
    // SAFETY: as above: every value was written.
    unsafe { output.finish() }
}

/// The gradient with respect to the weight.
pub(crate) fn weight_gradient(shape: &ConvShape, input: &[f32], gradient: &[f32]) -> Vec<f32> {
    if let Some(dense) = on_seen_pixels(shape) {
        return weight_gradient(&dense, &seen_pixels(shape, input), gradient);
    }
    let reach = &shape.reach();
    let (source, gradient) = (shape.input(input), shape.output(gradient));
    if shape.is_depthwise() {
        depthwise::weight_gradient(source, gradient, shape.images, reach)
    } else {
        WeightGradient { source, gradient, images: shape.images, groups: shape.groups, reach }.run()
    }
}

/// The gradient with respect to the bias.
pub(crate) fn bias_gradient(shape: &ConvShape, gradient: &[f32]) -> Vec<f32> {
    let area = shape.result[0] * shape.result[1];
    let sum = |channel: usize| {
        let planes = (0..shape.images).map(|image| &gradient[(image * shape.outputs + channel) * area..][..area]);
        planes.map(|plane| f64::from(super::norm::sum(plane))).sum::<f64>() as f32
    };
    (0..shape.outputs).into_par_iter().map(sum).collect()
}
