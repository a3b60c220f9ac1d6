//! Latency of a prediction: `cargo bench --bench predict`
//!
//! Prints device, threads, sizes, n, median, minimum and maximum. Whole predictions start from JPEG bytes; forward passes from a tensor,
//! the inference graph's (CPU only) from plain values. Only lines that contain one of the arguments run;
//! `benches/peers/predict.py` runs this and its peers by turns.

use std::time::Instant;

use timburn::burn::tensor::Tensor;
use timburn::{ImageModel, ModelOptions, Predictor, create, open_device};
#[cfg(feature = "flex")]
use timburn_infer::Graph;

/// Times `work` until a second and a half or fifty runs have passed, after two runs that are not counted.
fn measure(what: &str, mut work: impl FnMut()) {
    let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if wanted.peek().is_some() && !wanted.any(|part| what.contains(&part)) {
        return;
    }
    for _ in 0..2 {
        work();
    }
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (times.len() < 50 && begin.elapsed().as_secs_f64() < 1.5) {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let n = times.len();
    println!("{what:46} n={n:3}  median {:8.2} ms  min {:8.2}  max {:8.2}", times[n / 2], times[0], times[n - 1]);
}

fn main() -> timburn::Result<()> {
    // `cargo test` runs benches too, with `--test`: there is nothing to test here.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let name = std::env::var("TIMBURN_DEVICE").unwrap_or_else(|_| "auto".into());
    let device = open_device(&name)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("device {device:?}, {threads} threads, f32");

    let predictor = Predictor::embedded(&device)?;
    let photograph = timburn::sample_photograph();
    measure("efficientnet_lite0  JPEG 451x300 to labels", || {
        let _ = predictor.classify_bytes(photograph, "sample");
    });
    for (architecture, batches) in [("efficientnet_lite0", [1, 8]), ("resnet18", [1, 8]), ("resnet50", [1, 8])] {
        let model = create(architecture, &ModelOptions::default(), &device)?;
        for batch in batches {
            let images = Tensor::<4>::zeros([batch, 3, 224, 224], &device);
            // Reading the result waits for the device.
            measure(&format!("{architecture:18}  forward {batch}x3x224x224"), || drop(model.forward(images.clone()).into_data()));
            #[cfg(feature = "flex")]
            if device == timburn::burn::tensor::Device::flex() {
                let (graph, images) = (Graph::compile(&model)?, vec![0.5; batch * 3 * 224 * 224]);
                let shape = [batch, 3, 224, 224];
                measure(&format!("{architecture:18}  graph   {batch}x3x224x224"), || drop(graph.run(&images, shape)));
            }
        }
    }
    Ok(())
}
