//! Convolutions with one channel in a group: each channel is a lane.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::Buffer;
use super::super::conv::{ConvSpec, taps};
use super::super::map::{Map, Part};
use super::conv::Job;
use super::{GROUP, Isa, LANES, tile};
use crate::level::AutoArch;

/// Fewest multiplications of a task.
const GRAIN: usize = 1 << 19;
/// Tasks per thread when there is enough to do.
const TASKS: usize = 4;

/// Packed weights of a depthwise convolution.
#[derive(Debug)]
pub(super) enum Depthwise {
    /// `[blocks][rows][groups of taps in a row][LANES][GROUP]`: an instruction multiplies neighbouring taps.
    Grouped(Buffer<i8>),
    /// `[blocks][taps][LANES]`.
    Single(Buffer<i32>),
}

impl Depthwise {
    pub(super) fn new(isa: Isa, spec: &ConvSpec, weight: &[i8]) -> Self {
        let ([height, width], blocks) = (spec.kernel, spec.outputs.div_ceil(LANES));
        if isa.permutes() && spec.dilation == 1 {
            let groups = width.div_ceil(GROUP);
            let mut packed = Buffer::beside(blocks * height * groups * LANES * GROUP);
            for (channel, kernel) in weight.chunks_exact(height * width).enumerate() {
                for (row, taps) in kernel.chunks_exact(width).enumerate() {
                    for (tap, &value) in taps.iter().enumerate() {
                        let group = (channel / LANES * height + row) * groups + tap / GROUP;
                        packed[(group * LANES + channel % LANES) * GROUP + tap % GROUP] = value;
                    }
                }
            }
            return Self::Grouped(packed);
        }
        let mut packed = Buffer::beside(blocks * height * width * LANES);
        for (channel, kernel) in weight.chunks_exact(height * width).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                packed[(channel / LANES * height * width + tap) * LANES + channel % LANES] = i32::from(value);
            }
        }
        Self::Single(packed)
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Grouped(weights) => weights.len(),
            Self::Single(weights) => size_of_val(&**weights),
        }
    }

    /// Whether taps are read in groups, the last one perhaps beyond the kernel.
    pub(super) fn groups_taps(&self) -> bool {
        matches!(self, Self::Grouped(_))
    }

    pub(super) fn run(&self, job: &Job<'_>) {
        let (to, blocks) = (job.output, job.output.blocks());
        let taps = taps(job.spec, job.input.map, 1);
        // A task is a few rows of one block of one image.
        let (planes, work) = (job.images * blocks, job.images * to.height * to.width * job.spec.multiplications());
        let tasks = (work / GRAIN).clamp(1, TASKS * rayon::current_num_threads());
        let parts = tasks.div_ceil(planes.max(1)).clamp(1, to.height.max(1));
        let tasks = tasks.min(planes);
        let range = |index: usize, of: usize, len: usize| index * len / of..(index + 1) * len / of;
        (0..tasks * parts).into_par_iter().with_max_len(1).for_each(|task| {
            for plane in range(task / parts, tasks, planes) {
                let (image, block, rows) = (plane / blocks, plane % blocks, range(task % parts, parts, to.height));
                let rows = Rows { job, taps: &taps, image, block, rows };
                match self {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the machine has the instructions, or the weights would be packed otherwise; `Conv::compute` has checked that
                    // the maps hold these pixels and all that the taps see of the border; the rows are the task's own.
                    Self::Grouped(weights) => unsafe { x86::rows(&rows, weights) },
                    #[cfg(not(target_arch = "x86_64"))]
                    Self::Grouped(_) => {}
                    Self::Single(weights) => AutoArch::new().dispatch(Plain(rows, weights)),
                }
            }
        });
    }
}

/// Rows of one block of one image.
struct Rows<'a> {
    job: &'a Job<'a>,
    taps: &'a [usize],
    image: usize,
    block: usize,
    rows: std::ops::Range<usize>,
}

impl Rows<'_> {
    /// Where an output pixel's first tap is.
    #[inline(always)]
    fn input(&self, row: usize, column: usize) -> usize {
        let (row, column) = self.job.first(row, column);
        Part::whole(self.job.input.map).at(self.image, self.block, row, column)
    }

    /// Where a pixel is in a map of the output's shape.
    #[inline(always)]
    fn place(&self, map: &Map, row: usize, column: usize) -> usize {
        Part::whole(map).at(self.image, self.block, row as isize, column as isize)
    }
}

struct Plain<'a>(Rows<'a>, &'a Buffer<i32>);

impl WithSimd for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self(rows, weights) = self;
        for row in rows.rows.clone() {
            for column in 0..rows.job.output.width {
                // SAFETY: `Conv::compute` has checked that the maps hold the pixel and all that the taps see of the border; the rows are
                // the task's own.
                unsafe { pixel(&rows, weights, row, column) };
            }
        }
    }
}

#[inline(always)]
unsafe fn pixel(rows: &Rows<'_>, weights: &Buffer<i32>, row: usize, column: usize) {
    let (job, finish, first) = (rows.job, rows.job.finish, rows.block * LANES);
    // SAFETY: as the caller promises.
    unsafe {
        let input = job.input.values.as_ptr().add(rows.input(row, column));
        let weights = weights.as_ptr().add(rows.block * rows.taps.len() * LANES);
        let mut sums = finish.start.as_ptr().add(first).cast::<[i32; LANES]>().read_unaligned();
        for (index, &tap) in rows.taps.iter().enumerate() {
            let values = input.add(tap).cast::<[u8; LANES]>().read_unaligned();
            let weights = weights.add(index * LANES).cast::<[i32; LANES]>().read_unaligned();
            for lane in 0..LANES {
                sums[lane] = sums[lane].wrapping_add(i32::from(values[lane]) * weights[lane]);
            }
        }
        let added = |map: &Map| rows.place(map, row, column);
        let residual = job.residual.map(|residual| (residual.values.as_ptr().add(added(residual.map)), finish.residual));
        let (multiplier, offset) = (finish.multiplier.as_ptr().add(first), finish.offset.as_ptr().add(first));
        let values = tile::finish(sums, multiplier, offset, residual, finish.bounds);
        tile::store(job.values.at(rows.place(job.output, row, column) * job.size()), values, job.wide);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Four pixels side by side are sixteen channels of four taps: permuted to four taps of sixteen channels, one instruction multiplies them.

    use std::arch::x86_64::*;

    use super::{LANES, Rows};

    /// Byte `4 lane + tap` is byte `16 tap + lane` of four pixels.
    const ORDER: [u8; 64] = {
        let mut order = [0; 64];
        let mut at = 0;
        while at < 64 {
            order[at] = (at % 4 * LANES + at / 4) as u8;
            at += 1;
        }
        order
    };

    /// # Safety
    /// The machine has AVX512-VNNI and AVX512-VBMI; the maps hold the rows and what their taps see; nobody else touches them.
    pub(super) unsafe fn rows(rows: &Rows<'_>, weights: &[i8]) {
        let spec = rows.job.spec;
        // SAFETY: as the caller promises.
        unsafe {
            match (spec.kernel, spec.stride) {
                ([3, 3], 1) => cover::<3, 1, 4, 1>(rows, weights),
                ([3, 3], 2) => cover::<3, 1, 2, 2>(rows, weights),
                ([5, 5], 1) => cover::<5, 2, 4, 1>(rows, weights),
                ([5, 5], 2) => cover::<5, 2, 2, 2>(rows, weights),
                _ => cover::<0, 0, 1, 0>(rows, weights),
            }
        }
    }

    /// `K` rows of `G` groups of taps, `R` rows of outputs at a time; zeros where they are not known before.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
    unsafe fn cover<const K: usize, const G: usize, const R: usize, const STRIDE: usize>(rows: &Rows<'_>, weights: &[i8]) {
        let (mut row, width) = (rows.rows.start, rows.job.output.width);
        // SAFETY: as the caller promises: pixels of the rows.
        unsafe {
            while row < rows.rows.end {
                let full = row + R <= rows.rows.end;
                let mut column = 0;
                while column < width {
                    let left = width - column;
                    column += match (full, left >= 4) {
                        (true, true) => tile::<K, G, R, 4, STRIDE>(rows, weights, row, column),
                        (true, false) => tile::<K, G, R, 1, STRIDE>(rows, weights, row, column),
                        (false, true) => tile::<K, G, 1, 4, STRIDE>(rows, weights, row, column),
                        (false, false) => tile::<K, G, 1, 1, STRIDE>(rows, weights, row, column),
                    };
                }
                row += if full { R } else { 1 };
            }
        }
    }

    /// `R` rows of `C` pixels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
    #[inline]
    unsafe fn tile<const K: usize, const G: usize, const R: usize, const C: usize, const STRIDE: usize>(
        rows: &Rows<'_>,
        weights: &[i8],
        row: usize,
        column: usize,
    ) -> usize {
        let (job, finish, first) = (rows.job, rows.job.finish, rows.block * LANES);
        let known = K > 0;
        let height = if known { K } else { job.spec.kernel[0] };
        let groups = if known { G } else { job.spec.kernel[1].div_ceil(4) };
        let stride = if known { STRIDE } else { job.spec.stride };
        // SAFETY: as the caller promises; a group's last taps lie in the border that `Conv::plan` asks for.
        unsafe {
            let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
            let input = job.input.values.as_ptr().add(rows.input(row, column));
            let weights = weights.as_ptr().add(rows.block * height * groups * 64);
            let line = job.input.map.row();
            let mut sums = [[_mm512_loadu_si512(finish.start.as_ptr().add(first).cast()); C]; R];
            for seen in 0..(R - 1) * stride + height {
                for c in 0..C {
                    for group in 0..groups {
                        let pixels = input.add(seen * line + (c * stride + group * 4) * LANES);
                        let taps = _mm512_permutexvar_epi8(order, _mm512_loadu_si512(pixels.cast()));
                        for r in 0..R {
                            // The output row's own row of the kernel, if it sees this one.
                            let i = seen.wrapping_sub(r * stride);
                            if i < height {
                                let weights = _mm512_loadu_si512(weights.add((i * groups + group) * 64).cast());
                                sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], taps, weights);
                            }
                        }
                    }
                }
            }
            let multiplier = _mm512_loadu_ps(finish.multiplier.as_ptr().add(first));
            let offset = _mm512_loadu_ps(finish.offset.as_ptr().add(first));
            // Loops of one step each: the compiler unrolls them, and keeps the sums in registers.
            let mut values = [[_mm512_setzero_ps(); C]; R];
            for r in 0..R {
                for c in 0..C {
                    values[r][c] = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][c]), multiplier), offset);
                }
            }
            if let Some(residual) = &job.residual {
                let bytes = residual.values.as_ptr().add(rows.place(residual.map, row, column));
                let (line, multiplier) = (residual.map.row(), _mm512_set1_ps(finish.residual));
                for r in 0..R {
                    for c in 0..C {
                        let more = _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.add(r * line + c * LANES).cast()));
                        values[r][c] = _mm512_add_ps(values[r][c], _mm512_mul_ps(_mm512_cvtepi32_ps(more), multiplier));
                    }
                }
            }
            // The second operand is the result when either is NaN.
            let (low, high) = (_mm512_set1_ps(finish.bounds[0]), _mm512_set1_ps(finish.bounds[1]));
            for r in 0..R {
                for c in 0..C {
                    values[r][c] = _mm512_min_ps(_mm512_max_ps(values[r][c], low), high);
                }
            }
            let output = job.values.at(rows.place(job.output, row, column) * job.size());
            let line = job.output.row();
            if job.wide {
                for r in 0..R {
                    for c in 0..C {
                        _mm512_storeu_ps(output.cast::<f32>().add(r * line + c * LANES), values[r][c]);
                    }
                }
            } else {
                for r in 0..R {
                    for c in 0..C {
                        let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values[r][c]));
                        _mm_storeu_si128(output.add(r * line + c * LANES).cast(), bytes);
                    }
                }
            }
        }
        C
    }
}
