//! JPEG to RGB, bit for bit as libjpeg-turbo's defaults give it (accurate integer DCT, triangle-filtered chroma), and strict.
//!
//! Own code because no decoder in pure Rust agrees with libjpeg-turbo: zune-jpeg 0.5.15 was up to 9 LSB off on 500 ImageNet photographs in a
//! trial of 2026-11-22 that is not kept here (a DCT with 12 fractional bits, chroma rounded after each of two passes). Here the difference is 0 on
//! all of them, which `tests/decode.rs` checks.
//!
//! Sequential and progressive Huffman frames of 8 bits, 1, 3 or 4 components (gray, YCbCr, RGB, CMYK, YCCK), any integral sampling.
//! A scan that runs out of data, a component without a scan or a missing end-of-image marker is an error, never a gray fill.
//!
//! Source: ITU-T T.81; the arithmetic is that of libjpeg's `jidctint.c`, `jdsample.c`, `jdcolor.c` and `jdphuff.c`.

mod color;
mod frame;
mod huffman;
mod idct;
mod marker;
mod progressive;
mod scan;
mod upsample;

use timburn_core::error::ImageFault;

use frame::{Frame, Scan};
use huffman::Tables;
use marker::Reader;

/// More scans than any encoder writes: each costs a pass over the picture, so their number bounds the time of a hostile file.
const MAX_SCANS: usize = 100;

/// A decoded JPEG.
pub(crate) struct Decoded<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// RGB8, rows from the top.
    pub(crate) pixels: Vec<u8>,
    /// TIFF-formatted EXIF block, if the file has one.
    pub(crate) exif: Option<&'a [u8]>,
}

/// Decodes a whole file; bytes after the end-of-image marker are ignored.
pub(crate) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded<'_>, ImageFault> {
    let mut reader = Reader::new(bytes)?;
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let (mut exif, mut jfif, mut adobe) = (None, false, None);
    let mut scans = 0;
    loop {
        let marker = reader.next_marker()?;
        if marker == marker::EOI {
            break;
        }
        if matches!(marker, marker::TEM | marker::RST0..=marker::RST7) {
            continue;
        }
        let segment = reader.segment()?;
        match marker {
            marker::SOF0..=marker::SOF2 if frame.is_none() => {
                frame = Some(Frame::parse(segment, marker == marker::SOF2, bytes.len(), max_pixels)?);
            }
            marker::SOF0..=marker::SOF2 => return Err(corrupt("two frame headers")),
            marker::SOF3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                return Err(corrupt("lossless, hierarchical and arithmetic-coded frames are not supported"));
            }
            marker::DHT => tables.read_huffman(segment)?,
            marker::DQT => tables.read_quantization(segment)?,
            marker::DRI => tables.read_restart_interval(segment)?,
            marker::APP0 => jfif |= segment.starts_with(b"JFIF\0"),
            marker::APP1 => exif = exif.or(segment.strip_prefix(b"Exif\0\0")),
            marker::APP14 if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            marker::SOS => {
                let frame = frame.as_mut().ok_or_else(|| corrupt("a scan before the frame header"))?;
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(corrupt("too many scans"));
                }
                let scan = Scan::parse(segment, frame)?;
                frame.latch_quantization(&scan, &tables)?;
                let data = reader.rest();
                let used = if frame.progressive {
                    progressive::decode(frame, &scan, &tables, data)?
                } else {
                    scan::decode(frame, &scan, &tables, data)?
                };
                reader.skip(used);
                // Sequential data is complete now; what may stand between here and the end is no business of the picture.
                if !frame.progressive && frame.is_complete() {
                    reader.find_end()?;
                    break;
                }
            }
            _ => {}
        }
    }
    let Some(mut frame) = frame else { return Err(corrupt("no frame header")) };
    if !frame.is_complete() {
        return Err(truncated("a component has no scan"));
    }
    if frame.progressive {
        frame.render();
    }
    let pixels = color::to_rgb(&frame, jfif, adobe);
    Ok(Decoded { width: frame.width, height: frame.height, pixels, exif })
}

/// Width, height and number of components in the frame header, if the file has one.
pub(crate) fn header(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let mut reader = Reader::new(bytes).ok()?;
    loop {
        let marker = reader.next_marker().ok()?;
        if matches!(marker, marker::TEM | marker::RST0..=marker::RST7) {
            continue;
        }
        let segment = reader.segment().ok()?;
        match (marker, segment) {
            (marker::SOF0..=marker::SOF2, &[_, h1, h0, w1, w0, components, ..]) => {
                return Some((u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into(), components.into()));
            }
            (marker::EOI | marker::SOS, _) => return None,
            _ => {}
        }
    }
}

fn corrupt(reason: &str) -> ImageFault {
    ImageFault::Corrupt { format: "JPEG", reason: reason.into() }
}

fn truncated(reason: &str) -> ImageFault {
    ImageFault::Truncated { format: "JPEG", reason: reason.into() }
}
