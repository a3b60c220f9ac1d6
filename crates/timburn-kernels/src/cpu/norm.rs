//! Batch normalisation with what usually follows it (a residual sum, a ReLU) on plain slices `[n, c, …]`, forward and backward.
//!
//! A channel is the work of one thread, image after image: results do not depend on the number of threads. While a channel's values
//! are in the cache they are read several times and leave once.

use macerator::{AutoArch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::{Output, Shared};
use crate::Activation;

/// Sizes of a tensor `[images, channels, area]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormShape {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) area: usize,
}

impl NormShape {
    fn len(&self) -> usize {
        self.images * self.channels * self.area
    }

    /// Values of a channel.
    fn count(&self) -> f64 {
        (self.images * self.area) as f64
    }

    /// Where the planes of a channel start.
    fn planes(self, channel: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.images).map(move |image| (image * self.channels + channel) * self.area)
    }
}

/// `activation(γ (x - μ) / √(σ² + ε) + β + residual)`.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) shape: NormShape,
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
}

/// Sums that run side by side in a reduction.
const SUMS: usize = 32;

/// The sum of `map` over slices of equal length, in an order that only the length determines.
#[inline(always)]
fn reduce<const N: usize, const K: usize>(slices: [&[f32]; N], map: impl Fn([f32; N]) -> [f32; K]) -> [f32; K] {
    let len = slices.iter().map(|slice| slice.len()).min().unwrap_or(0);
    let mut sums = [[0f32; SUMS]; K];
    let whole = len / SUMS * SUMS;
    for at in (0..whole).step_by(SUMS) {
        let chunks = slices.map(|slice| &slice[at..at + SUMS]);
        for lane in 0..SUMS {
            let values = map(chunks.map(|chunk| chunk[lane]));
            for (sums, value) in sums.iter_mut().zip(values) {
                sums[lane] += value;
            }
        }
    }
    for (lane, at) in (whole..len).enumerate() {
        for (sums, value) in sums.iter_mut().zip(map(slices.map(|slice| slice[at]))) {
            sums[lane] += value;
        }
    }
    sums.map(|sums| {
        let mut width = SUMS / 2;
        let mut sums = sums;
        while width > 0 {
            for lane in 0..width {
                sums[lane] += sums[lane + width];
            }
            width /= 2;
        }
        sums[0]
    })
}

/// The sum of a slice.
pub(crate) fn sum(values: &[f32]) -> f32 {
    reduce([values], |values| values)[0]
}

/// `value`, or where the activation is flat its bound. NaN stays NaN.
#[inline(always)]
fn activate(activation: Activation, value: f32) -> f32 {
    match activation {
        Activation::Identity => value,
        Activation::Relu => {
            if value <= 0.0 {
                0.0
            } else {
                value
            }
        }
        Activation::Relu6 => {
            let value = if value <= 0.0 { 0.0 } else { value };
            if value >= 6.0 { 6.0 } else { value }
        }
    }
}

/// What of `slope` passes an activation whose input, or output, is `value`. NaN lets it pass, as in PyTorch.
#[inline(always)]
fn pass(activation: Activation, value: f32, slope: f32) -> f32 {
    match activation {
        Activation::Identity => slope,
        Activation::Relu => {
            if value <= 0.0 {
                0.0
            } else {
                slope
            }
        }
        Activation::Relu6 => {
            if value <= 0.0 || value >= 6.0 {
                0.0
            } else {
                slope
            }
        }
    }
}

/// Runs `work` once for each activation with that activation a constant, so that loops hold no branch.
macro_rules! for_activation {
    ($activation:expr, $name:ident => $work:expr) => {
        match $activation {
            Activation::Identity => {
                const $name: Activation = Activation::Identity;
                $work
            }
            Activation::Relu => {
                const $name: Activation = Activation::Relu;
                $work
            }
            Activation::Relu6 => {
                const $name: Activation = Activation::Relu6;
                $work
            }
        }
    };
}

/// Compiles `work` for the widest vectors of the machine; what is to profit must be inlined into it.
#[inline(always)]
fn widest<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> R {
            (self.0)()
        }
    }
    AutoArch::new().dispatch(Work(work))
}

/// A plane of a shared output.
///
/// # Safety
/// The plane lies inside the memory, is no one else's, and its values are initialised or written before they are read.
#[inline(always)]
unsafe fn plane_mut<'a>(values: Shared, at: usize, area: usize) -> &'a mut [f32] {
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts_mut(values.at(at), area) }
}

/// What happens to a channel's values.
#[derive(Clone, Copy)]
struct Affine {
    mean: f32,
    scale: f32,
    shift: f32,
}

impl Affine {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.shift
    }
}

/// What [`Norm::train`] gives.
pub(crate) struct Trained {
    pub(crate) output: Vec<f32>,
    pub(crate) mean: Vec<f32>,
    /// Biased.
    pub(crate) variance: Vec<f32>,
}

impl Norm<'_> {
    /// Mean, factor and offset of a channel. The mean is subtracted first: a factor and an offset alone would lose digits where it is
    /// large beside the deviation.
    fn affine(&self, channel: usize, mean: f32, variance: f32) -> Affine {
        let scale = (f64::from(self.gamma[channel]) / (f64::from(variance) + self.epsilon).sqrt()) as f32;
        Affine { mean, scale, shift: self.beta[channel] }
    }

    #[inline(always)]
    fn apply(&self, input: &[f32], residual: Option<&[f32]>, affine: Affine, output: &mut [f32]) {
        for_activation!(self.activation, ACTIVATION => match residual {
            None => {
                for (output, &x) in output.iter_mut().zip(input) {
                    *output = activate(ACTIVATION, affine.of(x));
                }
            }
            Some(residual) => {
                for ((output, &x), &r) in output.iter_mut().zip(input).zip(residual) {
                    *output = activate(ACTIVATION, affine.of(x) + r);
                }
            }
        });
    }

    #[inline(always)]
    fn apply_in_place(&self, residual: Option<&[f32]>, affine: Affine, values: &mut [f32]) {
        for_activation!(self.activation, ACTIVATION => match residual {
            None => values.iter_mut().for_each(|x| *x = activate(ACTIVATION, affine.of(*x))),
            Some(residual) => values.iter_mut().zip(residual).for_each(|(x, &r)| *x = activate(ACTIVATION, affine.of(*x) + r)),
        });
    }

    /// Normalises with the batch's own statistics.
    pub(crate) fn train(&self, input: &[f32], residual: Option<&[f32]>) -> Trained {
        let mut output = Output::new(self.shape.len());
        let pointer = output.pointer();
        // SAFETY: each channel is written by its own task.
        let channel = |channel| widest(|| unsafe { self.train_channel(channel, input, residual, pointer) });
        let statistics: Vec<(f32, f32)> = (0..self.shape.channels).into_par_iter().map(channel).collect();
        let (mean, variance) = statistics.into_iter().unzip();
        // SAFETY: all planes of all channels were written.
        Trained { output: unsafe { output.finish() }, mean, variance }
    }

    /// Mean and biased variance of a channel, whose output is written.
    ///
    /// # Safety
    /// The channel's planes of `output` belong to the caller.
    #[inline(always)]
    unsafe fn train_channel(&self, channel: usize, input: &[f32], residual: Option<&[f32]>, output: Shared) -> (f32, f32) {
        let (area, planes) = (self.shape.area, self.shape.planes(channel));
        let total: f64 = planes.clone().map(|at| f64::from(reduce([&input[at..at + area]], |x| x)[0])).sum();
        let mean = (total / self.shape.count()) as f32;
        let square = |at: usize| f64::from(reduce([&input[at..at + area]], |[x]| [(x - mean) * (x - mean)])[0]);
        let variance = (planes.clone().map(square).sum::<f64>() / self.shape.count()) as f32;
        let affine = self.affine(channel, mean, variance);
        for at in planes {
            // SAFETY: as the caller promises; the plane is only written.
            let output = unsafe { plane_mut(output, at, area) };
            self.apply(&input[at..at + area], residual.map(|r| &r[at..at + area]), affine, output);
        }
        (mean, variance)
    }

    /// Normalises with given statistics, from `input` or, without one, in place.
    ///
    /// # Safety
    /// `output` points to as many values as the shape says, which no one else uses; in place they are initialised.
    pub(crate) unsafe fn fixed(&self, input: Option<&[f32]>, residual: Option<&[f32]>, mean: &[f32], variance: &[f32], output: Shared) {
        let NormShape { channels, area, .. } = self.shape;
        let affine: Vec<Affine> = (0..channels).map(|channel| self.affine(channel, mean[channel], variance[channel])).collect();
        (0..self.shape.images * channels).into_par_iter().with_min_len(1 + 4096 / area.max(1)).for_each(|plane| {
            let at = plane * area;
            // SAFETY: planes are disjoint, and the caller grants the whole.
            let output = unsafe { plane_mut(output, at, area) };
            let residual = residual.map(|r| &r[at..at + area]);
            let affine = affine[plane % channels];
            match input {
                Some(input) => widest(|| self.apply(&input[at..at + area], residual, affine, output)),
                None => widest(|| self.apply_in_place(residual, affine, output)),
            }
        });
    }
}

/// What the backward pass starts from.
pub(crate) struct Backward<'a> {
    pub(crate) norm: Norm<'a>,
    pub(crate) input: &'a [f32],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    /// The forward pass's output, where a residual was added: without one the activation's input is computed again.
    pub(crate) output: Option<&'a [f32]>,
    /// Whether mean and variance are the batch's own, and so functions of the input.
    pub(crate) batch_statistics: bool,
}

/// Gradients of the parameters.
pub(crate) struct ParameterGradients {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
}

impl Backward<'_> {
    /// Turns the output's gradient in `slope` into the input's. `residual` gets what passes the activation.
    ///
    /// # Safety
    /// Both point to as many values as the shape says, which no one else uses; those of `slope` are initialised.
    pub(crate) unsafe fn run(&self, slope: Shared, residual: Option<Shared>) -> ParameterGradients {
        // SAFETY: each channel is the work of its own task, and the caller grants the whole.
        let channel = |channel| widest(|| unsafe { self.any_channel(channel, slope, residual) });
        let gradients: Vec<(f32, f32)> = (0..self.norm.shape.channels).into_par_iter().map(channel).collect();
        let (gamma, beta) = gradients.into_iter().unzip();
        ParameterGradients { gamma, beta }
    }

    /// # Safety
    /// As [`run`](Self::run), for one channel.
    #[inline(always)]
    unsafe fn any_channel(&self, channel: usize, slope: Shared, residual: Option<Shared>) -> (f32, f32) {
        for_activation!(self.norm.activation, ACTIVATION => {
            // SAFETY: as the caller promises.
            unsafe { self.channel(channel, slope, residual, |value, slope| pass(ACTIVATION, value, slope)) }
        })
    }

    /// # Safety
    /// As [`run`](Self::run), for one channel.
    #[inline(always)]
    unsafe fn channel(&self, channel: usize, slope: Shared, residual: Option<Shared>, pass: impl Fn(f32, f32) -> f32 + Copy) -> (f32, f32) {
        let Self { norm, input, .. } = self;
        let area = norm.shape.area;
        let (mean, variance) = (self.mean[channel], self.variance[channel]);
        let inverse = 1.0 / (f64::from(variance) + norm.epsilon).sqrt();
        let affine = norm.affine(channel, mean, variance);
        let (mut sum, mut product) = (0f64, 0f64);
        for at in norm.shape.planes(channel) {
            // SAFETY: see above; this plane of `slope` is only read until the second loop.
            let slope: &mut [f32] = unsafe { plane_mut(slope, at, area) };
            let x = &input[at..at + area];
            let [s, p] = if let Some(output) = self.output {
                let output = &output[at..at + area];
                // What passes is needed twice: it is kept, in `slope` or as the residual's gradient.
                for (slope, &value) in slope.iter_mut().zip(output) {
                    *slope = pass(value, *slope);
                }
                if let Some(residual) = residual {
                    // SAFETY: see above.
                    unsafe { plane_mut(residual, at, area) }.copy_from_slice(slope);
                }
                reduce([x, slope], |[x, slope]| [slope, slope * (x - mean)])
            } else {
                reduce([x, slope], |[x, slope]| {
                    let slope = pass(affine.of(x), slope);
                    [slope, slope * (x - mean)]
                })
            };
            sum += f64::from(s);
            product += f64::from(p);
        }
        let gamma = product * inverse;
        let (a, b) = if self.batch_statistics {
            ((sum / norm.shape.count()) as f32, (gamma * inverse / norm.shape.count()) as f32)
        } else {
            (0.0, 0.0)
        };
        for at in norm.shape.planes(channel) {
            // SAFETY: see above.
            let slope: &mut [f32] = unsafe { plane_mut(slope, at, area) };
            let x = &input[at..at + area];
            if self.output.is_some() {
                for (slope, &x) in slope.iter_mut().zip(x) {
                    *slope = affine.scale * (*slope - a - (x - mean) * b);
                }
            } else {
                for (slope, &x) in slope.iter_mut().zip(x) {
                    *slope = affine.scale * (pass(affine.of(x), *slope) - a - (x - mean) * b);
                }
            }
        }
        (gamma as f32, sum as f32)
    }
}
