//! A data set of MNIST's format, made on the spot, and a run on it that takes a second or two.

use std::path::{Path, PathBuf};

/// Writes `train` and `test` pictures of ten classes, 16 pixels high and wide, as IDX files to `folder/digits`.
pub(crate) fn digits(folder: &Path, train: usize, test: usize) -> PathBuf {
    let path = folder.join("digits");
    std::fs::create_dir_all(&path).expect("a folder");
    for (part, count) in [("train", train), ("t10k", test)] {
        let sides = [count as u32, 16, 16].map(u32::to_be_bytes).concat();
        let pixels = (0..count * 256).map(|i| {
            let (sample, pixel) = (i / 256, i % 256);
            // Class k has a bright band at rows k to k + 5, over noise.
            let bright = (sample % 10..sample % 10 + 6).contains(&(pixel / 16));
            (timburn_core::seed::derive(count as u64, &[i as u64]) % 90) as u8 + if bright { 150 } else { 0 }
        });
        let images: Vec<u8> = [0, 0, 8, 3].into_iter().chain(sides).chain(pixels).collect();
        let labels: Vec<u8> =
            [0, 0, 8, 1].into_iter().chain((count as u32).to_be_bytes()).chain((0..count).map(|sample| (sample % 10) as u8)).collect();
        std::fs::write(path.join(format!("{part}-images-idx3-ubyte")), images).expect("writes");
        std::fs::write(path.join(format!("{part}-labels-idx1-ubyte")), labels).expect("writes");
    }
    path
}

/// Settings that make `cifar10-resnet20` a run on small digits: batches of 8, everything on 16 pixels.
pub(crate) const SMALL: [&str; 12] = [
    "--set",
    "train.batch_size=8",
    "--set",
    "evaluation.batch_size=8",
    "--set",
    "augment.train.0.size=16",
    "--set",
    "augment.evaluation.0.size=16",
    "--set",
    "augment.evaluation.1.size=16",
    "--set",
    "loader.workers=2",
];

/// Arguments of `timburn train cifar10-resnet20` on `digits` into the folder `output`.
pub(crate) fn train<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "cifar10-resnet20", "--data", "digits", "-o", output, "--quiet"], &SMALL[..], more].concat()
}
