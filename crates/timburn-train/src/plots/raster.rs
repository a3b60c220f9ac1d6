//! A picture to pixels. Every edge is smoothed: a pixel takes as much of a colour as the shape covers of it.

use timburn_core::{Error, Result};

use super::picture::{Anchor, Color, Picture, Shape};
use timburn_data::picture::font;

const DASH: f64 = 5.0;
const GAP: f64 = 4.0;

pub(super) fn size(picture: &Picture, scale: f64) -> (u32, u32) {
    ((picture.width * scale).ceil() as u32, (picture.height * scale).ceil() as u32)
}

pub(super) fn render(picture: &Picture, scale: f64) -> Result<Vec<u8>> {
    let (width, height) = size(picture, scale);
    let mut canvas = Canvas { width: width as usize, height: height as usize, pixels: vec![0xFF; width as usize * height as usize * 3] };
    for shape in &picture.shapes {
        match shape {
            Shape::Rect { x, y, width, height, color } => {
                canvas.rect((x * scale, y * scale), ((x + width) * scale, (y + height) * scale), *color);
            }
            Shape::Line { points, width, color, dashed } => {
                let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x * scale, y * scale)).collect();
                if *dashed {
                    for dash in dashes(&points, DASH * scale, GAP * scale) {
                        canvas.line(&dash, width * scale, *color);
                    }
                } else {
                    canvas.line(&points, width * scale, *color);
                }
            }
            Shape::Dot { x, y, radius, color } => canvas.line(&[(x * scale, y * scale); 2], 2.0 * radius * scale, *color),
            Shape::Text { x, y, size, anchor, turned, color, text } => {
                canvas.text((x * scale, y * scale), size * scale, *anchor, *turned, *color, text);
            }
        }
    }
    encode(&canvas, width, height)
}

fn encode(canvas: &Canvas, width: u32, height: u32) -> Result<Vec<u8>> {
    let failed =
        |error: png::EncodingError| Error::Argument { name: "picture", value: format!("{width}×{height}"), expected: error.to_string() };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&canvas.pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Lays `color` over the pixel with this coverage; outside of the canvas nothing happens.
    fn blend(&mut self, x: i64, y: i64, Color(red, green, blue): Color, coverage: f64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width || y >= self.height {
            return;
        }
        let start = 3 * (y * self.width + x);
        for (pixel, color) in self.pixels.iter_mut().skip(start).take(3).zip([red, green, blue]) {
            let mixed = f64::from(*pixel) + (f64::from(color) - f64::from(*pixel)) * coverage.clamp(0.0, 1.0);
            *pixel = mixed.round() as u8;
        }
    }

    fn rect(&mut self, (left, top): (f64, f64), (right, bottom): (f64, f64), color: Color) {
        // Share of the pixel [at, at + 1) between the edges.
        let overlap = |at: i64, low: f64, high: f64| (high.min(at as f64 + 1.0) - low.max(at as f64)).clamp(0.0, 1.0);
        for y in clip(top, self.height)..clip(bottom + 1.0, self.height) {
            for x in clip(left, self.width)..clip(right + 1.0, self.width) {
                self.blend(x, y, color, overlap(x, left, right) * overlap(y, top, bottom));
            }
        }
    }

    /// A line with round ends and joints. A pixel is covered by how near its centre is; where segments meet, the nearest counts, so that
    /// joints are not darker.
    fn line(&mut self, points: &[(f64, f64)], width: f64, color: Color) {
        let radius = width / 2.0;
        let reach = radius + 1.0;
        let bound = |pick: fn(&(f64, f64)) -> f64, limit: usize| {
            let low = points.iter().map(pick).fold(f64::INFINITY, f64::min);
            let high = points.iter().map(pick).fold(f64::NEG_INFINITY, f64::max);
            (clip(low - reach, limit), clip(high + reach + 1.0, limit))
        };
        let ((left, right), (top, bottom)) = (bound(|point| point.0, self.width), bound(|point| point.1, self.height));
        if left >= right || top >= bottom {
            return;
        }
        let columns = (right - left) as usize;
        let mut coverage = vec![0f64; columns * (bottom - top) as usize];
        for (a, b) in points.iter().zip(points.iter().skip(1)) {
            let rows = clip(a.1.min(b.1) - reach, self.height)..clip(a.1.max(b.1) + reach + 1.0, self.height);
            for y in rows {
                for x in clip(a.0.min(b.0) - reach, self.width)..clip(a.0.max(b.0) + reach + 1.0, self.width) {
                    let distance = distance((x as f64 + 0.5, y as f64 + 0.5), *a, *b);
                    let index = (y - top) as usize * columns + (x - left) as usize;
                    if let Some(value) = coverage.get_mut(index) {
                        *value = value.max((radius + 0.5 - distance).clamp(0.0, 1.0));
                    }
                }
            }
        }
        for (index, coverage) in coverage.into_iter().enumerate().filter(|(_, coverage)| *coverage > 0.0) {
            self.blend(left + (index % columns) as i64, top + (index / columns) as i64, color, coverage);
        }
    }

    fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, turned: bool, color: Color, text: &str) {
        let back = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => font::width(text, size) / 2.0,
            Anchor::End => font::width(text, size),
        };
        // Baselines lie on whole pixels, which keeps horizontal strokes sharp.
        if turned {
            let (x, y) = (x.round() as i64, y + back);
            let whole = y.floor();
            font::draw(text, size, (whole - y + 1.0, 0.0), |along, down, coverage| {
                self.blend(x + down, whole as i64 - along, color, coverage);
            });
        } else {
            let (x, y) = (x - back, y.round() as i64);
            let whole = x.floor();
            font::draw(text, size, (x - whole, 0.0), |along, down, coverage| {
                self.blend(whole as i64 + along, y + down, color, coverage);
            });
        }
    }
}

/// A coordinate as a pixel index from 0 to `limit`.
fn clip(value: f64, limit: usize) -> i64 {
    value.floor().clamp(0.0, limit as f64) as i64
}

fn distance(point: (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (along_x, along_y) = (b.0 - a.0, b.1 - a.1);
    let length = along_x * along_x + along_y * along_y;
    let share = if length > 0.0 { (((point.0 - a.0) * along_x + (point.1 - a.1) * along_y) / length).clamp(0.0, 1.0) } else { 0.0 };
    (point.0 - a.0 - share * along_x).hypot(point.1 - a.1 - share * along_y)
}

/// The pieces of a dashed line.
fn dashes(points: &[(f64, f64)], dash: f64, gap: f64) -> Vec<Vec<(f64, f64)>> {
    let (mut pieces, mut piece, mut drawn, mut left) = (Vec::new(), Vec::new(), true, dash);
    for (a, b) in points.iter().zip(points.iter().skip(1)) {
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let at = |distance: f64| (a.0 + (b.0 - a.0) * distance / length, a.1 + (b.1 - a.1) * distance / length);
        if drawn {
            piece.push(*a);
        }
        let mut reached = 0.0;
        while length - reached > left {
            reached += left;
            if drawn {
                piece.push(at(reached));
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece.push(at(reached));
            }
            drawn = !drawn;
            left = if drawn { dash } else { gap };
        }
        left -= length - reached;
        if drawn {
            piece.push(*b);
        }
    }
    pieces.push(piece);
    pieces
}
