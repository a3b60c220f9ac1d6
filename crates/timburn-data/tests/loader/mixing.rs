//! Mixup, CutMix, their targets and the order of repeated augmentation against timm (`parity/mixing.py`).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;
use timburn_data::loader::mixing::{Mix, cutmix, mixed_targets, mixup};
use timburn_data::loader::{Sampling, Shard};
use timburn_data::{LoaderOptions, Region};

use super::{all, indices, loader, quiet};

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/mixing.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn naturals(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

fn close(found: Vec<f32>, expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} {expected}");
    }
}

#[test]
fn mixed_batches_are_timms() {
    let device = Device::flex();
    let golden = golden();
    let [channels, height, width] = naturals(&golden["size"])[..] else { panic!("three sizes") };
    let classes = golden["classes"].as_u64().unwrap() as usize;
    for row in golden["mixed"].as_array().unwrap() {
        let labels = naturals(&row["labels"]);
        let number = |key: &str| row[key].as_f64().unwrap();
        let values = (0..labels.len() * channels * height * width).map(|i| ((i * 37 + 11) % 251) as f32).collect();
        let images = Tensor::<4>::from_data(TensorData::new::<f32, _>(values, [labels.len(), channels, height, width]), &device);
        let (mix, found) = if row["kind"] == "mixup" {
            (Mix::Mixup { lam: number("lam") }, mixup(images.clone(), number("lam")))
        } else {
            let [top, bottom, left, right] = naturals(&row["box"])[..] else { panic!("four edges") };
            let region = Region { left, top, width: right - left, height: bottom - top };
            let lam = 1.0 - (region.width * region.height) as f64 / (height * width) as f64;
            assert_eq!(lam, number("corrected"));
            (Mix::CutMix { region, lam }, cutmix(images.clone(), region))
        };
        close(found.into_data().try_to_vec().unwrap(), &floats(&row["images"]));
        close(mix.images(images).into_data().try_to_vec().unwrap(), &floats(&row["images"]));
        let targets = mixed_targets(&labels, classes, mix.lam(), number("smoothing"), &device).unwrap();
        assert_eq!(targets.dims(), [labels.len(), classes]);
        close(targets.into_data().try_to_vec().unwrap(), &floats(&row["targets"]));
    }
}

#[test]
fn a_box_beyond_the_picture_is_clipped() {
    let device = Device::flex();
    let images = Tensor::<4>::from_data(TensorData::new((0..24).map(|i| i as f32).collect(), [2, 1, 3, 4]), &device);
    let same = |region, other| {
        let (a, b) = (cutmix(images.clone(), region).into_data(), cutmix(images.clone(), other).into_data());
        assert_eq!(a, b);
    };
    let region = |left, top, width, height| Region { left, top, width, height };
    same(region(2, 1, 99, usize::MAX), region(2, 1, 2, 2));
    same(region(9, 0, 5, 5), region(0, 0, 0, 0));
}

#[test]
fn repeated_augmentation_is_timms() {
    for row in golden()["samplers"].as_array().unwrap() {
        let number = |key: &str| row[key].as_u64().unwrap() as usize;
        let (len, count, repeats) = (number("len"), number("ranks"), number("repeats"));
        for (rank, expected) in row["indices"].as_array().unwrap().iter().enumerate() {
            let shard = Shard { rank, count };
            let expected = naturals(expected);
            if expected.is_empty() {
                continue;
            }
            let options = LoaderOptions { sampling: Sampling::Sequential, shard, repeats, workers: 2, ..Default::default() };
            let loader = loader(quiet(len), options);
            assert_eq!(indices(&all(loader.epoch(0))), expected, "{len} {count} {repeats}");
            // The repeats are not copies.
            let batches = all(loader.epoch(0));
            if count == 1 {
                assert_ne!(batches[0].pixels[..48], batches[0].pixels[48..96]);
            }
        }
    }
}
