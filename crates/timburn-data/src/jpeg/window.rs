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

/// What a region needs of the whole frame: MCUs, and the window of each component in them.
#[derive(Default)]
pub(super) struct Windows {
    pub(super) mcu_columns: Range<usize>,
    pub(super) mcu_rows: Range<usize>,
    pub(super) components: Vec<Window>,
}

impl Windows {
    /// For a region of the picture scaled down to `eighths` eighths.
    pub(super) fn new(frame: &Frame, eighths: usize, region: Region) -> Self {
        let mut components: Vec<_> = frame.components.iter().map(|component| Window::new(frame, component, eighths, region)).collect();
        let (mut mcu_columns, mut mcu_rows) = (0..0, 0..0);
        for (component, window) in frame.components.iter().zip(&components) {
            mcu_columns = union(&mcu_columns, &over(&window.block_columns, component.h));
            mcu_rows = union(&mcu_rows, &over(&window.block_rows, component.v));
        }
        for (component, window) in frame.components.iter().zip(&mut components) {
            // The groups of a progressive frame are those of the whole component.
            let align = if frame.progressive { LANES } else { 1 };
            window.block_columns = mcu_columns.start * component.h / align * align..mcu_columns.end * component.h;
            window.block_rows = mcu_rows.start * component.v..mcu_rows.end * component.v;
        }
        Self { mcu_columns, mcu_rows, components }
    }
}

impl Window {
    /// With the blocks that hold the needed samples, not yet rounded to whole MCUs.
    fn new(frame: &Frame, component: &Component, eighths: usize, region: Region) -> Self {
        // A subsampled component need not be scaled down as far (libjpeg's `jpeg_calc_output_dimensions`).
        let mut size = eighths;
        let divides = |max: usize, factor: usize, size: usize| (max * eighths).is_multiple_of(factor * size);
        while size < 8 && divides(frame.h_max, component.h, size * 2) && divides(frame.v_max, component.v, size * 2) {
            size *= 2;
        }
        let expand = (frame.h_max * eighths / (component.h * size), frame.v_max * eighths / (component.v * size));
        let width = (frame.width * component.h * size).div_ceil(frame.h_max * 8);
        let height = (frame.height * component.v * size).div_ceil(frame.v_max * 8);
        let columns = needed(region.left, region.width, expand.0, width);
        let lines = needed(region.top, region.height, expand.1, height);
        let (block_columns, block_rows) = (over(&columns, size), over(&lines, size));
        Self { size, expand, width, height, columns, block_columns, block_rows }
    }

    /// Groups of blocks to a row.
    #[inline(always)]
    pub(super) fn groups(&self) -> usize {
        self.block_columns.len().div_ceil(LANES)
    }

    /// Samples from a row of the plane to the next.
    #[inline(always)]
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

/// The units of `size` that cover a range.
fn over(range: &Range<usize>, size: usize) -> Range<usize> {
    if range.is_empty() { 0..0 } else { range.start / size..range.end.div_ceil(size) }
}

fn union(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    if a.is_empty() { b.clone() } else { a.start.min(b.start)..a.end.max(b.end) }
}

/// What a component is decoded into; kept from picture to picture, because fresh memory costs a page fault every 4 KB.
#[derive(Default)]
pub(super) struct Buffers {
    /// Progressive: the groups of the whole component, row after row. Sequential: those of [`LANES`] MCUs, few enough for the fastest cache.
    pub(super) coefficients: Vec<Group>,
    /// The window's samples, [`Window::stride`] a row.
    pub(super) plane: Vec<u8>,
}

impl Buffers {
    /// Sets the sizes. Coefficients are zero; samples are whatever they are, since a complete frame overwrites all of them that are read.
    pub(super) fn prepare(&mut self, frame: &Frame, component: &Component, window: &Window) {
        let groups = if frame.progressive { component.stride.div_ceil(LANES) * component.rows } else { component.v * component.h };
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
    /// Pixels of a picture that its owner gave back.
    pub(super) pixels: Vec<u8>,
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
        if scratch.buffers.iter().map(Buffers::bytes).sum::<usize>() + scratch.pixels.capacity() <= Self::KEPT {
            KEPT.set(Some(scratch));
        }
        result
    }
}
