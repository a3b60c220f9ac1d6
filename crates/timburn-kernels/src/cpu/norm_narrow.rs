//! Batch normalisation of small planes: channels that lie side by side are swept together, so that vectors are full and loops long.
//!
//! Of several channels each value has constants of its own, written out once; sums are kept for each place in the planes, over some images in
//! f32, over all in f64.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(
    clippy::needless_range_loop,
    clippy::assign_op_pattern,
    reason = "see above: assigning operators are functions that may stay calls"
)]

use std::ops::Range;

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};

use super::buffer::{Scratch, Shared};
use super::element::Element;
use super::norm::{Backward, Norm, NormShape};
use super::sweep::{activate, for_activation, load, pass, store};
use super::tile::{Lanes, MAX_LANES, lanes};

/// Largest plane that is small.
const AREA: usize = 64;
/// Values of an image that are swept together, at most; of channels it is at least one.
const VALUES: usize = 256;
/// Images whose sums are of f32.
const IMAGES: usize = 16;

/// Whether this is the way.
pub(super) fn fits(shape: &NormShape) -> bool {
    shape.area <= AREA
}

/// Tasks of a normalisation.
pub(super) fn groups(shape: &NormShape) -> usize {
    shape.channels.div_ceil(channels(shape))
}

/// Channels that are swept together, as the shape alone has it.
fn channels(shape: &NormShape) -> usize {
    (VALUES / shape.area.max(1)).max(1)
}

/// Some channels of all images, and scratch for their values' constants.
struct Group {
    shape: NormShape,
    channels: Range<usize>,
    /// Values of an image.
    len: usize,
    /// The same in whole vectors.
    pitch: usize,
}

impl Group {
    #[inline(always)]
    fn new(shape: NormShape, group: usize) -> Self {
        let count = channels(&shape);
        let channels = group * count..shape.channels.min((group + 1) * count);
        let len = channels.len() * shape.area;
        Self { shape, channels, len, pitch: len.next_multiple_of(MAX_LANES) }
    }

    /// Where an image's values start.
    #[inline(always)]
    fn start(&self, image: usize) -> usize {
        (image * self.shape.channels + self.channels.start) * self.shape.area
    }

    /// Writes a channel's constant for each of its values; past them it is zero.
    #[inline(always)]
    fn spread(&self, values: &[f64; VALUES], to: &mut [f32]) {
        for channel in 0..self.channels.len() {
            for place in 0..self.shape.area {
                to[channel * self.shape.area + place] = values[channel] as f32;
            }
        }
        for at in self.len..self.pitch {
            to[at] = 0.0;
        }
    }

    /// Adds each channel's sums of places to its total, and clears them.
    #[inline(always)]
    fn collect(&self, sums: &mut [f32], totals: &mut [f64; VALUES]) {
        for channel in 0..self.channels.len() {
            for place in 0..self.shape.area {
                totals[channel] += f64::from(sums[channel * self.shape.area + place]);
            }
        }
        for at in 0..self.pitch {
            sums[at] = 0.0;
        }
    }
}

/// A vector of constants.
///
/// # Safety
/// It is there.
#[inline(always)]
unsafe fn constant<S: Simd>(values: &[f32], at: usize) -> Lanes<S> {
    // SAFETY: as the caller promises.
    unsafe { vload_unaligned(values.as_ptr().add(at)) }
}

/// Adds a vector.
///
/// # Safety
/// It is there.
#[inline(always)]
unsafe fn accumulate<S: Simd>(sums: &mut [f32], at: usize, value: Lanes<S>) {
    // SAFETY: as the caller promises.
    unsafe {
        let to = sums.as_mut_ptr().add(at);
        vstore_unaligned(to, vload_unaligned::<S, f32>(to) + value);
    }
}

/// Some channels of [`Norm::train`], whose planes of `output` are the task's. Gives means and biased variances.
pub(super) struct TrainGroup<'a, T> {
    pub(super) norm: &'a Norm<'a>,
    pub(super) group: usize,
    pub(super) input: &'a [T],
    pub(super) residual: Option<&'a [T]>,
    pub(super) output: Shared<T>,
}

impl<T: Element> WithSimd for TrainGroup<'_, T> {
    type Output = Vec<(f32, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Vec<(f32, f32)> {
        for_activation!(self.norm.activation, train::<S, T>(&self))
    }
}

#[inline(always)]
fn train<S: Simd, T: Element, const A: u8>(task: &TrainGroup<'_, T>) -> Vec<(f32, f32)> {
    let TrainGroup { norm, input, residual, output, .. } = *task;
    let group = Group::new(norm.shape, task.group);
    let (images, len, pitch, step) = (norm.shape.images, group.len, group.pitch, lanes::<S>());
    let mut scratch = Scratch::new(4 * pitch);
    let (sums, rest) = scratch.values().split_at_mut(pitch);
    let (mean, rest) = rest.split_at_mut(pitch);
    let (scale, shift) = rest.split_at_mut(pitch);
    let (mut totals, mut means, mut variances) = ([0f64; VALUES], [0f64; VALUES], [0f64; VALUES]);
    // Distances from a value of the channel: where the mean is large beside the deviation, sums of the values would lose its digits.
    for channel in 0..group.channels.len() {
        means[channel] = f64::from(input[group.start(0) + channel * norm.shape.area].to_f32());
    }
    group.spread(&means, mean);
    sums.fill(0.0);
    for image in 0..images {
        let x = &input[group.start(image)..][..len];
        for at in (0..len).step_by(step) {
            // SAFETY: within the values of this image; whole vectors of sums. Past the values both are zero.
            unsafe { accumulate::<S>(sums, at, load::<S, T>(x.as_ptr(), at, len, 0.0) - constant::<S>(mean, at)) };
        }
        if (image + 1) % IMAGES == 0 || image + 1 == images {
            group.collect(sums, &mut totals);
        }
    }
    for channel in 0..group.channels.len() {
        // As the f32 that is the statistic.
        means[channel] = f64::from((means[channel] + totals[channel] / norm.shape.count()) as f32);
        totals[channel] = 0.0;
    }
    group.spread(&means, mean);
    for image in 0..images {
        let x = &input[group.start(image)..][..len];
        for at in (0..len).step_by(step) {
            // SAFETY: as above. Past the values both are zero.
            unsafe {
                let distance = load::<S, T>(x.as_ptr(), at, len, 0.0) - constant::<S>(mean, at);
                accumulate::<S>(sums, at, distance * distance);
            }
        }
        if (image + 1) % IMAGES == 0 || image + 1 == images {
            group.collect(sums, &mut totals);
        }
    }
    let (mut scales, mut shifts) = ([0f64; VALUES], [0f64; VALUES]);
    for channel in 0..group.channels.len() {
        let variance = (totals[channel] / norm.shape.count()) as f32;
        variances[channel] = f64::from(variance);
        let affine = norm.affine(group.channels.start + channel, means[channel] as f32, variance);
        (scales[channel], shifts[channel]) = (f64::from(affine.scale), f64::from(affine.shift));
    }
    group.spread(&scales, scale);
    group.spread(&shifts, shift);
    for image in 0..images {
        let start = group.start(image);
        for at in (0..len).step_by(step) {
            // SAFETY: the values of this image; its planes of the output are this task's.
            unsafe {
                let x = load::<S, T>(input.as_ptr().add(start), at, len, 0.0) - constant::<S>(mean, at);
                let mut value = f32::vmul_add(x, constant::<S>(scale, at), constant::<S>(shift, at));
                if let Some(residual) = residual {
                    value = value + load::<S, T>(residual.as_ptr().add(start), at, len, 0.0);
                }
                store::<S, T>(output.at(start), at, len, activate::<S, A>(value));
            }
        }
    }
    let mut statistics = Vec::with_capacity(group.channels.len());
    for channel in 0..group.channels.len() {
        statistics.push((means[channel] as f32, variances[channel] as f32));
    }
    statistics
}

/// Some channels of [`Backward::run`], whose planes of `slope` and `residual` are the task's. Gives the gradients of γ and β.
pub(super) struct BackwardGroup<'a, T> {
    pub(super) job: &'a Backward<'a, T>,
    pub(super) group: usize,
    pub(super) slope: Shared<T>,
    pub(super) residual: Option<Shared<T>>,
}

impl<T: Element> WithSimd for BackwardGroup<'_, T> {
    type Output = Vec<(f32, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Vec<(f32, f32)> {
        // SAFETY: this task's planes, as the caller of `run` grants.
        unsafe { for_activation!(self.job.norm.activation, backward::<S, T>(&self)) }
    }
}

/// # Safety
/// The planes of the channels are the caller's, and those of `slope` initialised.
#[inline(always)]
unsafe fn backward<S: Simd, T: Element, const A: u8>(task: &BackwardGroup<'_, T>) -> Vec<(f32, f32)> {
    let &BackwardGroup { job, slope, residual, .. } = task;
    let norm = &job.norm;
    let group = Group::new(norm.shape, task.group);
    let (images, len, pitch, step) = (norm.shape.images, group.len, group.pitch, lanes::<S>());
    let mut scratch = Scratch::new(5 * pitch);
    let (sums, rest) = scratch.values().split_at_mut(pitch);
    let (products, rest) = rest.split_at_mut(pitch);
    let (mean, rest) = rest.split_at_mut(pitch);
    let (scale, shift) = rest.split_at_mut(pitch);
    let (mut means, mut scales, mut shifts, mut inverses) = ([0f64; VALUES], [0f64; VALUES], [0f64; VALUES], [0f64; VALUES]);
    for index in 0..group.channels.len() {
        let channel = group.channels.start + index;
        let affine = norm.affine(channel, job.mean[channel], job.variance[channel]);
        inverses[index] = 1.0 / (f64::from(job.variance[channel]) + norm.epsilon).sqrt();
        (means[index], scales[index], shifts[index]) = (f64::from(affine.mean), f64::from(affine.scale), f64::from(affine.shift));
    }
    group.spread(&means, mean);
    group.spread(&scales, scale);
    group.spread(&shifts, shift);
    sums.fill(0.0);
    products.fill(0.0);
    let (mut sum, mut product) = ([0f64; VALUES], [0f64; VALUES]);
    for image in 0..images {
        let start = group.start(image);
        for at in (0..len).step_by(step) {
            // SAFETY: the values of this image, which are the caller's. Past them slopes are zero, and so are the products.
            unsafe {
                let x = load::<S, T>(job.input.as_ptr().add(start), at, len, 0.0) - constant::<S>(mean, at);
                let passed = match job.output {
                    Some(output) => {
                        let value = load::<S, T>(output.as_ptr().add(start), at, len, 0.0);
                        let passed = pass::<S, A>(value, load::<S, T>(slope.at(start), at, len, 0.0));
                        // What passes is kept: the output's mask is not needed a second time.
                        store::<S, T>(slope.at(start), at, len, passed);
                        if let Some(residual) = residual {
                            store::<S, T>(residual.at(start), at, len, passed);
                        }
                        passed
                    }
                    None => {
                        let value = f32::vmul_add(x, constant::<S>(scale, at), constant::<S>(shift, at));
                        pass::<S, A>(value, load::<S, T>(slope.at(start), at, len, 0.0))
                    }
                };
                accumulate::<S>(sums, at, passed);
                accumulate::<S>(products, at, passed * x);
            }
        }
        if (image + 1) % IMAGES == 0 || image + 1 == images {
            group.collect(sums, &mut sum);
            group.collect(products, &mut product);
        }
    }
    let mut gradients = Vec::with_capacity(group.channels.len());
    let (mut first, mut second) = ([0f64; VALUES], [0f64; VALUES]);
    for channel in 0..group.channels.len() {
        let gamma = product[channel] * inverses[channel];
        gradients.push((gamma as f32, sum[channel] as f32));
        if job.batch_statistics {
            first[channel] = sum[channel] / norm.shape.count();
            second[channel] = gamma * inverses[channel] / norm.shape.count();
        }
    }
    // The sums' place is free.
    let (centre, factor) = (sums, products);
    group.spread(&first, centre);
    group.spread(&second, factor);
    for image in 0..images {
        let start = group.start(image);
        for at in (0..len).step_by(step) {
            // SAFETY: as above.
            unsafe {
                let x = load::<S, T>(job.input.as_ptr().add(start), at, len, 0.0) - constant::<S>(mean, at);
                let mut passed = load::<S, T>(slope.at(start), at, len, 0.0);
                if job.output.is_none() {
                    let value = f32::vmul_add(x, constant::<S>(scale, at), constant::<S>(shift, at));
                    passed = pass::<S, A>(value, passed);
                }
                let slopes = constant::<S>(scale, at) * (passed - constant::<S>(centre, at) - x * constant::<S>(factor, at));
                store::<S, T>(slope.at(start), at, len, slopes);
            }
        }
    }
    gradients
}
