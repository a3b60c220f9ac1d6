//! From floats to bytes and back.

use macerator::{Simd, WithSimd};

use super::super::Map;
use super::quantization::Quantization;
use crate::level::AutoArch;

struct Bytes<'a> {
    source: &'a [f32],
    target: &'a mut [u8],
    quantization: Quantization,
}

impl WithSimd for Bytes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        for (byte, &value) in self.target.iter_mut().zip(self.source) {
            *byte = self.quantization.byte(value);
        }
    }
}

/// Lays out `[n, c, h, w]` as bytes, border and unused lanes included.
///
/// # Panics
/// When `target` is shorter than the map's length or `source` has another length than the shape says.
pub fn from_nchw(map: &Map, images: usize, source: &[f32], quantization: Quantization, target: &mut [u8]) {
    assert_eq!(source.len(), images * map.channels * map.height * map.width, "pictures of another size");
    let zero = quantization.zero_point();
    map.fill_border(images, target, zero);
    let (area, lanes) = (map.height * map.width, map.lanes);
    for image in 0..images {
        for block in 0..map.blocks() {
            let first = block * lanes;
            let count = lanes.min(map.channels - first);
            let planes = &source[(image * map.channels + first) * area..][..count * area];
            let target = &mut target[image * map.image() + block * map.plane()..][..map.plane()];
            for row in 0..map.height {
                let line = &mut target[map.at(row as isize, 0)..][..map.width * lanes];
                if lanes == 1 {
                    AutoArch::new().dispatch(Bytes { source: &planes[row * map.width..][..map.width], target: line, quantization });
                    continue;
                }
                for (column, pixel) in line.chunks_exact_mut(lanes).enumerate() {
                    for (lane, byte) in pixel.iter_mut().enumerate() {
                        *byte = if lane < count { quantization.byte(planes[lane * area + row * map.width + column]) } else { zero };
                    }
                }
            }
        }
    }
}

/// The values as `[n, c, h, w]`.
///
/// # Panics
/// When `source` is shorter than the map's length.
pub fn to_nchw(map: &Map, images: usize, source: &[u8], quantization: Quantization) -> Vec<f32> {
    let mut target = Vec::with_capacity(images * map.channels * map.height * map.width);
    for image in 0..images {
        for channel in 0..map.channels {
            let plane = &source[image * map.image() + channel / map.lanes * map.plane()..][..map.plane()];
            for row in 0..map.height {
                let line = &plane[map.at(row as isize, 0)..][..map.width * map.lanes];
                target.extend(line.iter().skip(channel % map.lanes).step_by(map.lanes).map(|&byte| quantization.value(byte)));
            }
        }
    }
    target
}
