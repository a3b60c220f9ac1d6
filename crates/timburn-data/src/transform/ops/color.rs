//! Colours: `PIL.ImageOps` and `PIL.ImageEnhance` to the bit, and torchvision's hue on PIL's HSV.

use crate::image::Rgb8Image;
use crate::simd::widest;

/// Pixels computed together, one step after the other: each step is a plain loop that becomes vectors.
const BLOCK: usize = 64;

/// Maps every byte of all channels through one table.
fn map(image: &mut Rgb8Image, table: &[u8; 256]) {
    image.pixels.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

fn table(value: impl Fn(u8) -> u8) -> [u8; 256] {
    std::array::from_fn(|byte| value(byte as u8))
}

/// Maps every channel through its own table.
fn map_channels(image: &mut Rgb8Image, tables: &[[u8; 256]; 3]) {
    let [red, green, blue] = tables;
    for [r, g, b] in image.pixels.as_chunks_mut::<3>().0 {
        (*r, *g, *b) = (red[usize::from(*r)], green[usize::from(*g)], blue[usize::from(*b)]);
    }
}

/// Number of pixels of each value, by channel.
fn histograms(image: &Rgb8Image) -> [[u64; 256]; 3] {
    // Twice, for neighbours in turn: equal values that follow each other would wait for the memory.
    let mut counts = [[[0_u64; 256]; 3]; 2];
    let [[red, green, blue], [next_red, next_green, next_blue]] = &mut counts;
    let (pairs, rest) = image.pixels.as_chunks::<6>();
    for [r, g, b, next_r, next_g, next_b] in pairs {
        red[usize::from(*r)] += 1;
        green[usize::from(*g)] += 1;
        blue[usize::from(*b)] += 1;
        next_red[usize::from(*next_r)] += 1;
        next_green[usize::from(*next_g)] += 1;
        next_blue[usize::from(*next_b)] += 1;
    }
    if let [r, g, b] = rest {
        red[usize::from(*r)] += 1;
        green[usize::from(*g)] += 1;
        blue[usize::from(*b)] += 1;
    }
    std::array::from_fn(|channel| std::array::from_fn(|value| counts[0][channel][value] + counts[1][channel][value]))
}

/// PIL's `blend`: from `a` (0) to `b` (1) and beyond, in single precision, cut off and not rounded.
#[inline(always)]
pub(crate) fn blend(a: u8, b: u8, factor: f32) -> u8 {
    // `as` clips to 0..=255, which is what PIL does beyond [0, 1] and cannot happen inside.
    (f32::from(a) + factor * f32::from(i16::from(b) - i16::from(a))) as u8
}

/// PIL's luma: ITU-R 601 in 16 fractional bits, rounded.
#[inline(always)]
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Gray in all three channels (`convert("L")`).
pub fn grayscale(image: &mut Rgb8Image) {
    widest(
        #[inline(always)]
        || image.pixels.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = [luma(*pixel); 3]),
    );
}

/// `255 - x` (`ImageOps.invert`).
pub fn invert(image: &mut Rgb8Image) {
    image.pixels.iter_mut().for_each(|byte| *byte = 255 - *byte);
}

/// Keeps the `bits` highest bits of every channel (`ImageOps.posterize`); none are left of 0 bits, all of 8 and more.
pub fn posterize(image: &mut Rgb8Image, bits: u32) {
    let mask = 0xFF_u8.checked_shl(8 - bits.min(8)).unwrap_or(0);
    image.pixels.iter_mut().for_each(|byte| *byte &= mask);
}

/// Inverts the bytes that are not below `threshold` (`ImageOps.solarize`).
pub fn solarize(image: &mut Rgb8Image, threshold: f64) {
    map(image, &table(|byte| if f64::from(byte) < threshold { byte } else { 255 - byte }));
}

/// Adds `amount` to the bytes below `threshold` (timm's `solarize_add`).
pub fn solarize_add(image: &mut Rgb8Image, amount: u8, threshold: u8) {
    map(image, &table(|byte| if byte < threshold { byte.saturating_add(amount) } else { byte }));
}

/// Stretches every channel to 0..=255 (`ImageOps.autocontrast` without cutoff).
pub fn autocontrast(image: &mut Rgb8Image) {
    let tables = histograms(image).map(|counts| {
        let low = counts.iter().position(|count| *count > 0).unwrap_or(0);
        let high = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        if high <= low {
            return table(|byte| byte);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        table(|byte| (f64::from(byte) * scale + offset) as u8)
    });
    map_channels(image, &tables);
}

/// Flattens the histogram of every channel (`ImageOps.equalize`).
pub fn equalize(image: &mut Rgb8Image) {
    let tables = histograms(image).map(|counts| {
        let last = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u64>() - last) / 255;
        if step == 0 {
            return table(|byte| byte);
        }
        let mut sum = step / 2;
        counts.map(|count| {
            let level = (sum / step).min(255) as u8;
            sum += count;
            level
        })
    });
    map_channels(image, &tables);
}

/// Scales the brightness: 0 is black, 1 the picture (`ImageEnhance.Brightness`).
pub fn adjust_brightness(image: &mut Rgb8Image, factor: f64) {
    map(image, &table(|byte| blend(0, byte, factor as f32)));
}

/// Scales the distance from the mean gray: 0 is gray, 1 the picture (`ImageEnhance.Contrast`).
pub fn adjust_contrast(image: &mut Rgb8Image, factor: f64) {
    let pixels = image.pixels.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from(luma(*pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    map(image, &table(|byte| blend(mean, byte, factor as f32)));
}

/// Scales the saturation: 0 is gray, 1 the picture (`ImageEnhance.Color`).
pub fn adjust_saturation(image: &mut Rgb8Image, factor: f64) {
    let factor = factor as f32;
    widest(
        #[inline(always)]
        || {
            for block in image.pixels.chunks_mut(BLOCK * 3) {
                let mut gray = [0; BLOCK * 3];
                for (gray, pixel) in gray.as_chunks_mut::<3>().0.iter_mut().zip(block.as_chunks::<3>().0) {
                    *gray = [luma(*pixel); 3];
                }
                for index in 0..block.len().min(BLOCK * 3) {
                    block[index] = blend(gray[index], block[index], factor);
                }
            }
        },
    );
}

/// Turns the hue by `turns` of the colour circle, -0.5..=0.5 (torchvision's `adjust_hue` on PIL images, in steps of 1/255).
pub fn adjust_hue(image: &mut Rgb8Image, turns: f64) {
    // Cut off towards zero, then modulo 256, as numpy casts.
    let shift = (turns * 255.0) as i32 as u8;
    widest(
        #[inline(always)]
        || {
            for block in image.pixels.as_chunks_mut::<3>().0.chunks_mut(BLOCK) {
                turn_hue(block, shift);
            }
        },
    );
}

/// Turns up to [`BLOCK`] pixels; what stands behind a short block is computed and not used.
#[inline(always)]
fn turn_hue(block: &mut [[u8; 3]], shift: u8) {
    let [mut r, mut g, mut b] = [[0; BLOCK]; 3];
    for index in 0..block.len().min(BLOCK) {
        [r[index], g[index], b[index]] = block[index];
    }
    let [mut hue, mut saturation, mut value, mut range, mut plus, mut minus, mut base] = [[0; BLOCK]; 7];
    for index in 0..BLOCK {
        [value[index], range[index], base[index], plus[index], minus[index]] = distances([r[index], g[index], b[index]]);
    }
    for index in 0..BLOCK {
        hue[index] = hue_of(base[index], plus[index], minus[index], range[index]).wrapping_add(shift);
    }
    for index in 0..BLOCK {
        saturation[index] = saturation_of(range[index], value[index]);
    }
    let [mut sector, mut p, mut q, mut t] = [[0; BLOCK]; 4];
    for index in 0..BLOCK {
        [sector[index], p[index], q[index], t[index]] = levels([hue[index], saturation[index], value[index]]);
    }
    for index in 0..BLOCK {
        [r[index], g[index], b[index]] = arranged(sector[index], value[index], p[index], q[index], t[index]);
    }
    for index in 0..block.len().min(BLOCK) {
        block[index] = [r[index], g[index], b[index]];
    }
}

/// PIL's conversion to HSV begins: maximum, range, and the hue of 0, 2 or 4 sixths plus and minus two distances from the maximum.
#[inline(always)]
fn distances([r, g, b]: [u8; 3]) -> [u8; 5] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let (from_r, from_g, from_b) = (max - r, max - g, max - b);
    let (red, green) = (r == max, g == max);
    let base = if red {
        0
    } else if green {
        2
    } else {
        4
    };
    let plus = if red {
        from_b
    } else if green {
        from_r
    } else {
        from_g
    };
    let minus = if red {
        from_g
    } else if green {
        from_b
    } else {
        from_r
    };
    [max, max - min, base, plus, minus]
}

/// PIL's mixture of single and double precision. Of gray it is NaN, and a cast makes 0 of it.
#[inline(always)]
fn hue_of(base: u8, plus: u8, minus: u8, range: u8) -> u8 {
    let (plus, minus) = (f32::from(plus) / f32::from(range), f32::from(minus) / f32::from(range));
    // For red PIL subtracts in single precision: the difference is exact in double precision, so that its rounding is the same.
    let sixths = (f64::from(base) + f64::from(plus) - f64::from(minus)) as f32;
    // Modulo 1 of what lies between 0.8 and 2: the subtraction is exact.
    let turns = f64::from(sixths) / 6.0 + 1.0;
    let hue = (if turns >= 1.0 { turns - 1.0 } else { turns }) as f32;
    (f64::from(hue) * 255.0) as u8
}

/// Of black it is NaN, and a cast makes 0 of it.
#[inline(always)]
fn saturation_of(range: u8, value: u8) -> u8 {
    (f64::from(f32::from(range) / f32::from(value)) * 255.0) as u8
}

/// The way back: the sixth of the circle, and three levels beside `value`. Of gray all three are `value`.
#[inline(always)]
fn levels([hue, saturation, value]: [u8; 3]) -> [u8; 4] {
    let position = f64::from(hue) * 6.0 / 255.0;
    let sector = position as u8;
    let part = (position - f64::from(sector)) as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let level = f64::from(value);
    // Half up is PIL's rounding here: no product lies so near below a half that adding one half would round it up.
    let p = (level * (1.0 - f64::from(saturation)) + 0.5) as u8;
    let q = (level * (1.0 - f64::from(saturation * part)) + 0.5) as u8;
    let t = (level * (1.0 - f64::from(saturation) * (1.0 - f64::from(part))) + 0.5) as u8;
    // The circle closes at hue 255.
    [if sector == 6 { 0 } else { sector }, p, q, t]
}

#[inline(always)]
fn arranged(sector: u8, v: u8, p: u8, q: u8, t: u8) -> [u8; 3] {
    // Green is red a third of the circle on, and blue two thirds.
    let on = |sixths: u8| if sector >= sixths { sector - sixths } else { sector + 6 - sixths };
    [level(sector, v, p, q, t), level(on(2), v, p, q, t), level(on(4), v, p, q, t)]
}

/// The level of red in each sixth of the circle.
#[inline(always)]
fn level(sector: u8, v: u8, p: u8, q: u8, t: u8) -> u8 {
    let falling_or_low = if sector == 1 { q } else { p };
    let rising = if sector == 4 { t } else { falling_or_low };
    if sector == 0 || sector == 5 { v } else { rising }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PIL's code, case by case.
    fn plain_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
        let (max, min) = (r.max(g).max(b), r.min(g).min(b));
        if max == min {
            return [0, 0, max];
        }
        let range = f32::from(max - min);
        let saturation = range / f32::from(max);
        let [from_r, from_g, from_b] = [r, g, b].map(|channel| f32::from(max - channel) / range);
        let sixths = if r == max {
            from_b - from_g
        } else if g == max {
            (2.0 + f64::from(from_r) - f64::from(from_b)) as f32
        } else {
            (4.0 + f64::from(from_g) - f64::from(from_r)) as f32
        };
        let hue = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
        [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max]
    }

    fn plain_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
        if saturation == 0 {
            return [value; 3];
        }
        let position = f64::from(hue) * 6.0 / 255.0;
        let sector = position.floor();
        let part = (position - sector) as f32;
        let saturation = (f64::from(saturation) / 255.0) as f32;
        let scaled = |factor: f64| (f64::from(value) * factor).round() as u8;
        let p = scaled(1.0 - f64::from(saturation));
        let q = scaled(1.0 - f64::from(saturation * part));
        let t = scaled(1.0 - f64::from(saturation) * (1.0 - f64::from(part)));
        match sector as u8 % 6 {
            0 => [value, t, p],
            1 => [q, value, p],
            2 => [p, value, t],
            3 => [p, q, value],
            4 => [t, p, value],
            _ => [value, p, q],
        }
    }

    /// All 2^24 colours, both ways.
    #[test]
    fn without_branches_is_the_same() {
        for number in 0..1_u32 << 24 {
            let [a, b, c, _] = number.to_le_bytes();
            let [max, range, base, plus, minus] = distances([a, b, c]);
            let hsv = [hue_of(base, plus, minus, range), saturation_of(range, max), max];
            assert_eq!(hsv, plain_hsv([a, b, c]), "RGB {a} {b} {c}");
            let [sector, p, q, t] = levels([a, b, c]);
            assert_eq!(arranged(sector, c, p, q, t), plain_rgb([a, b, c]), "HSV {a} {b} {c}");
        }
    }

    /// Blocks begin and end where the picture's rows do not.
    #[test]
    fn blocks_change_nothing() {
        for count in [0, 1, 63, 64, 65, 200] {
            let pixels: Vec<u8> = (0..count * 3).map(|index| (index * 151 + index * index * 7) as u8).collect();
            let source = Rgb8Image::new(count, 1, pixels).unwrap();
            let (mut hue, mut saturated) = (source.clone(), source.clone());
            adjust_hue(&mut hue, -0.2);
            adjust_saturation(&mut saturated, 1.7);
            for (index, pixel) in source.pixels.as_chunks::<3>().0.iter().enumerate() {
                let [h, s, v] = plain_hsv(*pixel);
                assert_eq!(hue.pixels.as_chunks::<3>().0[index], plain_rgb([h.wrapping_sub(51), s, v]));
                let gray = luma(*pixel);
                assert_eq!(saturated.pixels.as_chunks::<3>().0[index], pixel.map(|byte| blend(gray, byte, 1.7)));
            }
        }
    }
}
