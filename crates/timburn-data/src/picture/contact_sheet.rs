//! Many pictures on one, in rows, with captions.

use timburn_core::preprocessing::Interpolation;

use super::font::fit as fitted;
use super::text::{LINE, SIZE, draw_text};
use crate::image::Rgb8Image;
use crate::resize::resize;

const MARGIN: usize = 10;
const FRAME: usize = 3;
const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [32; 3];
const FAINT: [u8; 3] = [110; 3];

/// One picture of a sheet.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The picture, of any size.
    pub image: Rgb8Image,
    /// Lines below it, shortened to its width; the first is dark, the others lighter.
    pub caption: Vec<String>,
    /// Colour of a frame around it.
    pub frame: Option<[u8; 3]>,
}

/// How a sheet is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactSheet {
    /// Line above the pictures; none when empty.
    pub title: String,
    /// Pictures in a row.
    pub columns: usize,
    /// Height and width of the square that each picture is fitted into, in pixels.
    pub tile: usize,
}

impl Default for ContactSheet {
    fn default() -> Self {
        Self { title: String::new(), columns: 8, tile: 160 }
    }
}

/// Lays the tiles out, row by row. Each picture keeps its aspect ratio; small ones are enlarged pixel by pixel, so that they stay what they are.
pub fn contact_sheet(tiles: &[Tile], layout: &ContactSheet) -> Rgb8Image {
    let (columns, tile) = (layout.columns.clamp(1, tiles.len().max(1)), layout.tile.clamp(16, 4096));
    let lines = tiles.iter().map(|tile| tile.caption.len()).max().unwrap_or(0);
    let cell = (tile + 2 * MARGIN, tile + 2 * MARGIN + lines * LINE);
    let head = if layout.title.is_empty() { 0 } else { LINE + MARGIN };
    let (width, height) = (columns * cell.0, head + tiles.len().div_ceil(columns) * cell.1);
    let mut sheet = Rgb8Image { width, height, pixels: PAPER.repeat(width * height) };
    draw_text(&mut sheet, MARGIN, MARGIN, &fitted(&layout.title, SIZE, (width - 2 * MARGIN) as f64), INK);
    for (index, entry) in tiles.iter().enumerate() {
        let (left, top) = (index % columns * cell.0 + MARGIN, head + index / columns * cell.1 + MARGIN);
        if let Some(color) = entry.frame {
            fill(&mut sheet, left - FRAME, top - FRAME, tile + 2 * FRAME, tile + 2 * FRAME, color);
            fill(&mut sheet, left, top, tile, tile, PAPER);
        }
        let image = fit_square(&entry.image, tile);
        let (dx, dy) = ((tile - image.width) / 2, (tile - image.height) / 2);
        for (y, row) in image.pixels.chunks_exact(image.width.max(1) * 3).enumerate() {
            sheet.pixels[((top + dy + y) * width + left + dx) * 3..][..row.len()].copy_from_slice(row);
        }
        for (line, text) in entry.caption.iter().enumerate() {
            let color = if line == 0 { INK } else { FAINT };
            draw_text(&mut sheet, left, top + tile + 4 + line * LINE, &fitted(text, SIZE, tile as f64), color);
        }
    }
    sheet
}

/// The picture at the largest size that fits a square of `side` pixels, its aspect ratio kept. A smaller one is enlarged by the
/// largest whole factor, pixel by pixel: what was fitted once stays as it is.
pub fn fit_square(image: &Rgb8Image, side: usize) -> Rgb8Image {
    let tile = side.max(1);
    let longer = image.width.max(image.height).max(1);
    let scaled = |side: usize| (side * tile / longer).clamp(1, tile);
    if longer <= tile {
        let factor = tile / longer;
        return resize(image, image.width * factor, image.height * factor, Interpolation::Nearest);
    }
    resize(image, scaled(image.width), scaled(image.height), Interpolation::Bicubic)
}

/// Draws a cross on a disc of `color` into the upper right corner: the sign of a wrong prediction, for those who cannot tell the frame's
/// colour. Its size is a sixth of the picture's shorter side, at least 9 pixels.
pub fn stamp_cross(image: &mut Rgb8Image, color: [u8; 3]) {
    let side = (image.width.min(image.height) as f64 / 6.0).clamp(9.0, 64.0);
    let radius = side / 2.0;
    let (center_x, center_y) = (image.width as f64 - radius - 2.0, radius + 2.0);
    let mut blend = |x: usize, y: usize, ink: [u8; 3], coverage: f64| {
        let Some(pixel) = image.pixels.get_mut((y * image.width + x) * 3..).and_then(|rest| rest.get_mut(..3)) else { return };
        for (value, ink) in pixel.iter_mut().zip(ink) {
            *value = (f64::from(*value) + (f64::from(ink) - f64::from(*value)) * coverage.clamp(0.0, 1.0)).round() as u8;
        }
    };
    for y in 0..(side.ceil() as usize + 4).min(image.height) {
        for x in image.width.saturating_sub(side.ceil() as usize + 4)..image.width {
            let (dx, dy) = (x as f64 + 0.5 - center_x, y as f64 + 0.5 - center_y);
            blend(x, y, color, radius + 0.5 - dx.hypot(dy));
            // Distance to the nearer diagonal, and along it.
            let (across, along) = ((dx - dy).abs().min((dx + dy).abs()) / 2f64.sqrt(), dx.abs().max(dy.abs()) * 2f64.sqrt());
            let stroke = (0.11 * side).max(0.7);
            if along < 0.66 * radius {
                blend(x, y, PAPER, stroke + 0.5 - across);
            }
        }
    }
}

fn fill(sheet: &mut Rgb8Image, left: usize, top: usize, width: usize, height: usize, color: [u8; 3]) {
    for y in top..(top + height).min(sheet.height) {
        let row = &mut sheet.pixels[y * sheet.width * 3..][..sheet.width * 3];
        for pixel in row.as_chunks_mut::<3>().0.iter_mut().skip(left).take(width) {
            *pixel = color;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, color: [u8; 3]) -> Rgb8Image {
        Rgb8Image { width, height, pixels: color.repeat(width * height) }
    }

    #[test]
    fn tiles_keep_their_place_and_their_shape() {
        let tile = |image, frame| Tile { image, caption: vec!["a very long caption indeed".into(), "é".into()], frame };
        let tiles =
            [tile(flat(300, 100, [200, 0, 0]), None), tile(flat(7, 9, [0, 0, 200]), Some([0, 200, 0])), tile(flat(1, 4000, [9; 3]), None)];
        let sheet = contact_sheet(&tiles, &ContactSheet { title: "title".into(), columns: 2, tile: 90 });
        assert_eq!((sheet.width, sheet.height), (220, 27 + 2 * (110 + 34)));
        let at = |x: usize, y: usize| <[u8; 3]>::try_from(&sheet.pixels[(y * sheet.width + x) * 3..][..3]).unwrap();
        assert_eq!(at(55, 27 + 10 + 45), [200, 0, 0], "the middle of the first");
        assert_eq!(at(55, 27 + 10 + 10), PAPER, "above the wide picture");
        assert_eq!(at(110 + 8, 27 + 10), [0, 200, 0], "the frame of the second");
        assert_eq!(at(110 + 55, 27 + 10 + 45), [0, 0, 200]);
        assert!(sheet.pixels.as_chunks::<3>().0.contains(&INK), "captions are drawn");
        assert_eq!(contact_sheet(&[], &ContactSheet::default()).height, 0);
    }

    #[test]
    fn a_cross_is_stamped_into_the_corner() {
        let mut image = flat(120, 90, [100; 3]);
        stamp_cross(&mut image, [200, 10, 10]);
        let at = |x: usize, y: usize| <[u8; 3]>::try_from(&image.pixels[(y * 120 + x) * 3..][..3]).unwrap();
        assert_eq!(at(120 - 10, 9), PAPER, "the middle of the cross");
        assert_eq!(at(120 - 10, 4), [200, 10, 10], "between its arms");
        assert_eq!(at(50, 50), [100; 3], "the picture stays");
        for (width, height) in [(0, 0), (1, 1), (3, 40), (40, 3)] {
            stamp_cross(&mut flat(width, height, [0; 3]), [255; 3]);
        }
    }
}
