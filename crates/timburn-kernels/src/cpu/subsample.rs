//! Every n-th pixel, in more channels: the shortcut without parameters (option A), and its gradient.

use rayon::prelude::*;

use super::buffer::Output;
use super::element::Element;
use super::memory::Block;
use super::window::pick;

/// Sizes of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subsample {
    pub(crate) images: usize,
    pub(crate) inputs: usize,
    /// At least as many as inputs: what is missing is zero, half of it before (rounded down), half after.
    pub(crate) outputs: usize,
    /// Height and width of the input.
    pub(crate) size: [usize; 2],
    pub(crate) stride: usize,
}

impl Subsample {
    /// Height and width of the result.
    pub(crate) fn result(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(self.stride))
    }

    pub(crate) fn input_len(&self) -> usize {
        self.images * self.inputs * self.size[0] * self.size[1]
    }

    pub(crate) fn output_len(&self) -> usize {
        self.images * self.outputs * self.result()[0] * self.result()[1]
    }

    /// Channels of zeros before the first.
    fn before(&self) -> usize {
        (self.outputs - self.inputs) / 2
    }

    /// `[images, outputs, h', w']` of `[images, inputs, h, w]`.
    pub(crate) fn forward<T: Element>(&self, input: &[T]) -> Block<T> {
        let ([height, width], [rows, columns]) = (self.size, self.result());
        let mut output = Output::new(self.output_len());
        let pointer = output.pointer();
        (0..self.images).into_par_iter().for_each(|image| {
            for channel in 0..self.outputs {
                // SAFETY: this plane of the output; no bytes are not a value.
                let plane = unsafe {
                    std::slice::from_raw_parts_mut(pointer.at((image * self.outputs + channel) * rows * columns), rows * columns)
                };
                let Some(from) = channel.checked_sub(self.before()).filter(|&from| from < self.inputs) else {
                    plane.fill(T::default());
                    continue;
                };
                let input = &input[(image * self.inputs + from) * height * width..][..height * width];
                for (line, from) in plane.chunks_exact_mut(columns).zip(input.chunks_exact(width).step_by(self.stride)) {
                    pick(line, from, self.stride);
                }
            }
        });
        // SAFETY: all planes were written.
        unsafe { output.finish() }
    }

    /// The gradient of the input.
    pub(crate) fn backward<T: Element>(&self, slope: &[T]) -> Block<T> {
        let ([height, width], [rows, columns]) = (self.size, self.result());
        let mut gradient = Output::new(self.input_len());
        let pointer = gradient.pointer();
        (0..self.images).into_par_iter().for_each(|image| {
            for channel in 0..self.inputs {
                // SAFETY: as in the forward pass.
                let plane =
                    unsafe { std::slice::from_raw_parts_mut(pointer.at((image * self.inputs + channel) * height * width), height * width) };
                plane.fill(T::default());
                let slope = &slope[(image * self.outputs + self.before() + channel) * rows * columns..][..rows * columns];
                for (line, slope) in plane.chunks_exact_mut(width).step_by(self.stride).zip(slope.chunks_exact(columns)) {
                    line.iter_mut().step_by(self.stride).zip(slope).for_each(|(to, &slope)| *to = slope);
                }
            }
        });
        // SAFETY: all planes were written.
        unsafe { gradient.finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::elementwise::{add, converted};
    use super::super::tests::Random;
    use super::*;
    use half::bf16;

    #[test]
    fn pixels_and_slopes_go_where_plain_loops_put_them() {
        let random = &mut Random(5);
        for case in 0..40 {
            let (inputs, stride) = (random.between(1, 7), random.between(1, 4));
            let shape = Subsample {
                images: random.between(1, 4),
                inputs,
                outputs: inputs + case % 5,
                size: [random.between(1, 9), random.between(1, 20)],
                stride,
            };
            let ([height, width], [rows, columns]) = (shape.size, shape.result());
            let (x, slope) = (random.values(shape.input_len()), random.values(shape.output_len()));
            let (mut y, mut dx) = (vec![0f32; slope.len()], vec![0f32; x.len()]);
            for image in 0..shape.images {
                for channel in 0..inputs {
                    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                        let from = ((image * inputs + channel) * height + row * stride) * width + column * stride;
                        let to = ((image * shape.outputs + channel + case % 5 / 2) * rows + row) * columns + column;
                        (y[to], dx[from]) = (x[from], slope[to]);
                    }
                }
            }
            assert_eq!(shape.forward(&x)[..], y, "{shape:?}");
            assert_eq!(shape.backward(&slope)[..], dx, "{shape:?}");
        }
    }

    #[test]
    fn sums_and_conversions_are_those_of_single_values() {
        let random = &mut Random(6);
        for len in [1, 15, 16, 17, 1000, (1 << 15) + 3] {
            let (a, b) = (random.values(len), random.values(len));
            let low: Vec<bf16> = converted::<f32, bf16>(&a).to_vec();
            assert!(low.iter().zip(&a).all(|(low, &a)| *low == bf16::from_f32(a)), "{len}");
            assert!(converted::<bf16, f32>(&low).iter().zip(&low).all(|(a, low)| *a == low.to_f32()), "{len}");
            let mut sum = a.clone();
            add(&mut sum, &b);
            assert!(sum.iter().zip(a.iter().zip(&b)).all(|(sum, (a, b))| *sum == a + b), "{len}");
            let (mut sum, added) = (low.clone(), converted::<f32, bf16>(&b));
            add(&mut sum, &added);
            let exact = low.iter().zip(&added[..]).map(|(a, b)| bf16::from_f32(a.to_f32() + b.to_f32()));
            assert!(sum.iter().zip(exact).all(|(sum, exact)| *sum == exact), "{len}");
        }
    }
}
