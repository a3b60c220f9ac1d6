//! EXIF orientation.

use image::metadata::Orientation;

use crate::image::{Region, Rgb8Image};

/// The orientation in an EXIF block; upright when there is none or it cannot be read.
pub(super) fn of_exif(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// Logs a warning when the EXIF block of the picture `name` is none: TIFF's byte order mark, then 42.
pub(super) fn warn_if_corrupt(exif: Option<&[u8]>, name: &str) {
    if exif.is_some_and(|block| !block.starts_with(b"II*\0") && !block.starts_with(b"MM\0*")) {
        log::warn!("{name}: its EXIF block is corrupt and was ignored");
    }
}

/// Whether width and height change places.
pub(super) fn is_sideways(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// Where the pixels of a region of the upright picture, which is `width`×`height`, are in the stored one. The region lies inside.
pub(super) fn stored(region: Region, (width, height): (usize, usize), orientation: Orientation) -> Region {
    let Region { left, top, width: w, height: h } = region;
    let (right, bottom) = (width - left - w, height - top - h);
    let (left, top) = match orientation {
        Orientation::NoTransforms => (left, top),
        Orientation::FlipHorizontal => (right, top),
        Orientation::Rotate180 => (right, bottom),
        Orientation::FlipVertical => (left, bottom),
        Orientation::Rotate90FlipH => (top, left),
        Orientation::Rotate90 => (top, right),
        Orientation::Rotate270FlipH => (bottom, right),
        Orientation::Rotate270 => (bottom, left),
    };
    let (width, height) = if is_sideways(orientation) { (h, w) } else { (w, h) };
    Region { left, top, width, height }
}

/// Turns and mirrors the picture upright.
pub(super) fn apply(image: Rgb8Image, orientation: Orientation) -> Rgb8Image {
    let (w, h) = (image.width, image.height);
    // For a pixel of the result, the one of the source.
    let source: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        Orientation::NoTransforms => return image,
        Orientation::FlipHorizontal => |x, y, w, _| (w - 1 - x, y),
        Orientation::Rotate180 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        Orientation::FlipVertical => |x, y, _, h| (x, h - 1 - y),
        Orientation::Rotate90FlipH => |x, y, _, _| (y, x),
        Orientation::Rotate90 => |x, y, _, h| (y, h - 1 - x),
        Orientation::Rotate270FlipH => |x, y, w, h| (w - 1 - y, h - 1 - x),
        Orientation::Rotate270 => |x, y, w, _| (w - 1 - y, x),
    };
    let (width, height) = if is_sideways(orientation) { (h, w) } else { (w, h) };
    let from = image.pixels.as_chunks::<3>().0;
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = source(x, y, w, h);
            pixels.extend_from_slice(&from[sy * w + sx]);
        }
    }
    Rgb8Image { width, height, pixels }
}
