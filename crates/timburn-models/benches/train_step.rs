//! Time of a training step and of a forward pass: `cargo bench -p timburn-models --bench train_step [-- NAME]`
//!
//! A step is forward, cross-entropy, backward and a plain SGD update. Prints device, threads, sizes, n, median, minimum and maximum;
//! `benches/peers/train_step.py` prints the same lines for PyTorch. Only lines that contain NAME run. `TIMBURN_DEVICE` names the device.
//!
//! glibc returns large buffers to the system when they are freed and pays for every page again in the next step. With
//! `MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592` it keeps them: faster steps, at the price of memory that stays.
#![allow(clippy::expect_used, reason = "a benchmark stops at the first failure")]

use std::hint::black_box;
use std::time::Instant;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Distribution, Gradients, Int, Tensor};
use timburn_models::{ImageModel, Model, ModelOptions, create};

/// Architecture, batch, height and width, classes.
const TRAINING: [(&str, usize, usize, usize); 5] = [
    ("resnet20", 128, 32, 10),
    ("resnet50", 64, 32, 10),
    ("resnet18", 8, 224, 1000),
    ("resnet50", 8, 224, 1000),
    ("efficientnet_lite0", 8, 224, 1000),
];
/// Architecture, batch; 224 by 224.
const INFERENCE: [(&str, usize); 4] = [("resnet50", 1), ("resnet50", 8), ("efficientnet_lite0", 1), ("efficientnet_lite0", 8)];

/// Seconds each line is measured for, and at least this many times.
const SECONDS: f64 = 4.0;
const RUNS: usize = 3;

struct Sgd {
    gradients: Gradients,
    rate: f64,
}

impl ModuleMapper for Sgd {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = param.val().grad_remove(&mut self.gradients) else { return param };
        param.map(|value| Tensor::from_inner(value.inner() - gradient * self.rate).require_grad())
    }
}

fn step(model: Model, images: Tensor<4>, labels: Tensor<2, Int>) -> Model {
    let loss = log_softmax(model.forward(images), 1).gather(1, labels).mean().neg();
    let gradients = loss.backward();
    let model = model.map(&mut Sgd { gradients, rate: 1e-3 });
    // Reading waits for the device.
    black_box(loss.into_data());
    model
}

fn report(line: &str, images: usize, mut work: impl FnMut()) {
    if std::env::args().skip(1).any(|argument| !argument.starts_with('-') && !line.contains(&argument)) {
        return;
    }
    work();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < RUNS || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (n, median) = (times.len(), times[times.len() / 2]);
    let rate = images as f64 / times[0] * 1e3;
    println!("{line:34} n={n:3}  median {median:8.1} ms  min {:8.1}  max {:8.1}  best {rate:7.1} images/s", times[0], times[n - 1]);
}

fn main() {
    // `cargo test` runs benches too, with `--test`: there is nothing to test here.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let name = std::env::var("TIMBURN_DEVICE").unwrap_or_else(|_| "auto".into());
    let device = timburn_core::open_device(&name).expect("TIMBURN_DEVICE");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("timburn, device {device:?}, {threads} threads, f32");

    for (name, batch, size, classes) in TRAINING {
        let training: Device = device.clone().autodiff();
        let model = create(name, &ModelOptions::classes(classes), &training).expect(name);
        let images = Tensor::<4>::random([batch, 3, size, size], Distribution::Normal(0.0, 1.0), &training);
        let labels = Tensor::<2, Int>::zeros([batch, 1], &training);
        let mut model = Some(model);
        report(&format!("{name} train {batch}x3x{size}x{size}"), batch, || {
            model = model.take().map(|model| step(model, images.clone(), labels.clone()));
        });
    }
    for (name, batch) in INFERENCE {
        let model = create(name, &ModelOptions::default(), &device).expect(name);
        let images = Tensor::<4>::random([batch, 3, 224, 224], Distribution::Normal(0.0, 1.0), &device);
        report(&format!("{name} infer {batch}x3x224x224"), batch, || {
            black_box(model.forward(images.clone()).into_data());
        });
    }
}
