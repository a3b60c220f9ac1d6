use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};

use super::not_negative;

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Lower is better: a loss.
    #[default]
    Min,
    /// Higher is better: an accuracy.
    Max,
}

/// What an improvement is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// The threshold is a share of the best value.
    #[default]
    Rel,
    /// The threshold is a difference.
    Abs,
}

/// Multiplies the learning rate by `factor` when the metric has not improved for more than `patience` epochs:
/// `torch.optim.lr_scheduler.ReduceLROnPlateau`, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Which way the metric improves.
    pub mode: Better,
    /// In `(0, 1)`.
    pub factor: f64,
    /// Epochs without improvement that are let pass.
    pub patience: u32,
    /// Smallest change that counts as an improvement.
    pub threshold: f64,
    /// What the threshold is relative to.
    pub threshold_mode: ThresholdMode,
    /// Epochs after a reduction in which none counts as bad.
    pub cooldown: u32,
    /// Lowest learning rate.
    pub min_lr: f64,
    /// A reduction by no more than this is not made.
    pub eps: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            mode: Better::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

/// Where a [`Plateau`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauState {
    /// The learning rate.
    pub lr: f64,
    /// Best metric so far; none before the first.
    pub best: Option<f64>,
    /// Epochs in a row without improvement.
    pub bad_epochs: u32,
    /// Epochs of cooldown left.
    pub cooldown: u32,
}

impl Plateau {
    /// Before the first epoch, at the learning rate `lr`.
    pub fn start(&self, lr: f64) -> PlateauState {
        PlateauState { lr, best: None, bad_epochs: 0, cooldown: 0 }
    }

    /// Takes in the metric of one more epoch; NaN is no improvement.
    pub fn observe(&self, state: &mut PlateauState, metric: f64) {
        if state.best.map_or(!metric.is_nan(), |best| self.improves(metric, best)) {
            state.best = Some(metric);
            state.bad_epochs = 0;
        } else {
            state.bad_epochs += 1;
        }
        if state.cooldown > 0 {
            state.cooldown -= 1;
            state.bad_epochs = 0;
        }
        if state.bad_epochs > self.patience {
            let reduced = (state.lr * self.factor).max(self.min_lr);
            if state.lr - reduced > self.eps {
                state.lr = reduced;
            }
            state.cooldown = self.cooldown;
            state.bad_epochs = 0;
        }
    }

    fn improves(&self, metric: f64, best: f64) -> bool {
        match (self.mode, self.threshold_mode) {
            (Better::Min, ThresholdMode::Rel) => metric < best * (1.0 - self.threshold),
            (Better::Min, ThresholdMode::Abs) => metric < best - self.threshold,
            (Better::Max, ThresholdMode::Rel) => metric > best * (1.0 + self.threshold),
            (Better::Max, ThresholdMode::Abs) => metric > best + self.threshold,
        }
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        if !(self.factor > 0.0 && self.factor < 1.0) {
            let value = self.factor.to_string();
            return Err(Error::Argument { name: "schedule.factor", value, expected: "a number in (0, 1)".into() });
        }
        not_negative("schedule.threshold", self.threshold)?;
        not_negative("schedule.min_lr", self.min_lr)?;
        not_negative("schedule.eps", self.eps)
    }
}
