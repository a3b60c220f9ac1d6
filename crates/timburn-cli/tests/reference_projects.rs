//! The reference projects' ResNet-50 from the command line, "as run" and "corrected", at full picture size on a handful of real pictures. The
//! weights are given as a file and are random: what is shown is that every path is ready for the real ones.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use common::{cifar, folder, pets, stderr, stdout, timburn};
use serde_json::Value;
use timburn_models::{ModelOptions, create, state_dict};
use timburn_weights::{Precision, write_safetensors};

const WEIGHTS: &str = "resnet50-random.safetensors";

/// ImageNet's ResNet-50 with weights of its initialisation, under torchvision's names.
fn random_weights(folder: &Path) {
    let device = timburn_core::open_device("flex").expect("flex");
    let model = create("resnet50", &ModelOptions::default(), &device).expect("resnet50");
    write_safetensors(&state_dict(&model), folder.join(WEIGHTS), Precision::F32, &Default::default()).expect("writes");
}

fn run(arguments: &[&str], folder: &Path) -> String {
    let output = timburn(arguments, folder);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// Trains by a recipe of the program, then scores and asks the bundle.
fn trained(recipe: &str, data: &Path, more: &[&str], folder: &Path) {
    let data = data.to_str().expect("UTF-8");
    let weights = format!("model.weights={WEIGHTS}");
    let common = ["train", recipe, "--data", data, "--set", &weights, "--set", "train.batch_size=4", "--quiet", "-o", recipe];
    run(&[&common[..], more].concat(), folder);
    let bundle = format!("{recipe}/model.timburn");
    assert!(folder.join(recipe).join("report.html").is_file(), "{recipe}");
    let score: Value = serde_json::from_str(&run(&["eval", &bundle, data, "--no-report", "--json"], folder)).expect("JSON");
    assert!(score["score"]["samples"].as_u64().is_some_and(|samples| samples >= 10), "{recipe}: {score}");
    assert!(run(&["predict", "--weights", &bundle], folder).contains('%'), "{recipe}");
}

#[test]
fn s1_and_s2_train_on_cifar10() {
    let folder = folder();
    let path = folder.path();
    let Some(data) = cifar(path, 2, 1) else { return };
    random_weights(path);
    let held_out = ["--set", "data.validation=0.5"];
    trained("s1-cifar10", &data, &["--set", "train.epochs=1"], path);
    trained("s2-cifar10", &data, &[&["--set", "train.epochs=1"], &held_out[..]].concat(), path);
    // Two epochs: the body is frozen in the first one.
    trained("s1-cifar10-corrected", &data, &[&["--set", "train.epochs=2"], &held_out[..]].concat(), path);
    trained("s2-cifar10-corrected", &data, &[&["--set", "train.epochs=2"], &held_out[..]].concat(), path);
}

#[test]
fn s3_trains_on_cats_and_dogs_and_s0_compares() {
    let folder = folder();
    let path = folder.path();
    let Some(data) = pets(path) else { return };
    random_weights(path);
    trained("s3-cats-and-dogs", &data, &["--set", "data.per_class=8"], path);
    trained("s3-cats-and-dogs-corrected", &data, &["--set", "data.per_class=8", "--set", "train.epochs=1"], path);

    let data = data.to_str().expect("UTF-8");
    run(&["export", "resnet50", "--weights", WEIGHTS, "-o", "imagenet.timburn"], path);
    run(&["finetune", data, "--model", "resnet50", "--weights", WEIGHTS, "--head-only", "--quiet", "-o", "tuned"], path);
    std::fs::write(path.join("map.csv"), "281-285,cats\n151-268,dogs\n").expect("writes");
    let compare = ["compare", "imagenet.timburn", "tuned/model.timburn", data, "--map", "map.csv", "--json", "-o", "both"];
    let found: Value = serde_json::from_str(&run(&compare, path)).expect("JSON");
    assert!(found["comparison"]["p_value"].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)), "{found}");
    assert!(path.join("both/a/report.html").is_file() && path.join("both/b/report.html").is_file());
}
