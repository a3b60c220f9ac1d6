//! Where a run stands, and how that goes into a checkpoint and out of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};
use timburn_models::ImageModel;

use super::{EpochEvent, Learner, LearnerTensors, StepEvent};
use crate::checkpoint::{Checkpoint, CheckpointStore};
use crate::metrics::Report;
use crate::recipe::{DataSection, EarlyStopping, Recipe, TrainSection};

/// Where a run stands between two steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Epochs that are done; the number of the one that is under way.
    pub epoch: u64,
    /// Batches of it that are done.
    pub batch: u64,
    /// Best value of the metric that chooses the best checkpoint.
    pub best: Option<f64>,
    /// The step it was reached at.
    pub best_step: Option<u64>,
    /// Best value of the metric that early stopping watches.
    watched: Option<f64>,
    /// Evaluations in a row without an improvement of it.
    stalled: u32,
    /// The step of the newest evaluation.
    #[serde(default)]
    pub(super) scored: u64,
    /// Sums over the epoch so far.
    sums: Sums,
    /// Of this process alone: a resumed run starts to measure anew.
    #[serde(skip)]
    times: Times,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    step: u64,
    loss: f64,
    correct: f64,
    samples: u64,
    lr: f64,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Times {
    samples: u64,
    time: Duration,
    waited: Duration,
}

/// The part of a checkpoint that is no tensor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    recipe: Recipe,
    progress: Progress,
    learner: super::LearnerState,
}

impl Progress {
    pub(super) fn count(&mut self, event: &StepEvent) {
        let samples = event.samples as f64;
        self.sums.step = event.step;
        self.sums.lr = event.lr;
        self.sums.samples += event.samples as u64;
        self.sums.correct += event.top1 * samples;
        // What overflowed in mixed precision says nothing about the epoch.
        if event.loss.is_finite() {
            self.sums.loss += event.loss * samples;
        }
        self.times.samples += event.samples as u64;
        self.times.time += event.time;
        self.times.waited += event.waited;
    }

    /// Moves on to the next epoch.
    pub(super) fn end_epoch(&mut self, evaluation: Option<Report>) -> EpochEvent {
        let (sums, times) = (std::mem::take(&mut self.sums), std::mem::take(&mut self.times));
        let (count, seconds) = (sums.samples.max(1) as f64, times.time.as_secs_f64().max(1e-9));
        let event = EpochEvent {
            epoch: self.epoch,
            step: sums.step,
            loss: sums.loss / count,
            top1: sums.correct / count,
            lr: sums.lr,
            samples: sums.samples,
            images_per_second: times.samples as f64 / seconds,
            data_wait: times.waited.as_secs_f64() / seconds,
            evaluation,
        };
        self.epoch += 1;
        self.batch = 0;
        event
    }

    /// Takes in an evaluation; returns whether it is the best so far.
    pub(super) fn judge(&mut self, recipe: &Recipe, report: &Report, step: u64) -> bool {
        self.scored = step;
        if let Some(stopping) = &recipe.early_stopping {
            let value = stopping.metric.of(report).unwrap_or(f64::NAN);
            if stopping.metric.improves(value, self.watched, stopping.min_delta) {
                (self.watched, self.stalled) = (Some(value), 0);
            } else {
                self.stalled += 1;
            }
        }
        let metric = recipe.checkpoints.best;
        let value = metric.of(report).unwrap_or(f64::NAN);
        let best = metric.improves(value, self.best, 0.0);
        if best {
            (self.best, self.best_step) = (Some(value), Some(step));
        }
        best
    }

    pub(super) fn is_stalled(&self, stopping: Option<&EarlyStopping>) -> bool {
        stopping.is_some_and(|stopping| self.stalled > stopping.patience)
    }
}

/// Writes a checkpoint of the place between two steps that `progress` and `learner` are at.
pub(super) fn save<M: ImageModel>(
    store: &mut CheckpointStore,
    learner: &Learner<M>,
    recipe: &Recipe,
    progress: &Progress,
    best: bool,
) -> Result<()> {
    let (tensors, state) = learner.state()?;
    let mut groups = BTreeMap::from([("model".to_owned(), tensors.model), ("optimizer".to_owned(), tensors.optimizer)]);
    groups.extend(tensors.ema.map(|ema| ("ema".to_owned(), ema)));
    let state = State { recipe: recipe.clone(), progress: progress.clone(), learner: state };
    let state = serde_json::to_value(&state).map_err(|error| Error::Argument {
        name: "state of the run",
        value: error.to_string(),
        expected: "values that JSON can hold".into(),
    })?;
    let step = learner.step();
    store.save(&Checkpoint { step, epoch: progress.epoch, groups, state })?;
    if best { store.mark_best(step) } else { Ok(()) }
}

/// Puts a learner where the checkpoint at `path` was written.
pub(super) fn restore<M: ImageModel>(
    learner: Learner<M>,
    recipe: &Recipe,
    (path, checkpoint): (PathBuf, Checkpoint),
) -> Result<(Learner<M>, Progress)> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
    let state: State = serde_json::from_value(checkpoint.state).map_err(|error| damaged(error.to_string()))?;
    if let Some(key) = differing_section(&state.recipe, recipe) {
        let value = format!("another one than at {}", path.display());
        return Err(Error::Argument { name: key, value, expected: "the recipe that the run was started with, or a new run".into() });
    }
    let mut groups = checkpoint.groups;
    let mut take = |name: &str| groups.remove(name).ok_or_else(|| damaged(format!("no group `{name}`")));
    let tensors = LearnerTensors { model: take("model")?, optimizer: take("optimizer")?, ema: take("ema").ok() };
    Ok((learner.load_state(&tensors, &state.learner)?, state.progress))
}

/// The first section whose change would make the rest of the run another run's. How fast batches are made, how often the run is looked at
/// and how long it is to last may change; with a schedule over the whole run, the length changes the schedule from here on.
fn differing_section(old: &Recipe, new: &Recipe) -> Option<&'static str> {
    let (train, was) = (TrainSection { epochs: old.train.epochs, ..new.train.clone() }, &old.train);
    let checks = [
        ("train", train == *was),
        ("model", old.model == new.model),
        ("data", DataSection { path: None, ..old.data.clone() } == DataSection { path: None, ..new.data.clone() }),
        ("augment", old.augment == new.augment),
        ("mixing", old.mixing == new.mixing),
        ("loader.sampling", (old.loader.sampling, old.loader.repeats) == (new.loader.sampling, new.loader.repeats)),
        ("loss", old.loss == new.loss),
        ("optimizer", old.optimizer == new.optimizer),
        ("schedule", old.schedule == new.schedule),
        ("ema", old.ema == new.ema),
    ];
    checks.into_iter().find(|(_, same)| !same).map(|(name, _)| name)
}
