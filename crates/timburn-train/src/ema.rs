//! Exponential moving average of a model: parameters and batch-norm statistics.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};
use timburn_kernels::lerp;
use timburn_models::state_dict::KeyPath;
use timburn_models::{StateDict, load_state_dict, state_dict};

use crate::tensors::flatten;

/// How the average follows the model: timm's `ModelEmaV3`, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Weight of the past, in `[0, 1)`.
    pub decay: f64,
    /// Lowest weight of the past while warming up.
    pub min_decay: f64,
    /// The average is a copy of the model up to and including this update.
    pub update_after_step: u64,
    /// Grows the weight of the past as `1 - (1 + n / warmup_gamma)^-warmup_power`, up to `decay`.
    pub use_warmup: bool,
    /// Scale of the warm-up in updates.
    pub warmup_gamma: f64,
    /// Speed of the warm-up: 2/3 for a million updates and more, 3/4 for fewer.
    pub warmup_power: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.9999, min_decay: 0.0, update_after_step: 0, use_warmup: false, warmup_gamma: 1.0, warmup_power: 2.0 / 3.0 }
    }
}

impl EmaConfig {
    /// The weight of the past in the update with this number, counted from 1. The first is 0: the average starts as a copy.
    pub fn decay(&self, update: u64) -> f64 {
        let step = update.saturating_sub(self.update_after_step).saturating_sub(1);
        if step == 0 {
            return 0.0;
        }
        if !self.use_warmup {
            return self.decay;
        }
        let warm = 1.0 - (1.0 + step as f64 / self.warmup_gamma).powf(-self.warmup_power);
        warm.min(self.decay).max(self.min_decay)
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("ema.decay", self.decay), ("ema.min_decay", self.min_decay)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::Argument { name, value: value.to_string(), expected: "a number in [0, 1)".into() });
            }
        }
        for (name, value) in [("ema.warmup_gamma", self.warmup_gamma), ("ema.warmup_power", self.warmup_power)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::Argument { name, value: value.to_string(), expected: "a positive number".into() });
            }
        }
        Ok(())
    }
}

/// The average of a model over its training, ready for evaluation. It shares nothing with the live model.
///
/// `e ← d e + (1 - d) θ` for every parameter and batch-norm statistic, `d` by [`EmaConfig::decay`].
#[derive(Debug, Clone)]
pub struct Ema<M: Module> {
    config: EmaConfig,
    model: M,
    updates: u64,
}

impl<M: Module> Ema<M> {
    /// A copy of `model` to start from.
    ///
    /// # Errors
    /// [`Error::Argument`] for a value out of range.
    pub fn new(config: EmaConfig, model: &M) -> Result<Self> {
        config.validate()?;
        // `valid` detaches running statistics, which a plain clone of Burn's own batch norm would share with the live model.
        Ok(Self { config, model: model.valid(), updates: 0 })
    }

    /// Follows `model` by one optimizer step.
    #[must_use]
    pub fn update(self, model: &M) -> Self {
        let updates = self.updates + 1;
        let decay = self.config.decay(updates);
        // Burn's own batch norm shows statistics that are a batch old unless it is synchronised, which `valid` does.
        let mut live = Live { path: KeyPath::default(), values: BTreeMap::new() };
        model.valid().visit(&mut live);
        let mut follow = Follow { path: KeyPath::default(), live: live.values, weight: 1.0 - decay };
        Self { model: self.model.map(&mut follow), updates, ..self }
    }

    /// The average, for evaluation.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The average under PyTorch's keys. With [`updates`](Self::updates) it is the whole state.
    pub fn state(&self) -> StateDict {
        state_dict(&self.model)
    }

    /// Puts back what [`state`](Self::state) and [`updates`](Self::updates) gave.
    ///
    /// # Errors
    /// As [`load_state_dict`]; the average is unchanged then.
    pub fn load_state(&mut self, dict: &StateDict, updates: u64) -> Result<()> {
        self.model = load_state_dict(&self.model, dict)?;
        self.updates = updates;
        Ok(())
    }
}

struct Live {
    path: KeyPath,
    values: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Live {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.insert(self.path.key(), flatten(param.val()));
    }
}

struct Follow {
    path: KeyPath,
    live: BTreeMap<String, Tensor<1>>,
    weight: f64,
}

impl ModuleMapper for Follow {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(live) = self.live.remove(&self.path.key()) else { return param };
        let weight = self.weight;
        param.map(|average| {
            let shape = average.dims();
            let followed = if weight == 1.0 { live } else { lerp(flatten(average), live, weight) };
            followed.reshape(shape)
        })
    }
}
