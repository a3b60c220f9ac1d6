//! Fine-tuning: features, baselines, a head, then the body.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use timburn_core::error::TrainError;
use timburn_core::{Classes, Error, Preprocessing, Result};
use timburn_data::loader::{BadFile, Loader, LoaderOptions, Sampling};
use timburn_data::transform::{Filter, Flip, RandomResizedCrop, Transform, presets};
use timburn_data::{Dataset, DynDataset, Pipeline, Splits};
use timburn_infer::Compiled;
use timburn_kernels::release_memory;
use timburn_models::{Head, ImageModel, Model, ModelOptions, load_state_dict, state_dict};
use timburn_weights::{Bundle, Card, ModelSpec};

use super::head::{HeadTraining, examine_features, score, with_probe};
use super::observer::{Baselines, Phase, PhaseReport, TransferObserver};
use super::tuned::{FineTuned, SharedPictures};
use super::{Extraction, Features, Probe, body_digest, knn_accuracy};
use crate::loss::{ClassWeights, Loss, LossConfig, WeightRule};
use crate::metrics::Report;
use crate::optimizer::{AdamW, OptimizerConfig};
use crate::predictions::{Examination, Predictions};
use crate::recipe::{Best, EarlyStopping, OptimizerSection, Recipe, ScheduleSection};
use crate::schedule::{Curve, OneCycle, ScheduleConfig};
use crate::trainer::{Ending, Evaluator, StopFlag, TrainData, with_class_weights};

/// Neighbours that vote in the baseline.
const NEIGHBOURS: usize = 20;
/// What [`FineTuned::examined`] says of a test set that stands in for the validation set.
const CHOSEN_BY_TEST: &str = "test set, which also made the choices";
/// Pictures whose features are kept for a map of them.
const MAPPED: usize = 2000;

/// How long the body is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Epochs {
    /// So many epochs; 0 for the head alone.
    Fixed(u64),
    /// As many as fit in this time on this machine, found by timing two steps, and no more than `most`.
    Within {
        /// The time.
        time: Duration,
        /// Most epochs.
        most: u64,
    },
}

/// Transfer learning as fastai's `fine_tune` does it: first the head alone, then everything, the early layers slowly. The head's part runs on
/// features that are computed once.
///
/// ```no_run
/// use timburn_train::transfer::FineTune;
///
/// # fn main() -> timburn_core::Result<()> {
/// let device = timburn_core::open_device("auto")?;
/// let run = FineTune::new(5).fit(&timburn_weights::pretrained_bundle("resnet50")?, timburn_data::open("flowers")?, &device)?;
/// run.save("flowers.timburn")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FineTune {
    /// Epochs in which the body is trained.
    pub epochs: Epochs,
    /// What follows the body.
    pub head: Head,
    /// One logit instead of two, for two classes.
    pub single_logit: bool,
    /// Most epochs of the head's own training. A linear head has none: logistic regression finds its weights.
    pub head_epochs: u64,
    /// Views of each training picture that the head sees; the first is the picture as it is scored.
    pub views: usize,
    /// Pictures in a training batch.
    pub batch_size: usize,
    /// Learning rate of the head's own training, AdamW's.
    pub head_lr: f64,
    /// Peak learning rate of the last layers when the body trains, AdamW's.
    pub lr: f64,
    /// The first layers' rate is `lr` divided by this, at least 1; those between lie between.
    pub lr_slice: f64,
    /// Leaves everything up to this stage as it is, also when the body trains.
    pub freeze: Option<String>,
    /// Normalises by each batch's own statistics when the body trains, and follows them, as fastai does; by the pretrained ones otherwise.
    pub batch_statistics: bool,
    /// Weighs classes by the inverse of their number of pictures.
    pub balanced: bool,
    /// Epochs without improvement after which a phase ends.
    pub patience: u32,
    /// Share of the training set that is held out for validation where the data brings none.
    pub validation: f64,
    /// Only so many training pictures of each class.
    pub per_class: Option<usize>,
    /// Decides the head's first weights, order, augmentation, split.
    pub seed: u64,
    /// Threads that decode, one for each CPU when 0.
    pub workers: usize,
    /// Where features are kept for the next call; in memory when absent.
    pub cache: Option<PathBuf>,
    /// Where checkpoints of the body's training go; without it only its last weights count.
    pub checkpoints: Option<PathBuf>,
    /// Ends whatever is going on at its next step; the best so far is the result, without an examination of every picture.
    pub stop: StopFlag,
}

impl Default for FineTune {
    fn default() -> Self {
        Self {
            epochs: Epochs::Fixed(3),
            head: Head::Linear,
            single_logit: false,
            head_epochs: 30,
            views: 1,
            batch_size: 32,
            head_lr: 2e-3,
            lr: 5e-4,
            lr_slice: 100.0,
            freeze: None,
            batch_statistics: false,
            balanced: false,
            patience: 3,
            validation: 0.2,
            per_class: None,
            seed: 0,
            workers: 0,
            cache: None,
            checkpoints: None,
            stop: StopFlag::default(),
        }
    }
}

impl FineTune {
    /// The head, then `epochs` epochs of everything.
    pub fn new(epochs: u64) -> Self {
        Self { epochs: Epochs::Fixed(epochs), ..Self::default() }
    }

    /// The recipe of the body's training, for pictures as `preprocessing` wants them.
    ///
    /// # Errors
    /// [`Error::Argument`] for values out of range.
    pub fn recipe(&self, preprocessing: &Preprocessing, outputs: usize) -> Result<Recipe> {
        let interpolation = Filter::from(preprocessing.interpolation);
        let crop = RandomResizedCrop { scale: [0.35, 1.0], interpolation, ..RandomResizedCrop::new(preprocessing.input) };
        let mut recipe = Recipe::default();
        recipe.train.batch_size = self.batch_size;
        recipe.train.lr = self.lr;
        recipe.train.seed = self.seed;
        recipe.train.lr_slice = (self.lr_slice > 1.0).then_some(self.lr_slice);
        recipe.train.epochs = if let Epochs::Fixed(epochs) = self.epochs { epochs.max(1) } else { 1 };
        recipe.data.validation = self.validation;
        recipe.data.split_seed = self.seed;
        recipe.data.per_class = self.per_class;
        recipe.augment.train = vec![Transform::RandomResizedCrop(crop), Transform::HorizontalFlip(Flip::default())];
        recipe.augment.evaluation = presets::imagenet_eval(preprocessing);
        recipe.loader.workers = self.workers;
        recipe.loss = LossConfig::for_outputs(outputs);
        recipe.optimizer = OptimizerSection(OptimizerConfig::AdamW(AdamW { weight_decay: 0.01, ..AdamW::default() }));
        let curve = Curve::OneCycle(OneCycle { cycle_momentum: false, ..OneCycle::default() });
        recipe.schedule = ScheduleSection(ScheduleConfig::new(curve));
        recipe.early_stopping = Some(EarlyStopping { patience: self.patience, min_delta: 0.0, metric: Best::Top1 });
        recipe.loss.set_class_weights(self.balanced.then_some(ClassWeights::Rule(WeightRule::Balanced)));
        recipe.validate()?;
        Ok(recipe)
    }

    /// Fine-tunes the model of `bundle` to the classes of `splits`.
    ///
    /// # Errors
    /// As [`fit_observed`](Self::fit_observed).
    pub fn fit(&self, bundle: &Bundle, splits: Splits, device: &Device) -> Result<FineTuned> {
        self.fit_observed(bundle, splits, device, &mut ())
    }

    /// [`fit`](Self::fit), told step by step.
    ///
    /// # Errors
    /// [`Error::Argument`] for values out of range, fewer than two classes, or one logit for more;
    /// [`ModelError::UnknownStage`](timburn_core::error::ModelError::UnknownStage); those of data, weights, device, checkpoints and observer;
    /// [`TrainError`], of which [`Interrupted`](TrainError::Interrupted) when the stop came before there was a head.
    pub fn fit_observed(&self, bundle: &Bundle, splits: Splits, device: &Device, observer: &mut dyn TransferObserver) -> Result<FineTuned> {
        let tuned = self.run(bundle, splits, device, observer);
        release_memory();
        tuned
    }

    fn run(&self, bundle: &Bundle, splits: Splits, device: &Device, observer: &mut dyn TransferObserver) -> Result<FineTuned> {
        let device = device.clone().without_autodiff();
        let classes = splits.classes().clone();
        if classes.len() < 2 || (self.single_logit && classes.len() != 2) {
            let expected = if self.single_logit { "two, for a single logit" } else { "at least two" }.into();
            return Err(Error::Argument { name: "classes of the data", value: classes.len().to_string(), expected });
        }
        let outputs = if self.single_logit { 1 } else { classes.len() };
        let options = ModelOptions { classes: Some(outputs), head: self.head.clone(), seed: self.seed, ..bundle.model.options.clone() };
        let model = bundle.load_with(&options, &device)?;
        if let Some(stage) = &self.freeze {
            // Before all the work, not after it.
            crate::freeze::freeze_until(model.clone(), stage)?;
        }
        let mut recipe = self.recipe(&bundle.preprocessing, outputs)?;
        let test = splits.test.clone();
        let brought = splits.validation.is_some();
        let data = TrainData::new(&recipe, splits)?;
        let test = test.filter(|_| !data.scores_on_test);
        for (name, set) in [("training pictures", data.train()), ("validation pictures", data.validation())] {
            if set.is_empty() {
                let expected = "at least one; copies of one picture stay in one part".into();
                return Err(Error::Argument { name, value: "0".into(), expected });
            }
        }

        // A part that is held out here shares nothing with the rest.
        let held = (brought || data.scores_on_test).then_some((if data.scores_on_test { "test" } else { "validation" }, data.validation()));
        let others = held.into_iter().chain(test.as_ref().map(|test| ("test", test)));
        let shared: Vec<SharedPictures> = others.filter_map(|(part, other)| SharedPictures::of(data.train(), part, other)).collect();
        shared.iter().for_each(|shared| log::warn!("{shared}"));
        if self.stop.is_requested() {
            return Err(TrainError::Interrupted.into());
        }

        let weighted = with_class_weights(&recipe, &data)?;
        let weights = weighted.loss.class_weights().unwrap_or_default();

        let (train, validation, mut bad) = self.features(&model, &recipe, &data, &device, observer)?;
        observer.phase(&Phase::Baselines)?;
        let probe = Probe::fit_until(&train, &validation, classes.len(), weights, &device, &self.stop)?;
        let baselines = Baselines { knn: knn_accuracy(&train, &validation, classes.len(), NEIGHBOURS, &device)?, probe: probe.accuracy };
        observer.baselines(&baselines);

        let head = self.train_head(model, (&train, &validation), &probe, &weighted, &device, observer)?;
        let mut phases = vec![head.1];
        let body = self.train_body(&head.0, &mut recipe, &data, &device, observer)?;
        let (mut model, mut chosen, mut interrupted) = (head.0, "head", self.stop.is_requested());
        if let Some((tuned, phase, ending)) = body {
            interrupted |= ending == Ending::Interrupted;
            if better(&phase.report, &phases[0].report) {
                (model, chosen) = (tuned, "body");
            }
            phases.push(phase);
        }
        let validation_report = phases.iter().find(|phase| phase.name == chosen).map(|phase| phase.report.clone());
        let validation_report = validation_report.unwrap_or_else(|| phases[0].report.clone());
        let (examined, found) = match test {
            // Whoever stops a run does not wait for its evidence.
            _ if interrupted => ("validation set", Err(TrainError::Interrupted.into())),
            Some(test) => {
                observer.phase(&Phase::Test)?;
                ("test set", self.examine(&model, test, &recipe, &device, observer))
            }
            // The features are those of this very body: nothing has to be computed again.
            None if chosen == "head" => ("validation set", examine_features(&model, &validation, data.validation(), &device)),
            None => ("validation set", self.examine(&model, data.validation().clone(), &recipe, &device, observer)),
        };
        // What chose is not what tests, whatever the data calls it.
        let validated = if data.scores_on_test { CHOSEN_BY_TEST } else { "validation set" };
        let (examined, examination) = match found {
            Err(Error::Train(TrainError::Interrupted)) => {
                interrupted = true;
                let predictions = Predictions::new(data.validation().clone(), 1);
                (validated, Examination { report: validation_report.clone(), predictions, features: None, bad: Vec::new() })
            }
            found => (if examined == "test set" { examined } else { validated }, found?),
        };
        let test = (examined == "test set").then(|| examination.report.clone());
        if test.is_some() {
            bad.extend(examination.bad.iter().cloned());
        }
        let bundle = self.bundle(bundle, &model, &options, &classes, &recipe, &validation_report)?;
        Ok(FineTuned {
            bundle,
            model,
            validation: validation_report,
            test,
            baselines,
            phases,
            chosen,
            data,
            recipe,
            examination,
            examined,
            bad,
            shared,
            interrupted,
        })
    }

    /// Features of training and validation set.
    fn features(
        &self,
        model: &Model,
        recipe: &Recipe,
        data: &TrainData,
        device: &Device,
        observer: &mut dyn TransferObserver,
    ) -> Result<(Features, Features, Vec<BadFile>)> {
        let plain = Pipeline::new(recipe.augment.evaluation.clone())?;
        let extraction = |dataset: &DynDataset, views| -> Result<Extraction> {
            Ok(Extraction {
                dataset: dataset.clone(),
                plain: plain.clone(),
                augmented: Pipeline::new(recipe.augment.train.clone())?,
                views,
                normalization: data.normalization(),
                batch_size: self.batch_size,
                seed: self.seed,
                workers: self.workers,
                skip_bad: recipe.loader.skip_bad,
            })
        };
        let views = self.views.max(1);
        observer.phase(&Phase::Features { passes: data.train().len() * views + data.validation().len() })?;
        let digest = self.cache.as_ref().map(|_| body_digest(model)).transpose()?;
        let pool = format!("{:?}", self.head.layers().pool);
        let compiled = Compiled::new(model.clone(), device)?;
        let body = |images: Tensor<4>| -> Result<Tensor<2>> {
            if self.stop.is_requested() {
                return Err(TrainError::Interrupted.into());
            }
            Ok(compiled.pool(compiled.forward_features(images)))
        };
        let mut run = |dataset: &DynDataset, views| {
            let extraction = extraction(dataset, views)?;
            let key = digest.as_ref().map(|digest| extraction.key(&format!("{digest} {pool}")));
            let cache = self.cache.as_deref().zip(key.as_deref());
            extraction.run(&body, device, cache, &mut |passes| observer.extracted(passes))
        };
        let (train, mut bad) = run(data.train(), views)?;
        let (validation, more) = run(data.validation(), 1)?;
        bad.extend(more);
        Ok((train, validation, bad))
    }

    /// The model with a head for these features, and its score.
    fn train_head(
        &self,
        model: Model,
        (train, validation): (&Features, &Features),
        probe: &Probe,
        recipe: &Recipe,
        device: &Device,
        observer: &mut dyn TransferObserver,
    ) -> Result<(Model, PhaseReport)> {
        observer.phase(&Phase::Head)?;
        let started = Instant::now();
        if let Some(model) = with_probe(&model, probe)?.filter(|_| self.head.is_linear()) {
            let report = score(&model, validation, device)?;
            return Ok((model, PhaseReport { name: "head", epochs: 0, time: started.elapsed(), report }));
        }
        let mut recipe = recipe.clone();
        recipe.train.lr = self.head_lr;
        recipe.train.epochs = self.head_epochs.max(1);
        recipe.train.batch_size = 64;
        let training = HeadTraining { recipe, patience: u64::from(self.patience) + 2 };
        let mut epochs = 0;
        let (trained, report) = training.run_until(model.clone(), (train, validation), device, &self.stop, &mut |epoch| {
            epochs = epoch.epoch + 1;
            observer.head_epoch(epoch);
        })?;
        // Onto the model as it was: the trained one's body is marked as frozen.
        let model = load_state_dict(&model, &state_dict(&trained))?;
        Ok((model, PhaseReport { name: "head", epochs, time: started.elapsed(), report }))
    }

    pub(super) fn in_order(&self) -> LoaderOptions {
        let defaults = LoaderOptions::default();
        let workers = if self.workers == 0 { defaults.workers } else { self.workers };
        LoaderOptions { batch_size: self.batch_size, sampling: Sampling::Sequential, workers, ..defaults }
    }

    /// What `model` says of every picture of `dataset`.
    pub(super) fn examine(
        &self,
        model: &Model,
        dataset: DynDataset,
        recipe: &Recipe,
        device: &Device,
        observer: &mut dyn TransferObserver,
    ) -> Result<Examination> {
        let total = dataset.len();
        let pipeline = Pipeline::new(recipe.augment.evaluation.clone())?;
        let loader = Loader::new(dataset, Arc::new(pipeline), self.in_order())?;
        let loss = Loss::new(LossConfig::for_outputs(model.num_classes()), model.num_classes())?;
        let evaluator = Evaluator {
            loader: &loader,
            normalization: recipe.augment.normalization(),
            loss: Some(&loss),
            test_time: recipe.evaluation.test_time,
            top: &recipe.evaluation.top,
            precision: recipe.train.precision,
        };
        let model = Compiled::new(model.clone(), device)?;
        evaluator.examine_until(&model, device, MAPPED, &self.stop, &mut |done| observer.evaluating(done, total))
    }

    fn bundle(
        &self,
        from: &Bundle,
        model: &Model,
        options: &ModelOptions,
        classes: &Classes,
        recipe: &Recipe,
        report: &Report,
    ) -> Result<Bundle> {
        let mut card = Card {
            source: from.card.name.clone().or_else(|| Some(from.model.architecture.clone())),
            licence: from.card.licence.clone(),
            recipe: serde_json::to_value(recipe).unwrap_or_default(),
            ..Card::default()
        };
        card.measured.top1 = report.top(1).map(|share| 100.0 * share);
        card.measured.top5 = report.top(5).filter(|_| classes.len() > 5).map(|share| 100.0 * share);
        Ok(Bundle {
            model: ModelSpec { architecture: from.model.architecture.clone(), options: options.clone() },
            classes: classes.clone(),
            preprocessing: from.preprocessing.clone(),
            card,
            ranges: None,
            weights: state_dict(model),
        })
    }
}

/// Higher accuracy, or the same and a lower loss.
fn better(a: &Report, b: &Report) -> bool {
    let key = |report: &Report| (report.top(1).unwrap_or(0.0), -report.loss.unwrap_or(f64::INFINITY));
    key(a).partial_cmp(&key(b)).is_some_and(std::cmp::Ordering::is_gt)
}
