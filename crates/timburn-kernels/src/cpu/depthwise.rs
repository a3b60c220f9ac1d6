//! Convolutions with one channel in a group: each plane by itself, several output vectors at a time.
#![allow(
    clippy::needless_range_loop,
    clippy::assign_op_pattern,
    reason = "whatever the compiler does not inline is compiled without the vector instructions"
)]

use std::ops::Range;

use macerator::{ReduceAdd, Simd, VMulAdd, WithSimd, vload_unaligned, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::{Output, Scratch, Shared};
use super::element::{Element, copy};
use super::memory::Block;
use super::tile::{MAX_LANES, lanes, many_registers, splat};
use super::window::{Reach, Source, Window};
use crate::level::AutoArch;

/// Sums in flight: as many as hide the latency of a multiply-add.
const SUMS: usize = 8;
/// Images of one sum of the weight gradient.
const IMAGES: usize = 4;
/// Tasks per thread: threads are not equally fast.
const TASKS: usize = 8;

/// Which taps a target's pixels see, by the residue of their row and column: `(tap, kernel position)` pairs.
pub(crate) type Residue = Vec<(usize, usize)>;

/// `target[n, c, i · stride + r] = bias[c] + Σ weights[c, k] · source[n, c, i + taps[t]]` over the pairs `(t, k)` of residue `r`.
pub(crate) struct Depthwise<'a, T> {
    pub(crate) source: Source<'a, T>,
    pub(crate) images: usize,
    pub(crate) reach: &'a Reach,
    /// `[channels][kernel positions]`.
    pub(crate) weights: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    /// By rows, then columns.
    pub(crate) residues: &'a [Residue],
    pub(crate) stride: [usize; 2],
    pub(crate) target: Shared<T>,
    /// Height and width of the target.
    pub(crate) size: [usize; 2],
}

impl<T: Element> Depthwise<'_, T> {
    /// Computes and writes the target.
    ///
    /// # Safety
    /// `target` points to as many planes as the source has, of `size`, that nobody else touches.
    pub(crate) unsafe fn run(&self) {
        let planes = self.images * self.source.channels;
        let share = planes.div_ceil(TASKS * rayon::current_num_threads()).max(1);
        (0..planes.div_ceil(share)).into_par_iter().for_each(|task| {
            AutoArch::new().dispatch(Planes { job: self, planes: task * share..planes.min((task + 1) * share) });
        });
    }
}

struct Planes<'a, T> {
    job: &'a Depthwise<'a, T>,
    planes: Range<usize>,
}

/// A vector of results: where its first tap is in the window, where it goes, and how many lanes count.
struct Place {
    from: usize,
    to: usize,
    count: usize,
}

/// Places of a plane of results with rows `pitch` apart. Where a row is at least a vector long, its last vector overlaps the one before.
fn places<S: Simd>([rows, columns]: [usize; 2], step: usize, pitch: usize) -> Vec<Place> {
    let across = columns.div_ceil(lanes::<S>());
    let place = |row: usize, column: usize| {
        let column = (column * lanes::<S>()).min(columns.saturating_sub(lanes::<S>()));
        Place { from: row * step + column, to: row * pitch + column, count: columns.min(lanes::<S>()) }
    };
    (0..rows).flat_map(|row| (0..across).map(move |column| place(row, column))).collect()
}

impl<T: Element> WithSimd for Planes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Depthwise { source, reach, weights, bias, residues, stride, target, size, .. } = self.job;
        let mut window = Window::image(*source, reach, 0);
        let positions = weights.len() / source.channels;
        // Results of stride 1 go where they belong, others first into scratch: each residue's columns side by side.
        let direct = *stride == [1, 1];
        let (rows, columns) = reach.grid;
        let pitch = if direct { columns } else { columns.next_multiple_of(lanes::<S>()) };
        let places = places::<S>([rows, if direct { columns } else { pitch }], window.row_step(), pitch);
        let taps: Vec<Vec<(usize, usize)>> =
            residues.iter().map(|residue| residue.iter().map(|&(tap, position)| (window.taps()[tap], position)).collect()).collect();
        let plane_len = rows * pitch;
        let pixels_len = window.plane() + 2 * MAX_LANES;
        let mut scratch = Scratch::new(pixels_len + if direct { 0 } else { residues.len() * plane_len + MAX_LANES });
        let (pixels, results) = scratch.values().split_at_mut(pixels_len);
        for plane in self.planes {
            let (image, channel) = (plane / source.channels, plane % source.channels);
            window.move_to(image);
            window.fill::<S, f32>(channel..channel + 1, pixels);
            let weights = &weights[channel * positions..][..positions];
            let start = bias.map_or(0.0, |bias| bias[channel]);
            for (index, taps) in taps.iter().enumerate() {
                // SAFETY: places lie in this plane of the target, which is this task's, or in the residue's scratch; what a vector sees
                // beyond the window is slack.
                unsafe {
                    if direct {
                        compute::<S, T>(pixels.as_ptr(), weights, taps, start, &places, target.at(plane * size[0] * size[1]));
                    } else {
                        compute::<S, f32>(pixels.as_ptr(), weights, taps, start, &places, results.as_mut_ptr().add(index * plane_len));
                    }
                }
            }
            if !direct {
                for row in 0..size[0] {
                    // SAFETY: a row of this plane.
                    let line = unsafe { std::slice::from_raw_parts_mut(target.at((plane * size[0] + row) * size[1]), size[1]) };
                    let first = row % stride[0] * stride[1] * plane_len + row / stride[0] * pitch;
                    interleave(line, &results[first..], plane_len, stride[1]);
                }
            }
        }
    }
}

/// All results of a plane and a residue.
///
/// # Safety
/// What the taps see of all places is in `pixels`, and the places are the caller's to write.
#[inline(always)]
unsafe fn compute<S: Simd, T: Element>(
    pixels: *const f32,
    weights: &[f32],
    taps: &[(usize, usize)],
    start: f32,
    places: &[Place],
    target: *mut T,
) {
    for group in places.chunks(SUMS) {
        let mut from = [pixels; SUMS];
        for i in 0..SUMS {
            // SAFETY: inside the window.
            from[i] = unsafe { pixels.add(group[i.min(group.len() - 1)].from) };
        }
        let mut sums = [splat::<S>(start); SUMS];
        for &(tap, position) in taps {
            let weight = splat::<S>(weights[position]);
            for i in 0..SUMS {
                // SAFETY: as the caller promises.
                sums[i] = f32::vmul_add(weight, unsafe { vload_unaligned(from[i].add(tap)) }, sums[i]);
            }
        }
        for i in 0..SUMS {
            if i >= group.len() {
                break;
            }
            // SAFETY: as the caller promises.
            unsafe {
                let to = target.add(group[i].to);
                if group[i].count == lanes::<S>() {
                    T::store::<S>(to, sums[i]);
                } else {
                    let mut values = [0f32; MAX_LANES];
                    vstore_unaligned(values.as_mut_ptr(), sums[i]);
                    copy::<S, f32, T>(values.as_ptr(), to, group[i].count);
                }
            }
        }
    }
}

/// Value `j · stride + c` of a row is value `j` of part `c`; parts are `pitch` apart.
#[inline(always)]
pub(super) fn interleave<T: Element>(line: &mut [T], parts: &[f32], pitch: usize, stride: usize) {
    if stride == 2 {
        let (even, odd) = (&parts[..line.len().div_ceil(2)], &parts[pitch..pitch + line.len() / 2]);
        for i in 0..odd.len() {
            line[2 * i] = T::from_f32(even[i]);
            line[2 * i + 1] = T::from_f32(odd[i]);
        }
        if line.len() % 2 == 1 {
            line[2 * odd.len()] = T::from_f32(even[odd.len()]);
        }
        return;
    }
    for column in 0..line.len() {
        line[column] = T::from_f32(parts[column % stride * pitch + column / stride]);
    }
}

/// `Σ gradient[n, c, p] · source[n, c, p · stride + taps[t]]` as `[c][t]`.
pub(crate) fn weight_gradient<T: Element>(source: Source<'_, T>, gradient: Source<'_, T>, images: usize, reach: &Reach) -> Block {
    let (channels, taps) = (source.channels, reach.taps.len());
    // A fixed number of images to a sum, added in order: results do not depend on the number of threads.
    let chunks = images.div_ceil(IMAGES);
    let mut sums = Output::new(chunks * channels * taps);
    let pointer = sums.pointer();
    let items = chunks * channels;
    let share = items.div_ceil(TASKS * rayon::current_num_threads()).max(1);
    (0..items.div_ceil(share)).into_par_iter().for_each(|task| {
        let items = task * share..items.min((task + 1) * share);
        AutoArch::new().dispatch(PlaneGradients { source, gradient, reach, images, items, sums: pointer });
    });
    // SAFETY: each item has written its `taps` values.
    let sums = unsafe { sums.finish() };
    let mut total = vec![0f32; channels * taps];
    for chunk in sums.chunks_exact(channels * taps) {
        total.iter_mut().zip(chunk).for_each(|(total, &sum)| *total += sum);
    }
    total.into()
}

struct PlaneGradients<'a, T> {
    source: Source<'a, T>,
    gradient: Source<'a, T>,
    reach: &'a Reach,
    images: usize,
    /// Chunks of images times channels.
    items: Range<usize>,
    sums: Shared,
}

impl<T: Element> WithSimd for PlaneGradients<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { source, gradient, reach, .. } = self;
        let (area, taps) = (reach.area(), reach.taps.len());
        let (rows, columns) = reach.grid;
        let pitch = columns.next_multiple_of(lanes::<S>());
        let mut window = Window::image(source, reach, 0);
        let bound = window.plane();
        let mut scratch = Scratch::new(bound + MAX_LANES + rows * pitch + taps);
        let (pixels, scratch) = scratch.values().split_at_mut(bound + MAX_LANES);
        let (slopes, totals) = scratch.split_at_mut(rows * pitch);
        for item in self.items {
            let (chunk, channel) = (item / source.channels, item % source.channels);
            totals.fill(0.0);
            for image in chunk * IMAGES..self.images.min((chunk + 1) * IMAGES) {
                window.move_to(image);
                window.fill::<S, f32>(channel..channel + 1, pixels);
                // What lies beyond the window is stale: it meets the zeros at the end of each row, and must be finite.
                pixels[bound..].fill(0.0);
                let plane = &gradient.values[(image * gradient.channels + channel) * area..][..area];
                for row in 0..rows {
                    let (to, from) = (&mut slopes[row * pitch..][..pitch], &plane[row * columns..][..columns]);
                    // SAFETY: slices at least as long.
                    unsafe { copy::<S, T, f32>(from.as_ptr(), to.as_mut_ptr(), columns) };
                    to[columns..].fill(0.0);
                }
                let (slopes, size, step) = (slopes.as_ptr(), [rows, pitch], window.row_step());
                let mut first = 0;
                while first < taps {
                    let (totals, offsets, left) = (&mut totals[first..], &window.taps()[first..], taps - first);
                    // SAFETY: rows of `slopes` are `pitch` long; all that the taps see is in the window or its slack.
                    first += unsafe {
                        if left >= 25 && many_registers::<S>() {
                            products::<S, 25>(slopes, pixels.as_ptr(), size, step, offsets, totals)
                        } else if left >= 9 {
                            products::<S, 9>(slopes, pixels.as_ptr(), size, step, offsets, totals)
                        } else if left >= 5 {
                            products::<S, 5>(slopes, pixels.as_ptr(), size, step, offsets, totals)
                        } else {
                            products::<S, 1>(slopes, pixels.as_ptr(), size, step, offsets, totals)
                        }
                    };
                }
            }
            // SAFETY: this item's values.
            unsafe { std::ptr::copy_nonoverlapping(totals.as_ptr(), self.sums.at(item * taps), taps) };
        }
    }
}

/// Adds a plane's products with `T` taps; gives `T`.
///
/// # Safety
/// `slopes` has `rows` rows of `pitch`, a multiple of the lanes; `pixels` what the taps see of them; there are `T` offsets and totals.
#[inline(always)]
unsafe fn products<S: Simd, const T: usize>(
    slopes: *const f32,
    pixels: *const f32,
    [rows, pitch]: [usize; 2],
    step: usize,
    offsets: &[usize],
    totals: &mut [f32],
) -> usize {
    let mut taps = [pixels; T];
    for t in 0..T {
        // SAFETY: inside the window.
        taps[t] = unsafe { pixels.add(offsets[t]) };
    }
    let mut sums = [splat::<S>(0.0); T];
    for row in 0..rows {
        let mut column = 0;
        while column < pitch {
            // SAFETY: as the caller promises.
            unsafe {
                let slope = vload_unaligned::<S, f32>(slopes.add(row * pitch + column));
                for t in 0..T {
                    sums[t] = f32::vmul_add(slope, vload_unaligned(taps[t].add(row * step + column)), sums[t]);
                }
            }
            column += lanes::<S>();
        }
    }
    for t in 0..T {
        totals[t] += f32::reduce_add(sums[t]);
    }
    T
}
