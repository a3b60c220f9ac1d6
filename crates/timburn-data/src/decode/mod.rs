//! Bytes to [`Rgb8Image`]: the format by content, the size checked before anything is allocated, strict about what is missing.

mod complete;
mod format;
mod orientation;
mod other;
mod probe;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use timburn_core::Result;
use timburn_core::error::{ImageError, ImageFault};
use timburn_core::panic::panic_message;

pub use format::Format;
pub use probe::{Header, probe};

use crate::image::{Region, Rgb8Image};
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
    /// Lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, the smallest that is at least this wide and high (PIL's `draft`). Several times
    /// faster for large photographs; the pixels are means of squares, not those of an antialiased resize. Default `None`: full size. Other
    /// formats are always decoded at full size.
    pub min_size: Option<(usize, usize)>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_pixels: 64_000_000, apply_orientation: true, background: [255; 3], min_size: None }
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
    let decoded = decode(bytes, name, options, Region::whole);
    Ok(decoded.map_err(|fault| ImageError { name: name.into(), fault })?.image)
}

/// Decodes the region of a picture that `choose` names, given the picture's width and height. The same pixels as [`decode_bytes`] and
/// [`Rgb8Image::crop`] with that region, cut off where it reaches beyond the picture.
///
/// Of a JPEG only what the region needs is transformed and converted, which takes about half the time for a random crop; the whole file is
/// still read, and the errors are the same. With [`DecodeOptions::min_size`] it is the region that stays at least that large: it is what the
/// scaled picture has between `floor` of the region's first and `ceil` of its last edge. `choose` is called at most once.
///
/// # Errors
/// As [`decode_bytes`].
pub fn decode_region(
    bytes: &[u8],
    name: &str,
    options: &DecodeOptions,
    choose: impl FnOnce(usize, usize) -> Region,
) -> Result<DecodedRegion> {
    decode(bytes, name, options, choose).map_err(|fault| ImageError { name: name.into(), fault }.into())
}

/// What [`decode_region`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedRegion {
    /// The region's pixels.
    pub image: Rgb8Image,
    /// Width of the whole picture, after orientation, before any scaling.
    pub width: usize,
    /// Height of the whole picture.
    pub height: usize,
}

/// Decodes the picture in a file, see [`decode_bytes`].
///
/// # Errors
/// As [`decode_bytes`], and [`ImageFault::Io`] when the file cannot be read.
pub fn decode_file(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Rgb8Image> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let outcome = std::fs::read(path).map_err(ImageFault::Io).and_then(|bytes| decode(&bytes, &name, options, Region::whole));
    Ok(outcome.map_err(|fault| ImageError { name, fault })?.image)
}

/// Hands the memory of a picture back to the decoder of this thread, which uses it for the next JPEG instead of fresh memory: worth a
/// twentieth of the time to a worker that decodes picture after picture. At most 16 MB a thread are kept.
pub fn recycle(image: Rgb8Image) {
    jpeg::recycle(image.pixels);
}

fn decode(
    bytes: &[u8],
    name: &str,
    options: &DecodeOptions,
    choose: impl FnOnce(usize, usize) -> Region,
) -> Result<DecodedRegion, ImageFault> {
    if bytes.is_empty() {
        return Err(ImageFault::Empty);
    }
    let format = Format::of(bytes).ok_or_else(|| ImageFault::NotAnImage { found: hexadecimal(bytes) })?;
    let outcome = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => decode_jpeg(bytes, name, options, choose),
        _ => {
            let image = other::decode(bytes, name, format, options)?;
            let (width, height) = (image.width, image.height);
            let region = choose(width, height);
            let whole = region.clipped(width, height) == Region::whole(width, height);
            Ok(DecodedRegion { image: if whole { image } else { image.crop(region) }, width, height })
        }
    }));
    outcome.unwrap_or_else(|panic| Err(ImageFault::Panicked { format: format.name(), reason: panic_message(panic.as_ref()) }))
}

fn decode_jpeg(
    bytes: &[u8],
    name: &str,
    options: &DecodeOptions,
    choose: impl FnOnce(usize, usize) -> Region,
) -> Result<DecodedRegion, ImageFault> {
    let (mut size, mut turn) = ((0, 0), Orientation::NoTransforms);
    let decoded = jpeg::decode(bytes, options.max_pixels, |header| {
        let exif = header.exif.filter(|_| options.apply_orientation);
        orientation::warn_if_corrupt(exif, name);
        turn = orientation::of_exif(exif);
        let sideways = orientation::is_sideways(turn);
        size = if sideways { (header.height, header.width) } else { (header.width, header.height) };
        let region = choose(size.0, size.1).clipped(size.0, size.1);
        let min_size = options.min_size.map(|(width, height)| if sideways { (height, width) } else { (width, height) });
        jpeg::Wanted { region: orientation::stored(region, size, turn), min_size }
    })?;
    let image = Rgb8Image { width: decoded.width, height: decoded.height, pixels: decoded.pixels };
    Ok(DecodedRegion { image: orientation::apply(image, turn), width: size.0, height: size.1 })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
