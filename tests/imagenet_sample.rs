//! EfficientNet-Lite0 with its real weights on 500 photographs, against PyTorch's answers: decode, resize, crop, model, end to end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::HashMap;

use serde::Deserialize;
use timburn::infer::Precision;
use timburn::{Bundle, Predictor};

/// PyTorch's five best classes of a photograph, computed from PIL's pixels.
#[derive(Deserialize)]
struct Golden {
    top5: Vec<usize>,
    prob: Vec<f32>,
}

/// Synset of a photograph by its name (`n01440764_tench.JPEG`): the truth.
fn truth(name: &str) -> &str {
    name.split_once('_').expect("synset_name").0
}

fn check(bundle: &Bundle, tolerance: f32) {
    let Some(photographs) = common::imagenet_sample() else { return };
    let Some(golden) = common::data_file("imagenet-sample-lite0-golden.json") else { return };
    let golden: HashMap<String, Golden> = serde_json::from_reader(std::fs::File::open(golden).expect("readable")).expect("JSON");
    let predictor = Predictor::new(bundle, &timburn::open_device("flex").expect("flex")).expect("the weights fit");
    let (mut same, mut right, mut worst) = (0, 0, 0f32);
    for (name, bytes) in &photographs {
        let prediction = predictor.classify_bytes(bytes, name).expect("a good photograph");
        let best = prediction.top(1)[0].index;
        let expected = &golden[name];
        same += usize::from(best == expected.top5[0]);
        right += usize::from(predictor.classes().index_of(truth(name)) == Some(best));
        for (&class, &probability) in expected.top5.iter().zip(&expected.prob) {
            worst = worst.max((prediction.probabilities[class] - probability).abs());
        }
    }
    println!("{}: {same}/500 top-1 as PyTorch, {right}/500 right, largest difference of a probability {worst:.1e}", bundle.weights.name);
    assert_eq!(photographs.len(), 500);
    assert!(same >= 495, "only {same} of 500 as PyTorch");
    assert!((440..=444).contains(&right), "{right} of 500 right, PyTorch 442");
    assert!(worst < tolerance, "a probability differs by {worst}");
}

/// What reduced precision costs: the embedded weights in bf16 against the same in f32.
#[test]
fn bf16_is_as_often_right() {
    let Some(photographs) = common::imagenet_sample() else { return };
    let device = timburn::open_device("flex").expect("flex");
    let wide = Predictor::embedded(&device).expect("embedded");
    let reduced = Predictor::embedded(&device).expect("embedded").with_precision(Precision::Bf16).expect("a graph");
    let (mut same, mut right, mut total, mut worst) = (0, [0; 2], 0f64, 0f32);
    for (name, bytes) in &photographs {
        let [found, expected] = [&reduced, &wide].map(|predictor| predictor.classify_bytes(bytes, name).expect("a good photograph"));
        let best = [&expected, &found].map(|prediction| prediction.top(1)[0].index);
        same += usize::from(best[0] == best[1]);
        for (right, &best) in right.iter_mut().zip(&best) {
            *right += usize::from(wide.classes().index_of(truth(name)) == Some(best));
        }
        let difference = (found.probabilities[best[0]] - expected.probabilities[best[0]]).abs();
        total += f64::from(difference);
        worst = worst.max(difference);
    }
    let n = photographs.len();
    let mean = total / n as f64;
    println!(
        "{}: {same}/{n} top-1 as f32, {}/{n} right, f32 {}/{n}; best probability off by {mean:.1e}, at most {worst:.1e}",
        reduced.precision(),
        right[1],
        right[0]
    );
    assert_eq!(n, 500);
    assert!(same >= 495, "only {same} of 500 as f32");
    assert!(right[1] + 3 >= right[0], "{} of 500 right, f32 {}", right[1], right[0]);
    assert!(mean < 0.01, "probabilities differ by {mean} on average");
}

/// What eight bits cost: ranges measured on every fifth photograph, the embedded weights in int8 against the same in f32 on all of them, and
/// on those that were not measured on by themselves.
#[test]
fn int8_is_about_as_often_right() {
    let Some(photographs) = common::imagenet_sample() else { return };
    let device = timburn::open_device("flex").expect("flex");
    let wide = Predictor::embedded(&device).expect("embedded");
    let picture =
        |name: &str, bytes: &[u8]| wide.prepare(&timburn::data::decode_bytes(bytes, name, &wide.decode).expect("a good photograph"));
    let prepared: Vec<_> = photographs.iter().map(|(name, bytes)| picture(name, bytes)).collect();
    let measured: Vec<_> = prepared.iter().step_by(5).cloned().collect();
    let ranges = wide.calibrate_prepared(&measured).expect("ranges");
    let reduced = Predictor::embedded(&device).expect("embedded").quantized(&ranges).expect("a graph");
    assert_eq!(reduced.precision(), Precision::Int8);
    let (mut same, mut right, mut unseen, mut total, mut worst) = (0, [0; 2], [0; 2], 0f64, 0f32);
    for (index, (image, (name, _))) in prepared.iter().zip(&photographs).enumerate() {
        let [found, expected] = [&reduced, &wide]
            .map(|predictor| predictor.classify_prepared(std::slice::from_ref(image)).expect("an answer").pop().expect("one"));
        let best = [&expected, &found].map(|prediction| prediction.top(1)[0].index);
        same += usize::from(best[0] == best[1]);
        for (which, &best) in best.iter().enumerate() {
            let hit = usize::from(wide.classes().index_of(truth(name)) == Some(best));
            right[which] += hit;
            unseen[which] += if index % 5 == 0 { 0 } else { hit };
        }
        let difference = (found.probabilities[best[0]] - expected.probabilities[best[0]]).abs();
        total += f64::from(difference);
        worst = worst.max(difference);
    }
    let n = photographs.len();
    let mean = total / n as f64;
    println!(
        "int8: {same}/{n} top-1 as f32, {}/{n} right, f32 {}/{n}; of the {} not measured on {}, f32 {}; best probability off by {mean:.1e}, at most {worst:.1e}",
        right[1],
        right[0],
        n - measured.len(),
        unseen[1],
        unseen[0],
    );
    assert_eq!((n, measured.len()), (500, 100));
    assert!(same >= 470, "only {same} of 500 as f32");
    assert!(right[1] + 5 >= right[0], "{} of 500 right, f32 {}", right[1], right[0]);
    assert!(mean < 0.05, "probabilities differ by {mean} on average");
}

#[test]
fn the_published_file_agrees_with_pytorch() {
    let Some(file) = common::data_file("weights/efficientnet-lite0-57934424.pth") else { return };
    let bundle = timburn::weights::from_file(&file, Some("efficientnet_lite0")).expect("loads");
    // The golden has six decimals; pixels are PIL's to the bit, so only the order of sums differs.
    check(&bundle, 1e-4);
}

#[test]
fn the_embedded_half_precision_copy_agrees_with_pytorch() {
    check(&timburn::weights::embedded().expect("embedded"), 2e-2);
}
