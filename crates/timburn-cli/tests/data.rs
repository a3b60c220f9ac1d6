//! `timburn data …`, as a person or a script runs it, on real pictures.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::{cifar, folder, stderr, stdout, timburn};
use serde_json::Value;

const CAT: &[u8] = include_bytes!("../../timburn-data/assets/chelsea.jpg");

#[test]
fn inspect_counts_finds_the_bad_and_the_equal_and_draws() {
    let folder = folder();
    for (name, bytes) in [("a/1.jpg", CAT), ("a/2.jpg", &CAT[..CAT.len() / 2]), ("b/3.jpg", CAT), ("b/.hidden.jpg", CAT)] {
        let path = folder.path().join("set").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("writes");
    }
    let output = timburn(&["data", "inspect", "set", "--sheet", "sheet.png"], folder.path());
    assert_eq!(output.status.code(), Some(3), "a bad file: {}", stderr(&output));
    let text = stdout(&output);
    for expected in [
        "train: 3 pictures, 2 classes",
        "JPEG RGB 3",
        "451 to 451",
        "bad files   1",
        "2.jpg: truncated JPEG",
        "in 1 the labels differ",
        "a/1.jpg = b/3.jpg",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let sheet = std::fs::read(folder.path().join("sheet.png")).expect("a sheet");
    assert!(sheet.starts_with(b"\x89PNG"));

    let output = timburn(&["data", "inspect", "set", "--json"], folder.path());
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["train"]["classes"][0]["samples"], 2);
    assert_eq!(found["train"]["bad"].as_array().expect("a list").len(), 1);
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn pictures_in_two_parts_are_found() {
    let folder = folder();
    let photograph = include_bytes!("../../timburn-data/assets/chelsea.jpg");
    for (name, copies) in [("train/a/1.jpg", 0), ("train/b/2.jpg", 1), ("train/b/3.jpg", 2), ("test/a/4.jpg", 3), ("test/b/5.jpg", 1)] {
        let path = folder.path().join("set").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        // What follows the end of the picture is part of the file.
        let bytes = [&photograph[..], &vec![0; copies]].concat();
        std::fs::write(path, bytes).expect("writes");
    }
    let output = timburn(&["data", "inspect", "set"], folder.path());
    let text = stdout(&output);
    assert!(text.contains("in train and test: 1 of the test's 2 pictures") && text.contains("train/b/2.jpg = test/b/5.jpg"), "{text}");
    let output = timburn(&["data", "inspect", "set", "--json"], folder.path());
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["shared"][0]["pairs"], serde_json::json!([["train/b/2.jpg", "test/b/5.jpg"]]));
    // Whoever trains on it is told too.
    let output = timburn(&["finetune", "set", "--head-only", "--validation", "0.4", "-o", "out"], folder.path());
    assert!(output.status.success());
    assert!(stderr(&output).contains("1 of the 2 test pictures are training pictures too"), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 of them are training pictures too"), "{} {}", stdout(&output), stderr(&output));
}

#[test]
fn what_is_no_data_set_says_what_would_be() {
    let folder = folder();
    std::fs::write(folder.path().join("notes.txt"), "no pictures").expect("writes");
    let output = timburn(&["data", "inspect", "."], folder.path());
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    assert!(text.contains("class folders") && text.contains("CIFAR") && text.contains("WebDataset"), "{text}");
    let output = timburn(&["data", "inspect", "nowhere"], folder.path());
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));
}

#[test]
fn a_packed_set_is_the_set() {
    let folder = folder();
    let Some(set) = cifar(folder.path(), 12, 5) else { return };
    let set = set.to_str().expect("UTF-8");
    let dry = timburn(&["data", "pack", set, "packed", "--dry-run"], folder.path());
    assert!(stdout(&dry).contains("packed/train.pack: 120 pictures") && !folder.path().join("packed").exists(), "{}", stdout(&dry));
    let dry = timburn(&["data", "pack", set, "packed", "--dry-run", "--json"], folder.path());
    let planned: Value = serde_json::from_slice(&dry.stdout).expect("JSON");
    let output = timburn(&["data", "pack", set, "packed", "--json", "--quiet"], folder.path());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let written: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&written[0]["pictures"], &planned[0]["pictures"]), (&120.into(), &120.into()));
    let bytes = |value: &Value, key: &str| value[0][key].as_f64().expect("bytes");
    let (planned, written) = (bytes(&planned, "estimated_bytes"), bytes(&written, "bytes"));
    assert!((planned / written - 1.0).abs() < 0.1, "{planned} {written}");
    let inspect = |path: &str| -> Value {
        let output = timburn(&["data", "inspect", path, "--json"], folder.path());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let (files, packed) = (inspect(set), inspect("packed"));
    for part in ["train", "test"] {
        for key in ["samples", "classes", "mean", "std", "width"] {
            assert_eq!(files[part][key], packed[part][key], "{part} {key}");
        }
    }
    assert_eq!(packed["train"]["formats"]["pixels"], 120);

    // A set without a test part would inherit this one's.
    let train = format!("{set}/train");
    let refused = timburn(&["data", "pack", &train, "packed"], folder.path());
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("test.pack"), "{}", stderr(&refused));
}

#[test]
fn preview_draws_a_recipes_augmentations() {
    let folder = folder();
    let output = timburn(&["data", "preview", "--preset", "keras_generator", "--count", "3", "-o", "p.png"], folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let first = std::fs::read(folder.path().join("p.png")).expect("a picture");
    timburn(&["data", "preview", "--preset", "keras_generator", "--count", "3", "-o", "p.png"], folder.path());
    assert_eq!(std::fs::read(folder.path().join("p.png")).expect("a picture"), first, "the same seed, the same picture");
    for name in ["p.jpg", "."] {
        let refused = timburn(&["data", "preview", "-o", name], folder.path());
        assert_eq!(refused.status.code(), Some(2), "{name}");
    }
    let output = timburn(&["data", "preview", "--count", "2", "--seed", "7", "--json"], folder.path());
    let drawn: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(drawn, serde_json::json!({ "file": "preview.png", "augmentations": "imagenet_train", "count": 2, "seed": 7 }));
    let output = timburn(&["data", "preview", "--preset", "rbs_a1"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `rsb_a1`"), "{}", stderr(&output));
}

#[test]
fn fetch_offline_says_where_to_put_the_file() {
    let folder = folder();
    let output = timburn(&["data", "fetch", "cifar10"], folder.path());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("cifar-10-binary.tar.gz") && text.contains("put it at") && text.contains("HF_HUB_OFFLINE"), "{text}");
}
