//! What a picture file says about itself, without decoding it.

use std::io::Cursor;

use image::{ExtendedColorType, ImageDecoder, ImageReader};

use super::format::Format;
use super::other::image_format;
use crate::jpeg;

/// A picture file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Format by content.
    pub format: Format,
    /// Columns, before any EXIF orientation.
    pub width: usize,
    /// Rows, before any EXIF orientation.
    pub height: usize,
    /// How the file stores its pixels: `gray`, `RGB`, `RGBA`, `CMYK`, `16-bit RGB`, …
    pub mode: &'static str,
}

/// Reads the header of a picture file; `None` when there is none that can be read. A header alone does not prove the picture whole.
pub fn probe(bytes: &[u8]) -> Option<Header> {
    let format = Format::of(bytes)?;
    if format == Format::Jpeg {
        let (width, height, components) = jpeg::header(bytes)?;
        let mode = match components {
            1 => "gray",
            3 => "RGB",
            4 => "CMYK",
            _ => return None,
        };
        return Some(Header { format, width, height, mode });
    }
    let decoder = ImageReader::with_format(Cursor::new(bytes), image_format(format)).into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    Some(Header { format, width: width as usize, height: height as usize, mode: mode(decoder.original_color_type()) })
}

fn mode(color: ExtendedColorType) -> &'static str {
    match color {
        ExtendedColorType::L1 => "1-bit gray",
        ExtendedColorType::L2 | ExtendedColorType::L4 | ExtendedColorType::L8 => "gray",
        ExtendedColorType::La8 => "gray + alpha",
        ExtendedColorType::Rgb8 => "RGB",
        ExtendedColorType::Rgba8 => "RGBA",
        ExtendedColorType::L16 => "16-bit gray",
        ExtendedColorType::La16 => "16-bit gray + alpha",
        ExtendedColorType::Rgb16 => "16-bit RGB",
        ExtendedColorType::Rgba16 => "16-bit RGBA",
        ExtendedColorType::Cmyk8 => "CMYK",
        ExtendedColorType::Rgb32F | ExtendedColorType::Rgba32F => "float",
        _ => "other",
    }
}
