//! Files that torchvision wrote, in every container, at full size. Slow and large, so only on demand:
//!
//! ```text
//! python parity/full_size.py DIR
//! TIMBURN_FULL_SIZE=DIR cargo test --release --test full_size -- --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "../crates/timburn-models/tests/common/mod.rs"]
mod formula;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use timburn::models::load_state_dict;
use timburn::weights::{Precision, read_weights, write_safetensors};
use timburn::{ImageModel, ModelOptions, create, open_device};

#[test]
fn torchvision_files_give_torchvision_logits() {
    let Some(folder) = std::env::var_os("TIMBURN_FULL_SIZE").map(PathBuf::from) else {
        formula::skipped("TIMBURN_FULL_SIZE names no folder written by parity/full_size.py");
        return;
    };
    let golden: Value = serde_json::from_reader(std::fs::File::open(folder.join("full_size.json")).expect("full_size.json")).expect("JSON");
    let device = open_device("flex").expect("flex");
    for (name, row) in golden.as_object().expect("an object").iter().filter(|(name, _)| *name != "input") {
        let architecture = row["file"].as_str().expect("a file").split_once(".").expect("an extension").0;
        let architecture = architecture.trim_end_matches("_legacy").trim_end_matches("_f16");
        let model = create(architecture, &ModelOptions::default(), &device).expect("a model of timburn's");
        let start = Instant::now();
        let weights = read_weights(folder.join(row["file"].as_str().expect("a file"))).expect("reads");
        let model = load_state_dict(&model, &weights).expect("fits");
        let seconds = start.elapsed().as_secs_f64();
        let logits = model.forward(formula::images("input", [2, 3, 224, 224], &device));
        let found: Vec<f32> = logits.into_data().convert::<f32>().try_to_vec().expect("f32");
        let expected: Vec<f64> =
            row["logits"]["samples"].as_array().expect("samples").iter().map(|x| x.as_f64().expect("a number")).collect();
        let scale = expected.iter().fold(0f64, |scale, x| scale.max(x.abs()));
        let picked = (0..expected.len()).map(|k| f64::from(found[k * found.len() / expected.len()]));
        let error = picked.zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / scale;
        println!("{name:24} read in {seconds:.2} s, logits within {error:.1e} of PyTorch's");
        assert!(error < 1e-5, "{name}: {error}");
        for (image, row_top5) in row["top5"].as_array().expect("top-5").iter().enumerate() {
            let row = &found[image * 1000..][..1000];
            let mut order: Vec<usize> = (0..1000).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let expected: Vec<usize> = row_top5.as_array().expect("five").iter().map(|x| x.as_u64().expect("an index") as usize).collect();
            assert_eq!(order[..5], expected[..], "{name}: top-5 of image {image}");
        }
        if name == "resnet50" {
            // For parity/check_saved.py: PyTorch must load it with strict=True.
            let saved = folder.join("resnet50_by_timburn.safetensors");
            write_safetensors(&timburn::models::state_dict(&model), &saved, Precision::F32, &Default::default()).expect("writes");
        }
    }
}
