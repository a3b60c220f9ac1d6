//! The types of tensors that are convolved, and which way each goes: f32, and bf16 whose weights are f32.

use half::bf16;

use super::buffer::Shared;
use super::conv::ConvShape;
use super::correlation::{Correlation, PackedWeights, Weights};
use super::element::Element;
use super::elementwise::converted;
use super::joined;
use super::memory::Block;
use super::operand::{Tile, pairs};
use super::weight_gradient::WeightGradient;
use super::window::{Reach, Source};

/// A type of tensors that are convolved.
pub(crate) trait Convolved: Element {
    /// The tiles in which [`winograd`] computes the output and the input's gradient, where it does.
    fn winograd(shape: &ConvShape) -> [Option<usize>; 2];

    /// A [`Correlation`] with weights to pack.
    ///
    /// # Safety
    /// Those of [`Correlation::run`].
    unsafe fn correlate(
        source: Source<'_, Self>,
        images: usize,
        reach: &Reach,
        weights: &Weights<'_>,
        bias: Option<&[f32]>,
        target: Shared<Self>,
    );

    /// Runs a weight gradient.
    fn multiply(gradient: &WeightGradient<'_, Self>) -> Block;

    /// What [`joined`] computes, where that is the way.
    fn forward_joined(_shape: &ConvShape, _input: &[Self], _weight: &[f32], _bias: Option<&[f32]>) -> Option<Block<Self>> {
        None
    }

    /// As [`forward_joined`](Self::forward_joined).
    fn input_gradient_joined(_shape: &ConvShape, _gradient: &[Self], _weight: &[f32]) -> Option<Block<Self>> {
        None
    }

    /// As [`forward_joined`](Self::forward_joined).
    fn weight_gradient_joined(_shape: &ConvShape, _input: &[Self], _gradient: &[Self]) -> Option<Block> {
        None
    }
}

/// # Safety
/// Those of [`Correlation::run`].
unsafe fn correlate<T: Element, P: Tile<T>>(
    source: Source<'_, T>,
    images: usize,
    reach: &Reach,
    weights: &Weights<'_>,
    bias: Option<&[f32]>,
    target: Shared<T>,
) {
    let (weights, groups) = (&PackedWeights::<P>::new(weights), weights.sizes[0]);
    // SAFETY: as the caller promises.
    unsafe { Correlation { source, images, groups, reach, weights, bias, target }.run() };
}

impl Convolved for f32 {
    fn winograd(shape: &ConvShape) -> [Option<usize>; 2] {
        shape.winograd()
    }

    unsafe fn correlate(
        source: Source<'_, Self>,
        images: usize,
        reach: &Reach,
        weights: &Weights<'_>,
        bias: Option<&[f32]>,
        target: Shared<Self>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { correlate::<Self, Self>(source, images, reach, weights, bias, target) };
    }

    fn multiply(gradient: &WeightGradient<'_, Self>) -> Block {
        gradient.run::<Self>()
    }

    fn forward_joined(shape: &ConvShape, input: &[Self], weight: &[f32], bias: Option<&[f32]>) -> Option<Block<Self>> {
        shape.is_joined()[0].then(|| joined::forward(shape, input, weight, bias))
    }

    fn input_gradient_joined(shape: &ConvShape, gradient: &[Self], weight: &[f32]) -> Option<Block<Self>> {
        shape.is_joined()[1].then(|| joined::input_gradient(shape, gradient, weight))
    }

    fn weight_gradient_joined(shape: &ConvShape, input: &[Self], gradient: &[Self]) -> Option<Block> {
        shape.is_joined()[0].then(|| joined::weight_gradient(shape, input, gradient))
    }
}

/// Whether output, input gradient and weight gradient of a convolution of bf16 are computed by [`joined`], in f32.
fn joined_bf16(shape: &ConvShape) -> [bool; 3] {
    let [output, input] = shape.is_joined();
    if pairs() { shape.is_joined_rather_than_pairs() } else { [output, input, output] }
}

impl Convolved for bf16 {
    /// In f32: four times fewer products outweigh that pairs are multiplied twice as fast.
    fn winograd(shape: &ConvShape) -> [Option<usize>; 2] {
        shape.winograd()
    }

    unsafe fn correlate(
        source: Source<'_, Self>,
        images: usize,
        reach: &Reach,
        weights: &Weights<'_>,
        bias: Option<&[f32]>,
        target: Shared<Self>,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if pairs() {
                correlate::<Self, Self>(source, images, reach, weights, bias, target);
            } else {
                correlate::<Self, f32>(source, images, reach, weights, bias, target);
            }
        }
    }

    fn multiply(gradient: &WeightGradient<'_, Self>) -> Block {
        if pairs() { gradient.run::<Self>() } else { gradient.run::<f32>() }
    }

    fn forward_joined(shape: &ConvShape, input: &[Self], weight: &[f32], bias: Option<&[f32]>) -> Option<Block<Self>> {
        joined_bf16(shape)[0].then(|| converted(&joined::forward(shape, &converted(input), weight, bias)))
    }

    fn input_gradient_joined(shape: &ConvShape, gradient: &[Self], weight: &[f32]) -> Option<Block<Self>> {
        joined_bf16(shape)[1].then(|| converted(&joined::input_gradient(shape, &converted(gradient), weight)))
    }

    fn weight_gradient_joined(shape: &ConvShape, input: &[Self], gradient: &[Self]) -> Option<Block> {
        joined_bf16(shape)[2].then(|| joined::weight_gradient(shape, &converted(input), &converted(gradient)))
    }
}
