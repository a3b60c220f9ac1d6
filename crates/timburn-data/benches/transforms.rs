//! Transforms of one picture: `cargo bench -p timburn-data --no-default-features --features sample --bench transforms`
//!
//! Every row works on 224×224 pixels of the sample photograph, on one thread, the copy of the picture included where an operation works in
//! place. The presets draw new parameters each time: `imagenet_train` starts from the decoded 451×300 pixels, the policies from 224×224.
//! Prints CPU, threads, size, n, and median, least and mean time per picture. `-- --rows` prints tab-separated rows instead, for
//! `benches/peers/transforms.py`, which times PIL and torchvision beside it.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::Instant;

use timburn_core::seed::Draws;
use timburn_data::transform::ops::{self, FillMode, KerasAffine, Sampling};
use timburn_data::transform::policy::{RandAugment, Set, TrivialAugmentWide};
use timburn_data::transform::presets;
use timburn_data::{DecodeOptions, Pipeline, Region, Rgb8Image, Transform, decode_bytes, sample_photograph};

const SIDE: usize = 224;
const REPEATS: usize = 201;
const FILL: [u8; 3] = [124, 116, 104];
/// timm's ShearX at level 7.
const SHEAR: [f64; 6] = [1.0, 0.21, 0.0, 0.0, 1.0, 0.0];
const KERAS: KerasAffine = KerasAffine { theta: 25.0, tx: 20.0, ty: -15.0, shear: 0.1, zx: 0.9, zy: 1.1 };

fn in_place(image: &Rgb8Image, op: impl Fn(&mut Rgb8Image)) -> Rgb8Image {
    let mut image = image.clone();
    op(&mut image);
    image
}

fn main() {
    let rows = std::env::args().any(|argument| argument == "--rows");
    let whole = decode_bytes(sample_photograph(), "chelsea.jpg", &DecodeOptions::default()).unwrap();
    let part = whole.crop(Region { left: 100, top: 40, width: SIDE, height: SIDE });
    if !rows {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("unknown", |(_, name)| name.trim());
        println!("CPU {cpu}, threads=1, {SIDE}x{SIDE}, n={REPEATS}; milliseconds per picture");
        println!("{:<28} {:>8} {:>8} {:>8}", "operation", "median", "min", "mean");
    }
    let show = |name: &str, run: &mut dyn FnMut(u64) -> Rgb8Image| {
        let mut times: Vec<f64> = (0..REPEATS as u64)
            .map(|repeat| {
                let start = Instant::now();
                std::hint::black_box(run(repeat));
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let (median, least, mean) = (times[REPEATS / 2], times[0], times.iter().sum::<f64>() / REPEATS as f64);
        if rows {
            println!("{name}\t{median}\t{least}\t{mean}");
        } else {
            println!("{name:<28} {median:>8.3} {least:>8.3} {mean:>8.3}");
        }
    };
    for (name, sampling) in [("nearest", Sampling::Nearest), ("bilinear", Sampling::Bilinear), ("bicubic", Sampling::Bicubic)] {
        show(&format!("rotate {name}"), &mut |_| ops::rotate(&part, 25.0, sampling, FILL));
        show(&format!("affine {name}"), &mut |_| ops::affine(&part, 10.0, (12.0, -7.0), 1.1, (5.0, 3.0), sampling, FILL));
        show(&format!("shear {name}"), &mut |_| ops::warp(&part, SHEAR, sampling, FILL));
    }
    show("keras affine nearest", &mut |_| ops::keras_affine(&part, KERAS, FillMode::Nearest, FILL));
    show("keras affine reflect", &mut |_| ops::keras_affine(&part, KERAS, FillMode::Reflect, FILL));
    show("brightness", &mut |_| in_place(&part, |image| ops::adjust_brightness(image, 1.3)));
    show("contrast", &mut |_| in_place(&part, |image| ops::adjust_contrast(image, 1.3)));
    show("saturation", &mut |_| in_place(&part, |image| ops::adjust_saturation(image, 1.3)));
    show("hue", &mut |_| in_place(&part, |image| ops::adjust_hue(image, 0.1)));
    show("sharpness", &mut |_| in_place(&part, |image| ops::adjust_sharpness(image, 1.3)));
    show("grayscale", &mut |_| in_place(&part, ops::grayscale));
    show("autocontrast", &mut |_| in_place(&part, ops::autocontrast));
    show("equalize", &mut |_| in_place(&part, ops::equalize));
    show("solarize", &mut |_| in_place(&part, |image| ops::solarize(image, 128.0)));
    show("posterize", &mut |_| in_place(&part, |image| ops::posterize(image, 4)));
    show("horizontal flip", &mut |_| in_place(&part, ops::horizontal_flip));
    show("gaussian blur 23", &mut |_| in_place(&part, |image| ops::gaussian_blur(image, 23, 1.5)));
    let timm = RandAugment { set: Set::Timm, magnitude: 7.0, magnitude_std: 0.5, increasing: true, ..RandAugment::default() };
    for (name, image, steps) in [
        ("imagenet_train", &whole, presets::imagenet_train(SIDE)),
        ("rand_augment timm m7", &part, vec![Transform::RandAugment(timm)]),
        ("trivial_augment_wide", &part, vec![Transform::TrivialAugmentWide(TrivialAugmentWide::default())]),
    ] {
        let pipeline = Pipeline::new(steps).unwrap();
        show(name, &mut |repeat| pipeline.apply(image.clone(), &mut Draws::new(1, &[repeat])));
    }
}
