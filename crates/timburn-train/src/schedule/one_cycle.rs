use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};

use super::{Rates, positive};

/// How One-Cycle goes from one value to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cos,
    /// A line.
    Linear,
}

/// One-Cycle, with the defaults and to the step the values of `torch.optim.lr_scheduler.OneCycleLR`. Smith and Topin, arXiv 1708.07120.
///
/// With peak η and `T` steps the rate climbs from `η / div_factor` to η at step `pct_start · T - 1` and falls to
/// `η / div_factor / final_div_factor` at step `T - 1`; with three phases it first falls back to its start, as long as it climbed. The
/// momentum goes the other way. fastai's values: `pct_start = 0.25`, `final_div_factor = 4e3` (its 1e5 is of the peak), momentum 0.95 to
/// 0.85.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Share of the climb, in `(0, 1)`; below 0.5 with three phases.
    pub pct_start: f64,
    /// Between cosine and line.
    pub anneal: Anneal,
    /// Whether momentum is driven too.
    pub cycle_momentum: bool,
    /// Momentum at the peak.
    pub base_momentum: f64,
    /// Momentum at both ends.
    pub max_momentum: f64,
    /// Peak over start.
    pub div_factor: f64,
    /// Start over end.
    pub final_div_factor: f64,
    /// Climb, fall back, then annihilate.
    pub three_phase: bool,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self {
            pct_start: 0.3,
            anneal: Anneal::Cos,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }
}

impl OneCycle {
    /// The rates at `step` of `steps`, with the peak `lr`.
    pub fn rates(&self, lr: f64, step: u64, steps: u64) -> Rates {
        let (step, total) = (step as f64, steps as f64);
        let initial = lr / self.div_factor;
        let end = initial / self.final_div_factor;
        let climb = self.pct_start * total;
        let (low, high) = (self.base_momentum, self.max_momentum);
        // (last step, learning rate from and to, momentum from and to)
        let phases: &[(f64, [f64; 2], [f64; 2])] = if self.three_phase {
            &[
                (climb - 1.0, [initial, lr], [high, low]),
                (2.0 * climb - 2.0, [lr, initial], [low, high]),
                (total - 1.0, [initial, end], [high, high]),
            ]
        } else {
            &[(climb - 1.0, [initial, lr], [high, low]), (total - 1.0, [lr, end], [low, high])]
        };
        let mut start = 0.0;
        let mut rates = Rates { lr: end, momentum: self.cycle_momentum.then_some(high) };
        for (last, lr, momentum) in phases {
            if step <= *last {
                // A phase of no length is over at once.
                let progress = if *last > start { (step - start) / (last - start) } else { 1.0 };
                rates.lr = self.between(*lr, progress);
                rates.momentum = self.cycle_momentum.then(|| self.between(*momentum, progress));
                break;
            }
            start = *last;
        }
        rates
    }

    fn between(&self, [from, to]: [f64; 2], progress: f64) -> f64 {
        match self.anneal {
            Anneal::Cos => to + (from - to) / 2.0 * (1.0 + (PI * progress).cos()),
            Anneal::Linear => from + (to - from) * progress,
        }
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        let below = |name, value: f64, low: f64, high: f64| {
            if value > low && value < high {
                return Ok(());
            }
            Err(Error::Argument { name, value: value.to_string(), expected: format!("a number in ({low}, {high})") })
        };
        below("schedule.pct_start", self.pct_start, 0.0, if self.three_phase { 0.5 } else { 1.0 })?;
        below("schedule.base_momentum", self.base_momentum, -f64::MIN_POSITIVE, 1.0)?;
        below("schedule.max_momentum", self.max_momentum, -f64::MIN_POSITIVE, 1.0)?;
        positive("schedule.div_factor", self.div_factor)?;
        positive("schedule.final_div_factor", self.final_div_factor)
    }
}
