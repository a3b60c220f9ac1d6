//! Draws every transform on a photograph and measures it: `cargo run --release -p timburn-data --example transforms -- sheet.png`
//!
//! Rows: one transform, eight draws. Times are per picture, of 32×32 and of 224×224 pixels, one thread.

use std::time::Instant;

use timburn_core::seed::Draws;
use timburn_data::{DecodeOptions, Pipeline, Rgb8Image, Transform, decode_bytes, resize, sample_photograph};

const TABLES: &str = r#"
"horizontal_flip" ; { "op": "rotate", "degrees": 40, "interpolation": "bilinear" }
{ "op": "random_crop", "size": 96, "padding": 24, "padding_mode": "reflect" } ; { "op": "random_resized_crop", "size": 96 }
{ "op": "affine", "degrees": 20, "shift": [0.2, 0.2], "scale": [0.7, 1.3], "shear": 20, "interpolation": "bicubic" }
{ "op": "keras_affine", "rotation": 40, "width_shift": 0.2, "height_shift": 0.2, "shear": 20, "zoom": 0.2 }
{ "op": "keras_affine", "rotation": 40, "width_shift": 0.3, "zoom": [1, 2], "fill_mode": "reflect" }
{ "op": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1 } ; { "op": "color_jitter", "hue": 0.5 }
{ "op": "grayscale", "p": 0.5 } ; { "op": "gaussian_blur", "kernel": 9 } ; "auto_contrast" ; "equalize" ; "invert"
{ "op": "posterize", "bits": 2 } ; { "op": "solarize" } ; { "op": "solarize_add", "amount": 110 }
{ "op": "sharpness", "factor": [0, 3], "p": 1 } ; { "op": "color", "factor": [0, 3], "p": 1 }
"rand_augment" ; { "op": "rand_augment", "set": "timm", "magnitude": 9, "magnitude_std": 0.5, "increasing": true }
"auto_augment" ; { "op": "auto_augment", "policy": "cifar10" } ; "trivial_augment_wide" ; "aug_mix"
{ "op": "random_erasing", "p": 1, "count": [1, 3] } ; { "op": "random_erasing", "p": 1, "value": "pixel" } ; { "op": "cutout", "size": 32 }
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let photograph = decode_bytes(sample_photograph(), "chelsea.jpg", &DecodeOptions::default())?;
    let source = |side| resize(&photograph, side, side, timburn_core::preprocessing::Interpolation::Bicubic);
    let (tiny, cell, large) = (source(32), source(96), source(224));
    let mut sheet = Rgb8Image { width: 8 * 96, height: 0, pixels: Vec::new() };
    for text in TABLES.split([';', '\n']).map(str::trim).filter(|text| !text.is_empty()) {
        let transform: Transform = serde_json::from_str(text)?;
        let pipeline = Pipeline::new(vec![transform])?;
        let row: Vec<Rgb8Image> = (0..8).map(|index| pipeline.apply(cell.clone(), &mut Draws::new(1, &[index]))).collect();
        for y in 0..96 {
            row.iter().for_each(|cell| sheet.pixels.extend_from_slice(&cell.pixels[y * 96 * 3..(y + 1) * 96 * 3]));
        }
        sheet.height += 96;
        println!("{:>9.1} µs {:>9.1} µs  {text}", micros(&pipeline, &tiny), micros(&pipeline, &large));
    }
    let cifar = Pipeline::new(timburn_data::transform::presets::cifar_train())?;
    println!("{:>9.1} µs               cifar_train", micros(&cifar, &tiny));
    if let Some(path) = std::env::args().nth(1) {
        image::save_buffer(&path, &sheet.pixels, sheet.width as u32, sheet.height as u32, image::ExtendedColorType::Rgb8)?;
        println!("{path}");
    }
    Ok(())
}

/// Of the fastest of 60 short runs over the same draws, so that other processes do not count, copying the source included.
fn micros(pipeline: &Pipeline, source: &Rgb8Image) -> f64 {
    let count = if source.width == 32 { 20 } else { 8 };
    let run = |_| {
        let start = Instant::now();
        (0..count).for_each(|index| drop(std::hint::black_box(pipeline.apply(source.clone(), &mut Draws::new(1, &[index])))));
        start.elapsed().as_secs_f64() * 1e6 / count as f64
    };
    (0..60).map(run).fold(f64::INFINITY, f64::min)
}
