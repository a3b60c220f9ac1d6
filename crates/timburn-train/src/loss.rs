//! Losses of classification: cross-entropy and binary cross-entropy, over classes or soft targets.
//!
//! A logit that is not finite makes the loss not finite; nothing is clamped.

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};

/// What a batch should have been classified as.
#[derive(Debug, Clone)]
pub enum Targets {
    /// One class per sample, `[n]`, each below the number of logits; [`Targets::classes`] checks that.
    Classes(Tensor<1, Int>),
    /// A weight per sample and class, `[n, classes]`: mixup, CutMix, several labels.
    Soft(Tensor<2>),
}

impl Targets {
    /// One class per sample, on `device`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a class that is not below `classes`.
    pub fn classes(labels: &[usize], classes: usize, device: &Device) -> Result<Self> {
        if let Some(label) = labels.iter().find(|&&label| label >= classes) {
            return Err(Error::Argument { name: "label", value: label.to_string(), expected: format!("a class below {classes}") });
        }
        let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
        let count = labels.len();
        Ok(Self::Classes(Tensor::from_data(TensorData::new(labels, [count]), device)))
    }

    /// The targets as weights of the classes: `on` for the sample's class, `off` for the others; soft ones as they are.
    fn dense(self, classes: usize, on: f64, off: f64, like: &Tensor<2>) -> Tensor<2> {
        match self {
            Self::Soft(weights) => weights,
            Self::Classes(labels) => {
                let [count] = labels.dims();
                let every = Tensor::<1, Int>::arange(0..classes as i64, &labels.device()).reshape([1, classes]);
                let hit = labels.reshape([count, 1]).expand([count, classes]).equal(every.expand([count, classes]));
                like.zeros_like().detach().mask_fill(hit.clone(), on) + like.zeros_like().detach().mask_fill(hit.bool_not(), off)
            }
        }
    }
}

/// Whether a loss is one number or one per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// The mean, `[1]`.
    #[default]
    Mean,
    /// One value per sample, `[n]`. Their mean is [`Mean`](Self::Mean)'s value, except for classes with class weights, where it is their
    /// sum over the sum of the samples' weights.
    None,
}

/// A loss by name, with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum LossConfig {
    /// `-Σ_c w_c y_c log softmax(x)_c`: `torch.nn.CrossEntropyLoss`.
    CrossEntropy {
        /// ε in `[0, 1]`: the target becomes `(1 - ε) y + ε / classes`.
        #[serde(default)]
        label_smoothing: f64,
        /// w; 1 for each class when absent. Over classes the mean is weighted by them, over soft targets it is not (as in PyTorch).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_weights: Option<ClassWeights>,
    },
    /// `-w_c (y_c log σ(x_c) + (1 - y_c) log(1 - σ(x_c)))`, the mean over samples and classes: `timm.loss.BinaryCrossEntropy`. A model with
    /// one logit is a detector of class 1: its targets are classes 0 and 1.
    BinaryCrossEntropy {
        /// ε in `[0, 1)`: a class becomes `1 - ε + ε / classes` against `ε / classes`. Soft targets are taken as they are.
        #[serde(default)]
        smoothing: f64,
        /// Turns targets above this into 1 and others into 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_threshold: Option<f64>,
        /// w; 1 for each class when absent. A model with one logit takes two: of class 0 and of class 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_weights: Option<ClassWeights>,
    },
}

/// What the classes count for. In a recipe a list of numbers, or `"balanced"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a list of numbers, one per class, or \"balanced\"")]
pub enum ClassWeights {
    /// By the training set.
    Rule(WeightRule),
    /// One number from 0 on for each class.
    Given(Vec<f32>),
}

/// How a training set decides the weights of its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightRule {
    /// `samples / (classes · samples of the class)`: every class counts as much as any other, whatever its size; scikit-learn's `balanced`.
    Balanced,
}

impl LossConfig {
    /// The usual loss of a model with so many outputs: cross-entropy, or over one logit its binary form.
    pub fn for_outputs(outputs: usize) -> Self {
        if outputs == 1 {
            Self::BinaryCrossEntropy { smoothing: 0.0, target_threshold: None, class_weights: None }
        } else {
            Self::default()
        }
    }

    /// The classes' weights, where they are given as numbers.
    pub fn class_weights(&self) -> Option<&[f32]> {
        let (Self::CrossEntropy { class_weights, .. } | Self::BinaryCrossEntropy { class_weights, .. }) = self;
        match class_weights {
            Some(ClassWeights::Given(weights)) => Some(weights),
            _ => None,
        }
    }

    /// Weighs the classes; all alike for `None`.
    pub fn set_class_weights(&mut self, weights: Option<ClassWeights>) {
        match self {
            Self::CrossEntropy { class_weights, .. } | Self::BinaryCrossEntropy { class_weights, .. } => *class_weights = weights,
        }
    }

    /// The same loss with weights that follow from the number of training samples of each class.
    ///
    /// # Errors
    /// [`Error::Argument`] when a class has no sample and weights are to be balanced.
    pub fn for_counts(mut self, counts: &[usize]) -> Result<Self> {
        let (Self::CrossEntropy { class_weights, .. } | Self::BinaryCrossEntropy { class_weights, .. }) = &mut self;
        if matches!(class_weights, Some(ClassWeights::Rule(WeightRule::Balanced))) {
            if let Some(class) = counts.iter().position(|&count| count == 0) {
                let expected = format!("training samples of every class, or a list of weights: class {class} has none");
                return Err(Error::Argument { name: "loss.class_weights", value: "balanced".into(), expected });
            }
            let samples: usize = counts.iter().sum();
            let weight = |&count: &usize| (samples as f64 / (counts.len() as f64 * count as f64)) as f32;
            *class_weights = Some(ClassWeights::Given(counts.iter().map(weight).collect()));
        }
        Ok(self)
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0, class_weights: None }
    }
}

/// A loss for models with a given number of logits.
#[derive(Debug, Clone)]
pub struct Loss {
    config: LossConfig,
    logits: usize,
}

impl Loss {
    /// The loss of models with `logits` outputs.
    ///
    /// # Errors
    /// [`Error::Argument`] for a value out of range, a number of class weights other than the classes', weights that still wait for
    /// [`LossConfig::for_counts`], or cross-entropy over one logit (it is always 0).
    pub fn new(config: LossConfig, logits: usize) -> Result<Self> {
        let argument = |name, value: String, expected: String| Err(Error::Argument { name, value, expected });
        let (LossConfig::CrossEntropy { class_weights, .. } | LossConfig::BinaryCrossEntropy { class_weights, .. }) = &config;
        if matches!(class_weights, Some(ClassWeights::Rule(_))) {
            return argument("loss.class_weights", "balanced".into(), "a list, where there is no training set to take it from".into());
        }
        if let Some(ClassWeights::Given(weights)) = class_weights {
            if weights.len() != logits.max(2) {
                return argument("loss.class_weights", format!("{} weights", weights.len()), format!("{}, one per class", logits.max(2)));
            }
            if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
                return argument("loss.class_weights", weight.to_string(), "numbers from 0 on".into());
            }
        }
        match config {
            LossConfig::CrossEntropy { label_smoothing, .. } if !(0.0..=1.0).contains(&label_smoothing) => {
                argument("loss.label_smoothing", label_smoothing.to_string(), "a number in [0, 1]".into())
            }
            LossConfig::CrossEntropy { .. } if logits < 2 => {
                argument("loss.name", "cross_entropy".into(), format!("binary_cross_entropy for a model with {logits} logit"))
            }
            LossConfig::BinaryCrossEntropy { smoothing, .. } if !(0.0..1.0).contains(&smoothing) => {
                argument("loss.smoothing", smoothing.to_string(), "a number in [0, 1)".into())
            }
            LossConfig::BinaryCrossEntropy { target_threshold: Some(threshold), .. } if !threshold.is_finite() => {
                argument("loss.target_threshold", threshold.to_string(), "a number".into())
            }
            _ => Ok(Self { config, logits }),
        }
    }

    /// The loss of logits `[n, logits]`.
    ///
    /// # Errors
    /// [`Error::Argument`] when logits and targets do not have the shapes this loss is for.
    pub fn forward(&self, logits: Tensor<2>, targets: Targets, reduction: Reduction) -> Result<Tensor<1>> {
        self.check(&logits, &targets)?;
        Ok(match &self.config {
            LossConfig::CrossEntropy { label_smoothing, class_weights } => {
                cross_entropy(logits, targets, *label_smoothing, given(class_weights), reduction)
            }
            LossConfig::BinaryCrossEntropy { smoothing, target_threshold, class_weights } => {
                let targets = binary_targets(&logits, targets, *smoothing, *target_threshold);
                binary_cross_entropy(logits, targets, given(class_weights), reduction)
            }
        })
    }

    fn check(&self, logits: &Tensor<2>, targets: &Targets) -> Result<()> {
        let argument = |name, value: String, expected: String| Err(Error::Argument { name, value, expected });
        let [count, width] = logits.dims();
        if width != self.logits || count == 0 {
            return argument("logits", format!("{:?}", logits.dims()), format!("[n, {}] with n from 1 on", self.logits));
        }
        match targets {
            Targets::Classes(labels) if labels.dims() != [count] => {
                argument("targets", format!("{:?}", labels.dims()), format!("[{count}]"))
            }
            Targets::Soft(weights) if weights.dims() != [count, width] => {
                argument("targets", format!("{:?}", weights.dims()), format!("[{count}, {width}]"))
            }
            _ => Ok(()),
        }
    }
}

/// The numbers; [`Loss::new`] has seen to it that they are known.
fn given(weights: &Option<ClassWeights>) -> Option<&[f32]> {
    match weights {
        Some(ClassWeights::Given(weights)) => Some(weights),
        _ => None,
    }
}

/// One weight per class as `[1, classes]`, beside `like`.
fn row(weights: &[f32], like: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(TensorData::new(weights.to_vec(), [1, weights.len()]), &like.device())
}

/// See [`LossConfig::CrossEntropy`].
fn cross_entropy(
    logits: Tensor<2>,
    targets: Targets,
    label_smoothing: f64,
    class_weights: Option<&[f32]>,
    reduction: Reduction,
) -> Tensor<1> {
    let [count, classes] = logits.dims();
    let weights = class_weights.map(|weights| row(weights, &logits));
    let log_probabilities = log_softmax(logits, 1);
    let weighted = match &weights {
        Some(weights) => log_probabilities * weights.clone(),
        None => log_probabilities,
    };
    // Samples' weights are those of their classes; soft targets count alike.
    let (hits, sample_weights) = match targets {
        Targets::Classes(labels) => {
            let labels = labels.reshape([count, 1]);
            let sample_weights = weights.map(|weights| weights.expand([count, classes]).gather(1, labels.clone()).reshape([count]));
            (weighted.clone().gather(1, labels), sample_weights)
        }
        Targets::Soft(targets) => ((weighted.clone() * targets).sum_dim(1), None),
    };
    let hits = hits.reshape([count]).neg();
    let losses = if label_smoothing == 0.0 {
        hits
    } else {
        hits * (1.0 - label_smoothing) - weighted.sum_dim(1).reshape([count]) * (label_smoothing / classes as f64)
    };
    match (reduction, sample_weights) {
        (Reduction::None, _) => losses,
        (Reduction::Mean, None) => losses.mean(),
        (Reduction::Mean, Some(weights)) => losses.sum() / weights.sum(),
    }
}

/// timm's targets of binary cross-entropy, `[n, logits]`.
fn binary_targets(logits: &Tensor<2>, targets: Targets, smoothing: f64, threshold: Option<f64>) -> Tensor<2> {
    let [count, classes] = logits.dims();
    let targets = match targets {
        // One logit says yes or no: the class is the target.
        Targets::Classes(labels) if classes == 1 => labels.float().reshape([count, 1]) * (1.0 - smoothing) + smoothing / 2.0,
        targets => {
            let off = smoothing / classes as f64;
            targets.dense(classes, 1.0 - smoothing + off, off, logits)
        }
    };
    match threshold {
        Some(threshold) => targets.greater_elem(threshold).float(),
        None => targets,
    }
}

/// See [`LossConfig::BinaryCrossEntropy`].
///
/// `max(x, 0) - x y + log(1 + exp(-|x|))`. `-|x|` is written `x - 2 max(x, 0)`, whose derivative at 0 is 1 with Burn's `relu`; that of `|x|`
/// is 0 there, and a classifier that starts from zeros would get no gradient.
fn binary_cross_entropy(logits: Tensor<2>, targets: Tensor<2>, class_weights: Option<&[f32]>, reduction: Reduction) -> Tensor<1> {
    let [count, classes] = logits.dims();
    let positive = relu(logits.clone());
    let losses = positive.clone() - logits.clone() * targets.clone() + (logits.clone() - positive * 2.0).exp().log1p();
    let losses = match class_weights {
        // One logit: between the two classes' weights as the target is between the classes.
        Some(&[zero, one]) if classes == 1 => losses * (targets * f64::from(one - zero) + f64::from(zero)),
        Some(weights) => losses * row(weights, &logits),
        None => losses,
    };
    match reduction {
        Reduction::None => losses.mean_dim(1).reshape([count]),
        Reduction::Mean => losses.mean(),
    }
}
