//! dev
use std::time::Instant;
use timburn_core::preprocessing::{Interpolation, Preprocessing};
use timburn_data::{DecodeOptions, decode_bytes, prepare};
#[path = "../tests/common/mod.rs"]
mod common;
fn best(what: &str, repeats: usize, n: usize, mut work: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..repeats {
        let s = Instant::now();
        work();
        best = best.min(s.elapsed().as_secs_f64());
    }
    println!("{what:30} {:8.3} ms/img  {:8.1} img/s", best * 1e3 / n as f64, n as f64 / best);
}
fn main() {
    let files = common::photographs(usize::MAX);
    let n = files.len();
    let repeats = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
    let spec = Preprocessing { interpolation: Interpolation::Bicubic, ..Preprocessing::torchvision(224, 256) };
    let bil = Preprocessing { interpolation: Interpolation::Bilinear, ..spec.clone() };
    best("decode", repeats, n, || {
        for (name, bytes) in &files {
            std::hint::black_box(decode_bytes(bytes, name, &options).unwrap());
        }
    });
    let images: Vec<_> = files.iter().map(|(n, b)| decode_bytes(b, n, &options).unwrap()).collect();
    best("prepare bicubic", repeats, n, || {
        for i in &images {
            std::hint::black_box(prepare(i, &spec));
        }
    });
    best("prepare bilinear", repeats, n, || {
        for i in &images {
            std::hint::black_box(prepare(i, &bil));
        }
    });
    let px: usize = images.iter().map(|i| i.width * i.height).sum();
    let by: usize = files.iter().map(|i| i.1.len()).sum();
    println!("avg px {} bytes {}", px / n, by / n);
}
