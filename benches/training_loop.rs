//! What the training loop costs beside the training: `cargo bench --bench training_loop`
//!
//! ResNet-20, batches of 128 CIFAR-10 pictures from JPEG files. Epochs of the real loop (loader, augmentation, events, run folder) alternate
//! with as many bare steps (forward, backward, optimizer) on pictures that are tensors already; then the memory of a process that goes on
//! training. Needs the data that the README names.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use timburn::burn::tensor::{Device, Tensor};
use timburn::train::loss::Targets;
use timburn::train::run::{Environment, Overwrite};
use timburn::train::trainer::{EpochEvent, StepEvent};
use timburn::train::{Learner, Observer, Recorder, RunFolder};
use timburn::{Dataset, ModelOptions, Recipe, Splits, TrainData, Trainer, create, open_device};
use timburn_infer::timing::{Timing, resident_memory};

const STEPS: usize = 40;
const BATCH: usize = 128;
const ROUNDS: usize = 6;
const MEMORY_EPOCHS: u64 = 12;

fn main() -> timburn::Result<()> {
    // `cargo test` runs benches too, with `--test`: there is nothing to test here.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let data = std::env::var_os("TIMBURN_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let archive = data.join("cifar10-jpeg.tar.gz");
    if !archive.exists() {
        println!("skipped: {} is not there (TIMBURN_DATA names the folder of the data)", archive.display());
        return Ok(());
    }
    let device = open_device(&std::env::var("TIMBURN_DEVICE").unwrap_or_else(|_| "auto".into()))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("device {device:?}, {threads} threads, resnet20, batches of {BATCH} JPEG files of 32x32 pixels, f32");
    let splits = timburn::data::open(&archive)?;
    let train = std::sync::Arc::new(splits.train.per_class(STEPS * BATCH / 10, 0));
    let test = std::sync::Arc::new(train.clone().take(100));
    let splits = || Splits { train: train.clone(), validation: Some(test.clone()), test: None };

    let (mut whole, mut waited, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let steps = epochs(&device, splits(), 1, round)?.steps;
        // The first steps warm caches up.
        whole.extend(steps.iter().skip(2).map(|step| ms(step.0)));
        waited.extend(steps.iter().skip(2).map(|step| ms(step.1)));
        bare.extend(bare_steps(&device)?.into_iter().skip(2).map(ms));
    }
    let wait = waited.iter().sum::<f64>() / whole.iter().sum::<f64>();
    let (whole, bare) = (Timing::new(whole), Timing::new(bare).median());
    let step = whole.median();
    let net = step * (1.0 - wait);
    println!("step of the loop                 median {step:7.1} ms  (n={}, {:.1} to {:.1})", whole.runs(), whole.min(), whole.max());
    println!("forward, backward, optimizer     median {bare:7.1} ms  (alternating with it)");
    println!("waiting for data                 {:6.2} %  of the time", 100.0 * wait);
    println!("the loop itself                  {:6.2} %  of a step, waiting apart", 100.0 * (net - bare) / net);

    let memory = epochs(&device, splits(), MEMORY_EPOCHS, ROUNDS)?.memory;
    let text: Vec<String> = memory.iter().map(|bytes| format!("{:.0}", *bytes as f64 / 1048576.0)).collect();
    println!("resident memory after each epoch {} MB", text.join(" "));
    Ok(())
}

/// What an observer saw.
#[derive(Default)]
struct Watch {
    steps: Vec<(Duration, Duration)>,
    memory: Vec<u64>,
}

impl Observer for Watch {
    fn step(&mut self, event: &StepEvent) -> timburn::Result<()> {
        self.steps.push((event.time, event.waited));
        Ok(())
    }

    fn epoch(&mut self, _event: &EpochEvent) -> timburn::Result<()> {
        self.memory.push(resident_memory().unwrap_or(0));
        Ok(())
    }
}

/// Trains `epochs` epochs as `timburn train` does, run folder included.
fn epochs(device: &Device, splits: Splits, epochs: u64, number: usize) -> timburn::Result<Watch> {
    let mut recipe = Recipe::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/cifar10-resnet20.toml"), &[])?;
    recipe.train.epochs = epochs;
    let folder = std::env::temp_dir().join(format!("timburn-training-loop-{}-{number}", std::process::id()));
    let run = RunFolder::create(&folder, Overwrite::Refuse, &recipe.to_toml()?, &Environment::collect("auto"))?;
    let data = TrainData::new(&recipe, splits)?;
    let recorder = Recorder::new(run, data.classes().clone(), None)?;
    let mut watch = (recorder, Watch::default());
    let model = create("resnet20", &ModelOptions::default(), device)?;
    Trainer::new(recipe, model, data, device)?.fit(&mut watch)?;
    std::fs::remove_dir_all(&folder).ok();
    Ok(watch.1)
}

/// Steps without a loop around them.
fn bare_steps(device: &Device) -> timburn::Result<Vec<Duration>> {
    let recipe = Recipe::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/cifar10-resnet20.toml"), &[])?;
    let mut learner = Learner::new(&recipe, create("resnet20", &ModelOptions::default(), device)?, device, STEPS as u64)?;
    let device = learner.device().clone();
    let labels: Vec<usize> = (0..BATCH).map(|index| index % 10).collect();
    let images = Tensor::<4>::random([BATCH, 3, 32, 32], timburn::burn::tensor::Distribution::Normal(0.0, 1.0), &device);
    let mut times = Vec::new();
    for _ in 0..STEPS {
        let targets = Targets::classes(&labels, 10, &device)?;
        let labels = Tensor::from_data(
            timburn::burn::tensor::TensorData::from(labels.iter().map(|&label| label as i64).collect::<Vec<_>>().as_slice()),
            &device,
        );
        let images = images.clone();
        let started = Instant::now();
        learner.backward(images, targets, labels)?;
        learner = learner.update()?.0;
        times.push(started.elapsed());
    }
    Ok(times)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
