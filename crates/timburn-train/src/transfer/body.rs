//! Fine-tuning's second part: the body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use timburn_core::Result;
use timburn_data::{Dataset, Loader, Pipeline};
use timburn_models::{ImageModel, Model, load_state_dict, state_dict};

use super::fine_tune::{Epochs, FineTune};
use super::observer::{Phase, PhaseReport, TransferObserver};
use crate::checkpoint::CheckpointStore;
use crate::freeze::freeze_statistics;
use crate::metrics::Report;
use crate::recipe::Recipe;
use crate::trainer::{EndEvent, Ending, EpochEvent, EvaluationEvent, Learner, Observer, StepEvent, TrainData, Trainer, with_class_weights};

/// Passes everything on, and keeps the report of the best evaluation: it was made of the very weights that are kept as the best.
struct Watched<'a> {
    observer: &'a mut dyn TransferObserver,
    best: Option<Report>,
}

impl Observer for Watched<'_> {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        self.observer.step(event)
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        self.observer.evaluating(done, total);
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        if event.best {
            self.best = Some(event.report.clone());
        }
        self.observer.evaluation(event)
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        self.observer.epoch(event)
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        self.observer.end(event)
    }
}

impl FineTune {
    /// The model with its body trained too, if there is time for it.
    pub(super) fn train_body(
        &self,
        whole: &Model,
        recipe: &mut Recipe,
        data: &TrainData,
        device: &Device,
        observer: &mut dyn TransferObserver,
    ) -> Result<Option<(Model, PhaseReport, Ending)>> {
        let started = Instant::now();
        let model = match &self.freeze {
            Some(stage) => crate::freeze::freeze_until(whole.clone(), stage)?,
            None => whole.clone(),
        };
        // The head was fitted to features of running statistics: with those of a batch it would begin by unlearning.
        let model = if self.batch_statistics { model } else { freeze_statistics(model) };
        let steps = (data.train().len() / self.batch_size.max(1)).max(1) as u64;
        let (epochs, epoch) = match self.epochs {
            _ if self.stop.is_requested() => (0, None),
            Epochs::Fixed(epochs) => (epochs, None),
            Epochs::Within { time, .. } if time.is_zero() => (0, None),
            Epochs::Within { time, most } => {
                let (step, scoring) = self.time_epoch(&model, &with_class_weights(recipe, data)?, data, device)?;
                let epoch = Duration::try_from_secs_f64(step.as_secs_f64() * steps as f64 + scoring.as_secs_f64()).unwrap_or(Duration::MAX);
                let left = time.saturating_sub(started.elapsed());
                ((left.as_secs_f64() / epoch.as_secs_f64()).floor().min(most as f64) as u64, Some((epoch, left)))
            }
        };
        if epochs == 0 || self.stop.is_requested() {
            let reason = match epoch {
                _ if self.stop.is_requested() => "it was asked to stop".into(),
                Some((epoch, left)) => {
                    let time = |time: Duration| match time.as_secs_f64() {
                        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
                        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
                        seconds => format!("{:.0} min", seconds / 60.0),
                    };
                    format!("an epoch of it would take {} on this machine, of the time given {} are left", time(epoch), time(left))
                }
                None => "no epochs were asked for".into(),
            };
            observer.phase(&Phase::NoBody { reason })?;
            return Ok(None);
        }
        recipe.train.epochs = epochs;
        observer.phase(&Phase::Body { epochs, steps, epoch: epoch.map(|(epoch, _)| epoch) })?;
        let trainer = Trainer::new(recipe.clone(), model.clone(), data.clone(), device)?.with_stop(self.stop.clone());
        let trainer = match &self.checkpoints {
            Some(folder) => trainer.with_checkpoints(CheckpointStore::open(folder, recipe.checkpoints.keep_last)?)?,
            None => trainer,
        };
        let mut watched = Watched { observer, best: None };
        let outcome = trainer.fit(&mut watched)?;
        let best_report = watched.best;
        let epochs = outcome.step / steps;
        let last = outcome.report.as_ref().and_then(|report| report.top(1));
        let (tuned, report) = match (outcome.best_weights()?, outcome.report) {
            // The last weights are not the best ones.
            (Some(weights), report) if report.is_none() || last < outcome.best => {
                let best = load_state_dict(&outcome.model, &weights)?;
                let report = match best_report {
                    Some(report) => report,
                    None => self.examine(&best, data.validation().clone(), recipe, device, observer)?.report,
                };
                (best, report)
            }
            (_, Some(report)) => (outcome.model, report),
            (_, None) => return Ok(None),
        };
        // Onto the model as it was: parts of the trained one may be marked as frozen.
        let tuned = load_state_dict(whole, &state_dict(&tuned))?;
        Ok(Some((tuned, PhaseReport { name: "body", epochs, time: started.elapsed(), report }, outcome.ending)))
    }

    /// What a training step takes, and what scoring the validation set after an epoch does: the faster of two steps or batches after one that is
    /// not counted, with their pictures' decoding.
    fn time_epoch(&self, model: &Model, recipe: &Recipe, data: &TrainData, device: &Device) -> Result<(Duration, Duration)> {
        let pipeline = Pipeline::new(recipe.augment.train.clone())?;
        let loader = Loader::new(data.train().clone(), Arc::new(pipeline), self.in_order())?;
        let mut learner = Learner::new(recipe, model.clone(), device, 1)?;
        let mut fastest = Duration::MAX;
        let mut started = Instant::now();
        for (number, batch) in loader.epoch(0).take(3).enumerate() {
            let batch = batch?;
            if self.stop.is_requested() {
                break;
            }
            if batch.is_empty() {
                continue;
            }
            let on = learner.device().clone();
            let targets = crate::loss::Targets::classes(&batch.labels, data.classes().len(), &on)?;
            learner.backward(batch.images(&data.normalization(), &on)?, targets, batch.targets(&on))?;
            learner = learner.update()?.0;
            if number > 0 || data.train().len() <= self.batch_size {
                fastest = fastest.min(started.elapsed());
            }
            started = Instant::now();
        }

        let pipeline = Pipeline::new(recipe.augment.evaluation.clone())?;
        let loader = Loader::new(data.validation().clone(), Arc::new(pipeline), self.in_order())?;
        let (model, on) = (learner.valid(), learner.device().clone().inner());
        let mut picture = f64::INFINITY;
        let mut started = Instant::now();
        for (number, batch) in loader.epoch(0).take(3).enumerate() {
            let batch = batch?;
            if self.stop.is_requested() {
                break;
            }
            if batch.is_empty() {
                continue;
            }
            // Reading the answer waits for a device that computes on its own.
            let _ = model.forward(batch.images(&data.normalization(), &on)?).into_data();
            if number > 0 || data.validation().len() <= self.batch_size {
                picture = picture.min(started.elapsed().as_secs_f64() / batch.labels.len().max(1) as f64);
            }
            started = Instant::now();
        }
        let scoring = picture * data.validation().len() as f64;
        Ok((fastest, Duration::try_from_secs_f64(scoring).unwrap_or_default()))
    }
}
