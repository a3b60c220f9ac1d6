use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};

use super::{OneCycle, Plateau, not_negative, positive};

/// The shape of a schedule. Times and lengths are epochs, `t` counts from the curve's start, η₀ is its learning rate; the sources are the
/// classes of `torch.optim.lr_scheduler`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Curve {
    /// η₀.
    Constant {},
    /// `η₀ γ^⌊t / step_size⌋`: `StepLR`.
    Step {
        /// Epochs between changes.
        step_size: f64,
        /// γ.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// `η₀ γ^(milestones passed)`: `MultiStepLR`.
    MultiStep {
        /// Epochs at which the rate changes, ascending.
        milestones: Vec<f64>,
        /// γ.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// `η_min + (η₀ - η_min) (1 + cos(π t / t_max)) / 2`: `CosineAnnealingLR`, which stays at η_min past its end.
    Cosine {
        /// Length of the descent; the whole curve when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        t_max: Option<f64>,
        /// η_min.
        #[serde(default)]
        eta_min: f64,
    },
    /// [`Cosine`](Self::Cosine) that starts again, each time for `t_mult` times as long: `CosineAnnealingWarmRestarts`.
    CosineRestarts {
        /// Length of the first descent.
        t_0: f64,
        /// Growth of the length, 1 or more.
        #[serde(default = "one")]
        t_mult: f64,
        /// η_min.
        #[serde(default)]
        eta_min: f64,
    },
    /// From `start_factor · η₀` to `end_factor · η₀` in a line: `LinearLR` (whose own defaults are a warm-up's: 1/3 and 1).
    Linear {
        /// Factor at the start.
        #[serde(default = "one")]
        start_factor: f64,
        /// Factor at the end and after.
        #[serde(default)]
        end_factor: f64,
        /// Length of the line; the whole curve when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<f64>,
    },
    /// `η₀ (1 - t / length)^power`: `PolynomialLR`.
    Polynomial {
        /// The exponent.
        #[serde(default = "one")]
        power: f64,
        /// Length of the descent; the whole curve when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<f64>,
    },
    /// `η₀ γᵗ`: `ExponentialLR`.
    Exponential {
        /// γ, per epoch.
        gamma: f64,
    },
    /// Up, down, and the momentum the other way: `OneCycleLR`. η₀ is the peak.
    OneCycle(OneCycle),
    /// Down when a metric stops improving: `ReduceLROnPlateau`.
    Plateau(Plateau),
}

fn tenth() -> f64 {
    0.1
}

fn one() -> f64 {
    1.0
}

impl Curve {
    /// The learning rate at time `t` of a curve of `length` epochs at the rate `lr`. One-Cycle and plateau, which need more than the
    /// time, give `lr`.
    pub fn lr(&self, lr: f64, t: f64, length: f64) -> f64 {
        match self {
            Self::Constant {} | Self::OneCycle(_) | Self::Plateau(_) => lr,
            Self::Step { step_size, gamma } => lr * gamma.powf((t / step_size).floor()),
            Self::MultiStep { milestones, gamma } => lr * gamma.powi(milestones.iter().filter(|&&milestone| t >= milestone).count() as i32),
            Self::Cosine { t_max, eta_min } => cosine(lr, *eta_min, t / t_max.unwrap_or(length)),
            Self::CosineRestarts { t_0, t_mult, eta_min } => cosine(lr, *eta_min, restarts(t, *t_0, *t_mult)),
            Self::Linear { start_factor, end_factor, length: own } => {
                lr * (start_factor + (end_factor - start_factor) * (t / own.unwrap_or(length)).min(1.0))
            }
            Self::Polynomial { power, length: own } => lr * (1.0 - (t / own.unwrap_or(length)).min(1.0)).powf(*power),
            Self::Exponential { gamma } => lr * gamma.powf(t),
        }
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first one.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Constant {} => Ok(()),
            Self::Step { step_size, gamma } => {
                positive("schedule.step_size", *step_size)?;
                positive("schedule.gamma", *gamma)
            }
            Self::MultiStep { milestones, gamma } => {
                if !milestones.is_sorted() || milestones.iter().any(|milestone| !milestone.is_finite()) {
                    let value = format!("{milestones:?}");
                    return Err(Error::Argument { name: "schedule.milestones", value, expected: "epochs in ascending order".into() });
                }
                positive("schedule.gamma", *gamma)
            }
            Self::Cosine { t_max, eta_min } => {
                positive("schedule.t_max", t_max.unwrap_or(1.0))?;
                not_negative("schedule.eta_min", *eta_min)
            }
            Self::CosineRestarts { t_0, t_mult, eta_min } => {
                positive("schedule.t_0", *t_0)?;
                not_negative("schedule.eta_min", *eta_min)?;
                if *t_mult >= 1.0 && t_mult.is_finite() {
                    return Ok(());
                }
                Err(Error::Argument { name: "schedule.t_mult", value: t_mult.to_string(), expected: "a number from 1 on".into() })
            }
            Self::Linear { start_factor, end_factor, length } => {
                not_negative("schedule.start_factor", *start_factor)?;
                not_negative("schedule.end_factor", *end_factor)?;
                positive("schedule.length", length.unwrap_or(1.0))
            }
            Self::Polynomial { power, length } => {
                positive("schedule.power", *power)?;
                positive("schedule.length", length.unwrap_or(1.0))
            }
            Self::Exponential { gamma } => positive("schedule.gamma", *gamma),
            Self::OneCycle(cycle) => cycle.validate(),
            Self::Plateau(plateau) => plateau.validate(),
        }
    }
}

/// Half a cosine from `start` at 0 to `end` at 1, flat after.
fn cosine(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * (1.0 + (PI * progress.min(1.0)).cos()) / 2.0
}

/// Progress in the current descent.
fn restarts(t: f64, first: f64, growth: f64) -> f64 {
    if growth == 1.0 {
        return t.rem_euclid(first) / first;
    }
    let (mut rest, mut length) = (t, first);
    while rest >= length {
        rest -= length;
        length *= growth;
    }
    rest / length
}
