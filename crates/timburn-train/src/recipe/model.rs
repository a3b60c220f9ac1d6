use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};
use timburn_models::ModelOptions;

use super::sections::argument;
use crate::freeze::FreezePlan;

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Architecture (`resnet50`) or published weights (`resnet50.tv2_in1k`).
    pub name: String,
    /// Starts from published weights instead of random ones.
    #[serde(default)]
    pub pretrained: bool,
    /// Starts from the weights in this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Leaves everything up to and including this stage (`stem`, `layer3`; `body` for all of them) as it is, batch-norm statistics too; or up
    /// to another stage from epoch to epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezePlan>,
    /// What differs from the architecture's row.
    #[serde(default)]
    pub options: ModelOptions,
}

impl ModelSection {
    /// Outputs of the model for data with `classes` classes: one each, or a single one where `options.classes` asks for it and the classes
    /// are two.
    pub fn outputs(&self, classes: usize) -> usize {
        if self.options.classes == Some(1) && classes == 2 { 1 } else { classes }
    }

    pub(super) fn validate(&self) -> Result<()> {
        for (name, rate) in [("model.options.drop_path", Some(self.options.drop_path)), ("model.options.dropout", self.options.dropout)] {
            if let Some(rate) = rate.filter(|rate| !(0.0..1.0).contains(rate)) {
                return Err(argument(name, rate, "a probability in [0, 1)"));
            }
        }
        self.options.head.validate().map_err(|error| match error {
            Error::Argument { value, expected, .. } => Error::Argument { name: "model.options.head", value, expected },
            other => other,
        })?;
        let Some(plan) = &self.freeze else { return Ok(()) };
        plan.validate()?;
        if self.pretrained || self.weights.is_some() {
            return Ok(());
        }
        Err(argument("model.freeze", plan.until(0), "pretrained weights: random ones cannot be left as they are"))
    }
}
