//! The stem's maximum over 3×3 windows, stride 2, padding 1, and its gradient.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

use std::ops::Range;

use macerator::{Simd, WithSimd, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::element::{Convert, Element, cast};
use super::memory::Block;
use super::tile::{MAX_LANES, lanes, splat};
use super::window::pick;
use crate::level::AutoArch;

/// Planes and their height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolShape {
    pub(crate) planes: usize,
    pub(crate) size: [usize; 2],
}

impl PoolShape {
    /// Height and width of the result.
    pub(crate) fn result(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(2))
    }

    fn tasks(&self) -> impl IndexedParallelIterator<Item = Range<usize>> {
        let (planes, share) = (self.planes, self.planes.div_ceil(8 * rayon::current_num_threads()).max(1));
        (0..planes.div_ceil(share)).into_par_iter().map(move |task| task * share..planes.min((task + 1) * share))
    }
}

/// The maxima, and which of the nine pixels each is: the first of equal ones, or the last that is NaN, as in PyTorch.
pub(crate) fn forward<T: Element>(shape: &PoolShape, input: &[T]) -> (Block<T>, Vec<u8>) {
    let [height, width] = shape.result();
    let mut output = Output::new(shape.planes * height * width);
    let pointer = output.pointer();
    let mut chosen = vec![0u8; shape.planes * height * width];
    let share = shape.planes.div_ceil(8 * rayon::current_num_threads()).max(1);
    let area = height * width;
    chosen.par_chunks_mut((share * area).max(1)).zip(shape.tasks()).for_each(|(chosen, planes)| {
        AutoArch::new().dispatch(Forward { shape, input, planes, output: pointer, chosen });
    });
    // SAFETY: all planes were written.
    (unsafe { output.finish() }, chosen)
}

struct Forward<'a, T> {
    shape: &'a PoolShape,
    input: &'a [T],
    planes: Range<usize>,
    output: Shared<T>,
    /// Of these planes.
    chosen: &'a mut [u8],
}

impl<T: Element> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let ([height, width], [rows, columns]) = (self.shape.size, self.shape.result());
        // Three lines as vectors see them: columns -1, 1, 3, … and 0, 2, 4, …; what is not there is never the maximum.
        let pitch = columns.next_multiple_of(lanes::<S>()) + 2 * MAX_LANES;
        let mut scratch = Scratch::new(6 * pitch);
        let lines = cast::<T>(scratch.values());
        let mut numbers = [0f32; MAX_LANES];
        let mut values = [T::default(); MAX_LANES];
        for (plane, chosen) in self.planes.zip(self.chosen.chunks_exact_mut(rows * columns)) {
            let input = &self.input[plane * height * width..][..height * width];
            for row in 0..rows {
                for i in 0..3 {
                    let lines = &mut lines[2 * i * pitch..][..2 * pitch];
                    lines.fill(T::from_f32(f32::NEG_INFINITY));
                    // Line 2 · row + i - 1; the last result's third may lie below the plane.
                    let Some(line) = (2 * row + i).checked_sub(1).filter(|&line| line < height) else { continue };
                    let line = &input[line * width..][..width];
                    let (odd, even) = lines.split_at_mut(pitch);
                    pick(&mut even[..columns], line, 2);
                    if width > 1 {
                        pick(&mut odd[1..1 + width / 2], &line[1..], 2);
                    }
                }
                let to = (plane * rows + row) * columns;
                for column in (0..columns).step_by(lanes::<S>()) {
                    // SAFETY: six lines of `pitch` values, a vector and one more than the columns; the results are this task's.
                    unsafe {
                        let (mut best, mut number) = (splat::<S>(f32::NEG_INFINITY), splat::<S>(4.0));
                        for tap in 0..9 {
                            let at = match tap % 3 {
                                0 => column,
                                1 => pitch + column,
                                _ => column + 1,
                            };
                            let value = T::load::<S>(lines.as_ptr().add(tap / 3 * 2 * pitch + at));
                            let larger = value.gt(best).select(value, best);
                            let larger_number = value.gt(best).select(splat::<S>(tap as f32), number);
                            // A NaN is equal to nothing.
                            best = value.eq(value).select(larger, value);
                            number = value.eq(value).select(larger_number, splat::<S>(tap as f32));
                        }
                        let count = (columns - column).min(lanes::<S>());
                        T::store::<S>(values.as_mut_ptr(), best);
                        std::ptr::copy_nonoverlapping(values.as_ptr(), self.output.at(to + column), count);
                        vstore_unaligned(numbers.as_mut_ptr(), number);
                        let chosen = &mut chosen[row * columns + column..][..count];
                        for i in 0..count {
                            chosen[i] = numbers[i].to_int_unchecked::<i32>() as u8;
                        }
                    }
                }
            }
        }
    }
}

/// The gradient of the input. Where several slopes meet, their sum is rounded once.
pub(crate) fn backward<T: Element>(shape: &PoolShape, gradient: &[T], chosen: &[u8]) -> Block<T> {
    let ([height, width], [rows, columns]) = (shape.size, shape.result());
    let mut output = Output::new(shape.planes * height * width);
    let pointer = output.pointer();
    shape.tasks().for_each(|planes| {
        let mut scratch = Scratch::new(height * width);
        for plane in planes {
            let sums = scratch.values();
            sums.fill(0.0);
            let from = gradient[plane * rows * columns..][..rows * columns].chunks_exact(columns);
            for (row, (from, chosen)) in from.zip(chosen[plane * rows * columns..].chunks_exact(columns)).enumerate() {
                for (column, (&slope, &tap)) in from.iter().zip(chosen).enumerate() {
                    let tap = usize::from(tap);
                    let at = (2 * row + tap / 3).wrapping_sub(1).wrapping_mul(width).wrapping_add((2 * column + tap % 3).wrapping_sub(1));
                    if let Some(sum) = sums.get_mut(at) {
                        *sum += slope.to_f32();
                    }
                }
            }
            // SAFETY: this plane of the output.
            let to = unsafe { pointer.at(plane * height * width) };
            AutoArch::new().dispatch(Convert { values: &*sums, to });
        }
    });
    // SAFETY: all planes were written.
    unsafe { output.finish() }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// Maximum and its pixel, in PyTorch's order.
    fn plain(plane: &[f32], [height, width]: [usize; 2], row: usize, column: usize) -> (f32, usize) {
        let mut best = (f32::NEG_INFINITY, 2 * row * width + 2 * column);
        for y in (2 * row).saturating_sub(1)..(2 * row + 2).min(height) {
            for x in (2 * column).saturating_sub(1)..(2 * column + 2).min(width) {
                let value = plane[y * width + x];
                if value > best.0 || value.is_nan() {
                    best = (value, y * width + x);
                }
            }
        }
        best
    }

    #[test]
    fn maxima_and_gradients_are_those_of_plain_loops_ties_and_nan_included() {
        for (case, size) in [[1, 1], [2, 1], [1, 5], [7, 7], [8, 33], [31, 64], [32, 112], [5, 67]].into_iter().enumerate() {
            let shape = PoolShape { planes: 5, size };
            let area = size[0] * size[1];
            // Few different values: many ties; a NaN now and then.
            let mut state = 7u32 + case as u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 16
            };
            let x: Vec<f32> = (0..5 * area).map(|_| if next() % 97 == 0 { f32::NAN } else { (next() % 4) as f32 - 1.0 }).collect();
            let [rows, columns] = shape.result();
            let slope: Vec<f32> = (0..5 * rows * columns).map(|_| (next() % 9) as f32 - 4.0).collect();
            let (y, chosen) = forward(&shape, &x);
            let dx = backward(&shape, &slope, &chosen);
            let mut expected = vec![0f32; x.len()];
            for (i, &y) in y.iter().enumerate() {
                let (plane, place) = (i / (rows * columns), i % (rows * columns));
                let (value, at) = plain(&x[plane * area..][..area], size, place / columns, place % columns);
                assert_eq!(y.to_bits(), value.to_bits(), "{size:?}: {i}");
                expected[plane * area + at] += slope[i];
            }
            assert_eq!(dx[..], expected[..], "{size:?}");
            // These numbers are bf16 too.
            let round = |values: &[f32]| values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<bf16>>();
            let (y16, chosen16) = forward(&shape, &round(&x));
            let same = |a: &[bf16], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_f32() == *b || (a.is_nan() && b.is_nan()));
            assert!(same(&y16, &y) && chosen16 == chosen, "{size:?}");
            assert!(same(&backward(&shape, &round(&slope), &chosen), &expected), "{size:?}");
        }
    }
}
