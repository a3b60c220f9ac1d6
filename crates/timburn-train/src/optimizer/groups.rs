use std::collections::BTreeMap;

use burn::module::Module;
use serde::{Deserialize, Serialize};
use timburn_models::{LayerGroup, parameters};

/// What is special about a parameter's training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Factor of the learning rate.
    pub lr_scale: f64,
    /// Factor of the optimizer's weight decay; 0 for none.
    pub weight_decay_scale: f64,
    /// Never changed.
    pub frozen: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { lr_scale: 1.0, weight_decay_scale: 1.0, frozen: false }
    }
}

/// The group of every parameter of a model, by PyTorch key. A key it does not know belongs to the default group.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
}

impl Groups {
    /// The usual: no weight decay on vectors (norms' scales) and biases, the rule of timm and of torchvision's `--norm-weight-decay 0`.
    pub fn of<M: Module>(model: &M) -> Self {
        let mut groups = Self::uniform(model);
        for info in parameters(model) {
            if info.shape.len() <= 1 || info.key.ends_with(".bias") {
                groups.change(&info.key, |group| group.weight_decay_scale = 0.0);
            }
        }
        groups
    }

    /// Every parameter alike: weight decay on norms and biases too, as PyTorch does when it is given `model.parameters()`.
    pub fn uniform<M: Module>(model: &M) -> Self {
        let trainable = parameters(model).into_iter().filter(timburn_models::state_dict::ParameterInfo::is_trainable);
        Self { groups: trainable.map(|info| (info.key, Group::default())).collect() }
    }

    /// The group of the parameter `key`.
    pub fn get(&self, key: &str) -> Group {
        self.groups.get(key).copied().unwrap_or_default()
    }

    /// Keys and groups, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(key, group)| (key.as_str(), group))
    }

    /// Changes the groups of the parameters whose keys `select` accepts.
    #[must_use]
    pub fn with(mut self, select: impl Fn(&str) -> bool, change: impl Fn(&mut Group)) -> Self {
        for (_, group) in self.groups.iter_mut().filter(|(key, _)| select(key)) {
            change(group);
        }
        self
    }

    /// Multiplies the learning rate of layer group `i` by `scales[i]`; groups beyond the end of `scales` keep theirs.
    #[must_use]
    pub fn scaled(mut self, layers: &[LayerGroup], scales: &[f64]) -> Self {
        for (layer, scale) in layers.iter().zip(scales) {
            self = self.with(|key| layer.contains(key), |group| group.lr_scale *= scale);
        }
        self
    }

    /// Layer-wise decay: the last layer group (the head) keeps its learning rate, each one before it has `decay` times the next one's.
    #[must_use]
    pub fn layer_decay(self, layers: &[LayerGroup], decay: f64) -> Self {
        let scales: Vec<f64> = (0..layers.len()).rev().map(|distance| decay.powi(distance as i32)).collect();
        self.scaled(layers, &scales)
    }

    /// Freezes the parameters whose keys `select` accepts, and no others.
    #[must_use]
    pub fn frozen(mut self, select: impl Fn(&str) -> bool) -> Self {
        for (key, group) in &mut self.groups {
            group.frozen = select(key);
        }
        self
    }

    fn change(&mut self, key: &str, change: impl Fn(&mut Group)) {
        if let Some(group) = self.groups.get_mut(key) {
            change(group);
        }
    }
}
