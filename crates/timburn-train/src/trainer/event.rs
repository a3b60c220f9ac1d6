//! What a run tells the outside: four read-only hooks.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use timburn_core::Result;
use timburn_data::loader::BadFile;

use crate::metrics::Report;

/// Watches a run. Every hook has an empty default. An error ends the run; the newest checkpoint stays.
pub trait Observer {
    /// After each optimizer step.
    ///
    /// # Errors
    /// The observer's own.
    fn step(&mut self, _event: &StepEvent) -> Result<()> {
        Ok(())
    }

    /// While an evaluation is under way: `done` more of `total` samples are scored. For progress bars.
    fn evaluating(&mut self, _done: usize, _total: usize) {}

    /// After each evaluation.
    ///
    /// # Errors
    /// The observer's own.
    fn evaluation(&mut self, _event: &EvaluationEvent) -> Result<()> {
        Ok(())
    }

    /// After each epoch.
    ///
    /// # Errors
    /// The observer's own.
    fn epoch(&mut self, _event: &EpochEvent) -> Result<()> {
        Ok(())
    }

    /// Once, at the end of a run that was not broken off by an error.
    ///
    /// # Errors
    /// The observer's own.
    fn end(&mut self, _event: &EndEvent) -> Result<()> {
        Ok(())
    }
}

impl Observer for () {}

/// Two observers, one after the other; nest them for more.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        self.0.step(event)?;
        self.1.step(event)
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        self.0.evaluating(done, total);
        self.1.evaluating(done, total);
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        self.0.evaluation(event)?;
        self.1.evaluation(event)
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        self.0.epoch(event)?;
        self.1.epoch(event)
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        self.0.end(event)?;
        self.1.end(event)
    }
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        (**self).step(event)
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        (**self).evaluating(done, total);
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        (**self).evaluation(event)
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        (**self).epoch(event)
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        (**self).end(event)
    }
}

/// One optimizer step.
#[derive(Debug, Clone, Serialize)]
pub struct StepEvent {
    /// Number of the step, counted from 1 over the whole run.
    pub step: u64,
    /// Number of the epoch, counted from 0.
    pub epoch: u64,
    /// Steps of this epoch that are done, this one included.
    pub done: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Mean loss over the step's pictures.
    pub loss: f64,
    /// Share of the step's pictures whose class was the most probable one; of mixed pictures, the first one's class counts.
    pub top1: f64,
    /// Learning rate.
    pub lr: f64,
    /// Momentum, where the schedule drives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Norm of the gradients before clipping, where something needed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Whether mixed precision overflowed, so that the weights stayed as they were.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Pictures of the step.
    pub samples: usize,
    /// Time since the last step's end.
    #[serde(skip)]
    pub time: Duration,
    /// Of it, time spent waiting for the loader.
    #[serde(skip)]
    pub waited: Duration,
    /// Pictures that could not be used.
    #[serde(skip)]
    pub bad: Vec<BadFile>,
}

/// One evaluation.
#[derive(Debug, Clone)]
pub struct EvaluationEvent {
    /// Steps done.
    pub step: u64,
    /// Epoch it took place in, counted from 0.
    pub epoch: u64,
    /// All metrics.
    pub report: Report,
    /// Whether the averaged weights were evaluated.
    pub ema: bool,
    /// Whether it is the best so far.
    pub best: bool,
    /// Pictures that could not be used and are not part of the score.
    pub bad: Vec<BadFile>,
    /// How long it took.
    pub time: Duration,
}

/// One epoch.
#[derive(Debug, Clone, Serialize)]
pub struct EpochEvent {
    /// Its number, counted from 0.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Mean loss over its pictures, in training.
    pub loss: f64,
    /// Accuracy over its pictures, in training.
    pub top1: f64,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Pictures it showed.
    pub samples: u64,
    /// Pictures a second, evaluation not counted; of the part since a resume.
    pub images_per_second: f64,
    /// Share of that time spent waiting for the loader.
    pub data_wait: f64,
    /// The evaluation at its end, if there was one.
    pub evaluation: Option<Report>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// It got no better, see [`EarlyStopping`](crate::recipe::EarlyStopping).
    StoppedEarly,
    /// It was asked to stop, see [`StopFlag`](super::StopFlag); it can be resumed.
    Interrupted,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct EndEvent {
    /// Why.
    pub ending: Ending,
    /// Steps done.
    pub step: u64,
    /// Epochs completed.
    pub epochs: u64,
    /// Best value of the metric that chooses the best checkpoint.
    pub best: Option<f64>,
    /// The newest checkpoint, where checkpoints are written.
    pub checkpoint: Option<PathBuf>,
}
