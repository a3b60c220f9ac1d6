//! What a chart is made of, before it is SVG or PNG.

use std::path::Path;

use timburn_core::disk::{self, System};
use timburn_core::{Error, Result};

use super::{raster, svg};

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

pub(super) const INK: Color = Color(0x22, 0x22, 0x22);
pub(super) const MUTED: Color = Color(0x66, 0x66, 0x66);
pub(super) const FRAME: Color = Color(0x99, 0x99, 0x99);
pub(super) const GRID: Color = Color(0xE6, 0xE6, 0xE6);
pub(super) const WHITE: Color = Color(0xFF, 0xFF, 0xFF);
/// White and ink that a dark page must leave as they are: paper and text of cells whose colour has a meaning. (One step off the others,
/// by which they are told apart.)
pub(super) const FIXED_WHITE: Color = Color(0xFE, 0xFE, 0xFE);
pub(super) const FIXED_INK: Color = Color(0x23, 0x23, 0x23);
pub(super) const BLUE: Color = Color(0x00, 0x72, 0xB2);
pub(super) const VERMILION: Color = Color(0xD5, 0x5E, 0x00);
/// Okabe and Ito, without yellow, which white swallows.
pub(super) const PALETTE: [Color; 7] =
    [BLUE, VERMILION, Color(0x00, 0x9E, 0x73), Color(0xCC, 0x79, 0xA7), Color(0xE6, 0x9F, 0x00), Color(0x56, 0xB4, 0xE9), INK];

impl Color {
    /// `self` at 0, `other` at 1.
    pub(super) fn mix(self, other: Self, share: f64) -> Self {
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share.clamp(0.0, 1.0)).round() as u8;
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// Whether white text is readable on it.
    pub(super) fn is_dark(self) -> bool {
        0.299 * f64::from(self.0) + 0.587 * f64::from(self.1) + 0.114 * f64::from(self.2) < 140.0
    }
}

/// Which point of a text its position names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A shape; coordinates from the top left, in pixels at scale 1.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        color: Color,
    },
    Line {
        points: Vec<(f64, f64)>,
        width: f64,
        color: Color,
        dashed: bool,
    },
    Dot {
        x: f64,
        y: f64,
        radius: f64,
        color: Color,
    },
    /// The position is on the baseline. Upright text runs to the right, turned text upwards.
    Text {
        x: f64,
        y: f64,
        size: f64,
        anchor: Anchor,
        turned: bool,
        color: Color,
        text: String,
    },
}

/// A chart laid out, to be written as SVG or PNG.
#[derive(Debug, Clone)]
pub struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) shapes: Vec<Shape>,
}

impl Picture {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, shapes: vec![Shape::Rect { x: 0.0, y: 0.0, width, height, color: WHITE }] }
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, color: Color) {
        self.shapes.push(Shape::Rect { x, y, width, height, color });
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, color: Color) {
        self.shapes.push(Shape::Line { points, width, color, dashed: false });
    }

    pub(super) fn dashes(&mut self, points: Vec<(f64, f64)>, width: f64, color: Color) {
        self.shapes.push(Shape::Line { points, width, color, dashed: true });
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, color: Color) {
        self.shapes.push(Shape::Dot { x, y, radius, color });
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, color: Color, text: impl Into<String>) {
        self.shapes.push(Shape::Text { x, y, size, anchor, turned: false, color, text: text.into() });
    }

    pub(super) fn turned_text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, color: Color, text: impl Into<String>) {
        self.shapes.push(Shape::Text { x, y, size, anchor, turned: true, color, text: text.into() });
    }

    /// Title at the top left and, under it, a line in gray.
    pub(super) fn title(&mut self, title: &str, subtitle: &str) {
        self.text((16.0, 28.0), 17.0, Anchor::Start, INK, title);
        if !subtitle.is_empty() {
            self.text((16.0, 47.0), 12.0, Anchor::Start, MUTED, subtitle);
        }
    }

    /// Width and height of the SVG, in its units: CSS pixels.
    pub fn size(&self) -> (f64, f64) {
        (self.width, self.height)
    }

    /// The text of an SVG file.
    pub fn svg(&self) -> String {
        svg::render(self, None)
    }

    /// An `<svg>` element for an HTML page, described by `label` to those who do not see it. Ink, grid and paper have classes (`ink`, `muted`,
    /// `frame`, `grid`, `paper`, with `f-` for fills and `s-` for strokes before), by which a page can recolour them; without such rules it
    /// looks as the file does.
    pub fn inline_svg(&self, label: &str) -> String {
        svg::render(self, Some(label))
    }

    /// The bytes of a PNG file, two pixels for each of the SVG's.
    ///
    /// # Errors
    /// [`Error::Argument`] for a picture of more pixels than PNG has room for.
    pub fn png(&self) -> Result<Vec<u8>> {
        raster::render(self, 2.0)
    }

    /// Width and height of the PNG, in pixels.
    pub fn png_size(&self) -> (u32, u32) {
        raster::size(self, 2.0)
    }

    /// Writes `<stem>.svg` and `<stem>.png`, each whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, stem: impl AsRef<Path>) -> Result<()> {
        let (svg, png) = (self.svg().into_bytes(), self.png()?);
        for (extension, bytes) in [("svg", svg), ("png", png)] {
            let mut name = stem.as_ref().as_os_str().to_owned();
            name.push(".");
            name.push(extension);
            let path = Path::new(&name);
            disk::replace_file(&System, path, |out| out.write_all(&bytes).map_err(Error::io("write", path)))?;
        }
        Ok(())
    }
}
