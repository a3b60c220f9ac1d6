use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;
use timburn_core::Result;
use timburn_train::Observer;
use timburn_train::trainer::{EpochEvent, EvaluationEvent, StepEvent};
use timburn_train::transfer::{Baselines, HeadEpoch, Phase, TransferObserver};

use crate::output;

/// A bar a phase, and a line when it is over; or an event a line.
pub(super) struct Screen {
    json: bool,
    quiet: bool,
    bar: ProgressBar,
    started: Instant,
    epochs: u64,
    samples: u64,
    time: Duration,
}

impl Screen {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, bar: ProgressBar::hidden(), started: Instant::now(), epochs: 0, samples: 0, time: Duration::ZERO }
    }

    pub(super) fn note(&self, text: &str) {
        if !self.json && !self.quiet {
            self.bar.suspend(|| output::note(text));
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn bar(&mut self, total: u64, template: &str) {
        self.clear();
        if !self.json && !self.quiet {
            self.bar = output::bar(total, template);
        }
        self.started = Instant::now();
    }

    fn event(&self, value: &serde_json::Value) -> Result<()> {
        if self.json { output::results(|out| writeln!(out, "{value}")) } else { Ok(()) }
    }
}

impl TransferObserver for Screen {
    fn phase(&mut self, phase: &Phase) -> Result<()> {
        match phase {
            Phase::Features { passes } => {
                self.bar(*passes as u64, "features {bar:30} {pos}/{len} pictures, {rate}, {eta} left");
                self.event(&json!({ "event": "features", "passes": passes }))
            }
            Phase::Baselines => {
                self.note(&format!("features    {:.1} s", self.started.elapsed().as_secs_f64()));
                self.bar(0, "baselines: nearest neighbours, logistic regression");
                self.event(&json!({ "event": "baselines" }))
            }
            Phase::Head => {
                self.bar(0, "head {msg}");
                self.event(&json!({ "event": "head" }))
            }
            Phase::Body { epochs, steps, epoch } => {
                self.epochs = *epochs;
                let estimate = epoch.map(|epoch| epoch.as_secs_f64() * *epochs as f64);
                let about = estimate.map_or_else(String::new, |seconds| format!(", about {:.0} min", (seconds / 60.0).ceil()));
                let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
                self.note(&format!("body        {} of {}{about}", counted(*epochs, "epoch"), counted(*steps, "step")));
                self.bar(*steps, "{prefix} {bar:24} {pos}/{len} {msg}, {eta} left");
                self.bar.set_prefix(format!("epoch 1/{epochs}"));
                self.bar.set_message("first step");
                self.event(&json!({ "event": "body", "epochs": epochs, "steps": steps, "estimated_seconds": estimate }))
            }
            Phase::NoBody { reason } => {
                self.note(&format!("body        not trained: {reason}"));
                self.event(&json!({ "event": "no_body", "reason": reason }))
            }
            Phase::Test => {
                self.bar(0, "{msg} {bar:30} {pos}/{len}");
                self.bar.set_message("scoring the test set");
                Ok(())
            }
        }
    }

    fn extracted(&mut self, passes: usize) {
        self.bar.inc(passes as u64);
    }

    fn baselines(&mut self, baselines: &Baselines) {
        let text =
            format!("baselines   {:.2} % nearest neighbours, {:.2} % logistic regression", 100.0 * baselines.knn, 100.0 * baselines.probe);
        self.note(&text);
    }

    fn head_epoch(&mut self, epoch: &HeadEpoch) {
        let accuracy = 100.0 * epoch.report.top(1).unwrap_or(0.0);
        self.bar.set_message(format!("epoch {}: loss {:.3}, validation {accuracy:.2} %", epoch.epoch + 1, epoch.loss));
    }
}

impl Observer for Screen {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        if event.done == 1 {
            (self.samples, self.time) = (0, Duration::ZERO);
            self.bar.reset();
        }
        self.samples += event.samples as u64;
        self.time += event.time;
        self.bar.set_prefix(format!("epoch {}/{}", event.epoch + 1, self.epochs));
        self.bar.set_length(event.steps_per_epoch);
        self.bar.set_position(event.done);
        let rate = self.samples as f64 / self.time.as_secs_f64().max(1e-9);
        self.bar.set_message(format!("loss {:.3}, {rate:.0} images/s", event.loss));
        Ok(())
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        if self.bar.length() != Some(total as u64) {
            self.bar.reset();
            // Not at its end before it has begun.
            self.bar.set_position(0);
            self.bar.set_length(total as u64);
            self.bar.set_message("scoring");
        }
        self.bar.inc(done as u64);
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        self.event(&json!({ "event": "evaluation", "epoch": event.epoch, "top1": event.report.top(1), "loss": event.report.loss }))
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        let score = event.evaluation.as_ref().and_then(|report| report.top(1)).map(|share| format!(", validation {:.2} %", 100.0 * share));
        self.note(&format!("epoch {}/{}   loss {:.3}{}", event.epoch + 1, self.epochs, event.loss, score.unwrap_or_default()));
        Ok(())
    }
}
