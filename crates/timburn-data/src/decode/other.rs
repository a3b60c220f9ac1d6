//! Every format but JPEG, through the `image` crate.

use std::io::{Cursor, ErrorKind};

use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use timburn_core::error::ImageFault;

use super::format::Format;
use super::{DecodeOptions, complete, orientation};
use crate::image::Rgb8Image;

/// No decoder needs more: 16-bit RGBA is 8 bytes a pixel, and a work buffer beside it.
const BYTES_PER_PIXEL: u64 = 16;
/// For headers, palettes and metadata of small pictures.
const SPARE_BYTES: u64 = 4 << 20;

pub(super) fn decode(bytes: &[u8], name: &str, format: Format, options: &DecodeOptions) -> Result<Rgb8Image, ImageFault> {
    complete::check(bytes, format).map_err(|reason| ImageFault::Truncated { format: format.name(), reason })?;
    let fault = |error| fault(error, format, options);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format(format));
    let mut limits = Limits::default();
    limits.max_alloc = Some(options.max_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(SPARE_BYTES));
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(ImageFault::TooLarge { width: width.into(), height: height.into(), limit: options.max_pixels });
    }
    if width == 0 || height == 0 {
        return Err(ImageFault::Corrupt { format: format.name(), reason: "no width or no height".into() });
    }
    decoder.set_limits(limits).map_err(fault)?;
    let turned = if options.apply_orientation {
        orientation::warn_if_corrupt(decoder.exif_metadata().ok().flatten().as_deref(), name);
        decoder.orientation().unwrap_or(Orientation::NoTransforms)
    } else {
        Orientation::NoTransforms
    };
    let image = DynamicImage::from_decoder(decoder).map_err(fault)?;
    let pixels = if image.color().has_alpha() { over(&image.into_rgba8(), options.background) } else { image.into_rgb8().into_raw() };
    let image = Rgb8Image { width: width as usize, height: height as usize, pixels };
    Ok(orientation::apply(image, turned))
}

pub(super) fn image_format(format: Format) -> ImageFormat {
    match format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::Gif => ImageFormat::Gif,
        Format::WebP => ImageFormat::WebP,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
    }
}

/// The picture laid over one colour.
fn over(image: &image::RgbaImage, background: [u8; 3]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(image.as_raw().len() / 4 * 3);
    for pixel in image.as_raw().as_chunks::<4>().0 {
        let alpha = u32::from(pixel[3]);
        for (&front, back) in pixel.iter().zip(background) {
            pixels.push(((u32::from(front) * alpha + u32::from(back) * (255 - alpha) + 127) / 255) as u8);
        }
    }
    pixels
}

fn fault(error: ImageError, format: Format, options: &DecodeOptions) -> ImageFault {
    let reason = error.to_string();
    let format = format.name();
    match error {
        // Decoders measure some limits themselves, before they tell the size.
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            ImageFault::Corrupt { format, reason: format!("it needs more memory than {} pixels may", options.max_pixels) }
        }
        ImageError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => ImageFault::Truncated { format, reason },
        _ => ImageFault::Corrupt { format, reason },
    }
}
