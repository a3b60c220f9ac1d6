use std::sync::Arc;

use serde::Serialize;
use timburn_core::Classes;

/// What a model says of one picture.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Softmax over the classes, in their order; of a model with one logit for two classes, the sigmoid of that logit for the second one and
    /// the rest for the first. Sums to 1.
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
    /// Position of the class in the model's list.
    pub index: usize,
    /// The data set's id of the class (ImageNet: the synset), where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Prediction {
    /// Softmax of one row of logits, in `f64`: the sum is 1 to the last digits whatever the number of classes.
    pub(crate) fn new(logits: &[f32], classes: Arc<Classes>) -> Self {
        // σ(x) is the softmax over (0, x).
        let two = logits.first().map(|&logit| [0.0, logit]).filter(|_| logits.len() == 1 && classes.len() == 2);
        let logits = two.as_ref().map_or(logits, |two| two);
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
    fn one_logit_is_the_second_of_two_classes() {
        let classes = Arc::new(Classes::new(vec!["cat".into(), "dog".into()]));
        for (logit, dog) in [(0.0, 0.5), (3.0, 0.952_574_1), (-200.0, 0.0), (200.0, 1.0)] {
            let prediction = Prediction::new(&[logit], Arc::clone(&classes));
            assert_eq!(prediction.probabilities.len(), 2);
            assert!((prediction.probabilities[1] - dog).abs() < 1e-6, "{logit}: {:?}", prediction.probabilities);
            assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(Prediction::new(&[-1.0], classes).top(1)[0].label, "cat");
    }

    #[test]
    fn softmax_is_stable_and_ordered() {
        let classes = Arc::new(Classes::new(vec!["a".into(), "b".into(), "c".into()]));
        let prediction = Prediction::new(&[1000.0, 1001.0, 1000.0], classes);
        assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let labels: Vec<String> = prediction.top(9).into_iter().map(|guess| guess.label).collect();
        assert_eq!(labels, ["b", "a", "c"]);
    }
}
