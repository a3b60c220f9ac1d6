//! Components to RGB (`jdcolor.c`; CMYK as PIL shows it).

use super::frame::Frame;
use super::upsample::Upsampler;
use crate::simd::widest;

/// What the components mean.
#[derive(Clone, Copy, PartialEq)]
enum Space {
    Gray,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// libjpeg's guess from the JFIF and Adobe markers and the component identifiers.
fn space(frame: &Frame, jfif: bool, adobe: Option<u8>) -> Space {
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

/// The picture, RGB8.
pub(super) fn to_rgb(frame: &Frame, jfif: bool, adobe: Option<u8>) -> Vec<u8> {
    let space = space(frame, jfif, adobe);
    let mut pixels = vec![0; frame.width * frame.height * 3];
    let mut components: Vec<_> = frame.components.iter().map(|component| Upsampler::new(frame, component)).collect();
    widest(
        #[inline(always)]
        || {
            for (y, out) in pixels.chunks_exact_mut(frame.width * 3).enumerate() {
                match components.as_mut_slice() {
                    [gray] => {
                        for (out, &value) in out.as_chunks_mut::<3>().0.iter_mut().zip(gray.row(y)) {
                            *out = [value; 3];
                        }
                    }
                    [a, b, c, rest @ ..] => {
                        let (a, b, c) = (a.row(y), b.row(y), c.row(y));
                        for (((out, &a), &b), &c) in out.as_chunks_mut::<3>().0.iter_mut().zip(a).zip(b).zip(c) {
                            *out = if matches!(space, Space::YCbCr | Space::Ycck) { ycc_to_rgb(a, b, c) } else { [a, b, c] };
                        }
                        if let [black] = rest {
                            for (out, &black) in out.as_chunks_mut::<3>().0.iter_mut().zip(black.row(y)) {
                                // What YCC converts to is already ink; plain CMYK is stored inverted (Adobe).
                                *out = out.map(|value| shade(if space == Space::Cmyk { 255 - value } else { value }, black));
                            }
                        }
                    }
                    _ => {}
                }
            }
        },
    );
    pixels
}

/// JFIF's conversion with libjpeg's 16 fractional bits.
#[inline(always)]
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91881 * cr + 32768) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + 32768) >> 16);
    let blue = y + ((116130 * cb + 32768) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Light that `ink` (255: all) leaves of `light` (0: black), rounded as PIL's `MULDIV255`.
#[inline(always)]
fn shade(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    light.saturating_sub(((product + (product >> 8)) >> 8) as u8)
}
