use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;
use timburn_core::Result;
use timburn_train::trainer::{EndEvent, EpochEvent, EvaluationEvent, StepEvent};
use timburn_train::{Observer, Recipe};

use crate::output;

/// The run on the terminal: a bar an epoch, a line when it is over; or an event a line.
pub(super) struct Screen {
    bar: ProgressBar,
    epochs: u64,
    json: bool,
    quiet: bool,
    /// Whether the bad files of the validation set were told.
    warned: bool,
    /// Of this epoch.
    samples: u64,
    time: Duration,
}

impl Screen {
    pub(super) fn new(recipe: &Recipe, json: bool, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { output::bar(0, "{prefix} {bar:24} {pos}/{len} {msg}, {eta} left") };
        Self { bar, epochs: recipe.train.epochs, json, quiet, warned: false, samples: 0, time: Duration::ZERO }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn event(&self, kind: &str, value: serde_json::Value) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut line = json!({ "event": kind });
        if let (Some(line), serde_json::Value::Object(value)) = (line.as_object_mut(), value) {
            line.extend(value);
        }
        output::results(|out| writeln!(out, "{line}"))
    }
}

fn value(event: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(event).unwrap_or_default()
}

impl Observer for Screen {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        if event.done == 1 {
            (self.samples, self.time) = (0, Duration::ZERO);
            self.bar.reset();
        }
        self.samples += event.samples as u64;
        self.time += event.time;
        self.bar.set_length(event.steps_per_epoch);
        self.bar.set_prefix(format!("epoch {}/{}", event.epoch + 1, self.epochs));
        self.bar.set_position(event.done);
        let rate = self.samples as f64 / self.time.as_secs_f64().max(1e-9);
        self.bar.set_message(format!("loss {:.3}, top-1 {:.1} %, lr {:.2e}, {rate:.0} images/s", event.loss, 100.0 * event.top1, event.lr));
        for bad in &event.bad {
            self.bar.suspend(|| log::warn!("left out: {}", bad.reason));
        }
        self.event("step", value(event))
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        if self.bar.length() != Some(total as u64) {
            self.bar.reset();
            self.bar.set_length(total as u64);
            self.bar.set_position(0);
            self.bar.set_message("scoring");
        }
        self.bar.inc(done as u64);
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        // Once: they will be as bad after the next epoch.
        if !std::mem::replace(&mut self.warned, true) {
            for bad in &event.bad {
                self.bar.suspend(|| log::warn!("not scored: {}", bad.reason));
            }
        }
        self.event("evaluation", json!({ "step": event.step, "epoch": event.epoch, "ema": event.ema, "best": event.best, "loss": event.report.loss, "top": event.report.top }))
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        if !self.json && !self.quiet {
            let evaluation = event.evaluation.as_ref().map_or_else(String::new, |report| {
                format!(
                    "; validation loss {:.4}, top-1 {:.2} %",
                    report.loss.unwrap_or(f64::NAN),
                    100.0 * report.top(1).unwrap_or(f64::NAN)
                )
            });
            let line = format!(
                "epoch {}/{}: loss {:.4}, top-1 {:.2} %{evaluation}; {:.0} images/s, {:.1} % waiting for data",
                event.epoch + 1,
                self.epochs,
                event.loss,
                100.0 * event.top1,
                event.images_per_second,
                100.0 * event.data_wait
            );
            self.bar.suspend(|| output::note(&line));
        }
        let mut event_value = value(event);
        if let Some(object) = event_value.as_object_mut() {
            object.remove("evaluation");
        }
        self.event("epoch", event_value)
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        self.event("end", json!({ "ending": event.ending, "step": event.step, "epochs": event.epochs, "best": event.best, "checkpoint": event.checkpoint }))
    }
}
