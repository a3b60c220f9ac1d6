//! What the taps of a kernel see, as a matrix.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::ops::Range;

use macerator::Simd;

use super::super::conv::ConvShape;
use super::super::tile::{copy_exact, lanes};
use super::super::transpose::transpose;

/// Where the taps of a kernel look: a matrix `[channels · taps, positions of all images]` of pixels. Taps that see nothing but zeros, as maps
/// smaller than their kernel have some, are left out.
pub(super) struct Places {
    pub(super) images: usize,
    pub(super) channels: usize,
    /// Pixels of a map that is looked at.
    pub(super) pixels: usize,
    pub(super) taps: usize,
    /// Taps of the whole kernel, and which of them are looked at.
    pub(super) kernel: usize,
    pub(super) live: Vec<usize>,
    pub(super) positions: usize,
    /// For each tap and position the pixel in the first channel, and a mask: no bits where there is none.
    pub(super) places: Vec<(usize, u32)>,
    /// Whether each position sees the pixel below it.
    pub(super) identity: bool,
}

impl Places {
    /// What the kernel sees of the input.
    pub(super) fn input(shape: &ConvShape) -> Self {
        let ConvShape { images, inputs: channels, size, kernel, result, .. } = *shape;
        let (pixels, area) = (size[0] * size[1], result[0] * result[1]);
        let seen = |axis: usize, position: usize, tap: usize| {
            let pixel = (position * shape.stride[axis] + tap * shape.dilation[axis]).checked_sub(shape.before[axis])?;
            (pixel < size[axis]).then_some(pixel)
        };
        let place = |tap: usize, position: usize| {
            let (image, position) = (position / area, position % area);
            let row = seen(0, position / result[1], tap / kernel[1]);
            let column = seen(1, position % result[1], tap % kernel[1]);
            let pixel = row.zip(column).map(|(row, column)| image * channels * pixels + row * size[1] + column);
            pixel.map_or((0, 0), |pixel| (pixel, u32::MAX))
        };
        let positions = images * area;
        let mut live: Vec<usize> =
            (0..kernel[0] * kernel[1]).filter(|&tap| (0..area).any(|position| place(tap, position).1 != 0)).collect();
        if live.is_empty() {
            live.push(0);
        }
        let places = live.iter().flat_map(|&tap| (0..positions).map(move |position| place(tap, position))).collect();
        let identity = (kernel, shape.stride, shape.before, size) == ([1, 1], [1, 1], [0, 0], result);
        Self { images, channels, pixels, taps: live.len(), kernel: kernel[0] * kernel[1], live, positions, places, identity }
    }

    /// The output's maps as they are.
    pub(super) fn output(shape: &ConvShape) -> Self {
        let (kernel, stride, before) = ([1, 1], [1, 1], [0, 0]);
        Self::input(&ConvShape { inputs: shape.outputs, size: shape.result, kernel, stride, before, ..*shape })
    }

    /// Whether the maps, of one pixel each, are the matrix already, transposed.
    #[inline(always)]
    pub(super) fn is_matrix(&self) -> bool {
        self.identity && self.pixels == 1
    }

    /// Rows of the matrix.
    pub(super) fn rows(&self) -> usize {
        self.channels * self.taps
    }

    /// Which of a row of weights belongs to each row of the matrix; none if all do.
    pub(super) fn chosen(&self) -> Option<Vec<usize>> {
        let weights = || (0..self.channels).flat_map(|channel| self.live.iter().map(move |tap| channel * self.kernel + tap));
        (self.taps < self.kernel).then(|| weights().collect())
    }

    /// Writes rows of the matrix of `values`, `pitch` apart.
    ///
    /// # Safety
    /// `values` are maps of all images and channels; `to` has room for these rows.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, values: &[f32], rows: Range<usize>, to: *mut f32, pitch: usize) {
        if self.is_matrix() && rows.len() == lanes::<S>() && self.images.is_multiple_of(lanes::<S>()) {
            for image in (0..self.images).step_by(lanes::<S>()) {
                // SAFETY: a square of the matrix `[images, channels]`.
                unsafe {
                    let from = values.as_ptr().add(image * self.channels + rows.start);
                    transpose::<S, f32, f32>(from, self.channels, lanes::<S>(), to.add(image), pitch);
                }
            }
            return;
        }
        let mut to = to;
        for row in rows {
            let (channel, tap) = (row / self.taps, row % self.taps);
            // SAFETY: pixels of this channel in each image.
            unsafe {
                let from = values.as_ptr().add(channel * self.pixels);
                if self.identity && self.pixels >= 4 {
                    for image in 0..self.images {
                        let from = from.add(image * self.channels * self.pixels);
                        copy_exact::<S>(from, to.add(image * self.pixels), self.pixels);
                    }
                } else {
                    let places = self.places.as_ptr().add(tap * self.positions);
                    for position in 0..self.positions {
                        let (place, mask) = *places.add(position);
                        *to.add(position) = f32::from_bits((*from.add(place)).to_bits() & mask);
                    }
                }
                to = to.add(pitch);
            }
        }
    }
}
