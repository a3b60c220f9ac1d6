//! The embedded font: a subset of DejaVu Sans (Latin, Greek, Cyrillic), `assets/font.md` has licence and origin.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};

fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(include_bytes!("../../assets/font.ttf")).ok()).as_ref()
}

/// From a size as CSS counts it, the em, to one as `ab_glyph` does, ascent to descent.
fn scale(font: &FontRef<'_>, size: f64) -> PxScale {
    let em = font.units_per_em().unwrap_or(2048.0);
    PxScale::from(size as f32 * font.height_unscaled() / em)
}

/// Width of a text of this size (CSS pixels: the em).
pub fn width(text: &str, size: f64) -> f64 {
    let Some(font) = font() else { return 0.6 * size * text.chars().count() as f64 };
    let scaled = font.as_scaled(scale(font, size));
    text.chars().map(|char| f64::from(scaled.h_advance(scaled.glyph_id(char)))).sum()
}

/// The text, shortened with an ellipsis where it is wider than `limit`.
pub fn fit(text: &str, size: f64, limit: f64) -> String {
    if width(text, size) <= limit {
        return text.to_owned();
    }
    let mut short = text.to_owned();
    while short.pop().is_some() {
        let candidate = format!("{}…", short.trim_end());
        if width(&candidate, size) <= limit {
            return candidate;
        }
    }
    String::new()
}

/// Calls `pixel(x, y, coverage)` for the pixels of a text that begins at the origin of the baseline; y grows downwards. `offset` is that of
/// the origin within its pixel.
pub fn draw(text: &str, size: f64, offset: (f64, f64), mut pixel: impl FnMut(i64, i64, f64)) {
    let Some(font) = font() else { return };
    let scaled = font.as_scaled(scale(font, size));
    let mut x = offset.0 as f32;
    for char in text.chars() {
        let id = scaled.glyph_id(char);
        let glyph: Glyph = id.with_scale_and_position(scaled.scale(), point(x, offset.1 as f32));
        x += scaled.h_advance(id);
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let bounds = outline.px_bounds();
        let (left, top) = (bounds.min.x as i64, bounds.min.y as i64);
        outline.draw(|column, row, coverage| pixel(left + i64::from(column), top + i64::from(row), f64::from(coverage)));
    }
}
