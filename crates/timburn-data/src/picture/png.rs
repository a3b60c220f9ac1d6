//! PNG files, whole or not at all.

use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use timburn_core::disk::{self, System};
use timburn_core::error::{ImageError, ImageFault};
use timburn_core::{Error, Result};

use crate::image::Rgb8Image;

/// The picture as the bytes of a PNG file.
///
/// # Errors
/// [`ImageFault::Corrupt`] for a picture without pixels, which PNG cannot hold.
pub fn encode_png(image: &Rgb8Image) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    let (width, height) = (image.width as u32, image.height as u32);
    encoder.write_image(&image.pixels, width, height, ExtendedColorType::Rgb8).map_err(|error| {
        let fault = ImageFault::Corrupt { format: "PNG", reason: error.to_string() };
        ImageError { name: format!("a picture of {width}×{height} pixels"), fault }
    })?;
    Ok(bytes)
}

/// Writes the picture as PNG, replacing what is there in one step.
///
/// # Errors
/// As [`encode_png`]; [`Error::Argument`] for a name that does not end in `.png`, or that of a link, folder or device; [`Error::Io`] naming what failed, which leaves an older file as it was.
pub fn write_png(image: &Rgb8Image, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let refuse =
        |expected: &str| Error::Argument { name: "picture to write", value: path.display().to_string(), expected: expected.into() };
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return Err(refuse("a name that ends in .png"));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(refuse("a new name or that of a plain file"));
    }
    let bytes = encode_png(image)?;
    disk::replace_file(&System, path, |out| out.write_all(&bytes).map_err(Error::io("write", path)))
}
