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

use harness::{Step, normalize, random_resized_crop};
use timburn_core::preprocessing::{Interpolation, Preprocessing};
use timburn_core::seed::Draws;
use timburn_data::{DecodeOptions, Region, Rgb8Image, decode_bytes, decode_region, prepare, recycle, resize};

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
    let mut draws = Draws::new(1, &[0, index as u64]);
    let image = decode_bytes(bytes, "photograph", &OPTIONS).unwrap();
    let region = crop(&mut draws, image.width, image.height);
    finish(image.crop(region), &mut draws, out);
    recycle(image);
}

fn training_region(index: usize, bytes: &[u8], out: &mut [f32]) {
    let mut draws = Draws::new(1, &[0, index as u64]);
    let part = decode_region(bytes, "photograph", &OPTIONS, |width, height| crop(&mut draws, width, height)).unwrap();
    finish(part.image, &mut draws, out);
}

fn training_scaled(index: usize, bytes: &[u8], out: &mut [f32]) {
    let mut draws = Draws::new(1, &[0, index as u64]);
    let options = DecodeOptions { min_size: Some((224, 224)), ..OPTIONS };
    let part = decode_region(bytes, "photograph", &options, |width, height| crop(&mut draws, width, height)).unwrap();
    finish(part.image, &mut draws, out);
}

fn crop(draws: &mut Draws, width: usize, height: usize) -> Region {
    let [left, top, width, height] = random_resized_crop(|| draws.unit(), width, height);
    Region { left, top, width, height }
}

fn finish(image: Rgb8Image, draws: &mut Draws, out: &mut [f32]) {
    let resized = resize(&image, 224, 224, Interpolation::Bilinear);
    normalize(&resized.pixels, 224, draws.chance(0.5), out);
    recycle(image);
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
