//! Captions in a fixed-width font that needs no font file on the machine: Spleen 8×16 (Frederic Cambus, BSD-2-Clause).

use spleen_font::{FONT_8X16, PSF2Font};

use crate::image::Rgb8Image;

/// Columns a character takes, in pixels.
pub const GLYPH_WIDTH: usize = 8;
/// Rows a character takes, in pixels.
pub const GLYPH_HEIGHT: usize = 16;

/// Draws one line of text with its upper left corner at (`left`, `top`), as far as the picture reaches.
///
/// Latin script with accents, Greek, Cyrillic parts and box-drawing characters are in the font; others show as `?`.
pub fn draw_text(image: &mut Rgb8Image, left: usize, top: usize, text: &str, color: [u8; 3]) {
    let Ok(mut font) = PSF2Font::new(FONT_8X16) else { return };
    let mut buffer = [0; 4];
    for (column, character) in text.chars().enumerate() {
        let known = font.glyph_for_utf8(character.encode_utf8(&mut buffer).as_bytes()).is_some();
        let Some(glyph) = font.glyph_for_utf8(if known { character.encode_utf8(&mut buffer).as_bytes() } else { b"?" }) else { continue };
        for (y, row) in glyph.enumerate().map(|(y, row)| (top + y, row)) {
            for (x, _) in row.enumerate().filter(|(_, ink)| *ink) {
                let x = left + column * GLYPH_WIDTH + x;
                if x < image.width && y < image.height {
                    image.pixels[(y * image.width + x) * 3..][..3].copy_from_slice(&color);
                }
            }
        }
    }
}

/// `text`, shortened with an ellipsis to at most `columns` characters.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}
