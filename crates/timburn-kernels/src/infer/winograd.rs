//! 3×3 convolutions with fewer multiplications: Winograd's minimal filtering (Lavin & Gray 2015).
//!
//! An output tile of `O`×`O` pixels is a transform of `(O+2)²` products, one for each point of the transformed input tile and kernel: 2.25
//! times fewer than the sum over the taps for `O` = 2, 4 times for `O` = 4. Each point is a matrix product over all tiles. Sums of products
//! of larger numbers cancel, so that the error is some five (2) to fifteen (4) times that of the direct sum: the tests hold it to that.
#![allow(
    clippy::needless_range_loop,
    clippy::assign_op_pattern,
    reason = "whatever the compiler does not inline is compiled without the vector instructions"
)]

use std::ops::Range;

use macerator::{Simd, VMulAdd, WithSimd, vload_unaligned};
use rayon::prelude::*;

use super::buffer::Shared;
use super::conv::{ConvSpec, Job, Padding};
use super::dense::{Dense, SPAN, cover};
use super::map::Border;
use super::tile::activate;
use super::{Element, vector_lanes};
use crate::cpu::buffer::Scratch;
use crate::cpu::tile::{Lanes, lanes, splat};
use crate::level::AutoArch;

/// Fewest channels, on both sides: with fewer, the transforms cost more than the products save.
const FEWEST: usize = 32;
/// Most channels of tiles of 4, and of any: tiles of 4 have four times the weights of the kernel, which late layers have few pixels for.
const MOST_4: usize = 128;
const MOST: usize = 512;
/// Bytes of weights that stay in a core's cache beside its tiles: then each thread has tiles of its own.
const OWN_WEIGHTS: usize = 1 << 20;
/// Values of transformed input and output of such tiles.
const OWN_TILES: usize = 160 << 10;
/// Values of transformed input and output where all threads work on the same tiles.
const SHARED_TILES: usize = 1 << 20;

/// Transformed weights: a pointwise convolution for each point, of products of `P`.
#[derive(Debug)]
pub(super) struct Winograd<P: Element> {
    /// Height and width of an output tile: 2 or 4.
    tile: usize,
    points: Vec<Dense<P>>,
    /// `[output blocks][lanes]`.
    bias: super::Buffer,
}

/// Whether this is the way to compute such a convolution of `T`.
pub(super) fn suits<T: Element>(spec: &ConvSpec) -> bool {
    let channels = [spec.inputs, spec.outputs];
    // The transforms are computed in f32, and their products: where bf16 is twice as fast, only the larger tiles make up for that.
    let most = if T::GROUP == 1 { MOST } else { MOST_4 };
    spec.kernel == [3, 3]
        && (spec.stride, spec.dilation, spec.groups) == (1, 1, 1)
        && channels.iter().all(|channels| (FEWEST..=most).contains(channels))
}

impl<P: Element> Winograd<P> {
    pub(super) fn new(spec: &ConvSpec, weight: &[f32], bias: &[f32]) -> Self {
        let tile = if spec.inputs.max(spec.outputs) <= MOST_4 { 4 } else { 2 };
        let rows: &[[f64; 3]] = if tile == 4 {
            const SIXTH: f64 = 1.0 / 6.0;
            &[
                [0.25, 0.0, 0.0],
                [-SIXTH, -SIXTH, -SIXTH],
                [-SIXTH, SIXTH, -SIXTH],
                [SIXTH / 4.0, SIXTH / 2.0, SIXTH],
                [SIXTH / 4.0, -SIXTH / 2.0, SIXTH],
                [0.0, 0.0, 1.0],
            ]
        } else {
            &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
        };
        let zeros = vec![0.0; spec.outputs];
        let pointwise = ConvSpec { kernel: [1, 1], padding: Padding::Zeros(0), ..*spec };
        let point = |(down, across): (&[f64; 3], &[f64; 3])| {
            let product = |kernel: &[f32]| {
                let taps = kernel.iter().enumerate();
                taps.map(|(tap, &weight)| down[tap / 3] * across[tap % 3] * f64::from(weight)).sum::<f64>() as f32
            };
            let weights: Vec<f32> = weight.chunks_exact(9).map(product).collect();
            Dense::new(&pointwise, false, &weights, &zeros)
        };
        let points = rows.iter().flat_map(|down| rows.iter().map(move |across| (down, across))).map(point).collect();
        let mut padded = super::Buffer::zeros(spec.outputs.next_multiple_of(vector_lanes()));
        padded[..bias.len()].copy_from_slice(bias);
        Self { tile, points, bias: padded }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.bias) + self.points.iter().map(Dense::bytes).sum::<usize>()
    }

    /// The border with what the last tiles stick out beyond it.
    pub(super) fn border(&self, [height, width]: [usize; 2], border: Border) -> Border {
        let out = |size: usize| size.next_multiple_of(self.tile) - size;
        Border { bottom: border.bottom + out(height), right: border.right + out(width), ..border }
    }

    pub(super) fn run<I: Element, O: Element>(&self, job: &Job<'_, I, O>, output: &mut [O]) {
        match self.tile {
            4 => self.all::<I, O, 4, 6>(job, output),
            _ => self.all::<I, O, 2, 4>(job, output),
        }
    }

    fn all<X: Element, Y: Element, const O: usize, const I: usize>(&self, job: &Job<'_, X, Y>, output: &mut [Y]) {
        let size = [job.output.height.div_ceil(O), job.output.width.div_ceil(O)];
        let total = job.images * size[0] * size[1];
        let output = Shared::from_slice(output);
        let channels = (job.input.map.blocks() + job.output.blocks()) * vector_lanes();
        let part = |tiles: Range<usize>, scratch: &mut Scratch| {
            let inputs = I * I * tiles.len() * job.input.map.blocks() * vector_lanes();
            let (before, after) = scratch.values().split_at_mut(inputs);
            let (before, after) = (Shared::from_slice(before).cast::<P>(), Shared::from_slice(after));
            Part::<P, X, Y, O, I> { layer: self, job, size, tiles, before, after, output }
        };
        if self.bytes() <= OWN_WEIGHTS {
            let most = (OWN_TILES / (I * I * channels)).max(1);
            // As many parts as threads can share evenly, if there are that many tiles.
            let parts = total.div_ceil(most).next_multiple_of(rayon::current_num_threads()).min(total);
            (0..parts).into_par_iter().with_max_len(1).for_each(|index| {
                let tiles = index * total / parts..(index + 1) * total / parts;
                let mut scratch = Scratch::new(I * I * tiles.len() * channels);
                let part = part(tiles, &mut scratch);
                (0..part.job.input.map.blocks()).for_each(|block| part.transform(block));
                (0..I * I).for_each(|point| part.multiply(point));
                (0..part.job.output.blocks()).for_each(|block| part.finish(block));
            });
            return;
        }
        let most = (SHARED_TILES / (I * I * channels)).max(1);
        let parts = total.div_ceil(most).max(1);
        for index in 0..parts {
            let tiles = index * total / parts..(index + 1) * total / parts;
            let mut scratch = Scratch::new(I * I * tiles.len() * channels);
            let part = &part(tiles, &mut scratch);
            (0..part.job.input.map.blocks()).into_par_iter().for_each(|block| part.transform(block));
            (0..I * I).into_par_iter().with_max_len(1).for_each(|point| part.multiply(point));
            (0..part.job.output.blocks()).into_par_iter().for_each(|block| part.finish(block));
        }
    }
}

/// Some of the tiles of all images, counted through.
struct Part<'a, P: Element, X, Y, const O: usize, const I: usize> {
    layer: &'a Winograd<P>,
    job: &'a Job<'a, X, Y>,
    /// Rows and columns of tiles of an image.
    size: [usize; 2],
    tiles: Range<usize>,
    /// `[points][input blocks][tiles][lanes]`.
    before: Shared<P>,
    /// `[points][output blocks][tiles][lanes]`.
    after: Shared<f32>,
    output: Shared<Y>,
}

impl<P: Element, X: Element, Y: Element, const O: usize, const I: usize> Part<'_, P, X, Y, O, I> {
    /// Transforms a block of input channels.
    fn transform(&self, block: usize) {
        AutoArch::new().dispatch(Transform(self, block));
    }

    /// Multiplies at a point.
    fn multiply(&self, point: usize) {
        let (tiles, lanes) = (self.tiles.len(), vector_lanes());
        let blocks = |map: &super::Map| point * map.blocks() * tiles * lanes;
        // SAFETY: this point's part of either buffer; no other call for the same point writes it, and the first was filled before.
        unsafe {
            let (input, output) = (self.before.at(blocks(self.job.input.map)), self.after.at(blocks(self.job.output)));
            self.layer.points[point].multiply(&cover(tiles, SPAN), tiles, input, output);
        }
    }

    /// Transforms a block of output channels back and finishes it.
    fn finish(&self, block: usize) {
        AutoArch::new().dispatch(Finish(self, block));
    }

    /// Image, row and column of a tile's first pixel.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, place) = (tile / (self.size[0] * self.size[1]), tile % (self.size[0] * self.size[1]));
        (image, place / self.size[1] * O, place % self.size[1] * O)
    }
}

/// Rows of the input's transform, times a column.
#[inline(always)]
fn transformed<S: Simd, const I: usize>(d: [Lanes<S>; I]) -> [Lanes<S>; I] {
    let mut t = d;
    if I == 4 {
        t[0] = d[0] - d[2];
        t[1] = d[1] + d[2];
        t[2] = d[2] - d[1];
        t[3] = d[1] - d[3];
    } else {
        let (two, four, minus_four, minus_five) = (splat::<S>(2.0), splat::<S>(4.0), splat::<S>(-4.0), splat::<S>(-5.0));
        let (a, b) = (f32::vmul_add(minus_four, d[2], d[4]), f32::vmul_add(minus_four, d[1], d[3]));
        let (c, e) = (d[4] - d[2], two * (d[3] - d[1]));
        t[0] = f32::vmul_add(four, d[0], f32::vmul_add(minus_five, d[2], d[4]));
        t[1] = a + b;
        t[2] = a - b;
        t[3] = c + e;
        t[4] = c - e;
        t[5] = f32::vmul_add(four, d[1], f32::vmul_add(minus_five, d[3], d[5]));
    }
    t
}

/// Rows of the output's transform, times a column.
#[inline(always)]
fn back<S: Simd, const O: usize, const I: usize>(m: [Lanes<S>; I]) -> [Lanes<S>; O] {
    let mut y = [m[0]; O];
    if O == 2 {
        y[0] = (m[0] + m[1]) + m[2];
        y[1] = (m[1] - m[2]) - m[3];
    } else {
        let (sum, difference, more_sum, more_difference) = (m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]);
        y[0] = (m[0] + sum) + more_sum;
        y[1] = f32::vmul_add(splat::<S>(2.0), more_difference, difference);
        y[2] = f32::vmul_add(splat::<S>(4.0), more_sum, sum);
        y[3] = f32::vmul_add(splat::<S>(8.0), more_difference, difference) + m[I - 1];
    }
    y
}

struct Transform<'a, P: Element, X, Y, const O: usize, const I: usize>(&'a Part<'a, P, X, Y, O, I>, usize);

impl<P: Element, X: Element, Y: Element, const O: usize, const I: usize> WithSimd for Transform<'_, P, X, Y, O, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self(part, block) = self;
        let (map, tiles) = (part.job.input.map, part.tiles.len());
        let to_point = map.blocks() * tiles * lanes::<S>();
        for index in 0..tiles {
            let (image, row, column) = part.place(part.tiles.start + index);
            let at = image * map.image() + block * map.plane() + part.job.first_tap(row, column);
            let mut rows = [[splat::<S>(0.0); I]; I];
            // SAFETY: the input's border is wide enough for whole tiles (`Conv::run` has checked that), and this block's part of each
            // point's values is this call's to write.
            unsafe {
                let input = part.job.input.values.as_ptr().add(at);
                for j in 0..I {
                    let mut line = [splat::<S>(0.0); I];
                    for i in 0..I {
                        line[i] = X::load::<S>(input.add(i * map.row() + j * lanes::<S>()));
                    }
                    let line = transformed::<S, I>(line);
                    for i in 0..I {
                        rows[i][j] = line[i];
                    }
                }
                let output = part.before.at((block * tiles + index) * lanes::<S>());
                for i in 0..I {
                    let line = transformed::<S, I>(rows[i]);
                    for j in 0..I {
                        P::store::<S>(output.add((i * I + j) * to_point), line[j]);
                    }
                }
            }
        }
    }
}

struct Finish<'a, P: Element, X, Y, const O: usize, const I: usize>(&'a Part<'a, P, X, Y, O, I>, usize);

impl<P: Element, X: Element, Y: Element, const O: usize, const I: usize> WithSimd for Finish<'_, P, X, Y, O, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self(part, block) = self;
        let (map, tiles, epilogue) = (part.job.output, part.tiles.len(), part.job.epilogue);
        let to_point = map.blocks() * tiles * lanes::<S>();
        for index in 0..tiles {
            let (image, row, column) = part.place(part.tiles.start + index);
            // SAFETY: this block's values at all points were computed; the pixels inside the map are this call's to write.
            unsafe {
                let input = part.after.at((block * tiles + index) * lanes::<S>());
                let bias = vload_unaligned::<S, f32>(part.layer.bias.as_ptr().add(block * lanes::<S>()));
                let mut columns = [[splat::<S>(0.0); I]; O];
                for j in 0..I {
                    let mut line = [splat::<S>(0.0); I];
                    for i in 0..I {
                        line[i] = vload_unaligned(input.add((i * I + j) * to_point));
                    }
                    let line = back::<S, O, I>(line);
                    for i in 0..O {
                        columns[i][j] = line[i];
                    }
                }
                for i in 0..O {
                    if row + i >= map.height {
                        break;
                    }
                    let line = back::<S, O, I>(columns[i]);
                    for j in 0..O {
                        if column + j < map.width {
                            let pixel = |map: &super::Map| {
                                image * map.image() + block * map.plane() + map.at((row + i) as isize, (column + j) as isize)
                            };
                            let mut value = line[j] + bias;
                            if let Some(residual) = epilogue.residual {
                                value = value + Y::load::<S>(residual.values.as_ptr().add(pixel(residual.map)));
                            }
                            Y::store::<S>(part.output.at(pixel(map)), activate::<S>(value, epilogue.activation));
                        }
                    }
                }
            }
        }
    }
}
