//! Heat maps over pictures.

use crate::image::Rgb8Image;

/// Matplotlib's `inferno` at 17 even steps: lightness rises all the way, so that the map reads the same in gray and to the colour-blind.
const INFERNO: [[u8; 3]; 17] = [
    [0, 0, 4],
    [11, 7, 36],
    [33, 12, 74],
    [61, 9, 101],
    [87, 16, 110],
    [113, 25, 110],
    [138, 34, 106],
    [163, 44, 97],
    [188, 55, 84],
    [210, 70, 68],
    [228, 90, 49],
    [241, 115, 29],
    [249, 142, 9],
    [252, 172, 17],
    [249, 203, 53],
    [242, 234, 105],
    [252, 255, 164],
];

/// Colour of a value in `[0, 1]`, from near black over purple and orange to pale yellow. What is no number is 0.
pub fn heat_color(value: f32) -> [u8; 3] {
    let place = f64::from(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }) * (INFERNO.len() - 1) as f64;
    let below = (place as usize).min(INFERNO.len() - 2);
    let share = place - below as f64;
    std::array::from_fn(|channel| {
        let (a, b) = (f64::from(INFERNO[below][channel]), f64::from(INFERNO[below + 1][channel]));
        (a + (b - a) * share).round() as u8
    })
}

/// The picture under a heat map: `values`, row-major `[height, width]` in `[0, 1]`, are spread over the whole picture bilinearly (pixel
/// centres aligned, as `torch.nn.functional.interpolate` with `align_corners=False`). `opacity` is the map's share of the colour, in
/// `[0, 1]`. A map whose size is not `width × height` leaves the picture as it is.
pub fn overlay_heat(image: &Rgb8Image, values: &[f32], (width, height): (usize, usize), opacity: f32) -> Rgb8Image {
    let mut overlay = image.clone();
    if values.len() != width * height || values.is_empty() || image.pixels.is_empty() {
        return overlay;
    }
    let opacity = f64::from(opacity.clamp(0.0, 1.0));
    let (columns, rows) = (places(width, image.width), places(height, image.height));
    for (row, &(top, bottom, down)) in overlay.pixels.chunks_exact_mut(image.width * 3).zip(&rows) {
        for (pixel, &(left, right, along)) in row.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            let across = |row: usize| values[row * width + left] * (1.0 - along) + values[row * width + right] * along;
            let color = heat_color(across(top) * (1.0 - down) + across(bottom) * down);
            for (value, heat) in pixel.iter_mut().zip(color) {
                *value = (f64::from(*value) * (1.0 - opacity) + f64::from(heat) * opacity).round() as u8;
            }
        }
    }
    overlay
}

/// For each of `to` pixels the two of `from` that it lies between, and the share of the second.
fn places(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let last = from.saturating_sub(1);
    let place = |at: usize| {
        let place = ((at as f32 + 0.5) * from as f32 / to.max(1) as f32 - 0.5).max(0.0);
        let below = (place as usize).min(last);
        (below, (below + 1).min(last), if below < last { place - below as f32 } else { 0.0 })
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_rises_with_the_value() {
        let luma = |[r, g, b]: [u8; 3]| 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
        let values: Vec<f64> = (0..=100).map(|step| luma(heat_color(step as f32 / 100.0))).collect();
        assert!(values.windows(2).all(|pair| pair[1] >= pair[0] - 0.5), "{values:?}");
        assert_eq!((heat_color(f32::NAN), heat_color(-3.0), heat_color(7.0)), ([0, 0, 4], [0, 0, 4], [252, 255, 164]));
    }

    #[test]
    fn a_map_is_spread_over_the_picture() {
        // torch.nn.functional.interpolate(tensor([[[0., 1.]]]), 4, mode="linear"): 0, 0.25, 0.75, 1.
        let found: Vec<f32> = places(2, 4).into_iter().map(|(a, b, share)| a as f32 * (1.0 - share) + b as f32 * share).collect();
        assert_eq!(found, [0.0, 0.25, 0.75, 1.0]);
        let image = Rgb8Image { width: 4, height: 1, pixels: vec![100; 12] };
        let overlay = overlay_heat(&image, &[0.0, 1.0], (2, 1), 1.0);
        assert_eq!((&overlay.pixels[..3], &overlay.pixels[9..]), (&heat_color(0.0)[..], &heat_color(1.0)[..]));
        assert_eq!(overlay_heat(&image, &[0.0, 1.0], (2, 1), 0.0).pixels, image.pixels);
        assert_eq!(overlay_heat(&image, &[0.0, 1.0], (3, 1), 1.0).pixels, image.pixels, "a map of another size");
    }
}
