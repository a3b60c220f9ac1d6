//! Learning rates by layer group: body and head of a pretrained model seldom want the same one.

use timburn_core::error::ModelError;
use timburn_core::{Error, Result};
use timburn_models::LayerGroup;

use super::TrainSection;
use super::sections::argument;

impl TrainSection {
    /// Factor of the learning rate for each of `groups`, from the input on.
    ///
    /// # Errors
    /// [`ModelError::UnknownStage`] for a name in [`lr_groups`](Self::lr_groups) that no group has.
    pub fn lr_scales(&self, groups: &[LayerGroup]) -> Result<Vec<f64>> {
        if let Some(name) = self.lr_groups.keys().find(|name| groups.iter().all(|group| group.name != **name)) {
            let stages = groups.iter().map(|group| group.name.clone()).collect();
            return Err(ModelError::UnknownStage { name: name.clone(), stages }.into());
        }
        let before_head = |index: usize| (groups.len() - 1 - index) as f64;
        let scale = |(index, group): (usize, &LayerGroup)| {
            if let Some(decay) = self.layer_decay {
                decay.powf(before_head(index))
            } else if let Some(span) = self.lr_slice.filter(|_| groups.len() > 1) {
                span.powf(-before_head(index) / (groups.len() - 1) as f64)
            } else {
                self.lr_groups.get(&group.name).copied().unwrap_or(1.0)
            }
        };
        Ok(groups.iter().enumerate().map(scale).collect())
    }

    pub(super) fn validate_rates(&self) -> Result<()> {
        let given = [
            ("train.layer_decay", self.layer_decay.is_some()),
            ("train.lr_groups", !self.lr_groups.is_empty()),
            ("train.lr_slice", self.lr_slice.is_some()),
        ];
        let mut given = given.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            return Err(Error::Argument { name: second, value: format!("beside {first}"), expected: "one of the two".into() });
        }
        if let Some(decay) = self.layer_decay.filter(|decay| !(*decay > 0.0 && *decay <= 1.0)) {
            return Err(argument("train.layer_decay", decay, "a number in (0, 1]"));
        }
        if let Some(span) = self.lr_slice.filter(|span| !(*span >= 1.0 && span.is_finite())) {
            return Err(argument("train.lr_slice", span, "a number from 1 on"));
        }
        match self.lr_groups.iter().find(|(_, scale)| !(**scale >= 0.0 && scale.is_finite())) {
            Some((name, scale)) => Err(argument("train.lr_groups", format!("{name} = {scale}"), "numbers from 0 on")),
            None => Ok(()),
        }
    }
}
