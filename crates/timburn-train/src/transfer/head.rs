//! Training of a head alone, on features that a frozen body gave once.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::error::TrainError;
use timburn_core::seed::Draws;
use timburn_core::{Error, Result};
use timburn_data::DynDataset;
use timburn_models::{ImageModel, Stage, StateDict, WeightTensor, load_state_dict, state_dict};

use super::{Features, Probe};
use crate::feature_sample::FeatureSample;
use crate::freeze::freeze_until;
use crate::loss::{Loss, LossConfig, Reduction, Targets};
use crate::metrics::{Metrics, Report};
use crate::predictions::{Examination, Predictions};
use crate::recipe::Recipe;
use crate::tensors::host;
use crate::trainer::{Learner, StopFlag};

/// Seeds of the order and the views.
const ORDER: u64 = 11;
/// Pictures scored at once.
const SCORED: usize = 512;
/// Most probable classes kept of each picture.
const KEPT: usize = 5;
/// Pictures whose features are kept for a map of them.
const MAPPED: usize = 2000;

/// How a head is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadTraining {
    /// Batch size, learning rate, epochs, loss, optimizer, schedule and seed; its pictures' part is not used.
    pub recipe: Recipe,
    /// Epochs without a lower validation loss after which it ends.
    pub patience: u64,
}

/// An epoch of a head's training.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadEpoch {
    /// Its number, counted from 0.
    pub epoch: u64,
    /// Mean loss over the training features.
    pub loss: f64,
    /// Score of the validation features.
    pub report: Report,
}

/// A model whose body ran already: its "images" are pooled features `[n, f, 1, 1]`.
#[derive(Module, Debug)]
struct HeadOnly<M: ImageModel + ModuleDisplay> {
    model: M,
}

impl<M: ImageModel + ModuleDisplay> ImageModel for HeadOnly<M> {
    fn stages(&self) -> Vec<Stage> {
        Vec::new()
    }

    fn forward_stage(&self, _index: usize, input: Tensor<4>) -> Tensor<4> {
        input
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.model.classify(pooled)
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        features.flatten(1, 3)
    }

    fn num_features(&self) -> usize {
        self.model.num_features()
    }

    fn num_classes(&self) -> usize {
        self.model.num_classes()
    }

    fn head_keys(&self) -> Vec<String> {
        self.model.head_keys().into_iter().map(|key| format!("model.{key}")).collect()
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        Self { model: self.model.reset_classifier(classes, seed, device) }
    }
}

impl HeadTraining {
    /// Trains the head of `model` on the features of its body, and gives the model with the head of the epoch with the lowest validation loss,
    /// without autodiff. The body stays bit for bit. Epoch e uses view e mod views of every picture.
    ///
    /// # Errors
    /// As [`Learner::update`]; those of reading features.
    pub fn run<M: ImageModel + ModuleDisplay>(
        &self,
        model: M,
        (train, validation): (&Features, &Features),
        device: &Device,
        progress: &mut dyn FnMut(&HeadEpoch),
    ) -> Result<(M, Report)> {
        self.run_until(model, (train, validation), device, &StopFlag::default(), progress)
    }

    /// [`run`](Self::run), ended at the next step when `stop` asks for it: the best epoch so far is the result.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`TrainError::Interrupted`] before the first epoch was over.
    pub fn run_until<M: ImageModel + ModuleDisplay>(
        &self,
        model: M,
        (train, validation): (&Features, &Features),
        device: &Device,
        stop: &StopFlag,
        progress: &mut dyn FnMut(&HeadEpoch),
    ) -> Result<(M, Report)> {
        let section = &self.recipe.train;
        let (classes, batch) = (model.num_classes().max(2), section.batch_size.min(train.len().max(1)));
        // A last batch of one picture would be none: its batch norms would see no variance.
        let least = if batch > 1 { 2 } else { 1 };
        let steps = (train.len() + 1 - least).div_ceil(batch).max(1) as u64;
        let frozen = HeadOnly { model: freeze_until(model, "body")? };
        let mut learner = Learner::new(&self.recipe, frozen, device, steps)?;
        let on = learner.device().clone();
        let mut best: Option<(HeadOnly<M>, Report)> = None;
        let mut stalled = 0;
        'run: for epoch in 0..section.epochs {
            let mut order: Vec<usize> = (0..train.len()).collect();
            Draws::new(section.seed, &[ORDER, epoch]).shuffle(&mut order);
            let view = (epoch % train.views() as u64) as usize;
            let (mut loss, mut seen) = (0.0, 0);
            for chosen in order.chunks(batch).filter(|chosen| chosen.len() >= least) {
                if stop.is_requested() {
                    if best.is_none() {
                        return Err(TrainError::Interrupted.into());
                    }
                    break 'run;
                }
                let labels: Vec<usize> = chosen.iter().filter_map(|&position| train.labels().get(position).copied()).collect();
                let values = train.rows(view, chosen.iter().copied())?;
                let images = Tensor::from_data(TensorData::new(values, [chosen.len(), train.width(), 1, 1]), &on);
                let indices: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
                let targets = Targets::classes(&labels, classes, &on)?;
                learner.backward(images, targets, Tensor::from_data(TensorData::new(indices, [labels.len()]), &on))?;
                let (next, update) = learner.update()?;
                learner = next;
                if let Some(update) = update {
                    loss += update.loss * update.samples as f64;
                    seen += update.samples;
                }
            }
            let model = learner.valid();
            let report = score(&model.model, validation, device)?;
            progress(&HeadEpoch { epoch, loss: loss / seen.max(1) as f64, report: report.clone() });
            let lowest = best.as_ref().and_then(|(_, report)| report.loss);
            if lowest.is_none_or(|lowest| report.loss.is_some_and(|loss| loss < lowest)) {
                best = Some((model, report));
                stalled = 0;
            } else {
                stalled += 1;
                if stalled >= self.patience {
                    break;
                }
            }
        }
        let (model, report) =
            best.ok_or_else(|| Error::Argument { name: "head epochs", value: section.epochs.to_string(), expected: "at least 1".into() })?;
        Ok((model.model, report))
    }
}

/// Scores the head of `model` on features.
///
/// # Errors
/// Those of reading features; a logit that is not finite.
pub fn score<M: ImageModel>(model: &M, features: &Features, device: &Device) -> Result<Report> {
    let mut metrics = Metrics::new(model.num_classes(), &[1, 5]);
    each_batch(model, features, device, &mut metrics, |_, _, _| Ok(()))?;
    Ok(metrics.report())
}

/// [`score`], with what the head says of every picture of `dataset`, whose first views the features are.
///
/// # Errors
/// As [`score`].
pub fn examine_features<M: ImageModel>(model: &M, features: &Features, dataset: &DynDataset, device: &Device) -> Result<Examination> {
    let outputs = model.num_classes();
    let mut metrics = Metrics::new(outputs, &[1, 5]);
    let mut predictions = Predictions::new(dataset.clone(), KEPT);
    let step = features.len().div_ceil(MAPPED).max(1);
    let mut map = FeatureSample::new(features.width());
    each_batch(model, features, device, &mut metrics, |start, values, logits| {
        for (offset, row) in logits.chunks_exact(outputs).enumerate() {
            let position = start + offset;
            let (Some(&index), Some(&label)) = (features.samples().get(position), features.labels().get(position)) else { continue };
            predictions.add(index, label, row, None)?;
            if position.is_multiple_of(step) {
                let width = features.width();
                map.add(index, label, values.get(offset * width..(offset + 1) * width).unwrap_or_default())?;
            }
        }
        Ok(())
    })?;
    Ok(Examination { report: metrics.report(), predictions, features: Some(map), bad: Vec::new() })
}

/// Runs the head over features in order; `take` gets the position of the first, their values and logits.
fn each_batch<M: ImageModel>(
    model: &M,
    features: &Features,
    device: &Device,
    metrics: &mut Metrics,
    mut take: impl FnMut(usize, &[f32], &[f32]) -> Result<()>,
) -> Result<()> {
    let outputs = model.num_classes();
    let loss = Loss::new(LossConfig::for_outputs(outputs), outputs)?;
    for start in (0..features.len()).step_by(SCORED) {
        let end = (start + SCORED).min(features.len());
        let labels = features.labels().get(start..end).unwrap_or_default();
        let values = features.rows(0, start..end)?;
        let logits = model.classify(Tensor::from_data(TensorData::new(values.clone(), [end - start, features.width()]), device));
        let value = loss.forward(logits.clone(), Targets::classes(labels, outputs.max(2), device)?, Reduction::Mean)?;
        metrics.add_loss(f64::from(host(value)?.first().copied().unwrap_or(f32::NAN)), labels.len());
        let logits = host(logits)?;
        metrics.add(&logits, labels)?;
        take(start, &values, &logits)?;
    }
    Ok(())
}

/// The model with a probe as its linear classifier; `None` when its head is no linear one for these features.
///
/// # Errors
/// Those of [`load_state_dict`].
pub fn with_probe<M: ImageModel>(model: &M, probe: &Probe) -> Result<Option<M>> {
    let outputs = model.num_classes();
    let classes = probe.bias.len();
    let width = probe.weight.len() / classes.max(1);
    let keys = model.head_keys();
    let [key] = keys.as_slice() else { return Ok(None) };
    let mut dict: StateDict = state_dict(model);
    let (weight, bias) = (format!("{key}.weight"), format!("{key}.bias"));
    let fits = |key: &str, shape: &[usize]| dict.tensors.get(key).is_some_and(|tensor| tensor.shape == shape);
    if !fits(&weight, &[outputs, width]) || !fits(&bias, &[outputs]) {
        return Ok(None);
    }
    let column = |class: usize| -> Vec<f32> { probe.weight.iter().skip(class).step_by(classes).copied().collect() };
    let bias_of = |class: usize| probe.bias.get(class).copied().unwrap_or(0.0);
    let (weights, biases): (Vec<f32>, Vec<f32>) = if outputs == 1 && classes == 2 {
        // One logit: that of the second class against the first.
        (column(1).into_iter().zip(column(0)).map(|(second, first)| second - first).collect(), vec![bias_of(1) - bias_of(0)])
    } else if outputs == classes {
        ((0..classes).flat_map(column).collect(), probe.bias.clone())
    } else {
        return Ok(None);
    };
    dict.tensors.insert(weight, WeightTensor::from_f32(vec![outputs, width], weights));
    dict.tensors.insert(bias, WeightTensor::from_f32(vec![outputs], biases));
    Ok(Some(load_state_dict(model, &dict)?))
}
