//! Any text as a list of transforms, TOML or JSON: what is accepted works on any picture, and twice alike.

use serde::{Deserialize, Serialize};
use timburn_core::seed::Draws;
use timburn_data::{Pipeline, Rgb8Image, Transform};

/// Pixels, each times the passes over it, that are not worth a fuzzer's time.
const MOST_WORK: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    transforms: Vec<Transform>,
}

/// Reads `data`, checks the list and applies it to a small picture, whose size comes from `data`.
///
/// # Panics
/// When a list that is accepted does not work, or not as it says; or reads otherwise after it was written.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let list = if text.trim_start().starts_with('[') && !text.trim_start().starts_with("[[") {
        serde_json::from_str(text).ok()
    } else {
        toml::from_str::<Recipe>(text).ok().map(|recipe| recipe.transforms)
    };
    let Some(list) = list else { return };
    let Ok(pipeline) = Pipeline::new(list.clone()) else { return };
    let written = toml::to_string(&Recipe { transforms: list.clone() }).unwrap_or_default();
    let read = toml::from_str::<Recipe>(&written).map(|recipe| recipe.transforms);
    assert!(read.as_ref().is_ok_and(|read| *read == list), "{read:?} of {written}");

    let dice = data.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let side = |shift: u32| 1 + (dice >> shift) as usize % 24;
    let (width, height) = (side(8), side(16));
    if work(&list, (height, width)) > MOST_WORK {
        return;
    }
    let pixels: Vec<u8> = (0..width * height * 3).map(|at| (dice.rotate_left(at as u32 % 64) >> (at % 7)) as u8).collect();
    let picture = Rgb8Image { width, height, pixels };
    let draws = || Draws::new(dice, &[0, 1]);
    let image = pipeline.apply(picture.clone(), &mut draws());
    assert_eq!(image.pixels.len(), image.width * image.height * 3);
    assert!(pipeline.output_size().is_none_or(|size| size == (image.height, image.width)), "{:?}", pipeline.output_size());
    assert!(pipeline.apply(picture.clone(), &mut draws()) == image, "two results of the same draws");
    if !pipeline.is_random() {
        assert!(pipeline.apply(picture.clone(), &mut Draws::new(!dice, &[2])) == image, "random, but said not to be");
    }
    let mut draws = draws();
    if let Some(crop) = pipeline.first_crop(width, height, &mut draws) {
        let region = crop.region;
        assert!(region.left + region.width <= width && region.top + region.height <= height && region.width * region.height > 0);
        assert!(pipeline.apply_cropped(&picture.crop(region), crop, &mut draws) == image, "a part makes another result");
    }
}

/// About how many pixels are touched.
fn work(list: &[Transform], size: (usize, usize)) -> usize {
    let mut size = size;
    let passes = |step: &Transform| match step {
        Transform::RandAugment(step) => step.ops,
        Transform::AugMix(step) => step.width * step.depth.max(3),
        Transform::GaussianBlur(step) => 2 * step.kernel,
        Transform::RandomErasing(step) => step.count[1],
        _ => 1,
    };
    let each = list.iter().map(|step| {
        let before = size;
        size = step.output_size(Some(size)).unwrap_or(size);
        (before.0 * before.1).max(size.0 * size.1).saturating_mul(1 + passes(step))
    });
    each.fold(0, usize::saturating_add)
}
