//! A model's classes gathered into fewer ones.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::{Error, Result};
use timburn_models::{ImageModel, Stage};

/// A model whose classes are groups of another's: the probability of a group is the sum of its classes' (ImageNet's 118 dogs are one `dog`).
/// What belongs to no group counts for none, and the groups' probabilities are scaled to a sum of 1.
#[derive(Module, Debug)]
pub struct Grouped<M: ImageModel + ModuleDisplay> {
    model: M,
    #[module(skip)]
    groups: Vec<Vec<usize>>,
}

impl<M: ImageModel + ModuleDisplay> Grouped<M> {
    /// Gathers the classes of `model`: `groups[i]` are those that class i stands for. A model with one logit has two.
    ///
    /// # Errors
    /// [`Error::Argument`] for an output that is not there, or a group without any.
    pub fn new(model: M, groups: Vec<Vec<usize>>) -> Result<Self> {
        let outputs = model.num_classes().max(2);
        if let Some(empty) = groups.iter().position(Vec::is_empty) {
            let expected = "at least one class of the model".into();
            return Err(Error::Argument { name: "groups", value: format!("none for class {empty}"), expected });
        }
        match groups.iter().flatten().find(|&&output| output >= outputs) {
            Some(output) => {
                Err(Error::Argument { name: "groups", value: output.to_string(), expected: format!("a class below {outputs}") })
            }
            None => Ok(Self { model, groups }),
        }
    }
}

impl<M: ImageModel + ModuleDisplay> ImageModel for Grouped<M> {
    fn stages(&self) -> Vec<Stage> {
        self.model.stages()
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        self.model.forward_stage(index, input)
    }

    fn forward_features(&self, images: Tensor<4>) -> Tensor<4> {
        self.model.forward_features(images)
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        self.model.pool(features)
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        let logits = self.model.classify(pooled);
        // σ(x) is the second of softmax([0, x]).
        let logits = if self.model.num_classes() == 1 { Tensor::cat(vec![logits.zeros_like(), logits], 1) } else { logits };
        let probabilities = softmax(logits, 1);
        let (outputs, groups) = (self.model.num_classes().max(2), self.groups.len());
        let mut member = vec![0.0f32; outputs * groups];
        for (group, members) in self.groups.iter().enumerate() {
            for output in members {
                if let Some(entry) = member.get_mut(output * groups + group) {
                    *entry = 1.0;
                }
            }
        }
        let member = Tensor::<2>::from_data(TensorData::new(member, [outputs, groups]), &probabilities.device());
        // The smallest normal number keeps the logarithm finite.
        (probabilities.matmul(member) + f32::MIN_POSITIVE).log()
    }

    fn num_features(&self) -> usize {
        self.model.num_features()
    }

    fn num_classes(&self) -> usize {
        self.groups.len()
    }

    fn head_keys(&self) -> Vec<String> {
        self.model.head_keys().into_iter().map(|key| format!("model.{key}")).collect()
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        let groups = (0..classes).map(|class| vec![class]).collect();
        Self { model: self.model.reset_classifier(classes, seed, device), groups }
    }
}

#[cfg(test)]
mod tests {
    use timburn_models::{ModelOptions, create};

    use super::*;
    use crate::tensors::host;

    #[test]
    fn a_group_has_the_sum_of_its_classes_probabilities() {
        let device = Device::flex();
        let model = create("resnet20", &ModelOptions::classes(5), &device).unwrap();
        let images = Tensor::random([2, 3, 32, 32], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
        let all = host(softmax(model.forward(images.clone()), 1)).unwrap();
        let grouped = Grouped::new(model.clone(), vec![vec![0, 3], vec![4]]).unwrap();
        let found = host(softmax(grouped.forward(images.clone()), 1)).unwrap();
        for (row, found) in all.chunks(5).zip(found.chunks(2)) {
            let (first, second) = (row[0] + row[3], row[4]);
            assert!((found[0] - first / (first + second)).abs() < 1e-6, "{found:?}");
        }
        // One logit is two classes.
        let single = model.clone().reset_classifier(1, 0, &device);
        let logits = host(single.forward(images.clone())).unwrap();
        let swapped = Grouped::new(single, vec![vec![1], vec![0]]).unwrap();
        let found = host(softmax(swapped.forward(images), 1)).unwrap();
        for (logit, found) in logits.iter().zip(found.chunks(2)) {
            assert!((found[0] - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6, "{found:?}");
        }
        assert!(Grouped::new(model.clone(), vec![vec![5]]).is_err());
        assert!(Grouped::new(model, vec![vec![0], Vec::new()]).is_err());
    }
}
