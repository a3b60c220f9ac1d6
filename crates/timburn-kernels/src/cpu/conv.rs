//! Two-dimensional convolution and its gradients on plain slices, `[n, c, h, w]` throughout.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::{Output, Shared};
use super::convolved::Convolved;
use super::correlation::{WeightLayout, Weights};
use super::depthwise::{self, Depthwise};
use super::element::Element;
use super::joined;
use super::memory::Block;
use super::weight_gradient::WeightGradient;
use super::window::{Reach, Source, pick};
use super::winograd::{self, Gradient, Winograd};

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
    /// A fully connected layer: maps of one pixel. The same kernels, another name for who listens.
    pub(crate) dense: bool,
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

    /// The tiles in which [`winograd`] computes the output and the input's gradient, where it does.
    pub(super) fn winograd(&self) -> [Option<usize>; 2] {
        let fits = self.kernel == [3, 3]
            && (self.stride, self.dilation, self.groups) == ([1, 1], [1, 1], 1)
            && self.before.iter().all(|&before| before <= 2);
        [(self.inputs, self.outputs, self.result), (self.outputs, self.inputs, self.size)]
            .map(|(from, to, size)| if fits { winograd::tile(from, to, size) } else { None })
    }

    /// Whether the output, and whether the input's gradient, is a matrix product over the positions of all images: few positions, many weights.
    pub(super) fn is_joined(&self) -> [bool; 2] {
        self.winograd().map(|tile| tile.is_none() && joined::fits(self))
    }

    /// The same for bf16, and for the weight's gradient, where pairs are multiplied twice as fast otherwise: joined values are f32. Fewest
    /// positions win most, as measured on ResNet-50 at 32 and 224 pixels.
    pub(super) fn is_joined_rather_than_pairs(&self) -> [bool; 3] {
        let positions = self.images * self.result[0] * self.result[1];
        let most = if self.taps() == 1 { 256 } else { 1024 };
        let [output, input] = self.is_joined();
        [output && positions <= most, input && positions <= most, output && positions <= 256]
    }

    pub(crate) fn input_len(&self) -> usize {
        self.images * self.inputs * self.size[0] * self.size[1]
    }

    pub(crate) fn output_len(&self) -> usize {
        self.images * self.outputs * self.result[0] * self.result[1]
    }

    fn input<'a, T>(&self, values: &'a [T]) -> Source<'a, T> {
        Source { values, channels: self.inputs, height: self.size[0], width: self.size[1] }
    }

    fn output<'a, T>(&self, values: &'a [T]) -> Source<'a, T> {
        Source { values, channels: self.outputs, height: self.result[0], width: self.result[1] }
    }

    /// What the kernel's taps see of the input.
    fn reach(&self) -> Reach {
        let tap = |axis: usize, k: usize| (k * self.dilation[axis]) as isize - self.before[axis] as isize;
        let taps = (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| (tap(0, i), tap(1, j)))).collect();
        Reach::new(taps, (self.stride[0], self.stride[1]), (self.result[0], self.result[1]))
    }
}

/// A convolution without those outer rows and columns of its kernel that see nothing but zeros: maps smaller than their kernel have some.
struct Cropped {
    shape: ConvShape,
    /// What is left of the kernel's rows and columns.
    live: [Range<usize>; 2],
}

impl Cropped {
    fn new(shape: &ConvShape) -> Option<Self> {
        let live = |axis: usize| {
            let sees = |k: &usize| {
                let tap = k * shape.dilation[axis];
                (0..shape.result[axis])
                    .any(|p| (shape.before[axis]..shape.before[axis] + shape.size[axis]).contains(&(p * shape.stride[axis] + tap)))
            };
            let first = (0..shape.kernel[axis]).find(sees)?;
            Some(first..(first..shape.kernel[axis]).rfind(sees)? + 1)
        };
        let live = [live(0)?, live(1)?];
        let kernel = [live[0].len(), live[1].len()];
        let before = |axis: usize| shape.before[axis].checked_sub(live[axis].start * shape.dilation[axis]);
        (kernel != shape.kernel).then_some(())?;
        let before = [before(0)?, before(1)?];
        Some(Self { shape: ConvShape { kernel, before, ..*shape }, live })
    }

    /// Pairs of rows of both kernels' positions: of the whole one's, of the cropped one's.
    fn rows(&self, whole: [usize; 2]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + '_ {
        let [down, across] = &self.live;
        let width = across.len();
        down.clone()
            .enumerate()
            .map(move |(i, row)| (row * whole[1] + across.start..row * whole[1] + across.end, i * width..(i + 1) * width))
    }

    fn crop(&self, weight: &[f32], whole: [usize; 2]) -> Vec<f32> {
        let taps = self.shape.taps();
        let mut cropped = vec![0f32; weight.len() / (whole[0] * whole[1]) * taps];
        cropped.par_chunks_exact_mut(taps).with_min_len(1024).zip(weight.par_chunks_exact(whole[0] * whole[1])).for_each(|(to, from)| {
            self.rows(whole).for_each(|(outer, inner)| to[inner].copy_from_slice(&from[outer]));
        });
        cropped
    }

    fn embed(&self, cropped: &[f32], whole: [usize; 2]) -> Block {
        let taps = self.shape.taps();
        let mut weight = vec![0f32; cropped.len() / taps * (whole[0] * whole[1])];
        weight.par_chunks_exact_mut(whole[0] * whole[1]).with_min_len(1024).zip(cropped.par_chunks_exact(taps)).for_each(|(to, from)| {
            self.rows(whole).for_each(|(outer, inner)| to[outer].copy_from_slice(&from[inner]));
        });
        weight.into()
    }
}

/// The convolution of stride 1 that a pointwise one of larger stride is on the pixels it sees.
fn on_seen_pixels(shape: &ConvShape) -> Option<ConvShape> {
    let strided = shape.kernel == [1, 1] && shape.before == [0, 0] && shape.stride != [1, 1];
    let inside = (0..2).all(|axis| (shape.result[axis] - 1) * shape.stride[axis] < shape.size[axis]);
    (strided && inside).then_some(ConvShape { size: shape.result, stride: [1, 1], ..*shape })
}

/// The pixels that a pointwise convolution sees.
fn seen_pixels<T: Element>(shape: &ConvShape, input: &[T]) -> Block<T> {
    let [height, width] = shape.result;
    let mut seen = Output::new(shape.images * shape.inputs * height * width);
    let pointer = seen.pointer();
    (0..shape.images * shape.inputs).into_par_iter().with_min_len(8).for_each(|plane| {
        let from = &input[plane * shape.size[0] * shape.size[1]..][..shape.size[0] * shape.size[1]];
        // SAFETY: this plane of `seen`; it is written whole, before anything of it is read.
        let to = unsafe { std::slice::from_raw_parts_mut(pointer.at(plane * height * width), height * width) };
        for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(shape.size[1]).step_by(shape.stride[0])) {
            pick(to, from, shape.stride[1]);
        }
    });
    // SAFETY: every plane was written.
    unsafe { seen.finish() }
}

/// Back to their places, zeros between.
fn spread_pixels<T: Element>(shape: &ConvShape, seen: &[T]) -> Block<T> {
    let [height, width] = shape.result;
    let mut input = Output::new(shape.input_len());
    let pointer = input.pointer();
    let (area, stride) = (shape.size[0] * shape.size[1], shape.stride[1]);
    (0..shape.images * shape.inputs).into_par_iter().with_min_len(8).for_each(|plane| {
        let from = &seen[plane * height * width..][..height * width];
        // SAFETY: this plane of `input`; it is written whole, before anything of it is read.
        let to = unsafe { std::slice::from_raw_parts_mut(pointer.at(plane * area), area) };
        to.fill(T::default());
        for (to, from) in to.chunks_exact_mut(shape.size[1]).step_by(shape.stride[0]).zip(from.chunks_exact(width)) {
            if stride == 2 {
                let to = &mut to[..2 * width - 1];
                (0..width).for_each(|i| to[2 * i] = from[i]);
            } else {
                to.iter_mut().step_by(stride).zip(from).for_each(|(to, &from)| *to = from);
            }
        }
    });
    // SAFETY: every plane was written.
    unsafe { input.finish() }
}

/// The output of a convolution with `weight` `[outputs, inputs / groups, kernel…]`.
pub(crate) fn forward<T: Convolved>(shape: &ConvShape, input: &[T], weight: &[f32], bias: Option<&[f32]>) -> Block<T> {
    if let Some(output) = T::forward_joined(shape, input, weight, bias) {
        return output;
    }
    if let Some(cropped) = Cropped::new(shape) {
        return forward(&cropped.shape, input, &cropped.crop(weight, shape.kernel), bias);
    }
    if let Some(dense) = on_seen_pixels(shape) {
        return forward(&dense, &seen_pixels(shape, input), weight, bias);
    }
    let mut output = Output::new(shape.output_len());
    let target = output.pointer();
    let (source, images) = (shape.input(input), shape.images);
    if let [Some(tile), _] = T::winograd(shape) {
        let (before, outputs, result) = (shape.before, shape.outputs, shape.result);
        // SAFETY: the whole output, of which there is no other user; `tile` has looked at the channels.
        unsafe {
            Winograd { source, images, before, weight, transposed: false, bias, target, outputs, result }.run(tile);
            return output.finish();
        }
    }
    let reach = &shape.reach();
    // SAFETY: the grid is the whole output, of which there is no other user; so `finish` finds every value written.
    unsafe {
        if shape.is_depthwise() {
            let residues = &[(0..shape.taps()).map(|tap| (tap, tap)).collect()];
            let job = Depthwise { source, images, reach, weights: weight, bias, residues, stride: [1, 1], target, size: shape.result };
            job.run();
        } else {
            let (rows, channels, taps) = (shape.rows(), shape.channels(), shape.taps());
            let layout =
                WeightLayout { group: rows * channels * taps, row: channels * taps, channel: taps, taps: &(0..taps).collect::<Vec<_>>() };
            let weights = Weights { values: weight, sizes: [shape.groups, rows, channels], layout };
            T::correlate(source, images, reach, &weights, bias, target);
        }
        output.finish()
    }
}

/// The gradient with respect to the input.
///
/// An input pixel was seen by those taps whose distance to it is a multiple of the stride: for each residue of the pixel's row and
/// column these are fixed, and the gradient is a correlation of stride 1 with them.
pub(crate) fn input_gradient<T: Convolved>(shape: &ConvShape, gradient: &[T], weight: &[f32]) -> Block<T> {
    if let Some(output) = T::input_gradient_joined(shape, gradient, weight) {
        return output;
    }
    if let Some(cropped) = Cropped::new(shape) {
        return input_gradient(&cropped.shape, gradient, &cropped.crop(weight, shape.kernel));
    }
    if let Some(dense) = on_seen_pixels(shape) {
        return spread_pixels(shape, &input_gradient(&dense, gradient, weight));
    }
    let mut output = Output::new(shape.input_len());
    let pointer = output.pointer();
    let (source, images) = (shape.output(gradient), shape.images);
    if let [_, Some(tile)] = T::winograd(shape) {
        // The gradient is padded by what the kernel reaches beyond the input's padding.
        let (before, outputs, result) = (shape.before.map(|before| 2 - before), shape.inputs, shape.size);
        // SAFETY: as in `forward`.
        unsafe {
            Winograd { source, images, before, weight, transposed: true, bias: None, target: pointer, outputs, result }.run(tile);
            return output.finish();
        }
    }
    // Kernel positions seen from pixels of this residue, and the distance of the output they contributed to.
    let seen = |axis: usize, residue: usize| -> Vec<(usize, isize)> {
        let step = shape.stride[axis] as isize;
        let distance = |k: usize| (residue + shape.before[axis]) as isize - (k * shape.dilation[axis]) as isize;
        (0..shape.kernel[axis]).filter(|&k| distance(k) % step == 0).map(|k| (k, distance(k) / step)).collect()
    };
    if shape.is_depthwise() {
        // All residues together see one window.
        let [rows, columns] = shape.stride;
        let residues = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let pairs = |(row, column): (usize, usize)| -> Vec<((isize, isize), usize)> {
            let across = seen(1, column);
            seen(0, row).iter().flat_map(|i| across.iter().map(move |j| ((i.1, j.1), i.0 * shape.kernel[1] + j.0))).collect()
        };
        let pairs: Vec<_> = residues.map(pairs).collect();
        let mut taps: Vec<_> = pairs.iter().flatten().map(|pair| pair.0).collect();
        taps.sort_unstable();
        taps.dedup();
        let number = |tap: &(isize, isize)| taps.binary_search(tap).unwrap_or(0);
        let residues: &Vec<Vec<_>> =
            &pairs.iter().map(|pairs| pairs.iter().map(|(tap, kernel)| (number(tap), *kernel)).collect()).collect();
        let grid = (shape.size[0].div_ceil(rows), shape.size[1].div_ceil(columns));
        let reach = &Reach::new(taps, (1, 1), grid);
        let (stride, size) = (shape.stride, shape.size);
        // SAFETY: the whole input's gradient, written in full.
        unsafe {
            Depthwise { source, images, reach, weights: weight, bias: None, residues, stride, target: pointer, size }.run();
            return output.finish();
        }
    }
    // Residues lie side by side first, and find their places at the end: values far apart are slow to write.
    let mut parts = (shape.stride != [1, 1]).then(|| Output::new(shape.input_len()));
    let whole = parts.as_mut().map_or(pointer, Output::pointer);
    let grid =
        |row: usize, column: usize| ((shape.size[0] - row).div_ceil(shape.stride[0]), (shape.size[1] - column).div_ceil(shape.stride[1]));
    let mut starts = Vec::new();
    let mut start = 0;
    for row in 0..shape.stride[0].min(shape.size[0]) {
        for column in 0..shape.stride[1].min(shape.size[1]) {
            let (down, across) = (seen(0, row), seen(1, column));
            let pairs: Vec<_> = down.iter().flat_map(|&i| across.iter().map(move |&j| (i, j))).collect();
            let kernel: &Vec<usize> = &pairs.iter().map(|&(i, j)| i.0 * shape.kernel[1] + j.0).collect();
            let grid = grid(row, column);
            let reach = &Reach::new(pairs.iter().map(|&(i, j)| (i.1, j.1)).collect(), (1, 1), grid);
            starts.push(start);
            let (rows, channels, taps) = (shape.rows(), shape.channels(), shape.taps());
            // SAFETY: the residues' parts do not overlap and together are the whole.
            unsafe {
                let target = Shared::new(whole.at(start));
                let layout = WeightLayout { group: rows * channels * taps, row: taps, channel: channels * taps, taps: kernel };
                let weights = Weights { values: weight, sizes: [shape.groups, channels, rows], layout };
                T::correlate(source, images, reach, &weights, None, target);
            }
            start += images * shape.inputs * grid.0 * grid.1;
        }
    }
    // SAFETY: every value was written.
    let Some(parts) = parts.map(|parts| unsafe { parts.finish() }) else { return unsafe { output.finish() } };
    let [height, width] = shape.size;
    (0..images * shape.inputs).into_par_iter().with_min_len(4).for_each(|plane| {
        for row in 0..height {
            // SAFETY: a row of this plane, which is written whole.
            let line = unsafe { std::slice::from_raw_parts_mut(pointer.at((plane * height + row) * width), width) };
            let residue = row % shape.stride[0];
            let part = |column: usize| {
                let (rows, columns) = grid(residue, column);
                &parts[starts[residue * shape.stride[1].min(width) + column] + (plane * rows + row / shape.stride[0]) * columns..]
                    [..columns]
            };
            if shape.stride[1] == 2 && width > 1 {
                let (even, odd) = (part(0), part(1));
                for (pair, (&even, &odd)) in line.chunks_exact_mut(2).zip(even.iter().zip(odd)) {
                    pair[0] = even;
                    pair[1] = odd;
                }
                if width % 2 == 1 {
                    line[width - 1] = even[width / 2];
                }
            } else {
                for column in 0..shape.stride[1].min(width) {
                    line[column..].iter_mut().step_by(shape.stride[1]).zip(part(column)).for_each(|(to, &from)| *to = from);
                }
            }
        }
    });
    // SAFETY: as above: every value was written.
    unsafe { output.finish() }
}

/// The gradient with respect to the weight.
pub(crate) fn weight_gradient<T: Convolved>(shape: &ConvShape, input: &[T], gradient: &[T]) -> Block {
    if let Some(output) = T::weight_gradient_joined(shape, input, gradient) {
        return output;
    }
    if let Some(cropped) = Cropped::new(shape) {
        return cropped.embed(&weight_gradient(&cropped.shape, input, gradient), shape.kernel);
    }
    if let Some(dense) = on_seen_pixels(shape) {
        return weight_gradient(&dense, &seen_pixels(shape, input), gradient);
    }
    let (source, slope) = (shape.input(input), shape.output(gradient));
    let (images, before) = (shape.images, shape.before);
    match T::winograd(shape)[0] {
        Some(4) => return Gradient::<T, 4, 6> { source, slope, images, before }.run(),
        Some(_) => return Gradient::<T, 2, 4> { source, slope, images, before }.run(),
        None => {}
    }
    let reach = &shape.reach();
    if shape.is_depthwise() {
        depthwise::weight_gradient(source, slope, images, reach)
    } else {
        T::multiply(&WeightGradient { source, gradient: slope, images, groups: shape.groups, reach })
    }
}

/// The gradient with respect to the bias.
pub(crate) fn bias_gradient<T: Element>(shape: &ConvShape, gradient: &[T]) -> Block {
    let area = shape.result[0] * shape.result[1];
    let sum = |channel: usize| {
        let planes = (0..shape.images).map(|image| &gradient[(image * shape.outputs + channel) * area..][..area]);
        planes.map(|plane| f64::from(super::norm::sum(plane))).sum::<f64>() as f32
    };
    (0..shape.outputs).into_par_iter().map(sum).collect::<Vec<_>>().into()
}
