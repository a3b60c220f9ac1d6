//! Gradients by parameter key: accumulation over micro-batches, clipping, detection of non-finite values.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};
use timburn_models::state_dict::KeyPath;

use crate::tensors::{flatten, host, squared_pieces};

/// Gradients of a model's parameters, by PyTorch key, without autodiff. A parameter that took no part in the loss, or is frozen, has none.
#[derive(Debug, Clone, Default)]
pub struct ParameterGradients {
    /// Flat, so that one map holds tensors of every rank.
    values: BTreeMap<String, Tensor<1>>,
}

impl ParameterGradients {
    /// Takes what the backward pass computed for the parameters of `model` out of `gradients`.
    pub fn of<M: Module>(model: &M, gradients: Gradients) -> Self {
        struct Collect {
            path: KeyPath,
            gradients: Gradients,
            values: BTreeMap<String, Tensor<1>>,
        }
        impl ModuleVisitor for Collect {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.path.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                // A parameter that was never initialised was never used.
                if param.is_initialized()
                    && let Some(gradient) = param.val().grad_remove(&mut self.gradients)
                {
                    self.values.insert(self.path.key(), flatten(gradient));
                }
            }
        }
        let mut collect = Collect { path: KeyPath::default(), gradients, values: BTreeMap::new() };
        model.visit(&mut collect);
        Self { values: collect.values }
    }

    /// The gradient of the parameter `key`, flat.
    pub fn get(&self, key: &str) -> Option<Tensor<1>> {
        self.values.get(key).cloned()
    }

    /// Takes the gradient of the parameter `key`, flat.
    pub fn remove(&mut self, key: &str) -> Option<Tensor<1>> {
        self.values.remove(key)
    }

    /// Keys of the parameters that have a gradient, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Every value times `factor`: averaging, or undoing a loss scale.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        self.map(|value| value * factor)
    }

    /// Euclidean norm over all values of all parameters. NaN or infinite exactly when a value is, or when the norm's square overflows
    /// `f32` (a norm beyond 1e19).
    ///
    /// # Errors
    /// [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed).
    pub fn norm(&self) -> Result<f64> {
        let pieces: Vec<Tensor<1>> = self.values.values().flat_map(squared_pieces).collect();
        if pieces.is_empty() {
            return Ok(0.0);
        }
        // One transfer whatever the number of parameters.
        Ok(host(Tensor::cat(pieces, 0))?.into_iter().map(f64::from).sum::<f64>().sqrt())
    }

    /// Whether every value is a number; one transfer from the device. See [`norm`](Self::norm).
    ///
    /// # Errors
    /// As [`norm`](Self::norm).
    pub fn is_finite(&self) -> Result<bool> {
        Ok(self.norm()?.is_finite())
    }

    /// Clips and returns the norm from *before* clipping. When the norm is not finite the gradients come back as they are: the caller
    /// decides whether to stop or to skip the step.
    ///
    /// # Errors
    /// As [`norm`](Self::norm).
    pub fn clip(self, clip: Clip) -> Result<(Self, f64)> {
        let norm = self.norm()?;
        if !norm.is_finite() {
            return Ok((self, norm));
        }
        let clipped = match clip {
            Clip::Norm(max_norm) => {
                let factor = max_norm / (norm + 1e-6);
                if factor < 1.0 { self.scaled(factor) } else { self }
            }
            Clip::Value(limit) => self.map(|value| value.clamp(-limit, limit)),
        };
        Ok((clipped, norm))
    }

    fn map(self, change: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self { values: self.values.into_iter().map(|(key, value)| (key, change(value))).collect() }
    }

    /// Sum over the union of the keys.
    fn plus(mut self, other: Self) -> Self {
        for (key, value) in other.values {
            let sum = match self.values.remove(&key) {
                Some(sum) => sum + value,
                None => value,
            };
            self.values.insert(key, sum);
        }
        self
    }
}

/// How gradients are kept small.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Clip {
    /// All gradients times `min(1, max_norm / (norm + 1e-6))`, the norm taken over all parameters together: PyTorch's
    /// `clip_grad_norm_`.
    Norm(f64),
    /// Each value into `[-limit, limit]`: PyTorch's `clip_grad_value_`.
    Value(f64),
}

impl Clip {
    /// Refuses a limit that is not positive.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        let (name, limit) = match self {
            Self::Norm(limit) => ("clip.norm", limit),
            Self::Value(limit) => ("clip.value", limit),
        };
        if *limit > 0.0 && limit.is_finite() {
            return Ok(());
        }
        Err(Error::Argument { name, value: limit.to_string(), expected: "a positive number".into() })
    }
}

/// The mean gradient of several micro-batches: `Σ nᵢ gᵢ / Σ nᵢ`, where `gᵢ` is the gradient of the mean loss over `nᵢ` samples. It equals
/// the gradient of the mean loss over all samples, up to rounding.
#[derive(Debug, Default)]
pub struct Accumulator {
    /// `Σ (nᵢ / n₀) gᵢ`: equal micro-batches are summed as they are.
    sum: Option<ParameterGradients>,
    first: usize,
    samples: usize,
}

impl Accumulator {
    /// Adds the gradient of the mean loss over `samples` samples; nothing for 0 samples.
    pub fn add(&mut self, gradients: ParameterGradients, samples: usize) {
        if samples == 0 {
            return;
        }
        self.sum = Some(match self.sum.take() {
            None => {
                self.first = samples;
                gradients
            }
            Some(sum) if samples == self.first => sum.plus(gradients),
            Some(sum) => sum.plus(gradients.scaled(samples as f64 / self.first as f64)),
        });
        self.samples += samples;
    }

    /// Samples added since the last [`take`](Self::take).
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The mean; starts anew. `None` when nothing was added.
    pub fn take(&mut self) -> Option<ParameterGradients> {
        let Self { sum, first, samples } = std::mem::take(self);
        // A single micro-batch comes back bit for bit.
        sum.map(|sum| if samples == first { sum } else { sum.scaled(first as f64 / samples as f64) })
    }
}
