use std::sync::Arc;

use serde::Serialize;
use timburn_core::Classes;

/// What a model says of one picture.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Softmax over the classes, in the order of the model's outputs; sums to 1.
    pub probabilities: Vec<f32>,
    classes: Arc<Classes>,
}

/// One class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// Name of the class.
    pub label: String,
    /// Probability in `[0, 1]`.
    #[serde(rename = "score")]
    pub probability: f32,
    /// Output of the model.
    pub index: usize,
    /// The data set's id of the class (ImageNet: the synset), where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Prediction {
    /// Softmax of one row of logits, in `f64`: the sum is 1 to the last digits whatever the number of classes.
    pub(crate) fn new(logits: &[f32], classes: Arc<Classes>) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        Self { probabilities: exponentials.iter().map(|x| (x / sum) as f32).collect(), classes }
    }

    /// The `k` most probable classes, most probable first; of equals the lower index first.
    pub fn top(&self, k: usize) -> Vec<Guess> {
        let mut order: Vec<usize> = (0..self.probabilities.len()).collect();
        order.sort_by(|&a, &b| self.probabilities[b].total_cmp(&self.probabilities[a]).then(a.cmp(&b)));
        let guess = |index: usize| Guess {
            label: self.classes.name(index).map_or_else(|| format!("class {index}"), str::to_owned),
            probability: self.probabilities[index],
            index,
            id: self.classes.ids.get(index).cloned(),
        };
        order.into_iter().take(k).map(guess).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_stable_and_ordered() {
        let classes = Arc::new(Classes::new(vec!["a".into(), "b".into(), "c".into()]));
        let prediction = Prediction::new(&[1000.0, 1001.0, 1000.0], classes);
        assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let labels: Vec<String> = prediction.top(9).into_iter().map(|guess| guess.label).collect();
        assert_eq!(labels, ["b", "a", "c"]);
    }
}
