//! Whether a file is all there, by walking its containers: decoders stop reading once they have enough to show something.

use super::format::Format;

/// `Err` with the reason when the file ends before its format says so. Corrupt content is left to the decoder to report.
pub(super) fn check(bytes: &[u8], format: Format) -> Result<(), String> {
    match format {
        Format::Png => png(bytes),
        Format::Gif => gif(bytes).ok_or_else(|| "no trailer block".into()),
        Format::WebP => reaches(bytes, u32_le(bytes, 4).map(|size| size + 8)),
        Format::Bmp => reaches(bytes, bmp(bytes)),
        Format::Tiff => reaches(bytes, tiff(bytes)),
        Format::Jpeg => Ok(()),
    }
}

fn reaches(bytes: &[u8], expected: Option<u64>) -> Result<(), String> {
    match expected {
        Some(expected) if bytes.len() as u64 >= expected => Ok(()),
        Some(expected) => Err(format!("{} bytes of at least {expected}", bytes.len())),
        None => Err("the file ends within its header".into()),
    }
}

/// Chunks up to and with `IEND`.
fn png(bytes: &[u8]) -> Result<(), String> {
    let mut at = 8;
    while let Some(header) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        at = at.saturating_add(12).saturating_add(length);
        if &header[4..] == b"IEND" && at <= bytes.len() {
            return Ok(());
        }
    }
    Err("no IEND chunk".into())
}

/// Blocks up to and with the trailer; `None` when the bytes run out.
fn gif(bytes: &[u8]) -> Option<()> {
    let palette = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + palette(*bytes.get(10)?);
    loop {
        let block = *bytes.get(at)?;
        at += 1;
        match block {
            0x3B => return Some(()),
            0x21 => at += 1,
            0x2C => at += 10 + palette(*bytes.get(at + 8)?),
            // The decoder will say what is wrong.
            _ => return Some(()),
        }
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// Where the pixels of an uncompressed bitmap end; for a run-length coded one where the header says that the file ends.
fn bmp(bytes: &[u8]) -> Option<u64> {
    let (file, offset, header) = (u32_le(bytes, 2)?, u32_le(bytes, 10)?, u32_le(bytes, 14)?);
    let (width, height, bits, compression) = if header == 12 {
        (u64::from(u16_le(bytes, 18)?), u64::from(u16_le(bytes, 20)?), u64::from(u16_le(bytes, 24)?), 0)
    } else {
        let side = |at| u32_le(bytes, at).map(|side| u64::from((side as u32).cast_signed().unsigned_abs()));
        (side(18)?, side(22)?, u64::from(u16_le(bytes, 28)?), u32_le(bytes, 30)?)
    };
    match compression {
        0 | 3 | 6 => Some((width * bits).div_ceil(32).saturating_mul(4).saturating_mul(height).saturating_add(offset)),
        _ => Some(file),
    }
}

/// The furthest byte that a directory, one of its values or a strip or tile reaches.
fn tiff(bytes: &[u8]) -> Option<u64> {
    let big = bytes.first() == Some(&b'M');
    let short = |at: u64| {
        let pair = *bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
        Some(u64::from(if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }))
    };
    let long = |at: u64| {
        let four = *bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
        Some(u64::from(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }))
    };
    let mut end = 8;
    let mut directory = long(4)?;
    // Bounded, because a chain of directories can be a circle.
    for _ in 0..64 {
        if directory == 0 {
            break;
        }
        let count = short(directory)?;
        end = end.max(directory + 2 + count * 12 + 4);
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for entry in (0..count).map(|index| directory + 2 + index * 12) {
            let (tag, kind, values) = (short(entry)?, short(entry + 2)?, long(entry + 4)?);
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 => 8,
                _ => continue,
            };
            let at = if values * size <= 4 { entry + 8 } else { long(entry + 8)? };
            end = end.max(at + values * size);
            // Strips and tiles: offsets 273 and 324, lengths 279 and 325.
            let list = match tag {
                273 | 324 => &mut offsets,
                279 | 325 => &mut lengths,
                _ => continue,
            };
            for index in 0..values {
                list.push(if size == 2 { short(at + index * 2)? } else { long(at + index * 4)? });
            }
        }
        end = offsets.iter().zip(&lengths).map(|(offset, length)| offset + length).fold(end, u64::max);
        directory = long(directory + 2 + count * 12)?;
    }
    Some(end)
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|four| u64::from(u32::from_le_bytes(*four)))
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|pair| u16::from_le_bytes(*pair))
}
