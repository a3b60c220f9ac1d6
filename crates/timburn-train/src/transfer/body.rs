//! Fine-tuning's second part: the body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use timburn_core::Result;
use timburn_data::loader::Batch;
use timburn_data::transform::Transform;
use timburn_data::{Dataset, DynDataset, Loader, Pipeline};
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
                let epoch = self.time_epoch(&model, &with_class_weights(recipe, data)?, data, steps, device)?;
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

    /// What the training of an epoch of `steps` steps takes, and the scoring of the validation set after it.
    fn time_epoch(&self, model: &Model, recipe: &Recipe, data: &TrainData, steps: u64, device: &Device) -> Result<Duration> {
        let learner = Learner::new(recipe, model.clone(), device, 1)?;
        let on = learner.device().clone();
        let (learner, training) = self.time_picture(data.train(), &recipe.augment.train, learner, |mut learner, batch| {
            let targets = crate::loss::Targets::classes(&batch.labels, data.classes().len(), &on)?;
            learner.backward(batch.images(&data.normalization(), &on)?, targets, batch.targets(&on))?;
            Ok(learner.update()?.0)
        })?;
        let on = on.inner();
        let (_, scoring) = self.time_picture(data.validation(), &recipe.augment.evaluation, learner.valid(), |model, batch| {
            // Reading the answer waits for a device that computes on its own.
            let _ = model.forward(batch.images(&data.normalization(), &on)?).into_data();
            Ok(model)
        })?;
        let pictures = steps as f64 * self.batch_size.min(data.train().len()) as f64;
        Ok(Duration::try_from_secs_f64(training * pictures + scoring * data.validation().len() as f64).unwrap_or(Duration::MAX))
    }

    /// Seconds that `work` takes for a picture, its decoding included: the faster of two batches after a first one, which counts where it is the
    /// only one. Infinite where there is none.
    fn time_picture<S>(
        &self,
        dataset: &DynDataset,
        transforms: &[Transform],
        mut state: S,
        mut work: impl FnMut(S, &Batch) -> Result<S>,
    ) -> Result<(S, f64)> {
        let loader = Loader::new(dataset.clone(), Arc::new(Pipeline::new(transforms.to_vec())?), self.in_order())?;
        let (mut first, mut fastest) = (None, f64::INFINITY);
        let mut started = Instant::now();
        for batch in loader.epoch(0).take(3) {
            let batch = batch?;
            if self.stop.is_requested() {
                break;
            }
            if batch.is_empty() {
                continue;
            }
            state = work(state, &batch)?;
            let taken = started.elapsed().as_secs_f64() / batch.len() as f64;
            match first {
                None => first = Some(taken),
                Some(_) => fastest = fastest.min(taken),
            }
            started = Instant::now();
        }
        Ok((state, if fastest.is_finite() { fastest } else { first.unwrap_or(fastest) }))
    }
}
