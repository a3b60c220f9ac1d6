//! The trainer as a whole: what a run does, what it leaves, and how it ends when something goes wrong.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod behaviour;
#[path = "../common/mod.rs"]
mod common;
mod freezing;
mod non_finite;
mod patterns;
mod precision;
mod recipes;
mod recomputation;
mod resume;
mod tiny;
mod watch;
mod workers;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::Device;
use timburn_core::Result;
use timburn_data::Splits;
use timburn_models::ImageModel;
use timburn_train::{CheckpointStore, Outcome, Recipe, TrainData, Trainer};

use watch::Watch;

/// Dropout and stochastic depth draw from the device's one generator, which every training step seeds: one run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static DEVICE: Mutex<()> = Mutex::new(());
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device() -> Device {
    timburn_core::open_device("flex").expect("flex")
}

/// A recipe for pictures of `side` pixels that are only scaled, with more sections from `text`, which begins with those of `[train]`.
fn recipe(side: usize, text: &str) -> Recipe {
    let augment = format!(
        r#"
        [augment]
        train = [{{ op = "resize", size = [{side}, {side}] }}]
        evaluation = [{{ op = "resize", size = [{side}, {side}] }}, {{ op = "normalize", mean = [0.0, 0.0, 0.0], std = [1.0, 1.0, 1.0] }}]
        "#
    );
    let augment = if text.contains("[augment]") { "" } else { &augment };
    Recipe::from_toml(&format!("[train]\n{text}\n{augment}")).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a recipe, from the newest checkpoint in `checkpoints` on if there is one.
fn fit<M: ImageModel>(recipe: &Recipe, model: M, splits: &Splits, checkpoints: Option<&Path>, watch: &mut Watch) -> Result<Outcome<M>> {
    let data = TrainData::new(recipe, splits.clone())?;
    let mut trainer = Trainer::new(recipe.clone(), model, data, &device())?.with_stop(watch.flag.clone());
    if let Some(folder) = checkpoints {
        trainer = trainer.with_checkpoints(CheckpointStore::open(folder, recipe.checkpoints.keep_last)?)?;
    }
    trainer.fit(watch)
}
