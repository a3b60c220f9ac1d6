//! `timburn train`: a run on real pictures, interrupted and resumed.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;
#[path = "train/digits.rs"]
mod digits;
#[path = "train/failures.rs"]
mod failures;
#[path = "train/kills.rs"]
mod kills;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{cifar, command, folder, stderr, stdout, timburn};
use serde_json::Value;

const SMALL: [&str; 8] =
    ["--set", "train.batch_size=20", "--set", "train.epochs=2", "--set", "checkpoints.every_steps=2", "--set", "evaluation.batch_size=25"];

fn train<'a>(data: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "cifar10-resnet20", "--data", data, "-o", output, "--quiet"], &SMALL[..], more].concat()
}

fn weights(run: &Path) -> Vec<u8> {
    let checkpoints = std::fs::read_dir(run.join("checkpoints")).expect("checkpoints").map(|entry| entry.expect("an entry").path());
    let newest = checkpoints.filter(|path| path.is_dir()).max().expect("a checkpoint");
    std::fs::read(newest.join("model.safetensors")).expect("weights")
}

/// The metrics without times.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        value.as_object_mut().expect("an object").remove("seconds");
        value
    });
    lines.collect()
}

#[test]
fn an_interrupted_run_resumes_bit_for_bit_and_ends_in_a_bundle_that_predicts() {
    let folder = folder();
    let Some(data) = cifar(folder.path(), 12, 5) else { return };
    let data = data.to_str().expect("UTF-8");
    let whole = timburn(&train(data, "whole", &[]), folder.path());
    assert!(whole.status.success(), "{}", stderr(&whole));

    // Interrupted as soon as it has a checkpoint within the first epoch.
    let mut child = command(&train(data, "parts", &[]), folder.path()).spawn().expect("the binary runs");
    let started = Instant::now();
    let metrics_file = folder.path().join("parts/metrics.jsonl");
    while std::fs::read_to_string(&metrics_file).unwrap_or_default().lines().count() < 2 {
        assert!(started.elapsed() < Duration::from_secs(120), "no step was made");
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let code = child.wait().expect("it ends").code();
    // It may have been done before the signal came.
    if code != Some(0) {
        assert_eq!(code, Some(130));
        assert!(metrics(&folder.path().join("parts")).len() < metrics(&folder.path().join("whole")).len());
        let resumed = timburn(&["train", "--resume", "parts", "--quiet"], folder.path());
        assert!(resumed.status.success(), "{}", stderr(&resumed));
    }
    assert_eq!(weights(&folder.path().join("parts")), weights(&folder.path().join("whole")));
    assert_eq!(metrics(&folder.path().join("parts")), metrics(&folder.path().join("whole")));

    let picture = std::fs::read_dir(Path::new(data).join("test/ship")).expect("ships").next().expect("a ship").expect("an entry").path();
    let predicted = timburn(&["predict", picture.to_str().expect("UTF-8"), "--weights", "whole/model.timburn", "--json"], folder.path());
    assert!(predicted.status.success(), "{}", stderr(&predicted));
    let answer: Value = serde_json::from_slice(&predicted.stdout).expect("JSON");
    assert_eq!(answer[0]["predictions"].as_array().expect("guesses").len(), 5);
    for plot in ["loss.png", "accuracy.svg", "confusion.png", "reliability.png"] {
        assert!(folder.path().join("whole/plots").join(plot).is_file(), "{plot}");
    }
}

#[test]
fn events_are_json_lines() {
    let folder = folder();
    let Some(data) = cifar(folder.path(), 8, 5) else { return };
    let arguments = [train(data.to_str().expect("UTF-8"), "run", &["--set", "train.epochs=1"]), vec!["--events"]].concat();
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let events: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["step", "step", "step", "step", "evaluation", "epoch", "end", "outcome"]);
    assert_eq!((&events[6]["ending"], &events[7]["ending"]), (&"finished".into(), &"finished".into()));
    assert_eq!(events[7]["score"]["top1"], events[4]["top"][0]["accuracy"]);
}

#[test]
fn bad_validation_files_are_told_and_a_score_of_nothing_is_an_error() {
    let folder = folder();
    let Some(data) = cifar(folder.path(), 8, 2) else { return };
    let test = data.join("test");
    let ship = std::fs::read_dir(test.join("ship")).expect("ships").next().expect("a ship").expect("an entry").path();
    std::fs::write(&ship, "no picture").expect("writes");
    let one_epoch = ["--set", "train.epochs=1", "--set", "loader.skip_bad=1.0"];
    let output = timburn(&train(data.to_str().expect("UTF-8"), "run", &one_epoch), folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("not scored: ") && stderr(&output).contains("ship"), "{}", stderr(&output));
    let bad = std::fs::read_to_string(folder.path().join("run/bad_files.jsonl")).expect("a list");
    assert_eq!(bad.lines().count(), 1, "{bad}");
    for entry in std::fs::read_dir(&test).expect("classes") {
        for file in std::fs::read_dir(entry.expect("an entry").path()).expect("pictures") {
            std::fs::write(file.expect("an entry").path(), "no picture").expect("writes");
        }
    }
    let output = timburn(&train(data.to_str().expect("UTF-8"), "run2", &one_epoch), folder.path());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn a_bad_recipe_is_refused_before_anything_starts() {
    let folder = folder();
    std::fs::write(folder.path().join("r.toml"), "[train]\nepochs = 3\nbatchsize = 2\n").expect("writes");
    let output = timburn(&["train", "r.toml", "--data", ".", "-o", "run"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("r.toml:3:1: unknown field `batchsize`") && stderr(&output).contains("did you mean `batch_size`"),
        "{}",
        stderr(&output)
    );
    std::fs::write(folder.path().join("r.toml"), "[train]\nepochs = 0\n").expect("writes");
    let output = timburn(&["train", "r.toml", "--data", ".", "-o", "run"], folder.path());
    assert!(stderr(&output).contains("r.toml:2:1: train.epochs = 0: expected 1 to 1000000"), "{}", stderr(&output));
    assert!(!folder.path().join("run").exists());
}

#[test]
fn every_shipped_recipe_is_valid() {
    let folder = folder();
    let output = timburn(&["train", "--list"], folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")).expect("recipes");
    let recipes = files.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let mut expected: Vec<String> = recipes.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    expected.sort();
    let listed = stdout(&output);
    let listed: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, expected);
}

#[test]
fn one_logit_trains_into_a_bundle_that_tells_two_classes_apart() {
    let folder = folder();
    let Some(data) = cifar(folder.path(), 20, 5) else { return };
    for split in ["train", "test"] {
        for class in std::fs::read_dir(data.join(split)).expect("classes").map(|entry| entry.expect("an entry").path()) {
            if !(class.ends_with("ship") || class.ends_with("frog")) {
                std::fs::remove_dir_all(class).expect("removes");
            }
        }
    }
    let data = data.to_str().expect("UTF-8");
    let one_logit = ["--set", "model.options.classes=1", "--set", "loss.name=binary_cross_entropy", "--set", "loss.class_weights=balanced"];
    let output = timburn(&train(data, "run", &one_logit), folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let picture = std::fs::read_dir(Path::new(data).join("test/ship")).expect("ships").next().expect("a ship").expect("an entry").path();
    let predicted = timburn(&["predict", picture.to_str().expect("UTF-8"), "--weights", "run/model.timburn", "--json"], folder.path());
    assert!(predicted.status.success(), "{}", stderr(&predicted));
    let answer: Value = serde_json::from_slice(&predicted.stdout).expect("JSON");
    let guesses = answer[0]["predictions"].as_array().expect("guesses");
    let scores: Vec<f64> = guesses.iter().map(|guess| guess["score"].as_f64().expect("a score")).collect();
    assert_eq!(scores.len(), 2);
    assert!((scores[0] + scores[1] - 1.0).abs() < 1e-6 && scores[0] >= scores[1], "{scores:?}");
    let mut labels: Vec<&str> = guesses.iter().map(|guess| guess["label"].as_str().expect("a label")).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["frog", "ship"]);
}
