//! Latency of a prediction: `cargo bench --bench predict`
//!
//! Prints device, threads, sizes, n, median, minimum and maximum. Whole predictions start from JPEG bytes; forward passes from a tensor,
//! the inference graph's (CPU only) from plain values. Only lines that contain one of the arguments run;
//! `benches/peers/predict.py` runs this and its peers by turns.

use std::time::Instant;

use timburn::burn::tensor::Tensor;
use timburn::{ImageModel, ModelOptions, Predictor, create, open_device};
#[cfg(feature = "flex")]
use timburn_infer::{Graph, GraphOptions, Precision};

/// Times `work` until a second and a half or fifty runs have passed, after two runs that are not counted.
fn measure(what: &str, mut work: impl FnMut()) {
    if !wanted(what) {
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

/// With `TIMBURN_LAYERS` set, where the time goes: milliseconds and thousand million operations a second.
#[cfg(feature = "flex")]
fn layers(what: &str, graph: &Graph, shape: [usize; 4]) -> timburn::Result<()> {
    if std::env::var_os("TIMBURN_LAYERS").is_none() || !wanted(what) {
        return Ok(());
    }
    for layer in graph.profile(shape, 20)? {
        let seconds = layer.time.as_secs_f64();
        println!("  {:78} {:7.3} ms {:6.0} GFLOP/s", layer.name, 1e3 * seconds, layer.operations as f64 / 1e9 / seconds);
    }
    Ok(())
}

/// Whether the command line asks for a line.
fn wanted(what: &str) -> bool {
    let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    wanted.peek().is_none() || wanted.any(|part| what.contains(&part))
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
                let (images, shape) = (vec![0.5; batch * 3 * 224 * 224], [batch, 3, 224, 224]);
                for (precision, what) in [(Precision::F32, "graph  "), (Precision::Bf16, "bf16   ")] {
                    if precision.is_supported() {
                        let graph = Graph::compile_with(&model, GraphOptions { precision })?;
                        let what = format!("{architecture:18}  {what} {batch}x3x224x224");
                        measure(&what, || drop(graph.run(&images, shape)));
                        layers(&what, &graph, shape)?;
                    }
                }
            }
        }
    }
    Ok(())
}
