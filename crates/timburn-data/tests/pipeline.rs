//! Pipelines: recipes in TOML, crops decoded alone, totality, distributions.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use common::noise;
use serde::{Deserialize, Serialize};
use timburn_core::Error;
use timburn_core::preprocessing::{ChannelOrder, Interpolation, Preprocessing, ResizeMode};
use timburn_core::seed::Draws;
use timburn_data::transform::policy::{Action, Kind, Set};
use timburn_data::transform::{
    Affine, AffineParameters, Amount, ColorJitter, Cutout, Erased, Filter, Generator, Jitter, RandAugment, RandomCrop, RandomErasing,
    RandomResizedCrop, Rotate, Size, ops, presets,
};
use timburn_data::{Pipeline, Rgb8Image, Transform, prepare};

fn image(width: usize, height: usize) -> Rgb8Image {
    Rgb8Image::new(width, height, noise(&format!("{width} {height}"), width * height * 3)).unwrap()
}

#[derive(Debug, Serialize, Deserialize)]
struct Recipe {
    transforms: Vec<Transform>,
}

fn recipe(list: &str) -> Result<Vec<Transform>, String> {
    toml::from_str::<Recipe>(&format!("transforms = {list}")).map(|recipe| recipe.transforms).map_err(|error| error.to_string())
}

/// One of each, with parameters away from the defaults where that reaches other code.
const ALL: &str = r#"[
    { op = "resize", size = 40 }, { op = "resize", size = [9, 21], interpolation = "lanczos" },
    { op = "resize", size = 17, mode = "squash", interpolation = "bicubic", antialias = false },
    { op = "center_crop", size = [20, 30] }, { op = "random_resized_crop", size = 24, scale = [0.2, 1], interpolation = "random" },
    { op = "random_crop", size = 32, padding = 4, padding_mode = "reflect" }, "horizontal_flip", { op = "vertical_flip", p = 1 },
    { op = "rotate", degrees = 30, interpolation = "bicubic", fill = [1, 2, 3] },
    { op = "affine", degrees = [-10, 20], shift = [0.1, 0.2], scale = [0.5, 2], shear = 10, shear_y = [0, 5], interpolation = "bilinear" },
    { op = "affine", degrees = 5 },
    { op = "keras_affine", rotation = 40, width_shift = 0.2, height_shift = 0.2, shear = 20, zoom = 0.2, fill_mode = "reflect" },
    { op = "keras_affine", rotation = 360, width_shift = 1, zoom = [0.5, 100], fill_mode = "wrap" },
    { op = "keras_affine", rotation = 90, height_shift = 1, fill_mode = "constant", fill = [9, 9, 9] },
    { op = "color_jitter", brightness = 0.4, contrast = [0.5, 1.5], saturation = 2, hue = 0.5 }, { op = "grayscale", p = 0.5 },
    { op = "gaussian_blur", kernel = 23 }, { op = "gaussian_blur", kernel = 3, sigma = 0.01 },
    { op = "auto_contrast", p = 1 }, { op = "equalize", p = 1 }, { op = "invert", p = 1 }, { op = "posterize", bits = 0, p = 1 },
    { op = "solarize", threshold = 100, p = 1 }, { op = "solarize_add", amount = 255, p = 1 }, { op = "brightness", factor = [0, 3], p = 1 },
    { op = "contrast", factor = 2, p = 1 }, { op = "color", factor = [0, 9], p = 1 }, { op = "sharpness", factor = [0, 2], p = 1 },
    "rand_augment", { op = "rand_augment", set = "timm", magnitude = 10, magnitude_std = 3, increasing = true, ops = 15, p = 1 },
    { op = "rand_augment", magnitude = 30, ops = 15, interpolation = "bicubic" },
    "auto_augment", { op = "auto_augment", policy = "cifar10" }, { op = "auto_augment", policy = "svhn" }, "trivial_augment_wide",
    "aug_mix", { op = "aug_mix", severity = 10, depth = 4, alpha = 0.01 },
    { op = "random_erasing", p = 1, count = [1, 3], value = "pixel" }, { op = "random_erasing", p = 1, scale = [0, 1], value = "random" },
    { op = "cutout", size = 16 }, "to_tensor", "normalize",
]"#;

#[test]
fn recipes_read_and_write() {
    let list =
        recipe(r#"[{ op = "random_resized_crop", size = 224 }, "horizontal_flip", { op = "rand_augment", magnitude = 9, ops = 2 }]"#)
            .unwrap();
    assert_eq!(list[0], Transform::RandomResizedCrop(RandomResizedCrop::new(224)));
    assert_eq!(list[2], Transform::RandAugment(RandAugment::default()));
    let list = recipe(&ALL.replace('\n', " ")).unwrap();
    let written = toml::to_string(&Recipe { transforms: list.clone() }).unwrap();
    assert_eq!(toml::from_str::<Recipe>(&written).unwrap().transforms, list);
}

#[test]
fn bad_recipes_are_named() {
    for (list, named) in [
        (r#"["horizontal_flap"]"#, "horizontal_flap"),
        (r#"[{ op = "horizontal_flip", q = 1 }]"#, "unknown field `q`"),
        (r#"[{ op = "to_tensor", q = 1 }]"#, "unknown field `q`"),
        (r#"["center_crop"]"#, "missing field `size`"),
        (r#"[{ op = "center_crop", size = 1.5 }]"#, "whole number of pixels"),
        (r#"[{ op = "center_crop", size = [1, 2, 3] }]"#, "whole number of pixels"),
        (r#"[{ op = "color_jitter", hue = "much" }]"#, "a number or [low, high]"),
        (r#"[3]"#, "the name of a transform"),
    ] {
        let error = recipe(list).unwrap_err();
        assert!(error.contains(named), "{list}: {error}");
    }
    for (list, key) in [
        (r#"[{ op = "center_crop", size = 0 }]"#, "center_crop.size"),
        (r#"[{ op = "resize", size = 100000 }]"#, "resize.size"),
        (r#"[{ op = "horizontal_flip", p = 1.5 }]"#, "horizontal_flip.p"),
        (r#"[{ op = "vertical_flip", p = nan }]"#, "vertical_flip.p"),
        (r#"[{ op = "random_resized_crop", size = 9, scale = [0, 1] }]"#, "random_resized_crop.scale"),
        (r#"[{ op = "random_resized_crop", size = 9, ratio = [2, 1] }]"#, "random_resized_crop.ratio"),
        (r#"[{ op = "rotate", degrees = inf }]"#, "rotate.degrees"),
        (r#"[{ op = "rotate", degrees = 3, interpolation = "lanczos" }]"#, "rotate.interpolation"),
        (r#"[{ op = "affine", scale = [0, 1] }]"#, "affine.scale"),
        (r#"[{ op = "affine", shear = 90 }]"#, "affine.shear"),
        (r#"[{ op = "keras_affine", zoom = 1 }]"#, "keras_affine.zoom"),
        (r#"[{ op = "color_jitter", hue = 0.6 }]"#, "color_jitter.hue"),
        (r#"[{ op = "gaussian_blur", kernel = 4 }]"#, "gaussian_blur.kernel"),
        (r#"[{ op = "gaussian_blur", kernel = 5, sigma = 0 }]"#, "gaussian_blur.sigma"),
        (r#"[{ op = "rand_augment", magnitude = 31 }]"#, "rand_augment.magnitude"),
        (r#"[{ op = "rand_augment", magnitude_std = 0.5 }]"#, "rand_augment.magnitude_std"),
        (r#"[{ op = "rand_augment", set = "timm", bins = 10 }]"#, "rand_augment.bins"),
        (r#"[{ op = "aug_mix", severity = 11 }]"#, "aug_mix.severity"),
        (r#"[{ op = "random_erasing", count = [2, 1] }]"#, "random_erasing.count"),
        (r#"[{ op = "normalize", std = [1, 0, 1] }]"#, "normalize.std"),
        (r#"["normalize", "horizontal_flip"]"#, "transforms"),
        (r#"["to_tensor", "invert"]"#, "transforms"),
        (r#"["normalize", "normalize"]"#, "transforms"),
    ] {
        let error = Pipeline::new(recipe(list).unwrap()).unwrap_err();
        assert!(matches!(&error, Error::Argument { name, .. } if *name == key), "{list}: {error}");
    }
}

/// No transform panics, whatever the size, and each says its output size truly.
#[test]
fn total() {
    for transform in recipe(&ALL.replace('\n', " ")).unwrap() {
        transform.validate().unwrap();
        for (width, height) in [(1, 1), (1, 7), (9, 1), (2, 2), (3, 3), (37, 29), (5, 300)] {
            for seed in 0..12 {
                let done = transform.apply(image(width, height), &mut Draws::new(seed, &[1]));
                assert_eq!(done.pixels.len(), done.width * done.height * 3, "{transform:?}");
                assert_eq!(transform.output_size(Some((height, width))), Some((done.height, done.width)), "{transform:?} {width}×{height}");
                let again = transform.apply(image(width, height), &mut Draws::new(seed, &[1]));
                assert_eq!(done, again, "{transform:?}");
            }
        }
        let results: Vec<_> = (0..40).map(|seed| transform.apply(image(37, 29), &mut Draws::new(seed, &[1]))).collect();
        let differ = results.iter().any(|result| *result != results[0]);
        assert_eq!(differ, transform.is_random(), "{transform:?}");
        let _ = transform.apply(Rgb8Image::new(0, 0, Vec::new()).unwrap(), &mut Draws::new(0, &[]));
    }
}

/// A long thin picture resized by its shorter side stays small, and its centre crop is exact.
#[test]
fn thin_pictures_stay_small() {
    let thin = image(1, 60_000);
    let list = recipe(r#"[{ op = "resize", size = 256 }, { op = "center_crop", size = 224 }]"#).unwrap();
    let alone = list[0].apply(thin.clone(), &mut Draws::new(0, &[]));
    assert_eq!((alone.width, alone.height), (256, 256 * 64));
    let done = Pipeline::new(list).unwrap().apply(thin.clone(), &mut Draws::new(0, &[]));
    assert_eq!(done, prepare(&thin, &Preprocessing::torchvision(224, 256)));
}

/// Decoding only the crop gives what the whole picture gives, and so do the steps one by one.
#[test]
fn crops_first() {
    let after = r#""horizontal_flip", { op = "rand_augment", set = "timm", interpolation = "bilinear" }"#;
    for first in [
        r#"{ op = "random_resized_crop", size = [24, 31], interpolation = "random" }"#,
        r#"{ op = "resize", size = 40 }, { op = "center_crop", size = 32 }"#,
        r#"{ op = "resize", size = 40, interpolation = "bicubic" }, { op = "center_crop", size = [17, 39] }"#,
        r#"{ op = "resize", size = 25, interpolation = "nearest" }, { op = "center_crop", size = 20 }"#,
        r#"{ op = "resize", size = [61, 30], interpolation = "lanczos" }, { op = "center_crop", size = [40, 30] }"#,
        r#"{ op = "resize", size = 20 }, { op = "center_crop", size = 32 }"#,
        r#"{ op = "resize", size = 64, mode = "squash" }, { op = "center_crop", size = 16 }"#,
        r#"{ op = "resize", size = 29 }, { op = "center_crop", size = 16 }"#,
    ] {
        let list = recipe(&format!("[{first}, {after}]")).unwrap();
        let pipeline = Pipeline::new(list.clone()).unwrap();
        for (width, height) in [(37, 29), (29, 97), (120, 90), (64, 64), (40, 40), (3, 50), (1, 1)] {
            for seed in 0..8 {
                let whole = image(width, height);
                let result = pipeline.apply(whole.clone(), &mut Draws::new(seed, &[3]));
                let mut draws = Draws::new(seed, &[3]);
                let crop = pipeline.first_crop(width, height, &mut draws).unwrap();
                let part = whole.crop(crop.region);
                assert_eq!((part.width, part.height), (crop.region.width, crop.region.height));
                assert_eq!(pipeline.apply_cropped(&part, crop, &mut draws), result, "{first} {width}×{height}");
                let mut draws = Draws::new(seed, &[3]);
                let one_by_one = list.iter().fold(whole, |image, step| step.apply(image, &mut draws));
                assert_eq!(one_by_one, result, "{first} {width}×{height}");
                assert_eq!(pipeline.output_size(), Some((result.height, result.width)));
            }
        }
    }
    // Nor does it matter where in the list they stand.
    let middle = r#"["invert", { op = "random_resized_crop", size = 50 }, { op = "resize", size = 30, interpolation = "random" }, { op = "center_crop", size = 20 }, "horizontal_flip"]"#;
    let list = recipe(middle).unwrap();
    for seed in 0..20 {
        let mut draws = Draws::new(seed, &[3]);
        let one_by_one = list.iter().fold(image(37, 29), |image, step| step.apply(image, &mut draws));
        assert_eq!(Pipeline::new(list.clone()).unwrap().apply(image(37, 29), &mut Draws::new(seed, &[3])), one_by_one);
    }
    let flip = Pipeline::new(recipe(r#"["horizontal_flip"]"#).unwrap()).unwrap();
    assert!(flip.first_crop(9, 9, &mut Draws::new(0, &[])).is_none());
    assert_eq!(flip.output_size(), None);
}

#[test]
fn presets_are_valid() {
    for list in [
        presets::imagenet_train(224),
        presets::cifar_train(),
        presets::rsb_a1(224),
        presets::rsb_a2(224),
        presets::rsb_a3(160),
        presets::keras_generator(224),
    ] {
        let pipeline = Pipeline::new(list).unwrap();
        assert!(pipeline.is_random() && pipeline.output_size().is_some());
        let done = pipeline.apply(image(120, 90), &mut Draws::new(1, &[]));
        assert_eq!(Some((done.height, done.width)), pipeline.output_size());
    }
    let Transform::RandAugment(step) = &presets::rsb_a3(160)[2] else { panic!("not RandAugment") };
    assert_eq!((step.set, step.magnitude, step.magnitude_std, step.increasing, step.p), (Set::Timm, 6.0, 0.5, true, 0.5));
}

#[test]
fn imagenet_eval_is_prepare() {
    let keras = Preprocessing::keras_caffe(30);
    let squash = Preprocessing { mode: ResizeMode::Squash, interpolation: Interpolation::Lanczos, ..Preprocessing::torchvision(20, 33) };
    for spec in [Preprocessing::torchvision(28, 32), Preprocessing::timm(28, 0.875), keras, squash, Preprocessing::torchvision(40, 32)] {
        let pipeline = Pipeline::new(presets::imagenet_eval(&spec)).unwrap();
        assert!(!pipeline.is_random());
        for (width, height) in [(37, 29), (29, 97), (120, 90)] {
            assert_eq!(pipeline.apply(image(width, height), &mut Draws::new(0, &[])), prepare(&image(width, height), &spec));
        }
        let normalization = pipeline.normalization().unwrap();
        assert_eq!((normalization.mean, normalization.std, normalization.channels), (spec.mean, spec.std, spec.channels));
    }
    assert_eq!(
        Pipeline::new(presets::imagenet_eval(&Preprocessing::keras_caffe(9))).unwrap().normalization().unwrap().channels,
        ChannelOrder::Bgr
    );
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn random_resized_crops_have_their_law() {
    let crop = RandomResizedCrop::new(224);
    let mut draws = Draws::new(11, &[]);
    // Square and large, so that nearly all first tries fit unless the area is near all: then the draws are conditioned on fitting.
    let small = RandomResizedCrop { scale: [0.08, 0.5], ..crop.clone() };
    let regions: Vec<_> = (0..20_000).map(|_| small.region(1000, 1000, &mut draws)).collect();
    let areas: Vec<f64> = regions.iter().map(|region| (region.width * region.height) as f64 / 1e6).collect();
    assert!((mean(&areas) - 0.29).abs() < 0.003, "{}", mean(&areas));
    assert!(areas.iter().all(|area| (0.079..0.501).contains(area)));
    let below = areas.iter().filter(|area| **area < 0.185).count() as f64 / 20_000.0;
    assert!((below - 0.25).abs() < 0.012, "{below}");
    let ratios: Vec<f64> = regions.iter().map(|region| (region.width as f64 / region.height as f64).ln()).collect();
    let limit = (4.0_f64 / 3.0).ln();
    assert!(mean(&ratios).abs() < 0.005 && ratios.iter().all(|ratio| ratio.abs() < limit + 0.01));
    let outer = ratios.iter().filter(|ratio| ratio.abs() > limit / 2.0).count() as f64 / 20_000.0;
    assert!((outer - 0.5).abs() < 0.015, "{outer}");
    let places: Vec<f64> = regions.iter().map(|region| region.left as f64 / (1000 - region.width) as f64).collect();
    assert!((mean(&places) - 0.5).abs() < 0.01);
    // Nothing fits a strip: its centre, as wide as the ratio allows.
    let region = crop.region(1000, 10, &mut draws);
    assert_eq!((region.left, region.top, region.width, region.height), (493, 0, 13, 10));
}

#[test]
fn crops_and_flips_have_their_law() {
    let crop = RandomCrop { size: Size::Side(32), padding: 4, padding_mode: Default::default(), fill: [0; 3] };
    let mut draws = Draws::new(5, &[]);
    let mut counts = [[0; 9]; 2];
    for _ in 0..18_000 {
        let (left, top) = crop.offset(32, 32, &mut draws);
        counts[0][(left + 4) as usize] += 1;
        counts[1][(top + 4) as usize] += 1;
    }
    assert!(counts.iter().flatten().all(|count| (1800..2200).contains(count)), "{counts:?}");
    let flip = recipe(r#"[{ op = "horizontal_flip", p = 0.3 }]"#).unwrap();
    let source = image(3, 1);
    let flipped = (0..10_000).filter(|_| flip[0].apply(source.clone(), &mut draws) != source).count();
    assert!((2850..3150).contains(&flipped), "{flipped}");
}

#[test]
fn jitter_has_its_law() {
    let jitter = ColorJitter {
        brightness: Amount::Spread(0.4),
        contrast: Amount::Between(0.5, 0.7),
        saturation: Amount::Spread(2.0),
        hue: Amount::Spread(0.1),
    };
    let mut draws = Draws::new(6, &[]);
    let (mut first, mut values) = ([0; 4], [const { Vec::new() }; 4]);
    for _ in 0..8_000 {
        let steps = jitter.draw(&mut draws);
        assert_eq!(steps.len(), 4);
        for (place, step) in steps.iter().enumerate() {
            let (index, value) = match *step {
                Jitter::Brightness(value) => (0, value),
                Jitter::Contrast(value) => (1, value),
                Jitter::Saturation(value) => (2, value),
                Jitter::Hue(value) => (3, value),
            };
            values[index].push(value);
            first[index] += usize::from(place == 0);
        }
    }
    assert!(first.iter().all(|count| (1800..2200).contains(count)), "{first:?}");
    for (values, (low, high)) in values.iter().zip([(0.6, 1.4), (0.5, 0.7), (0.0, 3.0), (-0.1, 0.1)]) {
        assert!(values.iter().all(|value| (low..high).contains(value)));
        assert!((mean(values) - (low + high) / 2.0).abs() < 0.015 * (high - low), "{low}");
        let quarter = values.iter().filter(|value| **value < low + (high - low) / 4.0).count();
        assert!((1850..2150).contains(&quarter), "{quarter}");
    }
    assert!(ColorJitter::default().draw(&mut draws).is_empty());
}

#[test]
fn erasing_has_its_law() {
    let erasing = RandomErasing { p: 0.25, scale: [0.02, 0.2], count: [1, 3], ..RandomErasing::default() };
    let mut draws = Draws::new(8, &[]);
    let drawn: Vec<_> = (0..20_000).map(|_| erasing.regions(500, 400, &mut draws)).filter(|regions| !regions.is_empty()).collect();
    assert!((4_800..5_200).contains(&drawn.len()), "{}", drawn.len());
    for count in 1..=3 {
        let such: Vec<_> = drawn.iter().filter(|regions| regions.len() == count).collect();
        assert!((1_500..1_850).contains(&such.len()), "{count}: {}", such.len());
        let areas: Vec<f64> =
            such.iter().flat_map(|regions| regions.iter()).map(|region| (region.width * region.height) as f64 / 200_000.0).collect();
        assert!((mean(&areas) * count as f64 - 0.11).abs() < 0.005, "{count}: {}", mean(&areas));
    }
    let region = drawn.iter().flatten().all(|region| region.left + region.width <= 500 && region.top + region.height <= 400);
    assert!(region);
    // The mean colour where it says so.
    let mut gray = Rgb8Image::new(60, 60, vec![0; 60 * 60 * 3]).unwrap();
    let all = RandomErasing { p: 1.0, scale: [0.5, 0.5], ratio: [1.0, 1.0], ..RandomErasing::default() };
    gray = Transform::RandomErasing(all.clone()).apply(gray, &mut draws);
    assert_eq!(gray.pixels.chunks(3).filter(|pixel| *pixel == [124, 116, 104]).count(), 42 * 42);
}

/// Mean and standard deviation of a normal colour rounded to bytes and cut off, by adding up its density.
fn clipped(mean: f64, std: f64) -> (f64, f64) {
    let points = (-6000..=6000).map(|step| f64::from(step) / 1000.0);
    let weighted: Vec<_> = points.map(|z| ((-z * z / 2.0).exp(), ((mean + std * z) * 255.0).round().clamp(0.0, 255.0))).collect();
    let total: f64 = weighted.iter().map(|(weight, _)| weight).sum();
    let center = weighted.iter().map(|(weight, value)| weight * value).sum::<f64>() / total;
    let square = weighted.iter().map(|(weight, value)| weight * (value - center).powi(2)).sum::<f64>() / total;
    (center, square.sqrt())
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Covariance over the product of the standard deviations.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |pair: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| pair(a - mean_a, b - mean_b)).sum::<f64>();
    sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt()
}

/// Each pixel of its own colour: normal with the mean and spread of its channel, independent of its neighbours and of the other channels.
#[test]
fn erased_pixels_are_noise() {
    let erasing = RandomErasing { p: 1.0, scale: [0.5, 0.5], ratio: [1.0, 1.0], value: Erased::Pixel, ..RandomErasing::default() };
    let region = erasing.regions(600, 600, &mut Draws::new(21, &[]))[0];
    let black = Rgb8Image::new(600, 600, vec![0; 600 * 600 * 3]).unwrap();
    let noisy = Transform::RandomErasing(erasing.clone()).apply(black, &mut Draws::new(21, &[]));
    let inside = |index: usize| {
        let (x, y) = (index % 600, index / 600);
        (region.left..region.left + region.width).contains(&x) && (region.top..region.top + region.height).contains(&y)
    };
    let pixels = noisy.pixels.as_chunks::<3>().0;
    assert!(pixels.iter().enumerate().all(|(index, pixel)| inside(index) || *pixel == [0; 3]));
    let channel = |channel: usize| -> Vec<f64> {
        pixels.iter().enumerate().filter(|(index, _)| inside(*index)).map(|(_, pixel)| f64::from(pixel[channel])).collect()
    };
    let channels = [channel(0), channel(1), channel(2)];
    for (index, values) in channels.iter().enumerate() {
        assert_eq!(values.len(), 424 * 424);
        let (center, spread) = clipped(f64::from(erasing.mean[index]), f64::from(erasing.std[index]));
        let found = deviation(values);
        // Four standard errors.
        assert!(
            (mean(values) - center).abs() < 0.55 && (found - spread).abs() < 0.4,
            "{index}: {} {found}, {center} {spread}",
            mean(values)
        );
        assert!(correlation(&values[1..], &values[..values.len() - 1]).abs() < 0.01);
        assert!(correlation(&values[424..], &values[..values.len() - 424]).abs() < 0.01);
        assert!(correlation(values, &channels[(index + 1) % 3]).abs() < 0.01);
    }
    // One colour a rectangle, of the same law.
    let single = Transform::RandomErasing(RandomErasing { value: Erased::Random, ..erasing.clone() });
    let colors: Vec<[u8; 3]> = (0..4000)
        .map(|seed| {
            let region = erasing.regions(8, 8, &mut Draws::new(seed, &[5]))[0];
            let erased = single.apply(Rgb8Image::new(8, 8, vec![0; 192]).unwrap(), &mut Draws::new(seed, &[5])).crop(region);
            let pixels = erased.pixels.as_chunks::<3>().0;
            assert!(pixels.len() == 36 && pixels.iter().all(|pixel| *pixel == pixels[0]));
            pixels[0]
        })
        .collect();
    for index in 0..3 {
        let values: Vec<f64> = colors.iter().map(|color| f64::from(color[index])).collect();
        let (center, spread) = clipped(f64::from(erasing.mean[index]), f64::from(erasing.std[index]));
        let found = deviation(&values);
        assert!((mean(&values) - center).abs() < 3.7 && (found - spread).abs() < 2.6, "{index}: {} {found}", mean(&values));
    }
}

#[test]
fn cutout_has_its_law() {
    // Even and odd sides; larger than a side of the picture.
    for (size, (width, height)) in [(8, (20, 10)), (7, (20, 10)), (16, (12, 40)), (1, (5, 5))] {
        let cutout = Cutout { size, fill: [1, 2, 3] };
        let count = 60_000;
        let mut draws = Draws::new(31, &[size as u64]);
        let mut found = std::collections::HashMap::new();
        for _ in 0..count {
            let region = cutout.region(width, height, &mut draws);
            *found.entry([region.left, region.width, region.top, region.height]).or_insert(0_usize) += 1;
        }
        // Every centre is as likely as every other: what each of them shows, counted.
        let axis = |center: i64, size: i64, side: i64| {
            let pixels: Vec<i64> = (center - size / 2..center - size / 2 + size).filter(|pixel| (0..side).contains(pixel)).collect();
            (pixels[0] as usize, pixels.len())
        };
        let mut expected = std::collections::HashMap::new();
        for (x, y) in (0..height as i64).flat_map(|y| (0..width as i64).map(move |x| (x, y))) {
            let ((left, columns), (top, rows)) = (axis(x, size as i64, width as i64), axis(y, size as i64, height as i64));
            *expected.entry([left, columns, top, rows]).or_insert(0_usize) += 1;
        }
        assert!(found.keys().all(|region| expected.contains_key(region)), "{size}");
        for (region, centers) in expected {
            let share = (centers * count) as f64 / (width * height) as f64;
            let drawn = found.get(&region).copied().unwrap_or(0) as f64;
            assert!((drawn - share).abs() < 5.0 * share.sqrt(), "{size}: {region:?} {drawn}, not {share}");
        }
        for seed in 0..200 {
            let region = cutout.region(width, height, &mut Draws::new(seed, &[]));
            let source = image(width, height);
            let done = Transform::Cutout(cutout.clone()).apply(source.clone(), &mut Draws::new(seed, &[]));
            for (index, (before, after)) in source.pixels.as_chunks::<3>().0.iter().zip(done.pixels.as_chunks::<3>().0).enumerate() {
                let (x, y) = (index % width, index / width);
                let inside = x.wrapping_sub(region.left) < region.width && y.wrapping_sub(region.top) < region.height;
                assert_eq!(after, if inside { &cutout.fill } else { before });
            }
        }
    }
}

/// Uniform: within the range, and each tenth of it as often as the others.
fn assert_uniform(name: &str, values: &[f64], low: f64, high: f64) {
    assert!(values.iter().all(|value| (low..high).contains(value)), "{name}");
    let mut tenths = [0; 10];
    values.iter().for_each(|value| tenths[((value - low) / (high - low) * 10.0) as usize] += 1);
    let expected = values.len() as f64 / 10.0;
    assert!(tenths.iter().all(|count| (f64::from(*count) - expected).abs() < 5.0 * expected.sqrt()), "{name}: {tenths:?}");
}

/// Two parameters know nothing of each other.
fn assert_independent(parameters: &[(&str, Vec<f64>)]) {
    for (index, (name, values)) in parameters.iter().enumerate() {
        for (other, others) in &parameters[..index] {
            assert!(correlation(values, others).abs() < 5.0 / (values.len() as f64).sqrt(), "{name}, {other}");
        }
    }
}

#[test]
fn rotations_have_their_law() {
    let mut draws = Draws::new(41, &[]);
    for (degrees, low, high) in [(Amount::Spread(30.0), -30.0, 30.0), (Amount::Between(10.0, 80.0), 10.0, 80.0)] {
        let rotate = Rotate { degrees, interpolation: Filter::Bilinear, fill: [9, 8, 7] };
        let angles: Vec<f64> = (0..20_000).map(|_| rotate.draw(&mut draws)).collect();
        assert_uniform("degrees", &angles, low, high);
        for seed in 0..20 {
            let angle = rotate.draw(&mut Draws::new(seed, &[]));
            let done = Transform::Rotate(rotate.clone()).apply(image(37, 29), &mut Draws::new(seed, &[]));
            assert_eq!(done, ops::rotate(&image(37, 29), angle, ops::Sampling::Bilinear, [9, 8, 7]));
        }
    }
}

#[test]
fn affines_have_their_law() {
    let affine = Affine {
        degrees: Amount::Spread(15.0),
        shift: [0.1, 0.25],
        scale: [0.5, 2.0],
        shear: Amount::Between(-5.0, 20.0),
        shear_y: Amount::Spread(8.0),
        interpolation: Filter::Bicubic,
        fill: [4, 5, 6],
    };
    let mut draws = Draws::new(42, &[]);
    let drawn: Vec<AffineParameters> = (0..20_000).map(|_| affine.draw(200, 100, &mut draws)).collect();
    let values = |value: fn(&AffineParameters) -> f64| drawn.iter().map(value).collect::<Vec<f64>>();
    let parameters = [
        ("degrees", values(|p| p.degrees)),
        ("scale", values(|p| p.scale)),
        ("shear", values(|p| p.shear.0)),
        ("shear_y", values(|p| p.shear.1)),
        ("right", values(|p| p.shift.0)),
        ("down", values(|p| p.shift.1)),
    ];
    for ((name, values), (low, high)) in parameters.iter().zip([(-15.0, 15.0), (0.5, 2.0), (-5.0, 20.0), (-8.0, 8.0)]) {
        assert_uniform(name, values, low, high);
    }
    // Whole pixels, the two ends half as often as the others.
    for ((name, values), most) in parameters[4..].iter().zip([20.0, 25.0]) {
        assert!(values.iter().all(|value| value.fract() == 0.0 && value.abs() <= most), "{name}");
        for pixels in -(most as i64)..=most as i64 {
            let expected = 20_000.0 / (2.0 * most) * if pixels.abs() == most as i64 { 0.5 } else { 1.0 };
            let count = values.iter().filter(|value| **value == pixels as f64).count() as f64;
            assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{name} {pixels}: {count}, not {expected}");
        }
    }
    assert_independent(&parameters);
    for seed in 0..20 {
        let AffineParameters { degrees, shift, scale, shear } = affine.draw(37, 29, &mut Draws::new(seed, &[]));
        let done = Transform::Affine(affine.clone()).apply(image(37, 29), &mut Draws::new(seed, &[]));
        assert_eq!(done, ops::affine(&image(37, 29), degrees, shift, scale, shear, ops::Sampling::Bicubic, [4, 5, 6]));
    }
}

#[test]
fn keras_warps_have_their_law() {
    let generator =
        Generator { rotation: 40.0, width_shift: 0.2, height_shift: 0.3, shear: 10.0, zoom: Amount::Spread(0.25), ..Generator::default() };
    let mut draws = Draws::new(43, &[]);
    let drawn: Vec<_> = (0..20_000).map(|_| generator.draw(200, 100, &mut draws)).collect();
    let values = |value: fn(&ops::KerasAffine) -> f64| drawn.iter().map(value).collect::<Vec<f64>>();
    let parameters = [
        ("theta", values(|p| p.theta)),
        ("tx", values(|p| p.tx)),
        ("ty", values(|p| p.ty)),
        ("shear", values(|p| p.shear)),
        ("zx", values(|p| p.zx)),
        ("zy", values(|p| p.zy)),
    ];
    // `tx` comes from the height and its range, as in Keras.
    let ranges = [(-40.0, 40.0), (-30.0, 30.0), (-40.0, 40.0), (-10.0, 10.0), (0.75, 1.25), (0.75, 1.25)];
    for ((name, values), (low, high)) in parameters.iter().zip(ranges) {
        assert_uniform(name, values, low, high);
    }
    assert_independent(&parameters);
    for seed in 0..20 {
        let parameters = generator.draw(37, 29, &mut Draws::new(seed, &[]));
        let done = Transform::KerasAffine(generator.clone()).apply(image(37, 29), &mut Draws::new(seed, &[]));
        assert_eq!(done, ops::keras_affine(&image(37, 29), parameters, generator.fill_mode, generator.fill));
    }
}

#[test]
fn rand_augment_has_its_law() {
    let mut draws = Draws::new(9, &[]);
    let timm = RandAugment { set: Set::Timm, magnitude: 7.0, magnitude_std: 0.5, increasing: true, ..RandAugment::default() };
    for (step, kinds, happening) in [(RandAugment::default(), 14, 1.0 - 1.0 / 14.0), (timm, 15, 0.5)] {
        let drawn: Vec<_> = (0..30_000).map(|_| step.draw(224, 224, &mut draws)).collect();
        let expected = 30_000 / kinds;
        let mut names: Vec<Kind> = Vec::new();
        for (kind, _) in &drawn {
            if !names.contains(kind) {
                names.push(*kind);
            }
        }
        assert_eq!(names.len(), kinds);
        for name in names {
            let count = drawn.iter().filter(|(kind, _)| *kind == name).count();
            assert!(count.abs_diff(expected) < expected / 10, "{name:?}: {count}");
        }
        let happened = drawn.iter().filter(|(_, action)| *action != Action::Identity).count() as f64 / 30_000.0;
        assert!((happened - happening).abs() < 0.012, "{happened}");
        let degrees: Vec<f64> =
            drawn.iter().filter_map(|(_, action)| if let Action::Rotate(degrees) = action { Some(*degrees) } else { None }).collect();
        let negative = degrees.iter().filter(|degrees| **degrees < 0.0).count() as f64 / degrees.len() as f64;
        assert!((negative - 0.5).abs() < 0.05, "{negative}");
        let sizes: Vec<f64> = degrees.iter().map(|degrees| degrees.abs()).collect();
        let spread = mean(&sizes.iter().map(|size| (size - mean(&sizes)).powi(2)).collect::<Vec<_>>()).sqrt();
        let (center, std) = if step.set == Set::Timm { (21.0, 1.5) } else { (9.0, 0.0) };
        assert!((mean(&sizes) - center).abs() < 0.15 && (spread - std).abs() < 0.15, "{} {spread}", mean(&sizes));
    }
}
