//! Batches of augmented 32×32 pictures from the packed form: `cargo bench -p timburn-data --bench cifar_batches`
//!
//! 50,000 pictures (pixels of a formula, the sizes of CIFAR-10), shuffled, padded by 4 and cropped at random, flipped with chance 1/2 (the preset
//! `cifar_train`), in batches of 128. Prints threads, n, median, minimum and maximum of whole epochs, after one that is not counted.
#![allow(clippy::expect_used, reason = "a benchmark has nobody to report to")]

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use timburn_core::{Classes, Preprocessing, Result};
use timburn_data::loader::Normalization;
use timburn_data::packed::PackOptions;
use timburn_data::transform::presets;
use timburn_data::{Batch, Content, Dataset, DynDataset, Loader, LoaderOptions, Packed, Pipeline, Rgb8Image};

const SIDE: usize = 32;
const EPOCHS: usize = 7;

struct Formula(Classes);

impl Dataset for Formula {
    fn classes(&self) -> &Classes {
        &self.0
    }
    fn len(&self) -> usize {
        50_000
    }
    fn label(&self, index: usize) -> usize {
        index % 10
    }
    fn name(&self, index: usize) -> String {
        format!("picture {index}")
    }
    fn read(&self, index: usize) -> Result<Content> {
        let pixels = (0..SIDE * SIDE * 3).map(|i| ((i * 31 + index * 17) >> 3) as u8).collect();
        Ok(Content::Pixels(Rgb8Image { width: SIDE, height: SIDE, pixels }))
    }
}

fn main() {
    // `cargo test` runs benches too, with `--test`: there is nothing to test here.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cifar.pack");
    let dataset: DynDataset = Arc::new(Formula(Classes::cifar10()));
    let report = Packed::write(&dataset, &PackOptions::default(), &path, |_, _| {}).expect("packed");
    let packed: DynDataset = Arc::new(Packed::open(&path).expect("the file just written"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{} pictures of {SIDE}x{SIDE} in {} bytes, batches of 128, {cores} cores", report.written, report.bytes);
    let normalization = Normalization::from(&Preprocessing::cifar10());
    let device = Device::flex();
    let augment = Arc::new(Pipeline::new(presets::cifar_train()).expect("valid transforms"));
    for workers in [1, 2] {
        let options = LoaderOptions { batch_size: 128, workers, seed: 1, ..LoaderOptions::default() };
        let loader = Loader::new(packed.clone(), augment.clone(), options).expect("valid options");
        measure(&format!("{workers} threads, u8 batches"), &loader, |batch| drop(std::hint::black_box(batch)));
        measure(&format!("{workers} threads, normalised on flex"), &loader, |batch| {
            std::hint::black_box((batch.images(&normalization, &device).expect("a full batch"), batch.targets(&device)));
        });
    }
}

fn measure(what: &str, loader: &Loader, mut consume: impl FnMut(Batch)) {
    let mut rates = Vec::new();
    for epoch in 0..=EPOCHS as u64 {
        let start = Instant::now();
        let mut pictures = 0;
        for batch in loader.epoch(epoch) {
            let batch = batch.expect("a readable file");
            pictures += batch.len();
            consume(batch);
        }
        if epoch > 0 {
            rates.push(pictures as f64 / start.elapsed().as_secs_f64());
        }
    }
    rates.sort_by(f64::total_cmp);
    println!("{what:32} n={EPOCHS}  median {:9.0} pictures/s  min {:9.0}  max {:9.0}", rates[EPOCHS / 2], rates[0], rates[EPOCHS - 1]);
}
