//! Convolutions with many weights and few positions: matrix products over the positions of all images, joined.
//!
//! Maps are small there, and weights outweigh what they are multiplied with: each is read once, where it lies, and packed into a cache by
//! the task that multiplies it. What the taps see is built as a matrix before, once for all tasks. Each value is a sum over channels and
//! taps, or over positions, in a fixed order, whatever the tasks: results do not depend on the number of threads.

mod factor;
mod places;
mod product;

use self::factor::{by_position, by_row, padded};
use self::places::Places;
use self::product::{Finish, Left, Product, Weights};
use super::buffer::Output;
use super::conv::ConvShape;
use super::memory::Block;

/// Most positions of all images: of more, what the taps see does not stay in a cache.
const POSITIONS: usize = 4096;
/// Most positions, counted once for each tap: a channel's sums for all of them are one task's.
const SEEN: usize = 1 << 14;
/// Fewest weights.
const WEIGHTS: usize = 1 << 13;

/// Whether this is the way to convolve.
pub(in crate::cpu) fn fits(shape: &ConvShape) -> bool {
    let (taps, positions) = (shape.kernel[0] * shape.kernel[1], shape.images * shape.result[0] * shape.result[1]);
    let few = positions <= POSITIONS && positions * taps <= SEEN;
    shape.groups == 1 && few && shape.inputs * shape.outputs * taps >= WEIGHTS
}

/// The output.
pub(in crate::cpu) fn forward(shape: &ConvShape, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Block {
    let places = &Places::input(shape);
    let right = &by_row(places, input);
    let mut output = Output::new(shape.output_len());
    let chosen = places.chosen();
    let left = Left::ByRow(Weights { values: weight, pitch: places.channels * places.kernel, chosen: chosen.as_deref() });
    let finish = Finish::Maps { area: shape.result[0] * shape.result[1], bias };
    let (rows, columns, depth, target) = (shape.outputs, places.positions, places.rows(), output.pointer());
    // SAFETY: the whole output, written in full.
    unsafe {
        Product { rows, columns, depth, left, right, pitch: depth, finish, target }.run();
        output.finish()
    }
}

/// The gradient with respect to the input.
pub(in crate::cpu) fn input_gradient(shape: &ConvShape, gradient: &[f32], weight: &[f32]) -> Block {
    let places = &Places::input(shape);
    let right = &by_row(&Places::output(shape), gradient);
    let mut output = Output::new(shape.input_len());
    let chosen = places.chosen();
    let left = Left::ByDepth(Weights { values: weight, pitch: places.channels * places.kernel, chosen: chosen.as_deref() });
    let finish = if places.identity { Finish::Maps { area: places.pixels, bias: None } } else { Finish::Pixels(places) };
    let (rows, columns, depth, target) = (places.rows(), places.positions, shape.outputs, output.pointer());
    // SAFETY: the whole input's gradient, written in full.
    unsafe {
        Product { rows, columns, depth, left, right, pitch: depth, finish, target }.run();
        output.finish()
    }
}

/// The gradient with respect to the weight.
pub(in crate::cpu) fn weight_gradient(shape: &ConvShape, input: &[f32], gradient: &[f32]) -> Block {
    let places = &Places::input(shape);
    let right = &by_position(places, input, false);
    let left = Left::Packed(&by_position(&Places::output(shape), gradient, true));
    let (rows, columns, depth) = (shape.outputs, places.rows(), places.positions);
    let (width, chosen) = (places.channels * places.kernel, places.chosen());
    let mut output = Output::new(rows * width);
    let target = output.pointer();
    let finish = Finish::Matrix { pitch: width, chosen: chosen.as_deref() };
    // SAFETY: the whole weight's gradient, written in full.
    unsafe {
        Product { rows, columns, depth, left, right, pitch: padded(depth), finish, target }.run();
        output.finish()
    }
}
