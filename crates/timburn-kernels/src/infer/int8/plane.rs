//! What happens to a block of channels by itself: pooling, scaling, picking pixels.
#![allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]

use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::Shared;
use super::super::pool::Window;
use super::super::{Map, View, ViewMut};
use super::quantization::to_byte;
use super::{LANES, Quantization};
use crate::Activation;
use crate::level::AutoArch;

/// Fewest bytes of a task.
const GRAIN: usize = 1 << 16;

/// The channels of a pixel.
type Pixel = [u8; LANES];

/// Work on one plane of blocks, whose output is the caller's to write.
trait Planes: Sync {
    fn plane(&self, image: usize, block: usize);
}

struct Plane<'a, P>(&'a P, usize, usize);

impl<P: Planes> WithSimd for Plane<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        self.0.plane(self.1, self.2);
    }
}

/// Does `work` for each plane of the map, whose bytes are also the measure of the work.
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
    assert!(map.channels == channels && map.lanes == LANES && len >= map.len(images), "a map that does not fit: {map:?}");
}

/// A pixel of a checked map.
#[inline(always)]
fn pixel(view: &View<'_, u8>, image: usize, block: usize, row: usize, column: usize) -> Pixel {
    let at = image * view.map.image() + block * view.map.plane() + view.map.at(row as isize, column as isize);
    channels(&view.values[at..at + LANES])
}

/// The first pixel of a line.
#[inline(always)]
fn channels(line: &[u8]) -> Pixel {
    let mut pixel = [0; LANES];
    pixel.copy_from_slice(&line[..LANES]);
    pixel
}

/// An output that tasks write planes of.
#[derive(Clone, Copy)]
struct Output<'a> {
    map: &'a Map,
    values: Shared<u8>,
}

impl<'a> Output<'a> {
    fn new(output: ViewMut<'a, u8>) -> Self {
        Self { map: output.map, values: Shared::from_slice(output.values) }
    }

    /// # Safety
    /// The pixel lies in the map, and its plane is the caller's.
    #[inline(always)]
    unsafe fn write(&self, image: usize, block: usize, row: usize, column: usize, pixel: Pixel) {
        let at = image * self.map.image() + block * self.map.plane() + self.map.at(row as isize, column as isize);
        // SAFETY: as the caller promises.
        unsafe { self.values.at(at).cast::<Pixel>().write_unaligned(pixel) };
    }
}

struct Pool<'a> {
    input: View<'a, u8>,
    output: Output<'a>,
    window: Window,
    mean: bool,
}

impl Planes for Pool<'_> {
    #[inline(always)]
    fn plane(&self, image: usize, block: usize) {
        let (from, to) = (self.input.map, self.output.map);
        let plane = &self.input.values[image * from.image() + block * from.plane()..][..from.plane()];
        for row in 0..to.height {
            let (top, bottom) = self.window.clip(row, from.height);
            for column in 0..to.width {
                let (left, right) = self.window.clip(column, from.width);
                let (mut most, mut sums): (Pixel, _) = ([0; LANES], [0u32; LANES]);
                for i in top..bottom {
                    let start = from.at(i as isize, left as isize);
                    let line = &plane[start..start + (right - left) * LANES];
                    for j in 0..right - left {
                        let seen = channels(&line[j * LANES..]);
                        if self.mean {
                            for lane in 0..LANES {
                                sums[lane] += u32::from(seen[lane]);
                            }
                        } else {
                            for lane in 0..LANES {
                                most[lane] = if seen[lane] > most[lane] { seen[lane] } else { most[lane] };
                            }
                        }
                    }
                }
                if self.mean {
                    let share = 1.0 / ((bottom - top) * (right - left)) as f32;
                    for lane in 0..LANES {
                        most[lane] = to_byte(sums[lane] as f32 * share, [0.0, 255.0]);
                    }
                }
                // SAFETY: `pool` has checked the output, and `for_planes` counts planes, each once.
                unsafe { self.output.write(image, block, row, column, most) };
            }
        }
    }
}

fn pool(images: usize, input: View<'_, u8>, output: ViewMut<'_, u8>, window: Window, mean: bool) {
    check(images, input.map, input.values.len(), output.map.channels);
    check(images, output.map, output.values.len(), input.map.channels);
    window.fits(input.map, output.map);
    for_planes(images, input.map, &Pool { input, output: Output::new(output), window, mean });
}

/// Maximum over windows that are clipped to the picture. Input and output mean the same by their bytes.
///
/// # Panics
/// When the maps do not fit each other, or a window lies outside the picture.
pub fn max_pool(images: usize, [kernel, stride, padding]: [usize; 3], input: View<'_, u8>, output: ViewMut<'_, u8>) {
    pool(images, input, output, Window { kernel, stride, padding }, false);
}

/// Mean over windows that are clipped to the picture, of the pixels that are there, rounded. Input and output mean the same by their bytes.
///
/// # Panics
/// As [`max_pool`].
pub fn average_pool(images: usize, [kernel, stride]: [usize; 2], input: View<'_, u8>, output: ViewMut<'_, u8>) {
    pool(images, input, output, Window { kernel, stride, padding: 0 }, true);
}

struct Means<'a> {
    input: View<'a, u8>,
    quantization: Quantization,
    means: Shared<f32>,
}

impl Planes for Means<'_> {
    #[inline(always)]
    fn plane(&self, image: usize, block: usize) {
        let map = self.input.map;
        let mut sums = [0u64; LANES];
        for row in 0..map.height {
            let start = image * map.image() + block * map.plane() + map.at(row as isize, 0);
            let line = &self.input.values[start..start + map.width * LANES];
            let mut total = [0u32; LANES];
            for column in 0..map.width {
                let seen = channels(&line[column * LANES..]);
                for lane in 0..LANES {
                    total[lane] += u32::from(seen[lane]);
                }
            }
            for lane in 0..LANES {
                sums[lane] += u64::from(total[lane]);
            }
        }
        let pixels = (map.height * map.width) as f64;
        let zero = f64::from(self.quantization.zero_point());
        for (lane, sum) in sums.into_iter().enumerate().take(map.channels - block * LANES) {
            let mean = (sum as f64 / pixels - zero) * f64::from(self.quantization.scale());
            // SAFETY: `[images][channels]`, as long as `global_average_pool` made it; the channels are this task's.
            unsafe { self.means.at(image * map.channels + block * LANES + lane).write(mean as f32) };
        }
    }
}

/// Means of the channels, `[images, channels]`, as floats.
///
/// # Panics
/// When the values are fewer than the map's.
pub fn global_average_pool(images: usize, input: View<'_, u8>, quantization: Quantization) -> Vec<f32> {
    check(images, input.map, input.values.len(), input.map.channels);
    let mut means = vec![0.0; images * input.map.channels];
    for_planes(images, input.map, &Means { input, quantization, means: Shared::from_slice(&mut means) });
    means
}

struct Scale<'a> {
    input: View<'a, u8>,
    residual: Option<View<'a, u8>>,
    gates: &'a [f32],
    output: Output<'a>,
    /// Of input, residual and output.
    quantizations: [Quantization; 3],
    bounds: [f32; 2],
}

impl Planes for Scale<'_> {
    #[inline(always)]
    fn plane(&self, image: usize, block: usize) {
        let (map, [input, added, output]) = (self.output.map, self.quantizations);
        let channels = LANES.min(map.channels - block * LANES);
        let mut gates = [0.0; LANES];
        gates[..channels].copy_from_slice(&self.gates[image * map.channels + block * LANES..][..channels]);
        let [unit, shortcut] = [input, added].map(|quantization| quantization.scale() / output.scale());
        let zero = f32::from(output.zero_point());
        for row in 0..map.height {
            for column in 0..map.width {
                let seen = pixel(&self.input, image, block, row, column);
                let more = self.residual.map_or([0; LANES], |residual| pixel(&residual, image, block, row, column));
                let mut bytes = [0; LANES];
                for (lane, byte) in bytes.iter_mut().enumerate() {
                    let centred = |byte: u8, by: Quantization| (i32::from(byte) - i32::from(by.zero_point())) as f32;
                    let mut value = centred(seen[lane], input) * gates[lane] * unit;
                    if self.residual.is_some() {
                        value += centred(more[lane], added) * shortcut;
                    }
                    *byte = to_byte(value + zero, self.bounds);
                }
                // SAFETY: `scale` has checked the output, and `for_planes` counts planes, each once.
                unsafe { self.output.write(image, block, row, column, bytes) };
            }
        }
    }
}

/// Each channel times its gate of `gates` `[images, channels]`, plus a residual, after an activation. A residual comes with what its bytes mean.
///
/// # Panics
/// When the maps do not fit each other.
pub fn scale(
    images: usize,
    input: (View<'_, u8>, Quantization),
    gates: &[f32],
    residual: Option<(View<'_, u8>, Quantization)>,
    activation: Activation,
    output: (ViewMut<'_, u8>, Quantization),
) {
    let ((input, input_means), (output, output_means)) = (input, output);
    let channels = input.map.channels;
    let same = |map: &Map| [map.height, map.width] == [input.map.height, input.map.width];
    check(images, input.map, input.values.len(), channels);
    check(images, output.map, output.values.len(), channels);
    assert!(same(output.map) && gates.len() == images * channels, "maps that do not fit: {input:?}", input = input.map);
    if let Some((residual, _)) = residual {
        check(images, residual.map, residual.values.len(), channels);
        assert!(same(residual.map), "a residual of another size: {:?}", residual.map);
    }
    let zero = f32::from(output_means.zero_point());
    let bounds = match activation {
        Activation::Identity => [0.0, 255.0],
        Activation::Relu => [zero, 255.0],
        Activation::Relu6 => [zero, (zero + 6.0 / output_means.scale()).min(255.0)],
    };
    let quantizations = [input_means, residual.map_or(input_means, |residual| residual.1), output_means];
    let work = Scale { input, residual: residual.map(|residual| residual.0), gates, output: Output::new(output), quantizations, bounds };
    for_planes(images, input.map, &work);
}

/// Every `stride`-th pixel; `before` channels of zeros come first, and as many as are missing last: bytes `zero`. Input and output mean the
/// same by their bytes.
///
/// # Panics
/// When the maps do not fit each other.
pub fn subsample(images: usize, stride: usize, before: usize, zero: u8, input: View<'_, u8>, output: ViewMut<'_, u8>) {
    let (from, to) = (input.map, output.map);
    check(images, from, input.values.len(), from.channels);
    check(images, to, output.values.len(), to.channels);
    let fits = to.height == from.height.div_ceil(stride) && to.width == from.width.div_ceil(stride);
    assert!(fits && before + from.channels <= to.channels, "maps that do not fit: {from:?}, {to:?}");
    for image in 0..images {
        for block in 0..to.blocks() {
            let plane = &mut output.values[image * to.image() + block * to.plane()..][..to.plane()];
            for row in 0..to.height {
                let line = &mut plane[to.at(row as isize, 0)..][..to.width * LANES];
                for (column, pixel) in line.chunks_exact_mut(LANES).enumerate() {
                    let seen = image * from.image() + from.at((row * stride) as isize, (column * stride) as isize);
                    for (lane, value) in pixel.iter_mut().enumerate() {
                        let source = (block * LANES + lane).checked_sub(before).filter(|&channel| channel < from.channels);
                        let value_of = |channel: usize| input.values[seen + channel / LANES * from.plane() + channel % LANES];
                        *value = source.map_or(zero, value_of);
                    }
                }
            }
        }
    }
}
