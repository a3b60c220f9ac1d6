//! Logistic regression on features: what a linear classifier can make of them.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use timburn_core::Result;
use timburn_core::error::TrainError;

use super::Features;
use super::lbfgs::minimize;
use crate::tensors::host;
use crate::trainer::StopFlag;

/// Most pictures and views that a probe is fitted to; of more, every k-th.
const MOST: usize = 20_000;
/// Strengths of the L2 penalty that are tried, from the strongest; each starts from the one before.
const PENALTIES: [f64; 4] = [1.0, 1e-1, 1e-2, 1e-3];
/// Iterations of L-BFGS per penalty.
const ITERATIONS: usize = 100;

/// A linear classifier: logits = features · weight + bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// `[width, classes]`, row by row.
    pub weight: Vec<f32>,
    /// One per class.
    pub bias: Vec<f32>,
    /// The L2 penalty that was chosen.
    pub penalty: f64,
    /// Share of the validation pictures it gets right.
    pub accuracy: f64,
    /// Mean cross-entropy of the validation pictures.
    pub loss: f64,
}

impl Probe {
    /// Fits softmax regression with an L2 penalty on the standardised features of all views of `train` by L-BFGS, and keeps the penalty with
    /// the lowest loss on `validation`. `class_weights`, one per class, weigh the pictures; all alike when empty. A feature that is the same in
    /// all of `train` gets weight 0.
    ///
    /// # Errors
    /// Those of reading features; [`Error::Device`](timburn_core::Error::Device).
    pub fn fit(train: &Features, validation: &Features, classes: usize, class_weights: &[f32], device: &Device) -> Result<Self> {
        Self::fit_until(train, validation, classes, class_weights, device, &StopFlag::default())
    }

    /// [`fit`](Self::fit), given up between two evaluations of the loss when `stop` asks for it.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); [`TrainError::Interrupted`].
    pub fn fit_until(
        train: &Features,
        validation: &Features,
        classes: usize,
        class_weights: &[f32],
        device: &Device,
        stop: &StopFlag,
    ) -> Result<Self> {
        let step = (train.len() * train.views()).div_ceil(MOST).max(1);
        let width = train.width();
        let (mut labels, mut rows) = (Vec::new(), Vec::new());
        for view in 0..train.views() {
            let positions = (0..train.len()).step_by(step);
            labels.extend(positions.clone().filter_map(|position| train.labels().get(position).copied()));
            rows.append(&mut train.rows(view, positions)?);
        }
        let values = Tensor::<2>::from_data(TensorData::new(rows, [labels.len(), width]), device);

        let mean = values.clone().mean_dim(0);
        let deviation = (values.clone() - mean.clone()).square().mean_dim(0).sqrt();
        // What does not vary but by rounding says nothing; scaled up it would drown the rest as soon as it varies elsewhere.
        let constant = deviation.clone().lower_equal(mean.clone().abs() * 1e-6 + 1e-12);
        let scale = deviation.recip().mask_fill(constant, 0.0);
        let problem =
            Problem { features: (values - mean.clone()) * scale.clone(), targets: Targets::new(&labels, classes, class_weights, device) };
        let scored = validation.tensor(device)?;
        let scored_targets = Targets::new(validation.labels(), classes, &[], device);

        let mut best: Option<Self> = None;
        let mut parameters = vec![0.0; (width + 1) * classes];
        for penalty in PENALTIES {
            parameters = minimize(parameters, ITERATIONS, 1e-5, |x| {
                if stop.is_requested() {
                    return Err(TrainError::Interrupted.into());
                }
                problem.evaluate(x, width, classes, penalty)
            })?;
            let (weight, bias) = tensors(&parameters, width, classes, device);
            // Back to features as they are: (f - mean) · scale · w + b.
            let weight = weight * scale.clone().reshape([width, 1]);
            let bias = bias - mean.clone().matmul(weight.clone());
            let logits = scored.clone().matmul(weight.clone()) + bias.clone();
            let loss = scored_targets.loss(logits.clone())?;
            let right = host(logits.argmax(1).equal(scored_targets.labels.clone()).int().sum().float())?;
            let accuracy = f64::from(right.first().copied().unwrap_or(0.0)) / validation.len().max(1) as f64;
            if best.as_ref().is_none_or(|best| loss < best.loss) {
                best = Some(Self { weight: host(weight)?, bias: host(bias)?, penalty, accuracy, loss });
            }
        }
        Ok(best.unwrap_or(Self { weight: Vec::new(), bias: Vec::new(), penalty: 0.0, accuracy: 0.0, loss: f64::NAN }))
    }
}

/// Labels, and how much each picture weighs.
struct Targets {
    /// `[n, 1]`.
    labels: Tensor<2, Int>,
    /// `[n, 1]`, with sum 1.
    weights: Tensor<2>,
}

impl Targets {
    fn new(labels: &[usize], classes: usize, class_weights: &[f32], device: &Device) -> Self {
        let weight = |&label: &usize| class_weights.get(label).copied().unwrap_or(1.0);
        let total: f32 = labels.iter().map(weight).sum::<f32>().max(f32::MIN_POSITIVE);
        let weights: Vec<f32> = labels.iter().map(|label| weight(label) / total).collect();
        let indices: Vec<i64> = labels.iter().map(|&label| label.min(classes.saturating_sub(1)) as i64).collect();
        let count = labels.len();
        Self {
            labels: Tensor::from_data(TensorData::new(indices, [count, 1]), device),
            weights: Tensor::from_data(TensorData::new(weights, [count, 1]), device),
        }
    }

    /// Weighted mean of the cross-entropy.
    fn loss(&self, logits: Tensor<2>) -> Result<f64> {
        let chosen = log_softmax(logits, 1).gather(1, self.labels.clone());
        Ok(-f64::from(host((chosen * self.weights.clone()).sum())?.first().copied().unwrap_or(f32::NAN)))
    }
}

struct Problem {
    features: Tensor<2>,
    targets: Targets,
}

impl Problem {
    /// Penalised loss and its gradient at `x`: weights row by row, then biases, which carry no penalty.
    fn evaluate(&self, x: &[f64], width: usize, classes: usize, penalty: f64) -> Result<(f64, Vec<f64>)> {
        let (weight, bias) = tensors(x, width, classes, &self.features.device());
        let logits = self.features.clone().matmul(weight) + bias;
        let logarithms = log_softmax(logits, 1);
        let chosen = logarithms.clone().gather(1, self.targets.labels.clone());
        let loss = -f64::from(host((chosen * self.targets.weights.clone()).sum())?.first().copied().unwrap_or(f32::NAN));
        let hot: Tensor<2> = self.targets.labels.clone().squeeze_dim::<1>(1).one_hot(classes).float();
        let difference = (logarithms.exp() - hot) * self.targets.weights.clone();
        let mut gradient: Vec<f64> =
            host(self.features.clone().transpose().matmul(difference.clone()))?.into_iter().map(f64::from).collect();
        gradient.extend(host(difference.sum_dim(0))?.into_iter().map(f64::from));
        let decayed = x.get(..width * classes).unwrap_or_default();
        gradient.iter_mut().zip(decayed).for_each(|(gradient, x)| *gradient += penalty * x);
        Ok((loss + 0.5 * penalty * decayed.iter().map(|x| x * x).sum::<f64>(), gradient))
    }
}

/// Weights `[width, classes]` and biases `[1, classes]`.
fn tensors(x: &[f64], width: usize, classes: usize, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let mut weight: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    let bias = weight.split_off(width * classes);
    (Tensor::from_data(TensorData::new(weight, [width, classes]), device), Tensor::from_data(TensorData::new(bias, [1, classes]), device))
}
