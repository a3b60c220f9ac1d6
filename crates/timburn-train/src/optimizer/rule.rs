use std::collections::BTreeMap;

use burn::tensor::Tensor;
use timburn_core::{Error, Result};

use crate::gradients::ParameterGradients;

/// An update rule: what differs between optimizers. Tensors are flat.
pub(crate) trait Rule {
    /// Names of the tensors kept for a parameter of this shape.
    fn slots(&self, shape: &[usize]) -> &'static [&'static str];

    /// Weight decay, before the groups' factors.
    fn weight_decay(&self) -> f64;

    /// The parameter after one step; `slots.step` counts this one.
    fn update(&self, param: Tensor<1>, gradient: Tensor<1>, slots: &mut Slots, hyper: &Hyper<'_>) -> Tensor<1>;

    /// The value a slot starts from.
    fn initial(&self) -> f64 {
        0.0
    }

    /// What happens to all gradients together before the parameters are updated one by one.
    fn prepare(&self, gradients: ParameterGradients) -> Result<ParameterGradients> {
        Ok(gradients)
    }

    /// Refuses hyperparameters out of range.
    fn validate(&self) -> Result<()>;
}

/// What a rule needs beside its configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hyper<'a> {
    /// Learning rate of the parameter's group.
    pub(crate) lr: f64,
    /// Override of momentum or β₁.
    pub(crate) momentum: Option<f64>,
    /// Weight decay of the parameter's group.
    pub(crate) weight_decay: f64,
    /// The parameter's shape.
    pub(crate) shape: &'a [usize],
}

/// State of one parameter: named tensors and the number of updates.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    pub(crate) step: u64,
    pub(crate) tensors: BTreeMap<&'static str, Tensor<1>>,
}

impl Slots {
    /// Number of updates the parameter has had.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Replaces the slot by `change` of it and returns the new value. A slot starts as zeros of `like`'s shape, on its device.
    pub(crate) fn update(&mut self, name: &'static str, like: &Tensor<1>, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Tensor<1> {
        self.update_from(name, like, 0.0, change)
    }

    /// As [`update`](Self::update), starting from `initial` everywhere.
    pub(crate) fn update_from(
        &mut self,
        name: &'static str,
        like: &Tensor<1>,
        initial: f64,
        change: impl FnOnce(Tensor<1>) -> Tensor<1>,
    ) -> Tensor<1> {
        let new = change(self.take(name, like, initial));
        self.put(name, new.clone());
        new
    }

    /// Takes the slot out; it starts as `initial` everywhere.
    pub(crate) fn take(&mut self, name: &'static str, like: &Tensor<1>, initial: f64) -> Tensor<1> {
        self.tensors.remove(name).unwrap_or_else(|| like.zeros_like() + initial)
    }

    /// Puts a slot back.
    pub(crate) fn put(&mut self, name: &'static str, value: Tensor<1>) {
        self.tensors.insert(name, value);
    }
}

/// Refuses a value outside `[low, high)`; NaN too.
pub(crate) fn within(name: &'static str, value: f64, low: f64, high: f64) -> Result<()> {
    if value >= low && value < high {
        return Ok(());
    }
    let expected = if high == f64::INFINITY { format!("a finite number from {low} on") } else { format!("a number in [{low}, {high})") };
    Err(Error::Argument { name, value: value.to_string(), expected })
}
