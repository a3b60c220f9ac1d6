//! A model's score on a data set.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Tensor};
use timburn_core::Result;
use timburn_core::error::{DataError, TrainError};
use timburn_data::loader::{BadFile, Batch, Loader, Normalization};
use timburn_models::blocks::global_average_pool;
use timburn_models::{ImageModel, autocast};

use crate::feature_sample::FeatureSample;
use crate::loss::{Loss, Reduction, Targets};
use crate::metrics::{Metrics, Report};
use crate::precision::Precision;
use crate::predictions::{Examination, Predictions};
use crate::recipe::TestTime;
use crate::tensors::host;
use crate::trainer::StopFlag;

/// How a model is scored.
#[derive(Debug, Clone)]
pub struct Evaluator<'a> {
    /// The pictures, in order. Samples that repeat others only to fill the last rank's batch are not counted.
    pub loader: &'a Loader,
    /// What the model's input needs.
    pub normalization: Normalization,
    /// Also the mean of this loss, if given.
    pub loss: Option<&'a Loss>,
    /// Views whose probabilities are averaged.
    pub test_time: TestTime,
    /// Accuracies among the k best.
    pub top: &'a [usize],
    /// Element type of convolutions and linear layers.
    pub precision: Precision,
}

/// Most probable classes kept of each sample.
const KEPT: usize = 5;

/// What a pass keeps beside the score.
struct Collection {
    predictions: Predictions,
    /// Made with the first batch, whose features say how many they are.
    features: Option<FeatureSample>,
    /// Most samples whose features are kept; 0 for none.
    limit: usize,
    seen: usize,
    total: usize,
}

impl Collection {
    /// Adds a batch: logits `[n, classes]`, losses `[n]` if there are any, pooled features `[n, features]`.
    fn add(&mut self, batch: &Batch, logits: &[f32], losses: &[f32], pooled: Option<Tensor<2>>) -> Result<()> {
        let columns = pooled.as_ref().map_or(0, |pooled| pooled.dims()[1]);
        let pooled = pooled.map(host).transpose()?.unwrap_or_default();
        let width = logits.len() / batch.len().max(1);
        for (position, (row, (&class, &index))) in
            logits.chunks_exact(width.max(1)).zip(batch.labels.iter().zip(&batch.indices)).enumerate()
        {
            self.predictions.add(index, class, row, losses.get(position).copied())?;
            let share = |seen: usize| (seen * self.limit).checked_div(self.total).unwrap_or(0);
            // Of n samples the i-th is kept when i/n · limit passes a whole number.
            let kept = self.limit >= self.total || share(self.seen + 1) > share(self.seen);
            self.seen += 1;
            if kept && let Some(values) = pooled.get(position * columns..(position + 1) * columns).filter(|values| !values.is_empty()) {
                self.features.get_or_insert_with(|| FeatureSample::new(columns)).add(index, class, values)?;
            }
        }
        Ok(())
    }
}

impl Evaluator<'_> {
    /// Scores `model`, which is on `device`, in evaluation mode and without autodiff. `progress` is called with the number of samples of
    /// each batch. Pictures that could not be used are part of the result: the score does not count them.
    ///
    /// # Errors
    /// The loader's; [`TrainError::NonFinite`](timburn_core::error::TrainError::NonFinite) with the samples whose logits are not finite.
    pub fn score<M: ImageModel>(&self, model: &M, device: &Device, progress: &mut dyn FnMut(usize)) -> Result<(Report, Vec<BadFile>)> {
        self.pass(model, device, None, &StopFlag::default(), progress)
    }

    /// [`score`](Self::score), given up after the batch in which `stop` asks for it.
    ///
    /// # Errors
    /// As [`score`](Self::score); [`TrainError::Interrupted`].
    pub fn score_until<M: ImageModel>(
        &self,
        model: &M,
        device: &Device,
        stop: &StopFlag,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<BadFile>)> {
        self.pass(model, device, None, stop, progress)
    }

    /// Scores `model` as [`score`](Self::score) does, and keeps in the same pass what it said of every sample, and the pooled features of at
    /// most `features` samples, evenly spread over the set (0: none).
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn examine<M: ImageModel>(
        &self,
        model: &M,
        device: &Device,
        features: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Examination> {
        self.examine_until(model, device, features, &StopFlag::default(), progress)
    }

    /// [`examine`](Self::examine), given up after the batch in which `stop` asks for it.
    ///
    /// # Errors
    /// As [`score`](Self::score); [`TrainError::Interrupted`].
    pub fn examine_until<M: ImageModel>(
        &self,
        model: &M,
        device: &Device,
        features: usize,
        stop: &StopFlag,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Examination> {
        let mut collection = Collection {
            predictions: Predictions::new(self.loader.dataset().clone(), KEPT),
            features: None,
            limit: features,
            seen: 0,
            total: self.loader.samples() - self.loader.padding(),
        };
        let (report, bad) = self.pass(model, device, Some(&mut collection), stop, progress)?;
        Ok(Examination { report, predictions: collection.predictions, features: collection.features, bad })
    }

    fn pass<M: ImageModel>(
        &self,
        model: &M,
        device: &Device,
        mut collection: Option<&mut Collection>,
        stop: &StopFlag,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<BadFile>)> {
        let classes = model.num_classes();
        let mut metrics = Metrics::new(classes, self.top);
        let mut unusable = Vec::new();
        let mut left = self.loader.samples() - self.loader.padding();
        for batch in self.loader.epoch(0) {
            if stop.is_requested() {
                return Err(TrainError::Interrupted.into());
            }
            let mut batch = batch?;
            let bad = batch.bad.len();
            if left < batch.len() + bad {
                batch.truncate(left.saturating_sub(bad));
            }
            left = left.saturating_sub(batch.len() + bad);
            if !batch.is_empty() {
                let images = batch.images(&self.normalization, device)?;
                let pooled = collection.as_ref().is_some_and(|collection| collection.limit > 0);
                let (logits, pooled) = if pooled { self.logits_and_features(model, images) } else { (self.logits(model, images), None) };
                if let Some(loss) = self.loss {
                    let targets = Targets::classes(&batch.labels, classes.max(2), device)?;
                    let value = host(loss.forward(logits.clone(), targets, Reduction::Mean)?)?;
                    metrics.add_loss(f64::from(value.first().copied().unwrap_or(f32::NAN)), batch.len());
                }
                let rows = host(logits.clone())?;
                metrics.add(&rows, &batch.labels).map_err(|error| super::name_samples(error, &batch, self.loader))?;
                if let Some(collection) = &mut collection {
                    let losses = match self.loss {
                        Some(loss) => {
                            let targets = Targets::classes(&batch.labels, classes.max(2), device)?;
                            host(loss.forward(logits, targets, Reduction::None)?)?
                        }
                        None => Vec::new(),
                    };
                    collection.add(&batch, &rows, &losses, pooled)?;
                }
            }
            progress(batch.len() + bad);
            unusable.append(&mut batch.bad);
        }
        if metrics.samples() == 0 {
            let first = unusable.first().map_or_else(String::new, |bad: &BadFile| bad.reason.clone());
            let seen = unusable.len();
            return Err(DataError::TooManyBadFiles { bad: seen, seen, allowed: 0, first }.into());
        }
        Ok((metrics.report(), unusable))
    }

    /// The same logits, and the mean over the last stage's positions, `[n, features]`, of the picture that is not mirrored.
    fn logits_and_features<M: ImageModel>(&self, model: &M, images: Tensor<4>) -> (Tensor<2>, Option<Tensor<2>>) {
        let (logits, features) = autocast(self.precision.dtype(), || {
            let features = model.forward_features(images.clone());
            (model.forward_head(features.clone()), features)
        });
        let logits = match self.test_time {
            TestTime::None => logits,
            TestTime::Flip => average(logits, autocast(self.precision.dtype(), || model.forward(images.flip([3])))),
        };
        (logits, Some(global_average_pool(features)))
    }

    /// `[n, 3, h, w]` → logits, or what acts like them: the logarithm of the averaged probabilities.
    fn logits<M: ImageModel>(&self, model: &M, images: Tensor<4>) -> Tensor<2> {
        let forward = |images| autocast(self.precision.dtype(), || model.forward(images));
        match self.test_time {
            TestTime::None => forward(images),
            TestTime::Flip => {
                let mirrored = forward(images.clone().flip([3]));
                average(forward(images), mirrored)
            }
        }
    }
}

/// Logits whose softmax (sigmoid, for one logit) is the mean of those of `a` and `b`.
fn average(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    if a.dims()[1] == 1 {
        // log(p / (1 - p)) of the mean probability, from logarithms alone: log(Σ σ(x)) - log(Σ σ(-x)).
        let positive = log_add(log_sigmoid(a.clone()), log_sigmoid(b.clone()));
        return positive - log_add(log_sigmoid(-a), log_sigmoid(-b));
    }
    log_add(log_softmax(a, 1), log_softmax(b, 1)) - std::f64::consts::LN_2
}

/// `log(e^a + e^b)`.
fn log_add(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let larger = a.clone().max_pair(b.clone());
    larger + (-(a - b).abs()).exp().log1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaged_logits_give_averaged_probabilities() {
        use burn::tensor::activation::{sigmoid, softmax};
        let device = Device::flex();
        let a = Tensor::<2>::from_data([[2.0, -1.0, 30.0], [0.0, 0.5, -0.5]], &device);
        let b = Tensor::<2>::from_data([[1.0, 3.0, -40.0], [-2.0, 0.0, 4.0]], &device);
        let expected = (softmax(a.clone(), 1) + softmax(b.clone(), 1)) / 2.0;
        let found = softmax(average(a, b), 1);
        let error = host((found - expected).abs().max()).unwrap()[0];
        assert!(error < 1e-6, "{error}");
        let (a, b) = (Tensor::<2>::from_data([[2.0], [-50.0]], &device), Tensor::<2>::from_data([[-1.0], [60.0]], &device));
        let expected = (sigmoid(a.clone()) + sigmoid(b.clone())) / 2.0;
        let error = host((sigmoid(average(a, b)) - expected).abs().max()).unwrap()[0];
        assert!(error < 1e-6, "{error}");
    }
}
