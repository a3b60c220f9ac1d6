//! Captions on pictures.

use super::font;
use crate::image::Rgb8Image;

/// Size of captions: the em, in pixels.
pub(crate) const SIZE: f64 = 13.0;
/// Distance between lines, in pixels.
pub(crate) const LINE: usize = 17;

/// Draws one line of text of [`font`]'s with the upper left corner of its line at (`left`, `top`), as far as the picture reaches.
///
/// Latin, Greek and Cyrillic are in the font; other characters show as boxes.
pub fn draw_text(image: &mut Rgb8Image, left: usize, top: usize, text: &str, color: [u8; 3]) {
    let baseline = top as i64 + SIZE.round() as i64;
    font::draw(text, SIZE, (0.0, 0.0), |x, y, coverage| {
        let (x, y) = (left as i64 + x, baseline + y);
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < image.width && y < image.height {
            for (value, ink) in image.pixels[(y * image.width + x) * 3..][..3].iter_mut().zip(color) {
                let blended = f64::from(*value) + (f64::from(ink) - f64::from(*value)) * coverage.clamp(0.0, 1.0);
                *value = blended.round() as u8;
            }
        }
    });
}
