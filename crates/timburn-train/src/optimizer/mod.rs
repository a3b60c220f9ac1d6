//! Optimizers with PyTorch's (and, for LAMB, LARS and Lion, timm's) update rules, defaults and names of states.
//!
//! Burn's own optimizers are not used: their records allocate on the default device and skip state that fits no parameter without a
//! word, where a resumed run must be equal to the bit or refuse to start; and groups are needed by key, not by module. Here a state is
//! known by its parameter's PyTorch key and its name in PyTorch: `layer1.0.conv1.weight.momentum_buffer`.

mod adagrad;
mod adam;
mod config;
mod groups;
mod lamb;
mod lars;
mod lion;
mod muon;
mod rmsprop;
mod rule;
mod sgd;
mod state;

pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use config::OptimizerConfig;
pub use groups::{Group, Groups};
pub use lamb::Lamb;
pub use lars::Lars;
pub use lion::Lion;
pub use muon::{LrAdjustment, Muon};
pub use rmsprop::RmsProp;
pub use rule::Slots;
pub use sgd::Sgd;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use timburn_core::{Error, Result};
use timburn_models::StateDict;
use timburn_models::state_dict::KeyPath;

use crate::gradients::ParameterGradients;
use crate::tensors::flatten;
use rule::{Hyper, Rule};

/// What changes from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepParams {
    /// Learning rate, before the groups' factors.
    pub lr: f64,
    /// Takes the place of the optimizer's momentum (its β₁, for the Adam family): One-Cycle's other half.
    pub momentum: Option<f64>,
}

impl StepParams {
    /// A learning rate, with the optimizer's own momentum.
    pub fn lr(lr: f64) -> Self {
        Self { lr, momentum: None }
    }
}

/// An optimizer and its state for the parameters of one model.
///
/// A parameter is trained when it requires gradients ([`Module::no_grad`] and freezing turn that off) and its group does not freeze it.
/// Any other is left bit for bit as it is, and has no state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    groups: Groups,
    states: BTreeMap<String, Slots>,
}

impl Optimizer {
    /// An optimizer without state.
    ///
    /// # Errors
    /// [`Error::Argument`] for a hyperparameter out of range.
    pub fn new(config: OptimizerConfig, groups: Groups) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, groups, states: BTreeMap::new() })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// The groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Other groups from the next step on: gradual unfreezing. State of parameters that stay trainable is kept.
    pub fn set_groups(&mut self, groups: Groups) {
        self.groups = groups;
    }

    /// One update. The model moves through, so that no parameter is in memory twice.
    ///
    /// # Errors
    /// [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed), only from an optimizer that needs a value on the host (LAMB's
    /// own clipping); [`Error::Argument`] for a learning rate or momentum that is not finite. The model is lost then.
    pub fn step<M: Module>(&mut self, model: M, gradients: ParameterGradients, params: &StepParams) -> Result<M> {
        for (name, value) in [("lr", Some(params.lr)), ("momentum", params.momentum)] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(Error::Argument { name, value: value.to_string(), expected: "a finite number".into() });
            }
        }
        let rule = self.config.rule();
        let gradients = rule.prepare(gradients)?;
        let Self { groups, states, .. } = self;
        Ok(model.map(&mut Update { path: KeyPath::default(), rule, groups, states, gradients, params }))
    }

    /// All state of the trainable parameters of `model`, under `<parameter's key>.<name in PyTorch>`; `step` is an integer scalar.
    /// State that is still at its start is there too: what must be in a file is a function of configuration and model alone.
    ///
    /// # Errors
    /// [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed).
    pub fn state<M: Module>(&self, model: &M) -> Result<StateDict> {
        state::export(self.config.rule(), &self.groups, &self.states, model)
    }

    /// Puts back what [`state`](Self::state) gave, each tensor on its parameter's device. All or nothing.
    ///
    /// Freezing (of the model and of the groups) must be as it was at the time of [`state`](Self::state).
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`](timburn_core::WeightsError::Mismatch) with all missing, unexpected and mis-shaped tensors;
    /// [`WeightsError::Corrupt`](timburn_core::WeightsError::Corrupt) for one that cannot be read.
    pub fn load_state<M: Module>(&mut self, model: &M, dict: &StateDict) -> Result<()> {
        self.states = state::import(self.config.rule(), &self.groups, model, dict)?;
        Ok(())
    }

    /// Keys of the parameters that have state.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.states.keys().map(String::as_str)
    }
}

struct Update<'a> {
    path: KeyPath,
    rule: &'a dyn Rule,
    groups: &'a Groups,
    states: &'a mut BTreeMap<String, Slots>,
    gradients: ParameterGradients,
    params: &'a StepParams,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_initialized() {
            return param;
        }
        let key = self.path.key();
        let group = self.groups.get(&key);
        if group.frozen || !param.val().is_require_grad() {
            self.states.remove(&key);
            return param;
        }
        let Some(gradient) = self.gradients.remove(&key) else { return param };
        let slots = self.states.entry(key).or_default();
        slots.step += 1;
        let shape = param.dims();
        let hyper = Hyper {
            lr: self.params.lr * group.lr_scale,
            momentum: self.params.momentum,
            weight_decay: self.rule.weight_decay() * group.weight_decay_scale,
            shape: &shape,
        };
        let rule = self.rule;
        param.map(|value| {
            // Lifting a tensor back into autodiff would otherwise reset its checkpointing, and one forward pass cannot mix two kinds.
            let checkpointing = value.gradient_checkpointing_strategy();
            let updated = rule.update(flatten(value.inner()), gradient, slots, &hyper).reshape(shape);
            let updated = Tensor::from_inner(updated);
            match checkpointing {
                Some(strategy) => updated.with_gradient_checkpointing_strategy(strategy),
                None => updated,
            }
            .require_grad()
        })
    }
}
