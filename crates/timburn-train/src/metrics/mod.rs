//! What an evaluation found, computed on the host in `f64` from all logits: loss, top-k, confusion, precision, recall, F1, calibration,
//! AUROC. Batches are added one by one; the result does not depend on how the samples were batched.

mod auroc;
mod calibration;
mod comparison;
mod confusion;

pub use auroc::Auroc;
pub use calibration::{Calibration, ReliabilityBin};
pub use comparison::Comparison;
pub use confusion::{ClassReport, Confusion};

use serde::{Deserialize, Serialize};
use timburn_core::error::TrainError;
use timburn_core::{Error, Result};

/// Metrics of a classifier, sample by sample.
#[derive(Debug, Clone)]
pub struct Metrics {
    logits: usize,
    top: Vec<usize>,
    hits: Vec<u64>,
    samples: u64,
    loss_sum: f64,
    loss_samples: u64,
    confusion: Confusion,
    calibration: Calibration,
    auroc: Option<Auroc>,
}

impl Metrics {
    /// For models with `logits` outputs; the accuracy is counted among the `top` k best, k not above the number of classes. One logit is
    /// a detector of class 1 against class 0.
    pub fn new(logits: usize, top: &[usize]) -> Self {
        let classes = logits.max(2);
        let mut top: Vec<usize> = top.iter().copied().filter(|&k| k > 0 && k <= classes).collect();
        if !top.contains(&1) {
            top.push(1);
        }
        top.sort_unstable();
        top.dedup();
        Self {
            logits,
            hits: vec![0; top.len()],
            top,
            samples: 0,
            loss_sum: 0.0,
            loss_samples: 0,
            confusion: Confusion::new(classes),
            calibration: Calibration::new(15),
            auroc: (classes == 2).then(Auroc::default),
        }
    }

    /// Adds the mean loss over `samples` samples.
    pub fn add_loss(&mut self, mean: f64, samples: usize) {
        self.loss_sum += mean * samples as f64;
        self.loss_samples += samples as u64;
    }

    /// Adds logits, row-major `[n, logits]`, and the samples' classes. All or nothing.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] with the positions of samples whose logits are no numbers; [`Error::Argument`] when the lengths disagree
    /// or a class does not exist.
    pub fn add(&mut self, logits: &[f32], labels: &[usize]) -> Result<()> {
        let classes = self.confusion.classes();
        if logits.len() != labels.len() * self.logits {
            let expected = format!("{} for {} samples", labels.len() * self.logits, labels.len());
            return Err(Error::Argument { name: "logits", value: format!("{} values", logits.len()), expected });
        }
        if let Some(label) = labels.iter().find(|&&label| label >= classes) {
            return Err(Error::Argument { name: "label", value: label.to_string(), expected: format!("a class below {classes}") });
        }
        let rows = || logits.chunks_exact(self.logits.max(1));
        let samples: Vec<usize> = rows().enumerate().filter(|(_, row)| row.iter().any(|x| !x.is_finite())).map(|(at, _)| at).collect();
        if !samples.is_empty() {
            return Err(TrainError::NonFinite { what: "logits".into(), samples }.into());
        }
        let mut widened = [0.0; 2];
        for (row, &label) in logits.chunks_exact(self.logits.max(1)).zip(labels) {
            let row = match row {
                // σ(x) is the second of softmax([0, x]).
                [logit] => {
                    widened[1] = *logit;
                    &widened[..]
                }
                row => row,
            };
            self.add_row(row, label);
        }
        Ok(())
    }

    fn add_row(&mut self, row: &[f32], label: usize) {
        let target = row.get(label).copied().unwrap_or(f32::NEG_INFINITY);
        // Of equal logits the first class wins, as in PyTorch's and NumPy's argmax.
        let rank = row.iter().enumerate().filter(|&(class, &x)| x > target || (x == target && class < label)).count();
        for (hits, k) in self.hits.iter_mut().zip(&self.top) {
            *hits += u64::from(rank < *k);
        }
        let (predicted, best) =
            row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, &x)| if x > best.1 { (class, x) } else { best });
        // The softmax of the largest logit: 1 over the sum of exponentials relative to it.
        let confidence = 1.0 / row.iter().map(|&x| (f64::from(x) - f64::from(best)).exp()).sum::<f64>();
        self.samples += 1;
        self.confusion.add(label, predicted);
        self.calibration.add(confidence, predicted == label);
        if let (Some(auroc), [negative, positive]) = (&mut self.auroc, row) {
            auroc.add(f64::from(*positive) - f64::from(*negative), label == 1);
        }
    }

    /// Samples so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The result so far. Values over no samples are absent.
    pub fn report(&self) -> Report {
        let share = |part: u64| (self.samples > 0).then(|| part as f64 / self.samples as f64);
        Report {
            samples: self.samples,
            loss: (self.loss_samples > 0).then(|| self.loss_sum / self.loss_samples as f64),
            top: self.top.iter().zip(&self.hits).map(|(&k, &hits)| TopK { k, accuracy: share(hits) }).collect(),
            balanced_accuracy: self.confusion.balanced_accuracy(),
            macro_f1: self.confusion.macro_f1(),
            ece: self.calibration.expected_error(),
            auroc: self.auroc.as_ref().and_then(Auroc::value),
            per_class: self.confusion.per_class(),
            confusion: self.confusion.rows(),
            reliability: self.calibration.bins(),
        }
    }
}

/// The share of samples whose class is among the `k` best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// How many of the best count.
    pub k: usize,
    /// The share, in `[0, 1]`.
    pub accuracy: Option<f64>,
}

/// All metrics of an evaluation. Shares are in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Number of samples.
    pub samples: u64,
    /// Mean loss.
    pub loss: Option<f64>,
    /// Accuracies among the k best, ascending k; the first is the plain accuracy.
    pub top: Vec<TopK>,
    /// Mean recall over the classes that have samples: scikit-learn's `balanced_accuracy_score`.
    pub balanced_accuracy: Option<f64>,
    /// Mean F1 over the classes that have samples or were predicted: scikit-learn's `f1_score(average="macro")`.
    pub macro_f1: Option<f64>,
    /// Expected calibration error over 15 bins. Guo et al., arXiv 1706.04599.
    pub ece: Option<f64>,
    /// Area under the ROC curve of class 1; only for two classes, both of which have samples.
    pub auroc: Option<f64>,
    /// One per class.
    pub per_class: Vec<ClassReport>,
    /// `confusion[class][predicted]`, counts.
    pub confusion: Vec<Vec<u64>>,
    /// What the calibration error was computed from.
    pub reliability: Vec<ReliabilityBin>,
}

impl Report {
    /// The accuracy among the `k` best, if it was asked for.
    pub fn top(&self, k: usize) -> Option<f64> {
        self.top.iter().find(|top| top.k == k).and_then(|top| top.accuracy)
    }

    /// The accuracies that say something: among all of the classes is always the true one.
    pub fn informative(&self) -> impl Iterator<Item = &TopK> {
        self.top.iter().filter(|top| top.k == 1 || top.k < self.per_class.len())
    }
}
