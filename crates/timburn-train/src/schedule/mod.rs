//! Learning rate and momentum as functions of the step.
//!
//! A [`Schedule`] is a chain of [`Curve`]s, each for a number of epochs, with an optional warm-up in front. All but one are pure functions
//! of the step, so a resumed run needs nothing but the step's number; [`Plateau`] also reads a metric, and its state can be saved.

mod config;
mod curve;
mod one_cycle;
mod plateau;

pub use config::{ScheduleConfig, Segment, Update, Warmup, WarmupKind};
pub use curve::Curve;
pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{Better, Plateau, PlateauState, ThresholdMode};

use timburn_core::{Error, Result};

/// What the optimizer is to use at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate, before the groups' factors.
    pub lr: f64,
    /// Momentum (β₁ for the Adam family), where the schedule drives it.
    pub momentum: Option<f64>,
}

/// A configured schedule of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    steps_per_epoch: u64,
    warmup: u64,
    parts: Vec<Part>,
}

/// A curve and where it lies.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    curve: Curve,
    start: u64,
    steps: u64,
    lr: f64,
    plateau: Option<PlateauState>,
}

impl Schedule {
    /// The schedule of a run of `epochs` epochs of `steps_per_epoch` optimizer steps each, at the learning rate `lr`.
    ///
    /// The last curve lasts until the end; any before it has its own number of epochs.
    ///
    /// # Errors
    /// [`Error::Argument`] for a value out of range, or curves that do not fit into the epochs.
    pub fn new(config: ScheduleConfig, lr: f64, epochs: f64, steps_per_epoch: u64) -> Result<Self> {
        config.validate()?;
        positive("lr", lr)?;
        positive("epochs", epochs)?;
        positive("steps_per_epoch", steps_per_epoch as f64)?;
        let to_steps = |epochs: f64| (epochs * steps_per_epoch as f64).round() as u64;
        let total = to_steps(epochs).max(1);
        let warmup = config.warmup.as_ref().map_or(0, |warmup| to_steps(warmup.epochs));
        let mut start = warmup;
        let mut parts: Vec<Part> = Vec::with_capacity(config.chain.len());
        for (index, segment) in config.chain.iter().enumerate() {
            let rest = total.saturating_sub(start);
            let last = index + 1 == config.chain.len();
            let steps = match segment.epochs {
                Some(epochs) if !last => to_steps(epochs),
                Some(epochs) => to_steps(epochs).max(rest),
                None => rest,
            };
            if steps == 0 || start >= total {
                let expected = format!("warm-up and curves that leave an epoch for each, in {epochs} epochs");
                return Err(Error::Argument { name: "schedule", value: format!("no step for curve {}", index + 1), expected });
            }
            // A plateau goes on from where the curve before it ended; any other starts from the run's rate.
            let before = parts.last().filter(|_| matches!(segment.curve, Curve::Plateau(_)));
            let lr = match (segment.lr, before) {
                (Some(lr), _) => lr,
                (None, Some(before)) => before.rates(before.steps - 1, steps_per_epoch, config.update).lr,
                (None, None) => lr,
            };
            let plateau = match &segment.curve {
                Curve::Plateau(plateau) => Some(plateau.start(lr)),
                _ => None,
            };
            parts.push(Part { curve: segment.curve.clone(), start, steps, lr, plateau });
            start += steps;
        }
        Ok(Self { config, steps_per_epoch, warmup, parts })
    }

    /// The rates of optimizer step `step`, counted from 0. Past the end, those of the last step.
    pub fn rates(&self, step: u64) -> Rates {
        if let Some(warmup) = self.config.warmup.as_ref().filter(|_| step < self.warmup) {
            let target = self.parts.first().map_or(Rates { lr: 0.0, momentum: None }, |part| self.part_rates(part, 0));
            let progress = time(step, self.steps_per_epoch, self.config.update);
            return Rates { lr: target.lr * warmup.factor(progress), ..target };
        }
        match self.parts.iter().rev().find(|part| part.start <= step) {
            Some(part) => self.part_rates(part, step - part.start),
            None => Rates { lr: 0.0, momentum: None },
        }
    }

    fn part_rates(&self, part: &Part, step: u64) -> Rates {
        part.rates(step, self.steps_per_epoch, self.config.update)
    }

    /// Tells the schedule the metric at the end of epoch `epoch` (from 0). Only a [`Plateau`] that was in charge of that epoch listens: it
    /// asks for a metric that gets better its way (lower: a loss; higher: an accuracy). One that is not a number is no improvement.
    pub fn observe(&mut self, epoch: u64, metric: impl Fn(Better) -> f64) {
        let last_step = ((epoch + 1) * self.steps_per_epoch).saturating_sub(1);
        if let Some(part) = self.parts.iter_mut().rev().find(|part| part.start <= last_step)
            && let (Curve::Plateau(plateau), Some(state)) = (&part.curve, &mut part.plateau)
        {
            plateau.observe(state, metric(plateau.mode));
        }
    }

    /// State of the plateaus, in order; everything else is a function of the step.
    pub fn state(&self) -> Vec<PlateauState> {
        self.parts.iter().filter_map(|part| part.plateau).collect()
    }

    /// Puts back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`Error::Argument`] when the number of plateaus differs: the state is another schedule's.
    pub fn load_state(&mut self, states: &[PlateauState]) -> Result<()> {
        let mine = self.state().len();
        if mine != states.len() {
            let expected = format!("{mine} plateau(s), as in the recipe");
            return Err(Error::Argument { name: "schedule state", value: format!("{} plateau(s)", states.len()), expected });
        }
        let plateaus = self.parts.iter_mut().filter_map(|part| part.plateau.as_mut());
        for (plateau, state) in plateaus.zip(states) {
            *plateau = *state;
        }
        Ok(())
    }
}

impl Part {
    fn rates(&self, step: u64, steps_per_epoch: u64, update: Update) -> Rates {
        let step = step.min(self.steps - 1);
        match (&self.curve, &self.plateau) {
            (Curve::OneCycle(cycle), _) => cycle.rates(self.lr, step, self.steps),
            (Curve::Plateau(_), Some(state)) => Rates { lr: state.lr, momentum: None },
            (curve, _) => {
                let length = self.steps as f64 / steps_per_epoch as f64;
                Rates { lr: curve.lr(self.lr, time(step, steps_per_epoch, update), length), momentum: None }
            }
        }
    }
}

/// Epochs that have passed, as the schedule sees them.
fn time(step: u64, steps_per_epoch: u64, update: Update) -> f64 {
    match update {
        Update::Epoch => (step / steps_per_epoch) as f64,
        Update::Step => step as f64 / steps_per_epoch as f64,
    }
}

pub(crate) fn positive(name: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::Argument { name, value: value.to_string(), expected: "a positive number".into() })
}

pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::Argument { name, value: value.to_string(), expected: "a number from 0 on".into() })
}
