//! Bytes to [`Rgb8Image`]: the format by content, the size checked before anything is allocated, strict about what is missing.

mod complete;
mod format;
mod orientation;
mod other;
mod probe;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use timburn_core::Result;
use timburn_core::device::panic_message;
use timburn_core::error::{ImageError, ImageFault};

pub use format::Format;
pub use probe::{Header, probe};

use crate::image::Rgb8Image;
use crate::jpeg;

/// What the decoder allows and applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Largest number of pixels a header may announce. Default 64 million, which takes up to 0.8 GB while a progressive JPEG is decoded.
    pub max_pixels: u64,
    /// Turns and mirrors the picture as its EXIF block says. Default true, right for predicting; torchvision's training does not. A
    /// corrupt EXIF block counts as none and is logged as a warning.
    pub apply_orientation: bool,
    /// What transparent pixels are laid over, RGB. Default white. (PIL's `convert("RGB")` drops the alpha channel instead and shows
    /// colours that nobody was meant to see.)
    pub background: [u8; 3],
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_pixels: 64_000_000, apply_orientation: true, background: [255; 3] }
    }
}

/// Decodes a picture; `name` is what errors call it.
///
/// Always RGB8: gray is replicated, CMYK and YCCK are converted as PIL does (Adobe's inverted inks), 16-bit samples are scaled to
/// `round(x / 257)`, alpha is laid over [`DecodeOptions::background`], of an animation the first frame is taken. JPEG is equal to
/// libjpeg-turbo's output to the bit. Bytes after the picture are ignored.
///
/// # Errors
/// [`ImageError`] when the bytes are empty, no picture, cut short anywhere, corrupt or larger than allowed. A panic of a decoder becomes
/// [`ImageFault::Panicked`].
pub fn decode_bytes(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<Rgb8Image> {
    decode(bytes, name, options).map_err(|fault| ImageError { name: name.into(), fault }.into())
}

/// Decodes the picture in a file, see [`decode_bytes`].
///
/// # Errors
/// As [`decode_bytes`], and [`ImageFault::Io`] when the file cannot be read.
pub fn decode_file(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Rgb8Image> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let outcome = std::fs::read(path).map_err(ImageFault::Io).and_then(|bytes| decode(&bytes, &name, options));
    outcome.map_err(|fault| ImageError { name, fault }.into())
}

fn decode(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<Rgb8Image, ImageFault> {
    if bytes.is_empty() {
        return Err(ImageFault::Empty);
    }
    let format = Format::of(bytes).ok_or_else(|| ImageFault::NotAnImage { found: hexadecimal(bytes) })?;
    let outcome = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => {
            let decoded = jpeg::decode(bytes, options.max_pixels)?;
            let image = Rgb8Image { width: decoded.width, height: decoded.height, pixels: decoded.pixels };
            let exif = decoded.exif.filter(|_| options.apply_orientation);
            orientation::warn_if_corrupt(exif, name);
            Ok(orientation::apply(image, orientation::of_exif(exif)))
        }
        _ => other::decode(bytes, name, format, options),
    }));
    outcome.unwrap_or_else(|panic| Err(ImageFault::Panicked { format: format.name(), reason: panic_message(panic.as_ref()) }))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
