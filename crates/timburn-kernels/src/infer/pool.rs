//! What happens to a block of channels by itself: pooling, scaling, picking pixels.
#![allow(
    clippy::needless_range_loop,
    clippy::assign_op_pattern,
    reason = "whatever the compiler does not inline is compiled without the vector instructions"
)]

use macerator::{Simd, VMulAdd, WithSimd, vstore_unaligned};
use rayon::prelude::*;

use super::buffer::Shared;
use super::conv::Epilogue;
use super::element::Stored;
use super::map::Map;
use super::tile::activate;
use super::{Element, View, ViewMut, vector_lanes};
use crate::cpu::tile::{Lanes, lanes, splat};
use crate::level::AutoArch;

/// Fewest values of a task.
const GRAIN: usize = 1 << 15;
/// Sums in flight.
const SUMS: usize = 4;

/// Work on one plane of blocks.
trait Planes: Sync {
    /// # Safety
    /// `image` and `block` are in range, and the plane is the caller's to write.
    unsafe fn plane<S: Simd>(&self, image: usize, block: usize);
}

struct Plane<'a, P>(&'a P, usize, usize);

impl<P: Planes> WithSimd for Plane<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        // SAFETY: `for_planes` counts planes, each once.
        unsafe { self.0.plane::<S>(self.1, self.2) };
    }
}

/// Does `work` for each plane of the map, whose values are also the measure of the work.
fn for_planes(images: usize, map: &Map, work: &impl Planes) {
    let planes = images * map.blocks();
    let tasks = (map.len(images) / GRAIN).clamp(1, 4 * rayon::current_num_threads()).min(planes);
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        for plane in task * planes / tasks..(task + 1) * planes / tasks {
            AutoArch::new().dispatch(Plane(work, plane / map.blocks(), plane % map.blocks()));
        }
    });
}

fn check(images: usize, map: &Map, len: usize, channels: usize) {
    assert!(map.channels == channels && map.lanes == vector_lanes() && len >= map.len(images), "a map that does not fit: {map:?}");
}

/// Windows of a pooling along one axis: clipped to the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    #[inline(always)]
    pub(super) fn clip(self, place: usize, size: usize) -> (usize, usize) {
        let start = place * self.stride;
        (start.saturating_sub(self.padding), (start + self.kernel - self.padding).min(size))
    }

    pub(super) fn fits(self, input: &Map, output: &Map) {
        assert!(self.padding < self.kernel && self.stride > 0, "windows that see nothing: {self:?}");
        let inside = |input: usize, output: usize| output == 0 || (output - 1) * self.stride < input + self.padding;
        assert!(inside(input.height, output.height) && inside(input.width, output.width), "windows outside the map: {input:?}, {output:?}");
    }
}

struct Pool<'a, T> {
    input: View<'a, T>,
    output: &'a Map,
    values: Shared<T>,
    window: Window,
    mean: bool,
}

impl<T: Element> Planes for Pool<'_, T> {
    #[inline(always)]
    unsafe fn plane<S: Simd>(&self, image: usize, block: usize) {
        let (from, to) = (self.input.map, self.output);
        let input = &self.input.values[image * from.image() + block * from.plane()..][..from.plane()];
        for row in 0..to.height {
            let (top, bottom) = self.window.clip(row, from.height);
            for column in 0..to.width {
                let (left, right) = self.window.clip(column, from.width);
                let mut value = splat::<S>(if self.mean { 0.0 } else { f32::NEG_INFINITY });
                for i in top..bottom {
                    for j in left..right {
                        // SAFETY: a pixel of the map; each is a vector.
                        let pixel: Lanes<S> = unsafe { T::load::<S>(input.as_ptr().add(from.at(i as isize, j as isize))) };
                        // NaN compares false: it replaces what was there, and stays.
                        value = if self.mean { value + pixel } else { pixel.le(value).select(value, maximum::<S>(value, pixel)) };
                    }
                }
                if self.mean {
                    value = value * splat(1.0 / ((bottom - top) * (right - left)) as f32);
                }
                let at = image * to.image() + block * to.plane() + to.at(row as isize, column as isize);
                // SAFETY: a pixel of this plane, which is the caller's.
                unsafe { T::store::<S>(self.values.at(at), value) };
            }
        }
    }
}

/// `value` where it is NaN, else `pixel`.
#[inline(always)]
fn maximum<S: Simd>(value: Lanes<S>, pixel: Lanes<S>) -> Lanes<S> {
    value.le(value).select(pixel, value)
}

fn pool<T: Element>(images: usize, input: View<'_, T>, output: ViewMut<'_, T>, window: Window, mean: bool) {
    check(images, input.map, input.values.len(), output.map.channels);
    check(images, output.map, output.values.len(), input.map.channels);
    window.fits(input.map, output.map);
    let work = Pool { input, output: output.map, values: Shared::from_slice(output.values), window, mean };
    for_planes(images, input.map, &work);
}

/// Maximum over windows that are clipped to the picture. NaN stays NaN.
///
/// # Panics
/// When the maps do not fit each other, or a window lies outside the picture.
pub fn max_pool<T: Element>(images: usize, [kernel, stride, padding]: [usize; 3], input: View<'_, T>, output: ViewMut<'_, T>) {
    pool(images, input, output, Window { kernel, stride, padding }, false);
}

/// Mean over windows that are clipped to the picture, of the pixels that are there.
///
/// # Panics
/// As [`max_pool`].
pub fn average_pool<T: Element>(images: usize, [kernel, stride]: [usize; 2], input: View<'_, T>, output: ViewMut<'_, T>) {
    pool(images, input, output, Window { kernel, stride, padding: 0 }, true);
}

struct Means<'a, T> {
    input: View<'a, T>,
    output: &'a Map,
    values: Shared<f32>,
}

impl<T: Element> Planes for Means<'_, T> {
    #[inline(always)]
    unsafe fn plane<S: Simd>(&self, image: usize, block: usize) {
        let map = self.input.map;
        let input = &self.input.values[image * map.image() + block * map.plane()..][..map.plane()];
        let mut total = splat::<S>(0.0);
        for row in 0..map.height {
            let line = &input[map.at(row as isize, 0)..][..map.width * lanes::<S>()];
            let mut sums = [splat::<S>(0.0); SUMS];
            let mut column = 0;
            while column < map.width {
                for i in 0..SUMS {
                    if column + i < map.width {
                        // SAFETY: a pixel of the line.
                        sums[i] = sums[i] + unsafe { T::load::<S>(line.as_ptr().add((column + i) * lanes::<S>())) };
                    }
                }
                column += SUMS;
            }
            total = total + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
        }
        let mean = total * splat(1.0 / (map.height * map.width) as f32);
        // SAFETY: image `image` is a column of the output's only row.
        unsafe { vstore_unaligned(self.values.at(block * self.output.plane() + self.output.at(0, image as isize)), mean) };
    }
}

/// Means over the planes of `images` images, in f32. The output is one image of one row, whose columns are the images: what a fully connected
/// layer, as a pointwise [`Conv`](super::Conv), computes from it, it computes for all images at once.
///
/// # Panics
/// When the maps do not fit each other.
pub fn global_average_pool<T: Element>(images: usize, input: View<'_, T>, output: ViewMut<'_>) {
    check(images, input.map, input.values.len(), output.map.channels);
    check(1, output.map, output.values.len(), input.map.channels);
    assert!(output.map.height == 1 && output.map.width == images, "one column per image: {:?}", output.map);
    let work = Means { input, output: output.map, values: Shared::from_slice(output.values) };
    for_planes(images, input.map, &work);
}

struct Scale<'a, T> {
    input: View<'a, T>,
    gates: View<'a>,
    epilogue: Epilogue<'a, T>,
    output: &'a Map,
    values: Shared<T>,
}

impl<T: Element> Planes for Scale<'_, T> {
    #[inline(always)]
    unsafe fn plane<S: Simd>(&self, image: usize, block: usize) {
        let plane = |map: &Map| image * map.image() + block * map.plane();
        let (from, to, gates) = (self.input.map, self.output, self.gates.map);
        // SAFETY: the maps were checked, and all have this plane.
        unsafe {
            let gate = f32::load::<S>(self.gates.values.as_ptr().add(block * gates.plane() + gates.at(0, image as isize)));
            for row in 0..to.height {
                for column in 0..to.width {
                    let pixel = |map: &Map| plane(map) + map.at(row as isize, column as isize);
                    let mut value: Lanes<S> = T::load::<S>(self.input.values.as_ptr().add(pixel(from)));
                    value = match self.epilogue.residual {
                        Some(residual) => f32::vmul_add(value, gate, T::load::<S>(residual.values.as_ptr().add(pixel(residual.map)))),
                        None => value * gate,
                    };
                    T::store::<S>(self.values.at(pixel(to)), activate::<S>(value, self.epilogue.activation));
                }
            }
        }
    }
}

/// Each channel times its gate, then the epilogue. `gates` is laid out as [`global_average_pool`]'s output.
///
/// # Panics
/// When the maps do not fit each other.
pub fn scale<T: Element>(images: usize, input: View<'_, T>, gates: View<'_>, epilogue: Epilogue<'_, T>, output: ViewMut<'_, T>) {
    let channels = input.map.channels;
    let same = |map: &Map| [map.height, map.width] == [input.map.height, input.map.width];
    check(images, input.map, input.values.len(), channels);
    check(images, output.map, output.values.len(), channels);
    check(1, gates.map, gates.values.len(), channels);
    assert!(same(output.map) && gates.map.height == 1 && gates.map.width == images, "maps that do not fit: {input:?}", input = input.map);
    if let Some(residual) = epilogue.residual {
        check(images, residual.map, residual.values.len(), channels);
        assert!(same(residual.map), "a residual of another size: {:?}", residual.map);
    }
    let work = Scale { input, gates, epilogue, output: output.map, values: Shared::from_slice(output.values) };
    for_planes(images, input.map, &work);
}

/// Every `stride`-th pixel; `before` channels of zeros come first, and as many as are missing last.
///
/// # Panics
/// When the maps do not fit each other.
pub fn subsample<T: Element>(images: usize, stride: usize, before: usize, input: View<'_, T>, output: ViewMut<'_, T>) {
    let (from, to, lanes) = (input.map, output.map, vector_lanes());
    check(images, from, input.values.len(), from.channels);
    check(images, to, output.values.len(), to.channels);
    let fits = to.height == from.height.div_ceil(stride) && to.width == from.width.div_ceil(stride);
    assert!(fits && before + from.channels <= to.channels, "maps that do not fit: {from:?}, {to:?}");
    for image in 0..images {
        for block in 0..to.blocks() {
            let plane = &mut output.values[image * to.image() + block * to.plane()..][..to.plane()];
            for row in 0..to.height {
                let line = &mut plane[to.at(row as isize, 0)..][..to.width * lanes];
                for (column, pixel) in line.chunks_exact_mut(lanes).enumerate() {
                    let seen = image * from.image() + from.at((row * stride) as isize, (column * stride) as isize);
                    for (lane, value) in pixel.iter_mut().enumerate() {
                        let source = (block * lanes + lane).checked_sub(before).filter(|&channel| channel < from.channels);
                        let value_of = |channel: usize| input.values[seen + channel / lanes * from.plane() + channel % lanes];
                        *value = source.map_or(T::default(), value_of);
                    }
                }
            }
        }
    }
}
