//! What a region of the picture needs of each component, at full size or scaled down.

use std::ops::Range;

use super::frame::{Component, Frame};
use super::huffman::Tables;
use super::idct::{Group, LANES};
use super::upsample::Row;
use crate::image::Region;

/// The part of a component that a region of the picture needs.
pub(super) struct Window {
    /// Samples to a side of an inverse-transformed block: 8, or less when the picture is scaled down.
    pub(super) size: usize,
    /// Picture pixels to a sample, across and down.
    pub(super) expand: (usize, usize),
    /// Size of the whole component in samples.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Columns of samples needed, with the neighbours that upsampling looks at.
    pub(super) columns: Range<usize>,
    /// Blocks that hold them.
    pub(super) block_columns: Range<usize>,
    pub(super) block_rows: Range<usize>,
}

impl Window {
    fn new(frame: &Frame, component: &Component, min_size: usize, region: Region) -> Self {
        // A subsampled component need not be scaled down as far (libjpeg's `jpeg_calc_output_dimensions`).
        let mut size = min_size;
        let divides = |max: usize, factor: usize, size: usize| (max * min_size).is_multiple_of(factor * size);
        while size < 8 && divides(frame.h_max, component.h, size * 2) && divides(frame.v_max, component.v, size * 2) {
            size *= 2;
        }
        let expand = (frame.h_max * min_size / (component.h * size), frame.v_max * min_size / (component.v * size));
        let width = (frame.width * component.h * size).div_ceil(frame.h_max * 8);
        let height = (frame.height * component.v * size).div_ceil(frame.v_max * 8);
        let columns = needed(region.left, region.width, expand.0, width);
        let lines = needed(region.top, region.height, expand.1, height);
        // The groups of a progressive frame are those of the whole component.
        let align = if frame.progressive { LANES } else { 1 };
        let block_columns = blocks(&columns, size, component.blocks_wide, component.stride);
        let block_columns = block_columns.start / align * align..block_columns.end;
        let block_rows = blocks(&lines, size, component.blocks_high, component.rows);
        Self { size, expand, width, height, columns, block_columns, block_rows }
    }

    /// The windows of all components for a region of the picture scaled down to `min_size` eighths.
    pub(super) fn all(frame: &Frame, min_size: usize, region: Region) -> Vec<Self> {
        frame.components.iter().map(|component| Self::new(frame, component, min_size, region)).collect()
    }

    /// Groups of blocks to a row.
    pub(super) fn groups(&self) -> usize {
        self.block_columns.len().div_ceil(LANES)
    }

    /// Samples from a row of the plane to the next.
    pub(super) fn stride(&self) -> usize {
        self.groups() * LANES * self.size
    }

    /// The needed samples of a line of the component.
    #[inline(always)]
    pub(super) fn line<'a>(&self, plane: &'a [u8], line: usize) -> &'a [u8] {
        let start = (line - self.block_rows.start * self.size) * self.stride() + self.columns.start - self.block_columns.start * self.size;
        &plane[start..start + self.columns.len()]
    }
}

/// Samples under `count` pixels from `first`, one more to either side where several pixels share a sample.
fn needed(first: usize, count: usize, expand: usize, size: usize) -> Range<usize> {
    if count == 0 {
        return 0..0;
    }
    let margin = usize::from(expand > 1);
    ((first / expand).saturating_sub(margin)).min(size)..((first + count - 1) / expand + 1 + margin).min(size)
}

/// Blocks that hold the samples; up to the end of the MCUs where the samples reach the end of the component, so that a whole picture has no
/// blocks outside.
fn blocks(samples: &Range<usize>, size: usize, blocks: usize, padded: usize) -> Range<usize> {
    if samples.is_empty() {
        return 0..0;
    }
    let end = samples.end.div_ceil(size);
    samples.start / size..if end >= blocks { padded } else { end }
}

/// What a component is decoded into; kept from picture to picture, because fresh memory costs a page fault every 4 KB.
#[derive(Default)]
pub(super) struct Buffers {
    /// Progressive: the groups of the whole component, row after row. Sequential: those of one row of MCUs, inside the window.
    pub(super) coefficients: Vec<Group>,
    /// The window's samples, [`Window::stride`] a row.
    pub(super) plane: Vec<u8>,
}

impl Buffers {
    /// Sets the sizes. Coefficients are zero; samples are whatever they are, since a complete frame overwrites all of them that are read.
    pub(super) fn prepare(&mut self, frame: &Frame, component: &Component, window: &Window) {
        let groups = if frame.progressive { component.stride.div_ceil(LANES) * component.rows } else { component.v * window.groups() };
        self.coefficients.clear();
        self.coefficients.resize(groups, Group::ZERO);
        self.plane.resize(window.stride() * window.block_rows.len() * window.size, 0);
    }

    fn bytes(&self) -> usize {
        self.coefficients.capacity() * size_of::<Group>() + self.plane.capacity()
    }
}

/// All memory of a decoder.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) buffers: [Buffers; 4],
    pub(super) rows: [Row; 4],
    /// Kept because most files of a camera or a program have the same ones.
    pub(super) tables: Tables,
}

impl Scratch {
    /// A thread keeps at most this much between pictures: enough for most photographs.
    const KEPT: usize = 16 << 20;

    /// Lends the thread's scratch memory.
    pub(super) fn lend<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static KEPT: std::cell::Cell<Option<Box<Scratch>>> = const { std::cell::Cell::new(None) };
        }
        let mut scratch = KEPT.take().unwrap_or_default();
        let result = work(&mut scratch);
        if scratch.buffers.iter().map(Buffers::bytes).sum::<usize>() <= Self::KEPT {
            KEPT.set(Some(scratch));
        }
        result
    }
}
