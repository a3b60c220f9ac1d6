//! JPEG files, for thumbnails of photographs: a fifth of PNG's size.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use timburn_core::Result;
use timburn_core::error::{ImageError, ImageFault};

use crate::image::Rgb8Image;

/// The picture as the bytes of a JPEG file of this quality, 1 to 100.
///
/// # Errors
/// [`ImageFault::Corrupt`] for a picture that JPEG cannot hold: without pixels, or wider or higher than 65,535.
pub fn encode_jpeg(image: &Rgb8Image, quality: u8) -> Result<Vec<u8>> {
    let refused = |reason: String| {
        let fault = ImageFault::Corrupt { format: "JPEG", reason };
        ImageError { name: format!("a picture of {}×{} pixels", image.width, image.height), fault }
    };
    let side = |side: usize| u16::try_from(side).ok().filter(|side| *side > 0).ok_or_else(|| refused("no such size in JPEG".into()));
    let (width, height) = (side(image.width)?, side(image.height)?);
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100));
    encoder
        .write_image(&image.pixels, u32::from(width), u32::from(height), ExtendedColorType::Rgb8)
        .map_err(|error| refused(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeOptions, decode_bytes};

    #[test]
    fn what_was_encoded_is_decoded() {
        let pixels: Vec<u8> = (0..40 * 30).flat_map(|at| [(at % 40 * 6) as u8, (at / 40 * 8) as u8, 90]).collect();
        let image = Rgb8Image { width: 40, height: 30, pixels };
        let back = decode_bytes(&encode_jpeg(&image, 90).unwrap(), "test", &DecodeOptions::default()).unwrap();
        assert_eq!((back.width, back.height), (40, 30));
        let worst = image.pixels.iter().zip(&back.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst < 24, "{worst}");
        assert!(encode_jpeg(&Rgb8Image { width: 0, height: 0, pixels: Vec::new() }, 90).is_err());
        assert!(encode_jpeg(&Rgb8Image { width: 70_000, height: 1, pixels: vec![0; 210_000] }, 90).is_err());
    }
}
