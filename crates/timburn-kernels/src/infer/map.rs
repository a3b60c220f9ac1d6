use super::{Element, vector_lanes};

/// Zeros around each plane of a map, in pixels: what a consumer's kernel sees outside the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Border {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the left.
    pub left: usize,
    /// Columns on the right.
    pub right: usize,
}

impl Border {
    /// The larger of both on each side.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            top: self.top.max(other.top),
            bottom: self.bottom.max(other.bottom),
            left: self.left.max(other.left),
            right: self.right.max(other.right),
        }
    }
}

/// Layout of an activation: `[images][blocks of channels][rows][columns][channels of a block]`, each plane inside its border.
///
/// A block has as many channels as a vector of this machine has lanes; lanes past the last channel are zero. A *planar* map has blocks of
/// one channel: the layout of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Channels.
    pub channels: usize,
    /// Rows, without the border.
    pub height: usize,
    /// Columns, without the border.
    pub width: usize,
    /// Zeros around each plane.
    pub border: Border,
    pub(super) lanes: usize,
}

impl Map {
    /// A blocked map.
    pub fn new(channels: usize, [height, width]: [usize; 2], border: Border) -> Self {
        Self { channels, height, width, border, lanes: vector_lanes() }
    }

    /// A planar map.
    pub fn planar(channels: usize, [height, width]: [usize; 2], border: Border) -> Self {
        Self { channels, height, width, border, lanes: 1 }
    }

    /// A blocked map of [bytes](super::int8): blocks of sixteen channels, on every machine.
    pub fn bytes(channels: usize, [height, width]: [usize; 2], border: Border) -> Self {
        Self { channels, height, width, border, lanes: super::int8::LANES }
    }

    /// Blocks of channels.
    #[inline(always)]
    pub(super) fn blocks(&self) -> usize {
        self.channels.div_ceil(self.lanes)
    }

    /// Values from a row to the next.
    #[inline(always)]
    pub(super) fn row(&self) -> usize {
        self.border.left.saturating_add(self.width).saturating_add(self.border.right).saturating_mul(self.lanes)
    }

    /// Values from a block to the next.
    #[inline(always)]
    pub(super) fn plane(&self) -> usize {
        self.border.top.saturating_add(self.height).saturating_add(self.border.bottom).saturating_mul(self.row())
    }

    /// Values of an image.
    #[inline(always)]
    pub(super) fn image(&self) -> usize {
        self.blocks().saturating_mul(self.plane())
    }

    /// Values of `images` images; of more than there can be, the largest number there is.
    pub fn len(&self, images: usize) -> usize {
        images.saturating_mul(self.image())
    }

    /// Where in a plane pixel `(row, column)` is; the pixel may lie in the border.
    #[inline(always)]
    pub(super) fn at(&self, row: isize, column: isize) -> usize {
        let row = (row + self.border.top as isize) as usize;
        row * self.row() + (column + self.border.left as isize) as usize * self.lanes
    }

    /// Writes the zeros of the border.
    ///
    /// # Panics
    /// When `values` is shorter than [`len`](Self::len).
    pub fn clear_border<T: Element>(&self, images: usize, values: &mut [T]) {
        self.fill_border(images, values, T::default());
    }

    /// Writes the border: `zero`, whatever the values' zero is.
    ///
    /// # Panics
    /// As [`clear_border`](Self::clear_border).
    pub fn fill_border<T: Copy>(&self, images: usize, values: &mut [T], zero: T) {
        if self.border == Border::default() {
            return;
        }
        let (row, width) = (self.row(), self.width * self.lanes);
        for plane in values[..self.len(images)].chunks_exact_mut(self.plane().max(1)) {
            // From one row's last pixel to the next row's first is one run of zeros.
            let mut end = 0;
            for line in 0..self.height {
                let start = (self.border.top + line) * row + self.border.left * self.lanes;
                plane[end..start].fill(zero);
                end = start + width;
            }
            plane[end..].fill(zero);
        }
    }

    /// Lays out pictures `[n, c, h, w]`, border and unused lanes included.
    ///
    /// # Panics
    /// When `target` is shorter than [`len`](Self::len) or `source` has another length than the shape says.
    pub fn from_nchw<T: Element>(&self, images: usize, source: &[f32], target: &mut [T]) {
        assert_eq!(source.len(), images * self.channels * self.height * self.width, "pictures of another size");
        self.clear_border(images, target);
        let area = self.height * self.width;
        for image in 0..images {
            for block in 0..self.blocks() {
                let first = block * self.lanes;
                let count = self.lanes.min(self.channels - first);
                let planes = &source[(image * self.channels + first) * area..][..count * area];
                let target = &mut target[image * self.image() + block * self.plane()..][..self.plane()];
                for row in 0..self.height {
                    let line = &mut target[self.at(row as isize, 0)..][..self.width * self.lanes];
                    if self.lanes == 1 {
                        T::round(&planes[row * self.width..][..self.width], line);
                        continue;
                    }
                    for (column, pixel) in line.chunks_exact_mut(self.lanes).enumerate() {
                        for (lane, value) in pixel.iter_mut().enumerate() {
                            let source = if lane < count { planes[lane * area + row * self.width + column] } else { 0.0 };
                            *value = T::from_f32(source);
                        }
                    }
                }
            }
        }
    }

    /// The values as `[n, c, h, w]`.
    ///
    /// # Panics
    /// When `source` is shorter than [`len`](Self::len).
    pub fn to_nchw<T: Element>(&self, images: usize, source: &[T]) -> Vec<f32> {
        let mut target = Vec::with_capacity(images * self.channels * self.height * self.width);
        for image in 0..images {
            for channel in 0..self.channels {
                let plane = &source[image * self.image() + channel / self.lanes * self.plane()..][..self.plane()];
                for row in 0..self.height {
                    let line = &plane[self.at(row as isize, 0)..][..self.width * self.lanes];
                    target.extend(line.iter().skip(channel % self.lanes).step_by(self.lanes).map(|&value| value.to_f32()));
                }
            }
        }
        target
    }
}

/// Where values are in a map that holds a part of a larger activation: images, blocks and rows are counted in that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) map: &'a Map,
    /// The first image, block and row that the map holds.
    pub(super) first: [usize; 3],
}

impl<'a> Part<'a> {
    /// All of the activation.
    #[inline(always)]
    pub(super) fn whole(map: &'a Map) -> Self {
        Self { map, first: [0; 3] }
    }

    /// Where a pixel of a block is; it may lie in the border.
    #[inline(always)]
    pub(super) fn at(&self, image: usize, block: usize, row: isize, column: isize) -> usize {
        let [first_image, first_block, first_row] = self.first;
        let plane = (image - first_image) * self.map.image() + (block - first_block) * self.map.plane();
        plane + self.map.at(row - first_row as isize, column)
    }
}
