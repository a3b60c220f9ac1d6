//! What a report says, before it is HTML.

use std::path::Path;

use timburn_core::disk::{self, System};
use timburn_core::{Error, Result};
use timburn_data::Rgb8Image;
use timburn_data::picture::encode_jpeg;

use super::html;
use crate::plots::Picture;

/// Enough for thumbnails; of photographs, a fifth of PNG's size.
const QUALITY: u8 = 85;

/// A page that stands alone: one HTML file with all its pictures, without script, readable in light and dark, on paper and on a telephone.
///
/// Texts are plain: whatever is in them, names of files and classes above all, is shown as it is and never read as HTML.
#[derive(Debug, Clone, Default)]
pub struct ReportPage {
    /// The heading, also the name of the browser's tab.
    pub title: String,
    /// One or two sentences below the heading.
    pub lead: String,
    /// What most readers came for.
    pub key_numbers: Vec<KeyNumber>,
    /// All else, in order.
    pub sections: Vec<Section>,
}

/// A number in large print.
#[derive(Debug, Clone, Default)]
pub struct KeyNumber {
    /// What was measured.
    pub name: String,
    /// The number with its unit.
    pub value: String,
    /// Small print: an interval, what it is a share of.
    pub note: String,
}

/// A part of a page.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// Its content, in order.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Debug, Clone)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Bullet points.
    List(Vec<String>),
    /// Names and values.
    Facts(Vec<(String, String)>),
    /// Text whose line breaks and blanks matter.
    Code {
        /// What it is, for those who do not see the page.
        label: String,
        /// The text.
        text: String,
    },
    /// A chart.
    Chart {
        /// The chart.
        picture: Picture,
        /// What it shows, for those who do not see it.
        label: String,
        /// The line under it.
        caption: String,
    },
    /// Blocks side by side, where the page is wide enough.
    Row(Vec<Block>),
    /// Pictures side by side.
    Tiles(Vec<Tile>),
    /// A table.
    Table(Table),
    /// What is closed until the reader opens it.
    Folded {
        /// What is in it.
        summary: String,
        /// Its content.
        blocks: Vec<Block>,
    },
}

/// A table. The first cell of a row names the row; columns of numbers are aligned to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What is in it.
    pub caption: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows; cells beyond the head's are left out.
    pub rows: Vec<Vec<String>>,
}

/// A picture with what is said of it.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The picture.
    pub image: TileImage,
    /// What it shows, for those who do not see it.
    pub label: String,
    /// Lines under it; the first is bold.
    pub lines: Vec<String>,
    /// Whether the prediction is right, if there is one: said by the frame's colour and by a sign.
    pub right: Option<bool>,
}

/// A picture as a file.
#[derive(Debug, Clone)]
pub struct TileImage {
    pub(super) mime: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl TileImage {
    /// The picture as JPEG.
    ///
    /// # Errors
    /// [`ImageError`](timburn_core::error::ImageError) for a picture without pixels or too large for JPEG.
    pub fn new(image: &Rgb8Image) -> Result<Self> {
        Ok(Self { mime: "image/jpeg", bytes: encode_jpeg(image, QUALITY)?, width: image.width, height: image.height })
    }
}

impl ReportPage {
    /// The HTML.
    pub fn html(&self) -> String {
        html::render(self)
    }

    /// Writes the HTML to a file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let text = self.html();
        disk::replace_file(&System, path, |out| out.write_all(text.as_bytes()).map_err(Error::io("write", path)))
    }
}
