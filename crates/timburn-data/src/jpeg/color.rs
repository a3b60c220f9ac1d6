//! Components to RGB (`jdcolor.c`; CMYK as PIL shows it).

use super::frame::Frame;
use super::upsample::Upsampler;
use super::window::{Scratch, Window};
use crate::image::Region;
use crate::simd::widest;

/// What the components mean.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Space {
    Gray,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// libjpeg's guess from the JFIF and Adobe markers and the component identifiers.
pub(super) fn space(frame: &Frame, jfif: bool, adobe: Option<u8>) -> Space {
    match (frame.ids().as_slice(), adobe) {
        ([_], _) => Space::Gray,
        ([_, _, _], _) if jfif => Space::YCbCr,
        ([_, _, _], Some(0)) => Space::Rgb,
        (b"RGB", None) => Space::Rgb,
        ([_, _, _], _) => Space::YCbCr,
        (_, None | Some(0)) => Space::Cmyk,
        _ => Space::Ycck,
    }
}

/// The region of the picture, RGB8.
pub(super) fn to_rgb(windows: &[Window], scratch: &mut Scratch, region: Region, smooth: bool, space: Space) -> Vec<u8> {
    let mut pixels = std::mem::take(&mut scratch.pixels);
    // All of it is overwritten.
    pixels.resize(region.width * region.height * 3, 0);
    if pixels.is_empty() {
        return pixels;
    }
    let mut components: Vec<_> = windows
        .iter()
        .zip(&scratch.buffers)
        .zip(&mut scratch.rows)
        .map(|((window, buffers), row)| Upsampler::new(window, &buffers.plane, row, region.left, smooth))
        .collect();
    widest(
        #[inline(always)]
        || {
            for (line, out) in pixels.chunks_exact_mut(region.width * 3).enumerate() {
                let (y, out) = (region.top + line, out.as_chunks_mut::<3>().0);
                match components.as_mut_slice() {
                    [gray] => replicate(gray.row(y), out),
                    [a, b, c, rest @ ..] => {
                        let (a, b, c) = (a.row(y), b.row(y), c.row(y));
                        if matches!(space, Space::YCbCr | Space::Ycck) {
                            ycc_to_rgb(a, b, c, out);
                        } else {
                            interleave(a, b, c, out);
                        }
                        if let [black] = rest {
                            // What YCC converts to is already ink; plain CMYK is stored inverted (Adobe).
                            shade_all(black.row(y), if space == Space::Cmyk { 255 } else { 0 }, out);
                        }
                    }
                    _ => {}
                }
            }
        },
    );
    pixels
}

#[inline(always)]
fn replicate(gray: &[u8], out: &mut [[u8; 3]]) {
    let gray = &gray[..out.len()];
    for i in 0..out.len() {
        out[i] = [gray[i]; 3];
    }
}

#[inline(always)]
fn interleave(a: &[u8], b: &[u8], c: &[u8], out: &mut [[u8; 3]]) {
    let count = out.len();
    let (a, b, c) = (&a[..count], &b[..count], &c[..count]);
    for i in 0..count {
        out[i] = [a[i], b[i], c[i]];
    }
}

/// JFIF's conversion with libjpeg's 16 fractional bits: the factors are 91881, (-22554, -46802) and 116130.
///
/// In 16 bits as far as it goes: whole multiples of 2^16 are taken out of the factors.
#[inline(always)]
fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [[u8; 3]]) {
    let count = out.len();
    let (y, cb, cr) = (&y[..count], &cb[..count], &cr[..count]);
    for i in 0..count {
        let (y, cb, cr) = (i16::from(y[i]), i16::from(cb[i]) - 128, i16::from(cr[i]) - 128);
        let red = y + cr + fraction(cr, (91881i32 - 65536) as i16);
        let green = y - cr + ((-22554 * i32::from(cb) + (65536 - 46802) * i32::from(cr) + 32768) >> 16) as i16;
        let blue = y + 2 * cb + fraction(cb, (116130i32 - 2 * 65536) as i16);
        out[i] = [red.clamp(0, 255) as u8, green.clamp(0, 255) as u8, blue.clamp(0, 255) as u8];
    }
}

/// `value * factor / 2^16`, rounded: `(value * factor + 2^15) >> 16`, by way of one more bit, which needs the high half of a product only.
#[inline(always)]
fn fraction(value: i16, factor: i16) -> i16 {
    (((i32::from(2 * value) * i32::from(factor)) >> 16) as i16 + 1) >> 1
}

#[inline(always)]
fn shade_all(black: &[u8], invert: u8, out: &mut [[u8; 3]]) {
    let black = &black[..out.len()];
    for i in 0..out.len() {
        for value in &mut out[i] {
            *value = shade(*value ^ invert, black[i]);
        }
    }
}

/// Light that `ink` (255: all) leaves of `light` (0: black), rounded as PIL's `MULDIV255`.
#[inline(always)]
fn shade(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    light.saturating_sub(((product + (product >> 8)) >> 8) as u8)
}
