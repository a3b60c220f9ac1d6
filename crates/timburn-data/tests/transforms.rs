//! Every op against PIL, torchvision and Keras (goldens of `parity/transforms.py`), and the policies' tables.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use common::{difference, hash, noise};
use timburn_data::transform::ops::{self, FillMode, KerasAffine, Padding, Sampling};
use timburn_data::transform::policy::torchvision::Space;
use timburn_data::transform::policy::{Action, AugMix, AutoPolicy, Chain, Kind, timm, torchvision};
use timburn_data::{DecodeOptions, Region, Rgb8Image, decode_bytes, sample_photograph};

const FILL: [u8; 3] = [10, 200, 77];

fn table(name: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(common::read(&format!("../transforms/{name}"))).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn picture(name: &str) -> Rgb8Image {
    let formula = |width: usize, height: usize| Rgb8Image::new(width, height, noise(name, width * height * 3)).unwrap();
    match name {
        "noise" => formula(37, 29),
        "square" => formula(31, 31),
        "tiny" => formula(2, 3),
        "dark" => {
            let mut image = formula(37, 29);
            image.pixels.iter_mut().for_each(|byte| *byte = *byte / 5 + 40);
            image
        }
        "chelsea" => {
            let whole = decode_bytes(sample_photograph(), "chelsea.jpg", &DecodeOptions::default()).unwrap();
            whole.crop(Region { left: 0, top: 0, width: 120, height: 90 })
        }
        other => panic!("{other}"),
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}

fn kind(name: &str) -> Kind {
    match name.trim_end_matches("Increasing").trim_end_matches("Rel") {
        "Identity" => Kind::Identity,
        "ShearX" => Kind::ShearX,
        "ShearY" => Kind::ShearY,
        "TranslateX" => Kind::TranslateX,
        "TranslateY" => Kind::TranslateY,
        "Rotate" => Kind::Rotate,
        "Brightness" => Kind::Brightness,
        "Color" => Kind::Color,
        "Contrast" => Kind::Contrast,
        "Sharpness" => Kind::Sharpness,
        "Posterize" => Kind::Posterize,
        "Solarize" => Kind::Solarize,
        "SolarizeAdd" => Kind::SolarizeAdd,
        "AutoContrast" => Kind::AutoContrast,
        "Equalize" => Kind::Equalize,
        "Invert" => Kind::Invert,
        other => panic!("{other}"),
    }
}

fn sampling(name: &str) -> Sampling {
    match name {
        "nearest" => Sampling::Nearest,
        "bilinear" => Sampling::Bilinear,
        "bicubic" => Sampling::Bicubic,
        other => panic!("{other}"),
    }
}

fn run(op: &str, mut image: Rgb8Image, p: &[f64]) -> Rgb8Image {
    let (name, variant) = op.rsplit_once('_').unwrap_or((op, ""));
    let (width, height) = (image.width, image.height);
    match op {
        "brightness" => ops::adjust_brightness(&mut image, p[0]),
        "contrast" => ops::adjust_contrast(&mut image, p[0]),
        "color" => ops::adjust_saturation(&mut image, p[0]),
        "sharpness" => ops::adjust_sharpness(&mut image, p[0]),
        "hue" => ops::adjust_hue(&mut image, p[0]),
        "posterize" => ops::posterize(&mut image, p[0] as u32),
        "solarize" => ops::solarize(&mut image, p[0]),
        "solarize_add" => ops::solarize_add(&mut image, p[0] as u8, 128),
        "autocontrast" => ops::autocontrast(&mut image),
        "equalize" => ops::equalize(&mut image),
        "invert" => ops::invert(&mut image),
        "grayscale" => ops::grayscale(&mut image),
        "horizontal_flip" => ops::horizontal_flip(&mut image),
        "vertical_flip" => ops::vertical_flip(&mut image),
        "center_crop" => return ops::center_crop(&image, p[0] as usize, p[1] as usize),
        "aug_mix" => {
            let chain = |weight: f64, actions: &[(Kind, f64)]| Chain {
                weight: weight as f32,
                actions: actions.iter().map(|(kind, m)| (torchvision::action(*kind, *m, width, height), Sampling::Bilinear)).collect(),
            };
            let first = chain(p[1], &[(Kind::Rotate, 12.0), (Kind::Equalize, 0.0)]);
            let second = chain(p[2], &[(Kind::ShearX, -0.1), (Kind::Posterize, 3.0), (Kind::Color, 0.5)]);
            return AugMix::mix(&image, p[0] as f32, &[first, second], [0; 3]);
        }
        _ => match name {
            "crop" => {
                let mode = [("constant", Padding::Constant), ("reflect", Padding::Reflect), ("edge", Padding::Edge)];
                let mode = mode.iter().find(|(name, _)| *name == variant).unwrap().1;
                return ops::crop_padded(&image, (p[1] - p[0]) as i64, (p[2] - p[0]) as i64, p[3] as usize, p[4] as usize, mode, FILL);
            }
            "rotate" => return ops::rotate(&image, p[0], sampling(variant), FILL),
            "affine" => return ops::affine(&image, p[0], (p[1], p[2]), p[3], (p[4], p[5]), sampling(variant), FILL),
            "warp" => return ops::warp(&image, p.try_into().unwrap(), sampling(variant), FILL),
            "plain_resize" => {
                let filter = serde_json::from_value(variant.into()).unwrap();
                let size = timburn_data::transform::Size::Exact { height: p[1] as usize, width: p[0] as usize };
                let mode = timburn_core::preprocessing::ResizeMode::Squash;
                let resize = timburn_data::transform::Resize { size, mode, interpolation: filter, antialias: false };
                return timburn_data::Transform::Resize(resize).apply(image, &mut timburn_core::seed::Draws::new(0, &[]));
            }
            "apply_augment" | "apply_wide" => {
                let space = if name == "apply_wide" { Space::Wide } else { Space::Augment };
                let kind = kind(variant);
                let magnitude = p[1] * torchvision::magnitude(space, kind, p[0] as usize, 31, width, height);
                return torchvision::action(kind, magnitude, width, height).apply(image, Sampling::Nearest, [0; 3]);
            }
            _ => panic!("{op}"),
        },
    }
    image
}

#[test]
fn equal_to_the_bit() {
    let rows = table("ops.tsv");
    assert!(rows.len() > 1000, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let result = run(&row[0], picture(&row[1]), &numbers(&row[2]));
        let found = (format!("{}x{}", result.width, result.height), format!("{:016x}", hash(&result.pixels)));
        if found != (row[3].clone(), row[4].clone()) {
            wrong.push(row[..4].join(" "));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// Gaussian blur, and Keras' warps rounded to bytes: within 1 LSB.
#[test]
fn near() {
    let data = common::read("../transforms/near.bin");
    for row in table("near.tsv") {
        let (mut image, p) = (picture(&row[1]), numbers(&row[2]));
        let at: usize = row[3].parse().unwrap();
        let expected = &data[at..at + image.pixels.len()];
        let mode = [
            ("keras_nearest", FillMode::Nearest),
            ("keras_constant", FillMode::Constant),
            ("keras_reflect", FillMode::Reflect),
            ("keras_wrap", FillMode::Wrap),
        ];
        match mode.iter().find(|(name, _)| *name == row[0]) {
            Some((_, mode)) => {
                let parameters = KerasAffine { theta: p[0], tx: p[1], ty: p[2], shear: p[3], zx: p[4], zy: p[5] };
                image = ops::keras_affine(&image, parameters, *mode, [77; 3]);
            }
            None => ops::gaussian_blur(&mut image, p[0] as usize, p[1]),
        }
        let different = image.pixels.iter().zip(expected).filter(|(a, b)| a != b).count();
        assert!(difference(&image.pixels, expected) <= 1, "{row:?}: {} LSB", difference(&image.pixels, expected));
        // Halves rounded the other way are rare.
        assert!(different * 100 <= expected.len(), "{row:?}: {different} of {}", expected.len());
    }
}

#[test]
fn magnitudes_are_torchvisions() {
    let mut seen = 0;
    for row in table("tables.tsv").iter().filter(|row| row[0] == "torchvision") {
        let space = match row[1].as_str() {
            "augment" => Space::Augment,
            "wide" => Space::Wide,
            _ => Space::Mix,
        };
        let kind = kind(&row[2]);
        assert_eq!(torchvision::signed(kind), row[3] == "1", "{row:?}");
        let (width, height) = (row[4].parse().unwrap(), row[5].parse().unwrap());
        let bins = row.len() - 6;
        for (bin, expected) in row[6..].iter().enumerate() {
            let expected: f64 = expected.parse().unwrap();
            let found = torchvision::magnitude(space, kind, bin, bins, width, height);
            assert_eq!(found, expected, "{row:?} {bin}");
            seen += 1;
        }
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn levels_are_timms() {
    let (mut seen, levels) = (0, [0.0, 2.4, 5.0, 7.31, 9.0, 10.0]);
    for row in table("tables.tsv").iter().filter(|row| row[0] == "timm") {
        let (kind, negative) = (kind(&row[1]), row[2] == "1");
        // In timm the first 15 names do not increase; where a name has an increasing twin it is the other one.
        let increasing = row[1].ends_with("Increasing");
        for (level, expected) in levels.iter().zip(&row[3..]) {
            let expected: f64 = expected.parse().unwrap();
            let found = match timm::action(kind, *level, increasing, negative, 100, 200) {
                Action::Rotate(value) | Action::Brightness(value) | Action::Color(value) => value,
                Action::Contrast(value) | Action::Sharpness(value) | Action::Solarize(value) => value,
                Action::Posterize(bits) => f64::from(bits),
                Action::SolarizeAdd(amount) => f64::from(amount),
                Action::Warp(matrix) => match kind {
                    Kind::ShearX => matrix[1],
                    Kind::ShearY => matrix[3],
                    Kind::TranslateX => matrix[2] / 100.0,
                    _ => matrix[5] / 200.0,
                },
                _ => 0.0,
            };
            assert!((found - expected).abs() <= 1e-12, "{row:?} {level}: {found} {expected}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * 30 * 6);
}

#[test]
fn policies_are_torchvisions() {
    let mut seen = 0;
    let mut place = (String::new(), String::new(), 0);
    for row in table("tables.tsv").iter().filter(|row| row[0] == "auto") {
        let policy: AutoPolicy = serde_json::from_value(row[1].as_str().into()).unwrap();
        let position = if (&place.0, &place.1) == (&row[1], &row[2]) { place.2 + 1 } else { 0 };
        place = (row[1].clone(), row[2].clone(), position);
        let step = policy.pairs()[row[2].parse::<usize>().unwrap()][position];
        assert_eq!(step, (kind(&row[3]), row[4].parse().unwrap(), row[5].parse().unwrap()), "{row:?}");
        seen += 1;
    }
    assert_eq!(seen, 150);
}
