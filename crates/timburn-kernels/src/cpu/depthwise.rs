//! Convolutions with one channel in a group: each plane by itself, several output vectors at a time.

use macerator::{AutoArch, Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::correlation::Target;
use super::tile::{MAX_LANES, lanes, splat};
use super::window::{Reach, Source, Window};

/// Sums in flight: as many as hide the latency of a multiply-add.
const SUMS: usize = 8;
/// Images of one sum of the weight gradient.
const IMAGES: usize = 4;

/// `target[n, c, p] = bias[c] + Σ weights[c, t] · source[n, c, p · stride + taps[t]]`.
pub(crate) struct Depthwise<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) images: usize,
    pub(crate) reach: &'a Reach,
    /// `[channels][taps]`.
    pub(crate) weights: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) target: Target,
}

impl Depthwise<'_> {
    /// Computes and writes every position of the grid.
    ///
    /// # Safety
    /// `target` points to `images · channels · height · width` values that nobody else touches, and the grid lies inside it.
    pub(crate) unsafe fn run(&self) {
        let planes = self.images * self.source.channels;
        let share = planes.div_ceil(8 * rayon::current_num_threads()).max(1);
        (0..planes.div_ceil(share)).into_par_iter().for_each(|task| {
            for plane in task * share..planes.min((task + 1) * share) {
                let (image, channel) = (plane / self.source.channels, plane % self.source.channels);
                AutoArch::new().dispatch(Plane { job: self, image, channel });
            }
        });
    }
}

struct Plane<'a> {
    job: &'a Depthwise<'a>,
    image: usize,
    channel: usize,
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Depthwise { source, reach, weights, bias, target, .. } = self.job;
        let window = Window::image(*source, reach, self.image);
        let taps = reach.taps.len();
        let weights = &weights[self.channel * taps..][..taps];
        let start = bias.map_or(0.0, |bias| bias[self.channel]);
        let mut scratch = Scratch::new(window.plane() + MAX_LANES);
        let pixels = scratch.values();
        window.fill::<S>(self.channel..self.channel + 1, pixels);
        let across = reach.grid.1.div_ceil(lanes::<S>());
        let (vectors, step) = (reach.grid.0 * across, window.row_step());
        let base = ((self.image * target.channels + self.channel) * target.height + target.offset.0) * target.width + target.offset.1;
        for first in (0..vectors).step_by(SUMS) {
            let place = |i: usize| {
                let vector = (first + i).min(vectors - 1);
                (vector / across, vector % across * lanes::<S>())
            };
            let from: [usize; SUMS] = core::array::from_fn(|i| place(i).0 * step + place(i).1);
            let mut sums = [splat::<S>(start); SUMS];
            for (&weight, &tap) in weights.iter().zip(window.taps()) {
                let weight = splat::<S>(weight);
                for (sum, &from) in sums.iter_mut().zip(&from) {
                    // SAFETY: a tap of a position of the grid, and what a vector sees beyond it, is in the window or its slack.
                    *sum = f32::vmul_add(weight, unsafe { vload_unaligned(pixels.as_ptr().add(from + tap)) }, *sum);
                }
            }
            for (i, &sum) in sums.iter().enumerate().take(vectors - first) {
                let (row, column) = place(i);
                let to = base + row * target.stride.0 * target.width + column * target.stride.1;
                let count = (reach.grid.1 - column).min(lanes::<S>());
                // SAFETY: positions of this plane, which is this task's.
                unsafe { put::<S>(sum, target, to, count) };
            }
        }
    }
}

/// Writes the first `count` lanes at `to` and then every `stride`-th value.
///
/// # Safety
/// Those values are the caller's to write.
#[inline(always)]
unsafe fn put<S: Simd>(sum: super::tile::Lanes<S>, target: &Target, to: usize, count: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if count == lanes::<S>() && target.stride.1 == 1 {
            vstore_unaligned(target.values.at(to), sum);
            return;
        }
        let mut values = [0f32; MAX_LANES];
        vstore_unaligned(values.as_mut_ptr(), sum);
        for (i, &value) in values.iter().enumerate().take(count) {
            target.values.at(to + i * target.stride.1).write(value);
        }
    }
}

/// `Σ gradient[n, c, p] · source[n, c, p · stride + taps[t]]` as `[c][t]`.
pub(crate) fn weight_gradient(source: Source<'_>, gradient: Source<'_>, images: usize, reach: &Reach) -> Vec<f32> {
    let (channels, taps) = (source.channels, reach.taps.len());
    // A fixed number of images to a sum, added in order: results do not depend on the number of threads.
    let chunks = images.div_ceil(IMAGES);
    let mut sums = Output::new(chunks * channels * taps);
    let pointer = sums.pointer();
    (0..chunks * channels).into_par_iter().for_each(|task| {
        let images = task / channels * IMAGES..images.min((task / channels + 1) * IMAGES);
        let job = PlaneGradient { source, gradient, reach, images, channel: task % channels, sums: pointer, offset: task * taps };
        AutoArch::new().dispatch(job);
    });
    // SAFETY: each task has written its `taps` values.
    let sums = unsafe { sums.finish() };
    let mut total = vec![0f32; channels * taps];
    for chunk in sums.chunks_exact(channels * taps) {
        total.iter_mut().zip(chunk).for_each(|(total, &sum)| *total += sum);
    }
    total
}

struct PlaneGradient<'a> {
    source: Source<'a>,
    gradient: Source<'a>,
    reach: &'a Reach,
    images: std::ops::Range<usize>,
    channel: usize,
    sums: Shared,
    offset: usize,
}

impl WithSimd for PlaneGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { source, gradient, reach, .. } = self;
        let (area, taps) = (reach.area(), reach.taps.len());
        let (rows, columns) = reach.grid;
        let pitch = columns.next_multiple_of(lanes::<S>());
        let bound = Window::image(source, reach, 0).plane();
        let mut totals = vec![0f32; taps];
        let mut scratch = Scratch::new(bound + MAX_LANES + rows * pitch);
        let scratch = scratch.values();
        let (pixels, slopes) = scratch.split_at_mut(bound + MAX_LANES);
        for image in self.images.clone() {
            let window = Window::image(source, reach, image);
            window.fill::<S>(self.channel..self.channel + 1, pixels);
            // What lies beyond the window is stale: it meets the zeros at the end of each row, and must be finite.
            pixels[bound..].fill(0.0);
            let plane = &gradient.values[(image * gradient.channels + self.channel) * area..][..area];
            for (to, from) in slopes.chunks_exact_mut(pitch).zip(plane.chunks_exact(columns)) {
                to[..columns].copy_from_slice(from);
                to[columns..].fill(0.0);
            }
            for (totals, offsets) in totals.chunks_mut(SUMS).zip(window.taps().chunks(SUMS)) {
                let mut sums = [splat::<S>(0.0); SUMS];
                for row in 0..rows {
                    for column in (0..pitch).step_by(lanes::<S>()) {
                        // SAFETY: a row of `slopes` is `pitch` long; pixels as in `Plane`.
                        unsafe {
                            let slope = vload_unaligned::<S, f32>(slopes.as_ptr().add(row * pitch + column));
                            let seen = pixels.as_ptr().add(row * window.row_step() + column);
                            for (sum, &offset) in sums.iter_mut().zip(offsets) {
                                *sum = f32::vmul_add(slope, vload_unaligned(seen.add(offset)), *sum);
                            }
                        }
                    }
                }
                totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += macerator::ReduceAdd::reduce_add(sum));
            }
        }
        // SAFETY: this task's values.
        unsafe { std::ptr::copy_nonoverlapping(totals.as_ptr(), self.sums.at(self.offset), taps) };
    }
}
