use serde::{Deserialize, Serialize};
use timburn_core::Result;

use super::rule::Rule;
use super::{Adagrad, Adam, AdamW, Lamb, Lars, Lion, Muon, RmsProp, Sgd};

/// An optimizer by name, with its hyperparameters; those left out have PyTorch's defaults (timm's for LAMB, LARS and Lion).
///
/// The learning rate is no part of it: the schedule gives it at every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam with L2 regularisation.
    Adam(Adam),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// RMSprop.
    RmsProp(RmsProp),
    /// Adagrad.
    Adagrad(Adagrad),
    /// LAMB.
    Lamb(Lamb),
    /// LARS.
    Lars(Lars),
    /// Lion.
    Lion(Lion),
    /// Muon.
    Muon(Muon),
}

impl OptimizerConfig {
    /// Refuses hyperparameters out of range.
    ///
    /// # Errors
    /// [`Error::Argument`](timburn_core::Error::Argument) naming the first one.
    pub fn validate(&self) -> Result<()> {
        self.rule().validate()
    }

    /// Whether One-Cycle has a momentum to drive.
    pub fn has_momentum(&self) -> bool {
        match self {
            Self::Sgd(sgd) => sgd.momentum > 0.0,
            Self::RmsProp(rmsprop) => rmsprop.momentum > 0.0,
            Self::Lars(lars) => lars.momentum > 0.0,
            Self::Adagrad(_) => false,
            Self::Adam(_) | Self::AdamW(_) | Self::Lamb(_) | Self::Lion(_) | Self::Muon(_) => true,
        }
    }

    pub(crate) fn rule(&self) -> &dyn Rule {
        match self {
            Self::Sgd(rule) => rule,
            Self::Adam(rule) => rule,
            Self::AdamW(rule) => rule,
            Self::RmsProp(rule) => rule,
            Self::Adagrad(rule) => rule,
            Self::Lamb(rule) => rule,
            Self::Lars(rule) => rule,
            Self::Lion(rule) => rule,
            Self::Muon(rule) => rule,
        }
    }
}
