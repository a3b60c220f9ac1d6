//! What a model said of every sample.

use std::fmt;
use std::path::Path;

use timburn_core::disk::{self, System};
use timburn_core::{Error, Result};
use timburn_data::DynDataset;
use timburn_data::loader::BadFile;

use crate::feature_sample::FeatureSample;
use crate::metrics::Report;

/// A score with what it was computed from; [`Evaluator::examine`](crate::Evaluator::examine) makes it in one pass.
#[derive(Debug, Clone)]
pub struct Examination {
    /// All metrics.
    pub report: Report,
    /// What the model said of every sample; the five most probable classes of each.
    pub predictions: Predictions,
    /// Pooled features of some samples, where they were asked for.
    pub features: Option<FeatureSample>,
    /// Pictures that could not be used: the score does not count them.
    pub bad: Vec<BadFile>,
}

/// A class and the probability that the model gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Index of the class.
    pub class: u32,
    /// Probability in `[0, 1]`: softmax over the logits; of one logit, the sigmoid and its complement.
    pub probability: f32,
}

/// What a model said of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplePrediction<'a> {
    /// Index in the data set.
    pub index: usize,
    /// The true class.
    pub class: usize,
    /// The most probable classes, most probable first; of equals the lower index first. At least one.
    pub top: &'a [Candidate],
    /// Probability of the true class, in `[0, 1]`.
    pub probability: f32,
    /// The sample's loss: that of the evaluation, else `-log(probability)`.
    pub loss: f32,
}

impl SamplePrediction<'_> {
    /// The most probable class.
    pub fn predicted(&self) -> usize {
        self.top.first().map_or(0, |best| best.class as usize)
    }

    /// Probability of the most probable class.
    pub fn confidence(&self) -> f32 {
        self.top.first().map_or(0.0, |best| best.probability)
    }

    /// Whether the most probable class is the true one.
    pub fn is_right(&self) -> bool {
        self.predicted() == self.class
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    index: usize,
    class: u32,
    probability: f32,
    loss: f32,
}

/// What a model said of every sample of a data set: 24 bytes a sample and 8 for each of the `k` classes kept. Names are the data set's.
#[derive(Clone)]
pub struct Predictions {
    dataset: DynDataset,
    k: usize,
    samples: Vec<Sample>,
    top: Vec<Candidate>,
}

impl fmt::Debug for Predictions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Predictions").field("samples", &self.samples.len()).field("k", &self.k).finish_non_exhaustive()
    }
}

impl Predictions {
    /// None yet. Of each sample, the `k` most probable classes are kept, at least 1.
    pub fn new(dataset: DynDataset, k: usize) -> Self {
        Self { dataset, k: k.max(1), samples: Vec::new(), top: Vec::new() }
    }

    /// Adds the sample `index` of class `class`, by its row of logits (one logit is a detector of class 1 against class 0) and its loss, if
    /// there is one other than `-log(probability)`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a class that has no logit, and for logits that are not finite.
    pub fn add(&mut self, index: usize, class: usize, logits: &[f32], loss: Option<f32>) -> Result<()> {
        let wide;
        let logits = match logits {
            // σ(x) is the second of softmax([0, x]).
            [logit] => {
                wide = [0.0, *logit];
                &wide[..]
            }
            logits => logits,
        };
        let refused = |name, value: String, expected: &str| Error::Argument { name, value, expected: expected.to_owned() };
        let Some(&target) = logits.get(class) else {
            return Err(refused("label", class.to_string(), &format!("a class below {}", logits.len())));
        };
        if let Some(logit) = logits.iter().find(|logit| !logit.is_finite()) {
            return Err(refused("logits", logit.to_string(), "finite numbers"));
        }
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let log_sum = largest + logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln();
        let probability = |logit: f32| (f64::from(logit) - log_sum).exp() as f32;

        let first = self.top.len();
        let k = self.k.min(logits.len());
        for (other, &logit) in logits.iter().enumerate() {
            let kept = self.top.get(first..).unwrap_or_default();
            // Logits stand for probabilities until the order is known.
            let place = first + kept.partition_point(|candidate| candidate.probability >= logit);
            if place < first + k {
                if kept.len() == k {
                    self.top.pop();
                }
                self.top.insert(place, Candidate { class: other as u32, probability: logit });
            }
        }
        for candidate in self.top.iter_mut().skip(first) {
            candidate.probability = probability(candidate.probability);
        }
        let loss = loss.unwrap_or((log_sum - f64::from(target)) as f32);
        self.samples.push(Sample { index, class: class as u32, probability: probability(target), loss });
        self.k = k;
        Ok(())
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The data set that the samples are of.
    pub fn dataset(&self) -> &DynDataset {
        &self.dataset
    }

    /// The sample at this position, in the order of the evaluation.
    pub fn get(&self, position: usize) -> Option<SamplePrediction<'_>> {
        let sample = self.samples.get(position)?;
        let top = self.top.get(position * self.k..(position + 1) * self.k)?;
        Some(SamplePrediction {
            index: sample.index,
            class: sample.class as usize,
            top,
            probability: sample.probability,
            loss: sample.loss,
        })
    }

    /// All samples, in the order of the evaluation.
    pub fn iter(&self) -> impl Iterator<Item = SamplePrediction<'_>> {
        (0..self.len()).filter_map(|position| self.get(position))
    }

    /// `count` samples, evenly spread over the set: nobody chose them.
    pub fn spread(&self, count: usize) -> Vec<SamplePrediction<'_>> {
        let count = count.min(self.len());
        // The middle of each of `count` equal parts.
        (0..count).filter_map(|part| self.get((2 * part + 1) * self.len() / (2 * count))).collect()
    }

    /// The `count` wrong predictions of highest loss, the worst first; of equals the earlier first.
    pub fn worst(&self, count: usize) -> Vec<SamplePrediction<'_>> {
        let mut wrong: Vec<SamplePrediction<'_>> = self.iter().filter(|sample| !sample.is_right()).collect();
        wrong.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        wrong.truncate(count);
        wrong
    }

    /// Writes one row a sample, in the order of the evaluation, as CSV (RFC 4180, UTF-8): `index`, `name`, `class`, `probability` and `loss` of
    /// the true class, `right` (1 or 0), then `top1`, `top1_probability` and so on. Classes are named as the data set names them.
    ///
    /// Names are written as they are, also those that begin with `=`, `+`, `-`, `@`, a tab or a carriage return, which a spreadsheet takes
    /// for formulas: whoever joins this file with the data set's own lists by name must find the names again, and an apostrophe put before
    /// them would be part of them for every reader of CSV. Where there are such names a warning says so, and says to import the file as text.
    ///
    /// # Errors
    /// [`Error::Io`], which leaves an older file as it was.
    pub fn write_csv(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let classes = self.dataset.classes();
        let formula = |name: &str| name.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let first = classes.names.iter().find(|name| formula(name)).cloned();
        let first = first.or_else(|| self.iter().map(|sample| self.dataset.name(sample.index)).find(|name| formula(name)));
        if let Some(name) = first {
            log::warn!("{}: a spreadsheet may take names such as {name:?} for formulas; import the columns as text", path.display());
        }
        disk::replace_file(&System, path, |out| {
            let failed = |error: csv::Error| Error::io("write", path)(error.into());
            let mut writer = csv::Writer::from_writer(out);
            let mut header: Vec<String> = ["index", "name", "class", "probability", "loss", "right"].map(str::to_owned).into();
            let k = if self.is_empty() { 1 } else { self.k };
            header.extend((1..=k).flat_map(|rank| [format!("top{rank}"), format!("top{rank}_probability")]));
            writer.write_record(&header).map_err(failed)?;
            let name = |class: usize| classes.name(class).map_or_else(|| class.to_string(), str::to_owned);
            for sample in self.iter() {
                let mut row = vec![
                    sample.index.to_string(),
                    self.dataset.name(sample.index),
                    name(sample.class),
                    sample.probability.to_string(),
                    sample.loss.to_string(),
                    u8::from(sample.is_right()).to_string(),
                ];
                row.extend(sample.top.iter().flat_map(|best| [name(best.class as usize), best.probability.to_string()]));
                writer.write_record(&row).map_err(failed)?;
            }
            writer.flush().map_err(Error::io("write", path))
        })
    }
}
