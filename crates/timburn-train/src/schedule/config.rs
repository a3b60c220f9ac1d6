use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};

use super::{Curve, not_negative, positive};

/// A schedule: curves one after the other, and what comes before them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// What comes before the curves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// When the learning rate changes. One-Cycle changes at every step whatever is said here.
    #[serde(default)]
    pub update: Update,
    /// The curves, at least one.
    pub chain: Vec<Segment>,
}

/// How often the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// Once per epoch, as torchvision's scripts do.
    Epoch,
    /// At every optimizer step, with epochs as real numbers.
    #[default]
    Step,
}

/// One curve of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its shape.
    pub curve: Curve,
    /// Its length; all that is left when absent, which only the last one may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Its learning rate instead of the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
}

/// A warm-up towards the first curve's first learning rate; that curve's own time starts after it (PyTorch's `SequentialLR`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Its length.
    pub epochs: f64,
    /// How the factor grows.
    #[serde(default)]
    pub kind: WarmupKind,
    /// Factor at the start, in `(0, 1]`.
    #[serde(default = "Warmup::default_start")]
    pub start_factor: f64,
}

/// How a warm-up's factor grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmupKind {
    /// From `start_factor` to 1 in a line: `torch.optim.lr_scheduler.LinearLR`.
    #[default]
    Linear,
    /// `start_factor` all the time: `ConstantLR`.
    Constant,
}

impl Warmup {
    fn default_start() -> f64 {
        0.01
    }

    /// The factor after `time` epochs.
    pub fn factor(&self, time: f64) -> f64 {
        match self.kind {
            WarmupKind::Linear => self.start_factor + (1.0 - self.start_factor) * (time / self.epochs).min(1.0),
            WarmupKind::Constant => self.start_factor,
        }
    }
}

impl ScheduleConfig {
    /// One curve for the whole run, a change at every step.
    pub fn new(curve: Curve) -> Self {
        Self { warmup: None, update: Update::Step, chain: vec![Segment { curve, epochs: None, lr: None }] }
    }

    /// With this warm-up.
    #[must_use]
    pub fn warmup(self, warmup: Warmup) -> Self {
        Self { warmup: Some(warmup), ..self }
    }

    /// With this update.
    #[must_use]
    pub fn update(self, update: Update) -> Self {
        Self { update, ..self }
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first one.
    pub fn validate(&self) -> Result<()> {
        if let Some(warmup) = &self.warmup {
            not_negative("schedule.warmup.epochs", warmup.epochs)?;
            positive("schedule.warmup.start_factor", warmup.start_factor)?;
            if warmup.start_factor > 1.0 {
                let value = warmup.start_factor.to_string();
                return Err(Error::Argument { name: "schedule.warmup.start_factor", value, expected: "a number in (0, 1]".into() });
            }
        }
        let Some((_, before_last)) = self.chain.split_last() else {
            return Err(Error::Argument { name: "schedule.chain", value: "[]".into(), expected: "at least one curve".into() });
        };
        if before_last.iter().any(|segment| segment.epochs.is_none()) {
            let expected = "a number of epochs for every curve but the last".into();
            return Err(Error::Argument { name: "schedule.chain.epochs", value: "none".into(), expected });
        }
        for segment in &self.chain {
            if let Some(epochs) = segment.epochs {
                positive("schedule.chain.epochs", epochs)?;
            }
            if let Some(lr) = segment.lr {
                positive("schedule.chain.lr", lr)?;
            }
            segment.curve.validate()?;
        }
        Ok(())
    }
}
