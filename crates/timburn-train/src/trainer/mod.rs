//! The loop: a recipe, a model and data in; a trained model and its evidence out.

mod best;
mod data;
mod evaluate;
mod event;
mod find_lr;
mod learner;
mod record;
mod resume;
mod stop;

pub use data::TrainData;
pub use evaluate::Evaluator;
pub use event::{EndEvent, Ending, EpochEvent, EvaluationEvent, Observer, StepEvent};
pub use find_lr::{FoundLr, find_lr};
pub use learner::{Learner, LearnerState, LearnerTensors, Update};
pub use record::{Recorder, draw_report};
pub use resume::Progress;
pub use stop::StopFlag;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use timburn_core::error::TrainError;
use timburn_core::{Error, Result};
use timburn_data::loader::mixing::{Mix, mixed_targets};
use timburn_data::loader::{Batch, Loader};
use timburn_kernels::release_memory;
use timburn_models::{ImageModel, outputs_fit};

use crate::checkpoint::{CheckpointReader, CheckpointStore};
use crate::loss::Targets;
use crate::metrics::Report;
use crate::recipe::Recipe;

/// A run: what it does is all in its recipe.
///
/// Dropout and stochastic depth draw from their device's only generator, which every step seeds: of two runs with them that train at the
/// same time on one device in one process, neither can be repeated bit for bit.
pub struct Trainer<M: ImageModel> {
    recipe: Recipe,
    data: TrainData,
    learner: Learner<M>,
    progress: Progress,
    checkpoints: Option<CheckpointStore>,
    stop: StopFlag,
}

/// What a run leaves.
pub struct Outcome<M> {
    /// The model as it was at the end (averaged weights, where the recipe has them), for evaluation. The best one is in the checkpoints.
    pub model: M,
    /// Why the run ended.
    pub ending: Ending,
    /// Steps done.
    pub step: u64,
    /// The last evaluation.
    pub report: Option<Report>,
    /// Best value of the metric that chooses the best checkpoint.
    pub best: Option<f64>,
    /// The best checkpoint, where checkpoints are written.
    pub best_checkpoint: Option<PathBuf>,
}

impl<M: ImageModel> Trainer<M> {
    /// Prepares a run on `device`. Nothing is written yet.
    ///
    /// # Errors
    /// [`Error::Argument`] for what does not fit: classes of model and data, batch size and data, precision and device.
    pub fn new(recipe: Recipe, model: M, data: TrainData, device: &Device) -> Result<Self> {
        recipe.validate()?;
        let (outputs, classes) = (model.num_classes(), data.classes().len());
        if !outputs_fit(outputs, classes) {
            let expected = format!("{classes}, the classes of the data (or 1 for two classes)");
            return Err(Error::Argument { name: "classes of the model", value: outputs.to_string(), expected });
        }
        let loader = data.train_loader(&recipe, recipe.augment.size(0))?;
        let learner = Learner::new(&with_class_weights(&recipe, &data)?, model, device, steps_per_epoch(&recipe, &loader))?;
        Ok(Self { recipe, data, learner, progress: Progress::default(), checkpoints: None, stop: StopFlag::default() })
    }

    /// Writes checkpoints to `store`, and goes on from the newest one in it, if there is one.
    ///
    /// # Errors
    /// Those of reading the checkpoint; [`Error::Argument`] when it belongs to another recipe.
    pub fn with_checkpoints(mut self, store: CheckpointStore) -> Result<Self> {
        if let Some(checkpoint) = store.latest()? {
            let (learner, progress) = resume::restore(self.learner, &self.recipe, checkpoint)?;
            (self.learner, self.progress) = (learner, progress);
        }
        self.checkpoints = Some(store);
        Ok(self)
    }

    /// Ends the run at the next step when `stop` asks for it.
    #[must_use]
    pub fn with_stop(self, stop: StopFlag) -> Self {
        Self { stop, ..self }
    }

    /// Optimizer steps done.
    pub fn step(&self) -> u64 {
        self.learner.step()
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains until the recipe's end, or until it gets no better, or until it is asked to stop.
    ///
    /// # Errors
    /// [`TrainError`]; those of the loader, the checkpoints and the observer. The newest checkpoint stays.
    pub fn fit(self, observer: &mut dyn Observer) -> Result<Outcome<M>> {
        let outcome = self.run(observer);
        // Whatever comes next does not need what a training step needs.
        release_memory();
        outcome
    }

    fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome<M>> {
        let mut report = None;
        let mut ending = Ending::Finished;
        let validation = self.data.validation_loader(&self.recipe)?;
        let mut loader = self.data.train_loader(&self.recipe, self.recipe.augment.size(self.progress.epoch))?;
        let mut loader_size = self.recipe.augment.size(self.progress.epoch);

        'run: while self.progress.epoch < self.recipe.train.epochs {
            let size = self.recipe.augment.size(self.progress.epoch);
            if size != loader_size {
                (loader, loader_size) = (self.data.train_loader(&self.recipe, size)?, size);
            }
            self.learner = self.learner.begin_epoch(self.progress.epoch)?;
            let begun = (1..loader.batches() as u64).contains(&self.progress.batch);
            if begun && self.progress.scored != self.learner.step() && due(self.recipe.evaluation.every_steps, self.learner.step()) {
                // The run was stopped before this score.
                if self.between_steps(&validation, &mut report, observer)? {
                    ending = Ending::Interrupted;
                    break 'run;
                }
            }
            let mut epoch = loader.epoch_from(self.progress.epoch, self.progress.batch as usize);
            let mut clock = Clock::start();
            let mut batches = Vec::with_capacity(self.recipe.train.accumulate);
            while let Some(batch) = epoch.next() {
                let batch = batch?;
                self.progress.batch += 1;
                backward(&mut self.learner, &self.recipe, &self.data, (self.progress.epoch, self.progress.batch), &batch)?;
                batches.push(batch);
                let last = self.progress.batch == loader.batches() as u64;
                if batches.len() < self.recipe.train.accumulate && !last {
                    continue;
                }
                let (learner, update) = self.learner.update().map_err(|error| name_all(error, &batches, &loader))?;
                self.learner = learner;
                if last || self.stop.is_requested() || self.is_due() {
                    self.learner.check_finite().map_err(|error| name_all(error, &batches, &loader))?;
                }
                let bad = batches.drain(..).flat_map(|batch| batch.bad).collect();
                if let Some(update) = update {
                    let event = self.step_event(&update, clock.lap(epoch.waited()), bad, &loader);
                    self.progress.count(&event);
                    observer.step(&event)?;
                }
                if self.stop.is_requested() {
                    self.save(false)?;
                    ending = Ending::Interrupted;
                    break 'run;
                }
                if last {
                    break;
                }
                if self.between_steps(&validation, &mut report, observer)? {
                    ending = Ending::Interrupted;
                    break 'run;
                }
                clock.skip();
            }

            // From here to the checkpoint the run is between two epochs: whoever resumes it starts with the next one.
            let number = self.progress.epoch + 1;
            let done = number == self.recipe.train.epochs;
            let step = self.learner.step();
            let (mut found, mut best) = (None, false);
            let regular = done || number.is_multiple_of(self.recipe.evaluation.every_epochs);
            if regular || due(self.recipe.evaluation.every_steps, step) {
                let Some((scored, is_best)) = self.evaluate(&validation, observer)? else {
                    ending = Ending::Interrupted;
                    break 'run;
                };
                if regular {
                    self.learner.observe(number - 1, &scored);
                }
                (found, best) = (Some(scored), is_best);
            }
            observer.epoch(&self.progress.end_epoch(found.clone()))?;
            report = found.or(report);
            let early = !done && self.progress.is_stalled(self.recipe.early_stopping.as_ref());
            let regular = number.is_multiple_of(self.recipe.checkpoints.every_epochs) || due(self.recipe.checkpoints.every_steps, step);
            if done || best || early || regular {
                self.save(best)?;
            }
            if early {
                ending = Ending::StoppedEarly;
                break;
            }
        }
        self.finish(ending, report, observer)
    }

    /// Whether a score or a checkpoint is due at this step.
    fn is_due(&self) -> bool {
        [self.recipe.evaluation.every_steps, self.recipe.checkpoints.every_steps].iter().any(|&every| due(every, self.learner.step()))
    }

    /// The score and the checkpoint that are due at a step within an epoch; whether it was asked to stop while it scored.
    fn between_steps(&mut self, validation: &Loader, report: &mut Option<Report>, observer: &mut dyn Observer) -> Result<bool> {
        let mut best = false;
        if due(self.recipe.evaluation.every_steps, self.learner.step()) {
            let Some(found) = self.evaluate(validation, observer)? else { return Ok(true) };
            best = found.1;
            *report = Some(found.0);
        }
        if best || due(self.recipe.checkpoints.every_steps, self.learner.step()) {
            self.save(best)?;
        }
        Ok(false)
    }

    /// Scores the validation set; also whether the score is the best so far. Asked to stop meanwhile, it saves the state before the score
    /// and gives none: whoever resumes the run scores first.
    fn evaluate(&mut self, loader: &Loader, observer: &mut dyn Observer) -> Result<Option<(Report, bool)>> {
        let started = Instant::now();
        let evaluator = Evaluator {
            loader,
            normalization: self.data.normalization(),
            loss: Some(self.learner.loss()),
            test_time: self.recipe.evaluation.test_time,
            top: &self.recipe.evaluation.top,
            precision: self.learner.precision(),
        };
        let device = self.learner.device().clone().inner();
        let mut progress = |done| observer.evaluating(done, loader.samples());
        let (report, bad) = match evaluator.score_until(&self.learner.valid(), &device, &self.stop, &mut progress) {
            Err(Error::Train(TrainError::Interrupted)) => {
                self.save(false)?;
                return Ok(None);
            }
            scored => scored?,
        };
        let best = self.progress.judge(&self.recipe, &report, self.learner.step());
        observer.evaluation(&EvaluationEvent {
            step: self.learner.step(),
            epoch: self.progress.epoch,
            report: report.clone(),
            ema: self.learner.has_ema(),
            best,
            bad,
            time: started.elapsed(),
        })?;
        Ok(Some((report, best)))
    }

    /// Writes a checkpoint of this place, if checkpoints are written.
    fn save(&mut self, best: bool) -> Result<()> {
        match &mut self.checkpoints {
            Some(store) => resume::save(store, &self.learner, &self.recipe, &self.progress, best),
            None => Ok(()),
        }
    }

    fn finish(self, ending: Ending, report: Option<Report>, observer: &mut dyn Observer) -> Result<Outcome<M>> {
        let reader = self.checkpoints.as_ref().map(CheckpointStore::reader);
        let newest = reader.map(CheckpointReader::list).transpose()?.and_then(|mut entries| entries.pop());
        let best_checkpoint = reader.map(CheckpointReader::best_path).transpose()?.flatten();
        let best = self.progress.best;
        observer.end(&EndEvent {
            ending,
            step: self.learner.step(),
            epochs: self.progress.epoch,
            best,
            checkpoint: newest.map(|entry| entry.path),
        })?;
        Ok(Outcome { model: self.learner.valid(), ending, step: self.learner.step(), report, best, best_checkpoint })
    }

    fn step_event(
        &self,
        update: &Update,
        (time, waited): (Duration, Duration),
        bad: Vec<timburn_data::loader::BadFile>,
        loader: &Loader,
    ) -> StepEvent {
        StepEvent {
            step: self.learner.step(),
            epoch: self.progress.epoch,
            done: self.progress.batch.div_ceil(self.recipe.train.accumulate as u64),
            steps_per_epoch: steps_per_epoch(&self.recipe, loader),
            loss: update.loss,
            top1: update.correct / update.samples.max(1) as f64,
            lr: update.lr,
            momentum: update.momentum,
            gradient_norm: update.gradient_norm,
            skipped: update.skipped,
            samples: update.samples,
            time,
            waited,
            bad,
        }
    }
}

/// Forward and backward pass over batch number `place.1` of epoch `place.0`. One without pictures (all of them bad) adds nothing.
fn backward<M: ImageModel>(learner: &mut Learner<M>, recipe: &Recipe, data: &TrainData, place: (u64, u64), batch: &Batch) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let device = learner.device().clone();
    let images = batch.images(&data.normalization(), &device)?;
    let classes = data.classes().len();
    let mix = match &recipe.mixing {
        Some(mixing) => mixing.draw(recipe.train.seed, place.0, place.1, batch.height, batch.width),
        None => Mix::None,
    };
    let targets = match mix {
        Mix::None => Targets::classes(&batch.labels, classes, &device)?,
        _ => {
            let targets = mixed_targets(&batch.labels, classes, mix.lam(), 0.0, &device)?;
            // One logit for two classes: its target is the weight of the second one.
            Targets::Soft(if learner.model().num_classes() == 1 { targets.narrow(1, 1, 1) } else { targets })
        }
    };
    learner.backward(mix.images(images), targets, batch.targets(&device))
}

/// The recipe with the class weights that it leaves to the training set.
pub(crate) fn with_class_weights(recipe: &Recipe, data: &TrainData) -> Result<Recipe> {
    let train = data.train();
    let mut counts = vec![0; data.classes().len()];
    for index in 0..train.len() {
        if let Some(count) = counts.get_mut(train.label(index)) {
            *count += 1;
        }
    }
    Ok(Recipe { loss: recipe.loss.clone().for_counts(&counts)?, ..recipe.clone() })
}

fn steps_per_epoch(recipe: &Recipe, loader: &Loader) -> u64 {
    loader.batches().div_ceil(recipe.train.accumulate) as u64
}

fn due(every: Option<u64>, step: u64) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every))
}

/// Time between steps, without what is done between them.
struct Clock {
    last: Instant,
    waited: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), waited: Duration::ZERO }
    }

    /// Time and waiting time since the last call; `waited` counts from the epoch's start.
    fn lap(&mut self, waited: Duration) -> (Duration, Duration) {
        let lap = (self.last.elapsed(), waited.saturating_sub(self.waited));
        (self.last, self.waited) = (Instant::now(), waited);
        lap
    }

    fn skip(&mut self) {
        self.last = Instant::now();
    }
}

/// Names the samples of a batch in an error that knows only their positions.
fn name_samples(error: Error, batch: &Batch, loader: &Loader) -> Error {
    match error {
        Error::Train(TrainError::NonFinite { what, samples }) => {
            let chosen = if samples.is_empty() { (0..batch.len()).collect() } else { samples };
            let indices: Vec<usize> = chosen.iter().filter_map(|&position| batch.indices.get(position).copied()).collect();
            TrainError::NonFiniteSamples { what, names: indices.iter().map(|&index| loader.dataset().name(index)).collect(), indices }
                .into()
        }
        other => other,
    }
}

/// Names all samples of a step's batches.
fn name_all(error: Error, batches: &[Batch], loader: &Loader) -> Error {
    match error {
        Error::Train(TrainError::NonFinite { what, .. }) => {
            let indices: Vec<usize> = batches.iter().flat_map(|batch| batch.indices.iter().copied()).collect();
            TrainError::NonFiniteSamples { what, names: indices.iter().map(|&index| loader.dataset().name(index)).collect(), indices }
                .into()
        }
        other => other,
    }
}
