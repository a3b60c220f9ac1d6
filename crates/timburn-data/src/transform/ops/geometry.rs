//! Flips, crops and rectangles: pixels moved, never computed.

use serde::{Deserialize, Serialize};

use crate::image::{Region, Rgb8Image};
use crate::preprocess::Span;

/// What lies beyond the edges of a padded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// One colour.
    #[default]
    Constant,
    /// The pixels mirrored at the edge pixel, which is not repeated: `c b | a b c`.
    Reflect,
    /// The edge pixel: `a a | a b c`.
    Edge,
}

impl Padding {
    /// The pixel of `0..size` that stands at `position`; none where the colour is shown.
    pub(crate) fn source(self, position: i64, size: usize) -> Option<usize> {
        let last = size as i64 - 1;
        let source = match self {
            _ if (0..=last).contains(&position) => position,
            Self::Constant => return None,
            Self::Edge => position.clamp(0, last),
            // A period is once there and back; a single pixel is its own mirror image.
            Self::Reflect => {
                let phase = position.rem_euclid((2 * last).max(1));
                phase.min(2 * last - phase)
            }
        };
        usize::try_from(source).ok()
    }
}

/// Mirrors left and right (`ImageOps.mirror`).
pub fn horizontal_flip(image: &mut Rgb8Image) {
    for row in image.pixels.chunks_exact_mut((image.width * 3).max(1)) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// Mirrors top and bottom (`ImageOps.flip`).
pub fn vertical_flip(image: &mut Rgb8Image) {
    let (stride, half) = (image.width * 3, image.height / 2);
    let (top, bottom) = image.pixels.split_at_mut((image.height - half) * stride);
    for (upper, lower) in top.chunks_exact_mut(stride.max(1)).zip(bottom.chunks_exact_mut(stride.max(1)).rev()) {
        upper.swap_with_slice(lower);
    }
}

/// The rectangle of `width`×`height` pixels whose first pixel is at (`left`, `top`), negative or beyond the picture where it is padded.
///
/// Equal to torchvision's `pad` (numpy's, for reflect and edge) and `crop`, without the padded picture in between.
pub fn crop_padded(image: &Rgb8Image, left: i64, top: i64, width: usize, height: usize, padding: Padding, fill: [u8; 3]) -> Rgb8Image {
    let mut pixels = Vec::with_capacity(width * height * 3);
    // The columns of the picture that are seen, and what is before and behind them.
    let before = (-left).clamp(0, width as i64) as usize;
    let first = left.clamp(0, image.width as i64) as usize;
    let seen = (image.width - first).min(width - before);
    let beyond = |columns: std::ops::Range<usize>, row: &[[u8; 3]], pixels: &mut Vec<u8>| {
        for column in columns {
            let source = padding.source(left + column as i64, image.width);
            pixels.extend_from_slice(&source.and_then(|x| row.get(x)).copied().unwrap_or(fill));
        }
    };
    for line in 0..height {
        let Some(y) = padding.source(top + line as i64, image.height) else {
            (0..width).for_each(|_| pixels.extend_from_slice(&fill));
            continue;
        };
        let row = &image.pixels[y * image.width * 3..(y + 1) * image.width * 3];
        beyond(0..before, row.as_chunks().0, &mut pixels);
        pixels.extend_from_slice(&row[first * 3..(first + seen) * 3]);
        beyond(before + seen..width, row.as_chunks().0, &mut pixels);
    }
    Rgb8Image { width, height, pixels }
}

/// The middle `width`×`height` pixels, padded with black where the picture is smaller (torchvision's `center_crop`).
pub fn center_crop(image: &Rgb8Image, width: usize, height: usize) -> Rgb8Image {
    let (columns, rows) = (Span::center(image.width, width), Span::center(image.height, height));
    let offset = |span: &Span| span.from as i64 - span.to as i64;
    crop_padded(image, offset(&columns), offset(&rows), width, height, Padding::Constant, [0; 3])
}

/// Paints the part of `region` that lies inside the picture, one colour a pixel, rows from the top.
pub fn erase(image: &mut Rgb8Image, region: Region, mut color: impl FnMut() -> [u8; 3]) {
    let right = region.left.saturating_add(region.width).min(image.width);
    let bottom = region.top.saturating_add(region.height).min(image.height);
    for y in region.top..bottom {
        let row = image.pixels.get_mut((y * image.width + region.left.min(right)) * 3..(y * image.width + right) * 3).unwrap_or_default();
        row.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = color());
    }
}
