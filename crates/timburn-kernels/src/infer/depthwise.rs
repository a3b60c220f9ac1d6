//! Convolutions with one channel in a group: each channel is a lane.
#![allow(
    clippy::needless_range_loop,
    clippy::assign_op_pattern,
    reason = "whatever the compiler does not inline is compiled without the vector instructions"
)]

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned};
use rayon::prelude::*;

use super::Element;
use super::buffer::{Buffer, Shared};
use super::conv::{ConvSpec, Job, taps};
use super::map::Part;
use super::tile::activate;
use super::vector_lanes;
use crate::Activation;
use crate::cpu::tile::{lanes, many_registers};
use crate::level::AutoArch;

/// Fewest multiplications of a task.
const GRAIN: usize = 1 << 18;
/// Tasks per thread when there is enough to do.
const TASKS: usize = 4;

/// Packed weights of a depthwise convolution: f32, as are its products. Inputs and outputs are stored as whatever they are.
#[derive(Debug)]
pub(super) struct Depthwise {
    /// `[blocks][taps][lanes]`.
    weights: Buffer,
    /// `[blocks][lanes]`.
    bias: Buffer,
}

impl Depthwise {
    pub(super) fn new(spec: &ConvSpec, weight: &[f32], bias: &[f32]) -> Self {
        let (lanes, taps) = (vector_lanes(), spec.kernel[0] * spec.kernel[1]);
        let blocks = spec.outputs.div_ceil(lanes);
        let mut weights = Buffer::zeros(blocks * taps * lanes);
        for (channel, kernel) in weight.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                weights[(channel / lanes * taps + tap) * lanes + channel % lanes] = value;
            }
        }
        let mut padded = Buffer::zeros(blocks * lanes);
        padded[..bias.len()].copy_from_slice(bias);
        Self { weights, bias: padded }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.bias)
    }

    pub(super) fn run<I: Element, O: Element>(&self, job: &Job<'_, I, O>, output: &mut [O]) {
        let (to, blocks, taps) = (job.output, job.output.blocks(), taps(job.spec, job.input.map, 1));
        let input = Part::whole(job.input.map);
        // A task is a few rows of one block of one image.
        let (planes, work) = (job.images * blocks, job.images * to.height * to.width * job.spec.multiplications());
        let tasks = (work / GRAIN).clamp(1, TASKS * rayon::current_num_threads());
        let parts = tasks.div_ceil(planes.max(1)).clamp(1, to.height.max(1));
        let tasks = tasks.min(planes);
        let pointer = Shared::from_slice(output);
        let range = |index: usize, of: usize, len: usize| index * len / of..(index + 1) * len / of;
        (0..tasks * parts).into_par_iter().with_max_len(1).for_each(|task| {
            for plane in range(task / parts, tasks, planes) {
                let (image, block, rows) = (plane / blocks, plane % blocks, range(task % parts, parts, to.height));
                let rows =
                    Rows { layer: self, job, taps: &taps, input, values: job.input.values.as_ptr(), image, block, rows, output: pointer };
                AutoArch::new().dispatch(rows);
            }
        });
    }
}

/// Rows of one block of one image.
pub(super) struct Rows<'a, I, O> {
    pub(super) layer: &'a Depthwise,
    /// Its input is not looked at.
    pub(super) job: &'a Job<'a, I, O>,
    pub(super) taps: &'a [usize],
    /// The input: the job's own, or as much of it as is seen here.
    pub(super) input: Part<'a>,
    pub(super) values: *const I,
    pub(super) image: usize,
    pub(super) block: usize,
    pub(super) rows: std::ops::Range<usize>,
    pub(super) output: Shared<O>,
}

impl<I: Element, O: Element> WithSimd for Rows<'_, I, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        match self.job.spec.stride {
            1 => self.compute::<S, 1>(),
            2 => self.compute::<S, 2>(),
            // Single pixels: their distance does not matter.
            _ => self.compute::<S, 0>(),
        }
    }
}

impl<I: Element, O: Element> Rows<'_, I, O> {
    #[inline(always)]
    fn compute<S: Simd, const STRIDE: usize>(&self) {
        let width = self.job.output.width;
        for row in self.rows.clone() {
            let mut column = 0;
            while column < width {
                let left = width - column;
                // SAFETY: `Conv::run` has checked that the maps hold these pixels and all that the taps see of the border.
                column += unsafe {
                    if STRIDE != 0 && many_registers::<S>() && left >= 14 {
                        self.tile::<S, 14, STRIDE>(row, column)
                    } else if STRIDE != 0 && left >= 7 {
                        self.tile::<S, 7, STRIDE>(row, column)
                    } else if STRIDE != 0 && left >= 4 {
                        self.tile::<S, 4, STRIDE>(row, column)
                    } else {
                        self.tile::<S, 1, STRIDE>(row, column)
                    }
                };
            }
        }
    }

    /// `C` pixels side by side.
    #[inline(always)]
    unsafe fn tile<S: Simd, const C: usize, const STRIDE: usize>(&self, row: usize, column: usize) -> usize {
        let (job, taps) = (self.job, self.taps);
        let to = job.output;
        let plane = |map: &super::Map| self.image * map.image() + self.block * map.plane();
        let first = job.first(row, column);
        let at = self.input.at(self.image, self.block, first.0, first.1);
        // SAFETY: as the caller promises; the rows are the task's own.
        unsafe {
            let input = self.values.add(at);
            let weights = self.layer.weights.as_ptr().add(self.block * taps.len() * lanes::<S>());
            let mut sums = [vload_unaligned::<S, f32>(self.layer.bias.as_ptr().add(self.block * lanes::<S>())); C];
            for (index, &tap) in taps.iter().enumerate() {
                let weight = vload_unaligned(weights.add(index * lanes::<S>()));
                for c in 0..C {
                    sums[c] = f32::vmul_add(weight, I::load::<S>(input.add(tap + c * STRIDE * lanes::<S>())), sums[c]);
                }
            }
            if let Some(residual) = job.epilogue.residual {
                let at = plane(residual.map) + residual.map.at(row as isize, column as isize);
                for c in 0..C {
                    sums[c] = sums[c] + O::load::<S>(residual.values.as_ptr().add(at + c * lanes::<S>()));
                }
            }
            let output = self.output.at(plane(to) + to.at(row as isize, column as isize));
            for c in 0..C {
                let value =
                    if job.epilogue.activation == Activation::Identity { sums[c] } else { activate::<S>(sums[c], job.epilogue.activation) };
                O::store::<S>(output.add(c * lanes::<S>()), value);
            }
        }
        C
    }
}
