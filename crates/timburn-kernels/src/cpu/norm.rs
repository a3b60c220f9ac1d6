//! Batch normalisation with what usually follows it (a residual sum, a ReLU) on plain slices `[n, c, …]`, forward and backward.
//!
//! A channel, or of small planes some channels ([`norm_narrow`](super::norm_narrow)), is the work of one thread, image after image: results do not depend on the number of threads. While a channel's values
//! are in the cache they are read several times and leave once.

use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::{Output, Shared};
use super::element::Element;
use super::memory::Block;
use super::norm_narrow::{self, BackwardGroup, TrainGroup};
use super::sweep::{self, Affine, apply, for_activation};
use crate::Activation;
use crate::level::AutoArch;

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
    pub(super) fn count(&self) -> f64 {
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

/// The sum of a slice.
pub(crate) fn sum<T: Element>(values: &[T]) -> f32 {
    struct Sum<'a, T>(&'a [T]);
    impl<T: Element> WithSimd for Sum<'_, T> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> f32 {
            sweep::sum::<S, T>(self.0)
        }
    }
    AutoArch::new().dispatch(Sum(values))
}

/// What [`Norm::train`] gives.
pub(crate) struct Trained<T> {
    pub(crate) output: Block<T>,
    pub(crate) mean: Vec<f32>,
    /// Biased.
    pub(crate) variance: Vec<f32>,
}

impl Norm<'_> {
    /// Mean, factor and offset of a channel. The mean is subtracted first: a factor and an offset alone would lose digits where it is
    /// large beside the deviation.
    pub(super) fn affine(&self, channel: usize, mean: f32, variance: f32) -> Affine {
        let scale = (f64::from(self.gamma[channel]) / (f64::from(variance) + self.epsilon).sqrt()) as f32;
        Affine { mean, scale, shift: self.beta[channel] }
    }

    /// Normalises with the batch's own statistics.
    pub(crate) fn train<T: Element>(&self, input: &[T], residual: Option<&[T]>) -> Trained<T> {
        let mut output = Output::new(self.shape.len());
        let pointer = output.pointer();
        let channel = |channel| AutoArch::new().dispatch(TrainChannel { norm: self, channel, input, residual, output: pointer });
        let group = |group| AutoArch::new().dispatch(TrainGroup { norm: self, group, input, residual, output: pointer });
        let statistics: Vec<(f32, f32)> = if norm_narrow::fits(&self.shape) {
            (0..norm_narrow::groups(&self.shape)).into_par_iter().flat_map_iter(group).collect()
        } else {
            (0..self.shape.channels).into_par_iter().map(channel).collect()
        };
        let (mean, variance) = statistics.into_iter().unzip();
        // SAFETY: all planes of all channels were written.
        Trained { output: unsafe { output.finish() }, mean, variance }
    }

    /// Normalises with given statistics, from `input` or, without one, in place.
    ///
    /// # Safety
    /// `output` points to as many values as the shape says, which no one else uses; in place they are initialised.
    pub(crate) unsafe fn fixed<T: Element>(
        &self,
        input: Option<&[T]>,
        residual: Option<&[T]>,
        mean: &[f32],
        variance: &[f32],
        output: Shared<T>,
    ) {
        let NormShape { channels, area, .. } = self.shape;
        let affine: Vec<Affine> = (0..channels).map(|channel| self.affine(channel, mean[channel], variance[channel])).collect();
        (0..self.shape.images * channels).into_par_iter().with_min_len(1 + 4096 / area.max(1)).for_each(|plane| {
            let at = plane * area;
            let (x, residual) = (input.map(|x| &x[at..at + area]), residual.map(|r| &r[at..at + area]));
            let (affine, activation) = (affine[plane % channels], self.activation);
            // SAFETY: planes are disjoint, and the caller grants the whole.
            let output = unsafe { output.at(at) };
            AutoArch::new().dispatch(FixedPlane { affine, activation, x, residual, output, area });
        });
    }
}

/// A channel of [`Norm::train`], whose planes of `output` are the task's.
struct TrainChannel<'a, T> {
    norm: &'a Norm<'a>,
    channel: usize,
    input: &'a [T],
    residual: Option<&'a [T]>,
    output: Shared<T>,
}

impl<T: Element> WithSimd for TrainChannel<'_, T> {
    /// Mean and biased variance.
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> (f32, f32) {
        let (shape, area) = (self.norm.shape, self.norm.shape.area);
        let mut total = 0f64;
        for at in shape.planes(self.channel) {
            total += f64::from(sweep::sum::<S, T>(&self.input[at..at + area]));
        }
        let mean = (total / shape.count()) as f32;
        let mut total = 0f64;
        for at in shape.planes(self.channel) {
            total += f64::from(sweep::squares::<S, T>(&self.input[at..at + area], mean));
        }
        let variance = (total / shape.count()) as f32;
        let affine = self.norm.affine(self.channel, mean, variance);
        for at in shape.planes(self.channel) {
            let residual = self.residual.map(|residual| &residual[at..at + area]);
            let x = self.input[at..at + area].as_ptr();
            // SAFETY: a plane of this channel, which is only written, and here alone.
            unsafe { for_activation!(self.norm.activation, apply::<S, T>(affine, x, residual, self.output.at(at), area)) };
        }
        (mean, variance)
    }
}

/// A plane of [`Norm::fixed`], which is the task's; without `x` in place.
struct FixedPlane<'a, T> {
    affine: Affine,
    activation: Activation,
    x: Option<&'a [T]>,
    residual: Option<&'a [T]>,
    output: *mut T,
    area: usize,
}

impl<T: Element> WithSimd for FixedPlane<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let x = match self.x {
            Some(x) => x.as_ptr(),
            None => self.output.cast_const(),
        };
        // SAFETY: whole planes; in place they are initialised.
        unsafe { for_activation!(self.activation, apply::<S, T>(self.affine, x, self.residual, self.output, self.area)) };
    }
}

/// What the backward pass starts from.
pub(crate) struct Backward<'a, T> {
    pub(crate) norm: Norm<'a>,
    pub(crate) input: &'a [T],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    /// The forward pass's output, where a residual was added: without one the activation's input is computed again.
    pub(crate) output: Option<&'a [T]>,
    /// Whether mean and variance are the batch's own, and so functions of the input.
    pub(crate) batch_statistics: bool,
}

/// Gradients of the parameters.
pub(crate) struct ParameterGradients {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
}

impl<T: Element> Backward<'_, T> {
    /// Turns the output's gradient in `slope` into the input's. `residual` gets what passes the activation.
    ///
    /// # Safety
    /// Both point to as many values as the shape says, which no one else uses; those of `slope` are initialised.
    pub(crate) unsafe fn run(&self, slope: Shared<T>, residual: Option<Shared<T>>) -> ParameterGradients {
        let channel = |channel| AutoArch::new().dispatch(BackwardChannel { job: self, channel, slope, residual });
        let group = |group| AutoArch::new().dispatch(BackwardGroup { job: self, group, slope, residual });
        let shape = &self.norm.shape;
        let gradients: Vec<(f32, f32)> = if norm_narrow::fits(shape) {
            (0..norm_narrow::groups(shape)).into_par_iter().flat_map_iter(group).collect()
        } else {
            (0..shape.channels).into_par_iter().map(channel).collect()
        };
        let (gamma, beta) = gradients.into_iter().unzip();
        ParameterGradients { gamma, beta }
    }
}

/// A channel of [`Backward::run`], whose planes of `slope` and `residual` are the task's.
struct BackwardChannel<'a, T> {
    job: &'a Backward<'a, T>,
    channel: usize,
    slope: Shared<T>,
    residual: Option<Shared<T>>,
}

impl<T: Element> WithSimd for BackwardChannel<'_, T> {
    /// Gradients of γ and β.
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> (f32, f32) {
        // SAFETY: this task's planes, as the caller of `run` grants.
        unsafe { for_activation!(self.job.norm.activation, backward_channel::<S, T>(&self)) }
    }
}

/// # Safety
/// The planes of the channel are the caller's, and those of `slope` initialised.
#[inline(always)]
unsafe fn backward_channel<S: Simd, T: Element, const A: u8>(task: &BackwardChannel<'_, T>) -> (f32, f32) {
    let &BackwardChannel { job, channel, slope, residual } = task;
    let (norm, area) = (&job.norm, job.norm.shape.area);
    let (mean, variance) = (job.mean[channel], job.variance[channel]);
    let inverse = 1.0 / (f64::from(variance) + norm.epsilon).sqrt();
    let affine = norm.affine(channel, mean, variance);
    let (mut sum, mut product) = (0f64, 0f64);
    for at in norm.shape.planes(channel) {
        let x = &job.input[at..at + area];
        // SAFETY: as the caller promises.
        let [s, p] = unsafe {
            match job.output {
                Some(output) => {
                    let residual = residual.map(|residual| residual.at(at));
                    // What passes is kept: the output's mask is not needed a second time.
                    sweep::mask::<S, T, A>(mean, x, &output[at..at + area], slope.at(at), residual)
                }
                None => sweep::slopes::<S, T, A>(affine, x, slope.at(at)),
            }
        };
        sum += f64::from(s);
        product += f64::from(p);
    }
    let gamma = product * inverse;
    let mut centre = [0f32; 2];
    if job.batch_statistics {
        centre = [(sum / norm.shape.count()) as f32, (gamma * inverse / norm.shape.count()) as f32];
    }
    for at in norm.shape.planes(channel) {
        let x = &job.input[at..at + area];
        // SAFETY: as the caller promises.
        unsafe {
            if job.output.is_some() {
                sweep::finish::<S, T, { sweep::IDENTITY }>(affine, centre, x, slope.at(at));
            } else {
                sweep::finish::<S, T, A>(affine, centre, x, slope.at(at));
            }
        }
    }
    (gamma as f32, sum as f32)
}
