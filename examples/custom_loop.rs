//! A training loop of one's own from timburn's parts, without the trainer: `cargo run --release --example custom_loop`
//!
//! Loader, loss, gradients, clipping, optimizer, schedule, averaged weights, checkpoints: each works alone.

mod rotations;

use std::collections::BTreeMap;
use std::sync::Arc;

use rotations::Rotations;
use timburn::burn::module::Module;
use timburn::burn::tensor::Device;
use timburn::data::loader::{Normalization, Sampling};
use timburn::data::transform::{CenterCrop, RandomCrop, Size, Transform};
use timburn::models::state_dict;
use timburn::train::schedule::{Curve, OneCycle, ScheduleConfig};
use timburn::train::{
    Checkpoint, CheckpointStore, Clip, Ema, EmaConfig, Groups, Loss, LossConfig, Metrics, Optimizer, OptimizerConfig, ParameterGradients,
    Reduction, Schedule, StepParams, Targets,
};
use timburn::{Dataset, ImageModel, Loader, LoaderOptions, Model, ModelOptions, Pipeline, Preprocessing, create, open_device};

const EPOCHS: u64 = 8;

fn main() -> timburn::Result<()> {
    let device = open_device("auto")?.autodiff();
    let splits = Rotations::new(640)?.split(0.8, 0)?;
    let validation = splits.validation.ok_or_else(|| timburn::Error::Argument {
        name: "validation",
        value: "none".into(),
        expected: "a set to score".into(),
    })?;
    let crop = RandomCrop { size: Size::Side(32), padding: 2, padding_mode: Default::default(), fill: [0; 3] };
    let options = LoaderOptions { batch_size: 32, drop_last: true, ..LoaderOptions::default() };
    let train = Loader::new(splits.train, Arc::new(Pipeline::new(vec![Transform::RandomCrop(crop)])?), options)?;
    let center = CenterCrop { size: Size::Side(32) };
    let options = LoaderOptions { batch_size: 32, sampling: Sampling::Sequential, ..LoaderOptions::default() };
    let validation = Loader::new(validation, Arc::new(Pipeline::new(vec![Transform::CenterCrop(center)])?), options)?;
    let normalization = Normalization::from(&Preprocessing::torchvision(32, 32));

    let mut model = create("resnet20", &ModelOptions::classes(4), &device)?.train();
    let mut optimizer = Optimizer::new(OptimizerConfig::AdamW(Default::default()), Groups::of(&model))?;
    let schedule = Schedule::new(ScheduleConfig::new(Curve::OneCycle(OneCycle::default())), 3e-3, EPOCHS as f64, train.batches() as u64)?;
    let loss = Loss::new(LossConfig::default(), 4)?;
    let mut ema = Ema::new(EmaConfig { decay: 0.95, ..EmaConfig::default() }, &model)?;

    let folder = std::env::temp_dir().join(format!("timburn-custom-loop-{}", std::process::id()));
    let mut checkpoints = CheckpointStore::open(&folder, 2)?;
    let mut step = 0;
    for epoch in 0..EPOCHS {
        for batch in train.epoch(epoch) {
            let batch = batch?;
            let logits = model.forward(batch.images(&normalization, &device)?);
            let value = loss.forward(logits, Targets::classes(&batch.labels, 4, &device)?, Reduction::Mean)?;
            let (gradients, _) = ParameterGradients::of(&model, value.backward()).clip(Clip::Norm(5.0))?;
            let rates = schedule.rates(step);
            model = optimizer.step(model, gradients, &StepParams { lr: rates.lr, momentum: rates.momentum })?;
            ema = ema.update(&model);
            step += 1;
        }
        let groups = BTreeMap::from([("model".to_owned(), state_dict(&model)), ("ema".to_owned(), ema.state())]);
        let accuracy = score(ema.model(), &validation, &normalization, &device.clone().inner())?;
        println!("epoch {}  right way up {:.1} %", epoch + 1, 100.0 * accuracy);
        checkpoints.save(&Checkpoint { step, epoch: epoch + 1, groups, ..Checkpoint::default() })?;
    }
    println!("{} checkpoints after {step} steps", checkpoints.list()?.len());
    std::fs::remove_dir_all(&folder).ok();
    Ok(())
}

/// Share of the pictures whose class is the most probable one.
fn score(model: &Model, data: &Loader, normalization: &Normalization, device: &Device) -> timburn::Result<f64> {
    let mut metrics = Metrics::new(model.num_classes(), &[1]);
    for batch in data.epoch(0) {
        let batch = batch?;
        let logits = model.forward(batch.images(normalization, device)?);
        let values = logits.into_data().try_to_vec::<f32>().unwrap_or_default();
        metrics.add(&values, &batch.labels)?;
    }
    Ok(metrics.report().top(1).unwrap_or_default())
}
