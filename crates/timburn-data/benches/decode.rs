//! Photographs to network input: `TIMBURN_DATA=DIR cargo bench -p timburn-data --bench decode`
//!
//! The 500 photographs of `imagenet-sample.tar`, held in memory: decoding alone; decode, shorter side 256 (bicubic), centre crop 224, normalise;
//! decode, RandomResizedCrop 224 (bilinear), flip, normalise, from the whole picture and from the decoded region. Prints CPU, threads, n, and
//! over the repeats: images per second, median (min-max), and CPU time per image, the least of the repeats: what other programs on the machine
//! disturb least. `-- --rows [REPEATS]` prints tab-separated rows instead, for `benches/peers/compare.py`, which runs the peers beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "peers/src/harness.rs"]
mod harness;

use std::sync::OnceLock;

use harness::{Step, normalize};
use timburn_core::preprocessing::{Interpolation, Preprocessing};
use timburn_core::seed::Draws;
use timburn_data::transform::presets;
use timburn_data::{Content, DecodeOptions, Pipeline, Prepare, decode_bytes, prepare, recycle};

const OPTIONS: DecodeOptions = DecodeOptions { max_pixels: 64_000_000, apply_orientation: false, background: [255; 3], min_size: None };

fn decode_only(_: usize, bytes: &[u8], _: &mut [f32]) {
    recycle(std::hint::black_box(decode_bytes(bytes, "photograph", &OPTIONS).unwrap()));
}

fn evaluation(_: usize, bytes: &[u8], out: &mut [f32]) {
    let spec = Preprocessing { interpolation: Interpolation::Bicubic, ..Preprocessing::torchvision(224, 256) };
    let image = decode_bytes(bytes, "photograph", &OPTIONS).unwrap();
    normalize(&prepare(&image, &spec).pixels, 224, false, out);
    recycle(image);
}

fn training_whole(index: usize, bytes: &[u8], out: &mut [f32]) {
    let image = decode_bytes(bytes, "photograph", &OPTIONS).unwrap();
    normalize(&pipeline().apply(image, &mut draws(index)).pixels, 224, false, out);
}

fn training_region(index: usize, bytes: &[u8], out: &mut [f32]) {
    prepare_with(OPTIONS, index, bytes, out);
}

fn training_scaled(index: usize, bytes: &[u8], out: &mut [f32]) {
    prepare_with(DecodeOptions { min_size: Some((224, 224)), ..OPTIONS }, index, bytes, out);
}

/// As the loader does it.
fn prepare_with(options: DecodeOptions, index: usize, bytes: &[u8], out: &mut [f32]) {
    let image = pipeline().prepare(Content::Encoded(bytes.to_vec()), "photograph", &options, &mut draws(index)).unwrap();
    normalize(&image.pixels, 224, false, out);
}

fn pipeline() -> &'static Pipeline {
    static PIPELINE: OnceLock<Pipeline> = OnceLock::new();
    PIPELINE.get_or_init(|| Pipeline::new(presets::imagenet_train(224)).unwrap())
}

fn draws(index: usize) -> Draws {
    Draws::new(1, &[0, index as u64])
}

fn main() {
    let files: Vec<_> = common::photographs(usize::MAX).into_iter().map(|(_, bytes)| bytes).collect();
    let steps: [(&str, &str, Step); 5] = [
        ("decode", "timburn", decode_only),
        ("evaluation", "timburn", evaluation),
        ("training", "timburn, whole", training_whole),
        ("training", "timburn, region", training_region),
        ("training", "timburn, region, scaled", training_scaled),
    ];
    harness::run(&files, &steps);
}
