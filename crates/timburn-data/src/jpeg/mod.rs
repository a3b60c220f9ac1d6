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

mod bits;
mod color;
mod frame;
mod huffman;
mod idct;
mod idct_scaled;
mod marker;
mod progressive;
mod scan;
mod upsample;
mod window;

use timburn_core::error::ImageFault;

use crate::image::Region;

use frame::{Frame, Scan};
use marker::Reader;
use window::{Scratch, Windows};

/// More scans than any encoder writes: each costs a pass over the picture, so their number bounds the time of a hostile file.
const MAX_SCANS: usize = 100;

/// What is to be decoded, in pixels of the picture as it is stored.
pub(crate) struct Wanted {
    /// Cut off where it reaches beyond the picture.
    pub(crate) region: Region,
    /// The size of the region may become 1/2, 1/4 or 1/8, but not less than this many pixels.
    pub(crate) min_size: Option<(usize, usize)>,
}

/// What is known of a file before its first scan.
pub(crate) struct Header<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// TIFF-formatted EXIF block, if the file has one there.
    pub(crate) exif: Option<&'a [u8]>,
}

/// A decoded region of a JPEG.
pub(crate) struct Decoded {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// RGB8, rows from the top.
    pub(crate) pixels: Vec<u8>,
}

/// Decodes the region that `choose` wants. All of the file is read and must be right; bytes after the end-of-image marker are ignored.
pub(crate) fn decode<'a>(bytes: &'a [u8], max_pixels: u64, choose: impl FnOnce(&Header<'a>) -> Wanted) -> Result<Decoded, ImageFault> {
    Scratch::lend(|scratch| decode_with(scratch, bytes, max_pixels, choose))
}

/// Takes the memory of a picture for the next one that this thread decodes.
pub(crate) fn recycle(pixels: Vec<u8>) {
    Scratch::lend(|scratch| scratch.pixels = pixels);
}

fn decode_with<'a>(
    scratch: &mut Scratch,
    bytes: &'a [u8],
    max_pixels: u64,
    choose: impl FnOnce(&Header<'a>) -> Wanted,
) -> Result<Decoded, ImageFault> {
    let mut reader = Reader::new(bytes)?;
    let mut tables = std::mem::take(&mut scratch.tables);
    tables.forget();
    let mut frame: Option<Frame> = None;
    let (mut exif, mut jfif, mut adobe) = (None, false, None);
    let mut scans = 0;
    let mut choose = Some(choose);
    let mut plan = Plan::default();
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
            // As PIL, which stops looking at the first scan.
            marker::APP1 if scans == 0 => exif = exif.or(segment.strip_prefix(b"Exif\0\0")),
            marker::APP14 if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            marker::SOS => {
                let frame = frame.as_mut().ok_or_else(|| corrupt("a scan before the frame header"))?;
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(corrupt("too many scans"));
                }
                let scan = Scan::parse(segment, frame)?;
                frame.latch_quantization(&scan, &tables)?;
                if let Some(choose) = choose.take() {
                    plan = Plan::new(frame, &choose(&Header { width: frame.width, height: frame.height, exif }));
                    for ((component, window), buffers) in frame.components.iter().zip(&plan.windows.components).zip(&mut scratch.buffers) {
                        buffers.prepare(frame, component, window);
                    }
                }
                let data = reader.rest();
                let used = if frame.progressive {
                    progressive::decode(frame, &mut scratch.buffers, &scan, &tables, data)?
                } else {
                    scan::decode(frame, &plan.windows, &mut scratch.buffers, &scan, &tables, data)?
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
    let Some(frame) = frame else { return Err(corrupt("no frame header")) };
    if !frame.is_complete() {
        return Err(truncated("a component has no scan"));
    }
    if frame.progressive {
        progressive::render(&frame, &plan.windows.components, &mut scratch.buffers);
    }
    scratch.tables = tables;
    let space = color::space(&frame, jfif, adobe);
    let pixels = color::to_rgb(&plan.windows.components, scratch, plan.region, plan.eighths > 1, space);
    Ok(Decoded { width: plan.region.width, height: plan.region.height, pixels })
}

/// How the wanted region is decoded.
#[derive(Default)]
struct Plan {
    /// Size of the decoded picture in eighths of the stored one: 8, 4, 2 or 1.
    eighths: usize,
    /// In pixels of the scaled picture, inside it.
    region: Region,
    windows: Windows,
}

impl Plan {
    fn new(frame: &Frame, wanted: &Wanted) -> Self {
        let region = wanted.region.clipped(frame.width, frame.height);
        let mut scale = 1;
        if let Some((width, height)) = wanted.min_size {
            // The rule of PIL's `draft`.
            let most = (region.width / width.max(1)).min(region.height / height.max(1));
            scale = [8, 4, 2].into_iter().find(|&scale| most >= scale).unwrap_or(1);
        }
        let (left, top) = (region.left / scale, region.top / scale);
        let (right, bottom) = ((region.left + region.width).div_ceil(scale), (region.top + region.height).div_ceil(scale));
        let region = Region { left, top, width: right - left, height: bottom - top };
        Self { eighths: 8 / scale, region, windows: Windows::new(frame, 8 / scale, region) }
    }
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
