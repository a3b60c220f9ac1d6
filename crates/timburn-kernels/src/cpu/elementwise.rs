//! Updates of parameters, and sums of gradients: one pass over values that are far larger than the caches, by all threads, in place.
//!
//! The arithmetic is written value by value and left to the compiler, which may not fuse a multiplication with an addition: every
//! result has the bits of the composition of single operations.

use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::Output;
use super::element::{Convert, Element};
use super::memory::Block;
use super::tile::lanes;
use crate::level::AutoArch;
use crate::{AdamStep, SgdStep};

/// Values of a task: enough to be worth one, few enough that the tasks of a layer's weights share the work evenly.
const CHUNK: usize = 1 << 15;

/// `sum + added`, in place of `sum`; in bf16 rounded once.
pub(crate) fn add<T: Element>(sum: &mut [T], added: &[T]) {
    let chunks = sum.par_chunks_mut(CHUNK).zip(added.par_chunks(CHUNK));
    chunks.for_each(|(sum, added)| AutoArch::new().dispatch(Add { sum, added }));
}

/// The values in another type, rounded if need be.
pub(crate) fn converted<T: Element, U: Element>(values: &[T]) -> Block<U> {
    let mut converted = Output::new(values.len());
    let pointer = converted.pointer();
    values.par_chunks(CHUNK).enumerate().for_each(|(chunk, values)| {
        // SAFETY: a chunk of the result for each of the values'.
        let to = unsafe { pointer.at(chunk * CHUNK) };
        AutoArch::new().dispatch(Convert { values, to });
    });
    // SAFETY: all chunks were written.
    unsafe { converted.finish() }
}

struct Add<'a, T> {
    sum: &'a mut [T],
    added: &'a [T],
}

impl<T: Element> WithSimd for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let lanes = lanes::<S>();
        let len = self.sum.len().min(self.added.len());
        let whole = len - len % lanes;
        for at in (0..whole).step_by(lanes) {
            // SAFETY: a vector of values of both.
            unsafe {
                let (sum, added) = (self.sum.as_mut_ptr().add(at), self.added.as_ptr().add(at));
                T::store::<S>(sum, T::load::<S>(sum) + T::load::<S>(added));
            }
        }
        for (sum, added) in self.sum.iter_mut().zip(self.added).skip(whole) {
            *sum = T::from_f32(sum.to_f32() + added.to_f32());
        }
    }
}

/// `start + weight · (end - start)`, computed from the nearer end, in place of `start`.
pub(crate) fn lerp(start: &mut [f32], end: &[f32], weight: f64) {
    let weight = Weight::new(weight);
    let chunks = start.par_chunks_mut(CHUNK).zip(end.par_chunks(CHUNK));
    chunks.for_each(|(start, end)| AutoArch::new().dispatch(Lerp { start, end, weight }));
}

/// The weight of an interpolation's end.
#[derive(Clone, Copy)]
struct Weight {
    near_end: bool,
    /// Of the end further away.
    factor: f32,
}

impl Weight {
    fn new(weight: f64) -> Self {
        let near_end = weight >= 0.5;
        Self { near_end, factor: if near_end { 1.0 - weight } else { weight } as f32 }
    }

    #[inline(always)]
    fn between(self, start: f32, end: f32) -> f32 {
        let far = (end - start) * self.factor;
        if self.near_end { end - far } else { start + far }
    }
}

struct Lerp<'a> {
    start: &'a mut [f32],
    end: &'a [f32],
    weight: Weight,
}

impl WithSimd for Lerp<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        for (start, &end) in self.start.iter_mut().zip(self.end) {
            *start = self.weight.between(*start, end);
        }
    }
}

/// A step of plain gradient descent: `param` in place.
pub(crate) fn sgd(param: &mut [f32], gradient: &[f32], step: SgdStep) {
    let chunks = param.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
    chunks.for_each(|(param, gradient)| AutoArch::new().dispatch(Sgd { param, gradient, step }));
}

/// A step of gradient descent with momentum: `param` and `buffer` in place.
pub(crate) fn sgd_momentum(param: &mut [f32], gradient: &[f32], buffer: &mut [f32], step: SgdStep) {
    let chunks = param.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(buffer.par_chunks_mut(CHUNK));
    chunks.for_each(|((param, gradient), buffer)| AutoArch::new().dispatch(SgdMomentum { param, gradient, buffer, step }));
}

struct Sgd<'a> {
    param: &'a mut [f32],
    gradient: &'a [f32],
    step: SgdStep,
}

impl WithSimd for Sgd<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let (lr, decay) = (self.step.lr as f32, self.step.weight_decay as f32);
        if decay == 0.0 {
            for (param, gradient) in self.param.iter_mut().zip(self.gradient) {
                *param -= gradient * lr;
            }
        } else {
            for (param, gradient) in self.param.iter_mut().zip(self.gradient) {
                *param -= (gradient + *param * decay) * lr;
            }
        }
    }
}

struct SgdMomentum<'a> {
    param: &'a mut [f32],
    gradient: &'a [f32],
    buffer: &'a mut [f32],
    step: SgdStep,
}

impl WithSimd for SgdMomentum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        match (self.step.nesterov, self.step.weight_decay == 0.0) {
            (false, false) => self.run::<false, false>(),
            (false, true) => self.run::<false, true>(),
            (true, false) => self.run::<true, false>(),
            (true, true) => self.run::<true, true>(),
        }
    }
}

impl SgdMomentum<'_> {
    #[inline(always)]
    fn run<const NESTEROV: bool, const PLAIN: bool>(self) {
        let SgdStep { lr, momentum, weight_decay, .. } = self.step;
        let (lr, momentum, decay) = (lr as f32, momentum as f32, weight_decay as f32);
        for ((param, &gradient), buffer) in self.param.iter_mut().zip(self.gradient).zip(self.buffer) {
            let gradient = if PLAIN { gradient } else { gradient + *param * decay };
            *buffer = *buffer * momentum + gradient;
            let step = if NESTEROV { gradient + *buffer * momentum } else { *buffer };
            *param -= step * lr;
        }
    }
}

/// A step of Adam or AdamW: `param`, `mean` and `square` in place.
pub(crate) fn adam(param: &mut [f32], gradient: &[f32], [mean, square]: [&mut [f32]; 2], step: AdamStep) {
    let values = param.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
    let moments = mean.par_chunks_mut(CHUNK).zip(square.par_chunks_mut(CHUNK));
    values.zip(moments).for_each(|((param, gradient), (mean, square))| {
        AutoArch::new().dispatch(Adam { param, gradient, mean, square, step });
    });
}

struct Adam<'a> {
    param: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    step: AdamStep,
}

impl WithSimd for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let AdamStep { lr, betas, eps, penalty, decay, correction } = self.step;
        let weight = Weight::new(1.0 - betas[0]);
        let (old, new) = (betas[1] as f32, (1.0 - betas[1]) as f32);
        let (root, eps, rate) = (correction[1].sqrt() as f32, eps as f32, (lr / correction[0]) as f32);
        let (penalty, keep) = (penalty as f32, if decay == 0.0 { 1.0 } else { 1.0 - lr * decay } as f32);
        let values = self.param.iter_mut().zip(self.gradient);
        for ((param, &gradient), (mean, square)) in values.zip(self.mean.iter_mut().zip(self.square)) {
            // A product with 1 changes no bit; a sum with 0 may change a zero's sign.
            let gradient = if penalty == 0.0 { gradient } else { gradient + *param * penalty };
            *mean = weight.between(*mean, gradient);
            *square = *square * old + gradient * gradient * new;
            *param = *param * keep - *mean / (square.sqrt() / root + eps) * rate;
        }
    }
}
