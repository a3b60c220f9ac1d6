//! A model in training: forward, backward, update. The loop around it decides when.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};
use timburn_core::error::TrainError;
use timburn_core::{Error, Result, seed};
use timburn_models::{ImageModel, StateDict, autocast, load_state_dict, state_dict};

use crate::ema::Ema;
use crate::freeze::FreezePlan;
use crate::gradients::{Accumulator, ParameterGradients};
use crate::loss::{Loss, Reduction, Targets};
use crate::metrics::Report;
use crate::optimizer::{Groups, Optimizer, StepParams};
use crate::precision::{LossScale, Precision};
use crate::recipe::Recipe;
use crate::schedule::{Better, Rates, Schedule};
use crate::tensors::{host, is_finite};

/// First coordinate of the seeds of dropout and stochastic depth.
const LAYERS: u64 = 4;

/// A model, its optimizer, and what follows them.
pub struct Learner<M: ImageModel> {
    model: M,
    device: Device,
    optimizer: Optimizer,
    schedule: Schedule,
    loss: Loss,
    ema: Option<Ema<M>>,
    scale: Option<LossScale>,
    precision: Precision,
    clip: Option<crate::gradients::Clip>,
    seed: u64,
    freeze: Option<FreezePlan>,
    /// The last stage that the plan has frozen now; nothing without a plan.
    frozen: Option<String>,
    /// Optimizer steps done, the skipped ones included.
    step: u64,
    /// Micro-batches since the last step.
    pending: Vec<Pending>,
    accumulator: Accumulator,
}

/// A forward and backward pass whose results are still on the device.
struct Pending {
    /// `[2]`: mean loss, number of right answers.
    result: Tensor<1>,
    samples: usize,
}

/// The most probable class of each sample, `[n]`; with one logit class 1 from a probability above one half on.
fn predicted(logits: Tensor<2>) -> Tensor<1, Int> {
    if logits.dims()[1] == 1 { logits.greater_elem(0.0).int().flatten(0, 1) } else { logits.argmax(1).flatten(0, 1) }
}

/// Gives every tensor of a module the device's way of keeping activations: one forward pass cannot mix two, and moving leaves it as it was.
struct OnDevice<'a>(&'a Device);

impl ModuleMapper for OnDevice<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let strategy = Tensor::<1>::zeros([1], self.0).gradient_checkpointing_strategy();
        param.map(|value| {
            let require_grad = value.is_require_grad();
            let value = Tensor::from_inner(value.inner());
            strategy.map_or(value.clone(), |strategy| value.with_gradient_checkpointing_strategy(strategy)).set_require_grad(require_grad)
        })
    }
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Mean loss over its pictures.
    pub loss: f64,
    /// Pictures whose class was the most probable one.
    pub correct: f64,
    /// Number of pictures.
    pub samples: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum, where the schedule drives it.
    pub momentum: Option<f64>,
    /// Norm of the gradients before clipping, where something needed it.
    pub gradient_norm: Option<f64>,
    /// Whether the step was skipped because the gradients overflowed.
    pub skipped: bool,
}

/// The part of a learner's state that is no tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerState {
    step: u64,
    plateaus: Vec<crate::schedule::PlateauState>,
    scale: Option<LossScale>,
    ema_updates: Option<u64>,
    /// Checkpoints of earlier versions do not say: frozen as at the start.
    frozen: Option<String>,
}

/// A learner's state: tensors by part and key, and the rest.
pub struct LearnerTensors {
    /// Parameters and statistics.
    pub model: StateDict,
    /// The optimizer's.
    pub optimizer: StateDict,
    /// The averaged weights', if there are any.
    pub ema: Option<StateDict>,
}

impl<M: ImageModel> Learner<M> {
    /// Makes `model` ready for the first epoch of `recipe`, frozen as its plan says, with `steps_per_epoch` optimizer steps in an epoch.
    ///
    /// # Errors
    /// [`Error::Argument`] for values out of range, or a precision that the device does not have;
    /// [`ModelError::UnknownStage`](timburn_core::error::ModelError::UnknownStage) for stages that the model does not have.
    pub fn new(recipe: &Recipe, model: M, device: &Device, steps_per_epoch: u64) -> Result<Self> {
        let train = &recipe.train;
        let device = device.clone().autodiff();
        let device = if train.gradient_checkpointing { device.gradient_checkpointing() } else { device };
        // A fork, not a move: moving a tensor that requires gradients makes it an operation's result, which can no longer be trained.
        let model = model.fork(&device).train().map(&mut OnDevice(&device));
        train.precision.check(&device)?;
        let groups = if train.decay_norms_and_biases { Groups::uniform(&model) } else { Groups::of(&model) };
        let layers = model.layer_groups();
        let groups = groups.scaled(&layers, &train.lr_scales(&layers)?);
        let freeze = recipe.model.as_ref().and_then(|section| section.freeze.clone());
        let learner = Self {
            optimizer: Optimizer::new(recipe.optimizer.0.clone(), groups)?,
            schedule: Schedule::new(recipe.schedule.0.clone(), train.lr, train.epochs as f64, steps_per_epoch)?,
            loss: Loss::new(recipe.loss.clone(), model.num_classes())?,
            ema: recipe.ema.clone().map(|config| Ema::new(config, &model)).transpose()?,
            scale: (train.precision == Precision::F16).then(LossScale::default),
            precision: train.precision,
            clip: train.clip,
            seed: train.seed,
            freeze,
            frozen: None,
            step: 0,
            pending: Vec::new(),
            accumulator: Accumulator::default(),
            model,
            device,
        };
        learner.begin_epoch(0)
    }

    /// Freezes and thaws what the recipe's plan says for epoch `epoch` (from 0). A thawed parameter's optimizer state starts fresh.
    ///
    /// # Errors
    /// As [`new`](Self::new); the model is lost then.
    pub fn begin_epoch(self, epoch: u64) -> Result<Self> {
        let until = self.freeze.as_ref().map(|plan| plan.until(epoch).to_owned());
        self.freeze_until(until)
    }

    fn freeze_until(mut self, until: Option<String>) -> Result<Self> {
        if let (Some(plan), Some(until)) = (&self.freeze, until)
            && self.frozen.as_ref() != Some(&until)
        {
            self.model = plan.apply(self.model, &until)?;
            self.frozen = Some(until);
        }
        Ok(self)
    }

    /// The device, with autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model as it trains.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model to evaluate: the averaged weights where there are any. Without autodiff, in evaluation mode.
    pub fn valid(&self) -> M {
        self.ema.as_ref().map_or_else(|| self.model.valid(), |ema| ema.model().valid())
    }

    /// Whether [`valid`](Self::valid) gives averaged weights.
    pub fn has_ema(&self) -> bool {
        self.ema.is_some()
    }

    /// Element type of convolutions and linear layers.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The loss.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Optimizer steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Tells the schedule what was found at the end of epoch `epoch` (from 0): a plateau that waits for a lower value reads the loss, one
    /// that waits for a higher one the accuracy.
    pub fn observe(&mut self, epoch: u64, report: &Report) {
        self.schedule.observe(epoch, |better| match better {
            Better::Min => report.loss.unwrap_or(f64::NAN),
            Better::Max => report.top(1).unwrap_or(f64::NAN),
        });
    }

    /// One forward and backward pass over `images` `[n, 3, height, width]`; the gradients wait for [`update`](Self::update). `labels` are
    /// the pictures' classes, for the accuracy.
    ///
    /// # Errors
    /// [`Error::Argument`] when images, targets and model do not fit each other.
    pub fn backward(&mut self, images: Tensor<4>, targets: Targets, labels: Tensor<1, Int>) -> Result<()> {
        let [samples, ..] = images.dims();
        // Dropout and stochastic depth draw on the device: from a seed that a resumed run comes to again.
        self.device.seed(seed::derive(self.seed, &[LAYERS, self.step, self.pending.len() as u64]));
        let logits = autocast(self.precision.dtype(), || self.model.forward(images));
        let predicted = predicted(logits.clone().detach().inner());
        let correct = predicted.equal(labels.inner()).int().sum().float();
        let loss = self.loss.forward(logits, targets, Reduction::Mean)?;
        let result = Tensor::cat(vec![loss.clone().detach().inner(), correct], 0);
        let scaled = match &self.scale {
            Some(scale) => loss.mul_scalar(scale.scale),
            None => loss,
        };
        let gradients = ParameterGradients::of(&self.model, scaled.backward());
        self.accumulator.add(gradients, samples);
        self.pending.push(Pending { result, samples });
        Ok(())
    }

    /// Micro-batches that wait for [`update`](Self::update).
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// One optimizer step with the mean of the gradients since the last one; `None` when there are none.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] when the loss or, where their norm is known, the gradients are not finite;
    /// [`TrainError::LossScale`]. The model is lost then.
    pub fn update(self) -> Result<(Self, Option<Update>)> {
        let rates = self.schedule.rates(self.step);
        self.update_at(rates)
    }

    /// [`update`](Self::update) at rates of the caller's choice instead of the schedule's.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_at(mut self, rates: Rates) -> Result<(Self, Option<Update>)> {
        let Some(mut gradients) = self.accumulator.take() else { return Ok((self, None)) };
        let (mut gradient_norm, mut proceed) = (None, true);
        if let Some(scale) = &mut self.scale {
            gradients = gradients.scaled(1.0 / scale.scale);
            proceed = scale.update(gradients.is_finite()?)?;
        }
        if let Some(clip) = self.clip.filter(|_| proceed) {
            let (clipped, norm) = gradients.clip(clip)?;
            if !norm.is_finite() {
                return Err(TrainError::NonFinite { what: "gradients".into(), samples: Vec::new() }.into());
            }
            (gradients, gradient_norm) = (clipped, Some(norm));
        }
        if proceed {
            self.model = self.optimizer.step(self.model, gradients, &StepParams { lr: rates.lr, momentum: rates.momentum })?;
            self.ema = self.ema.map(|ema| ema.update(&self.model));
        }
        self.step += 1;
        // Read last: the device works through the update meanwhile.
        let (mut loss, mut correct, mut samples) = (0.0, 0.0, 0);
        for pending in self.pending.drain(..) {
            let values = host(pending.result)?;
            loss += f64::from(values.first().copied().unwrap_or(f32::NAN)) * pending.samples as f64;
            correct += f64::from(values.get(1).copied().unwrap_or(0.0));
            samples += pending.samples;
        }
        let loss = loss / samples.max(1) as f64;
        // An overflow that mixed precision answered is no fault of the loss.
        if !loss.is_finite() && proceed {
            return Err(TrainError::NonFinite { what: "loss".into(), samples: Vec::new() }.into());
        }
        let update = Update { loss, correct, samples, lr: rates.lr, momentum: rates.momentum, gradient_norm, skipped: !proceed };
        Ok((self, Some(update)))
    }

    /// Refuses weights and statistics that are not finite: what gradients that were no numbers, under a loss that was one, have left. Before
    /// weights are kept; one transfer from the device.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`]; [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed).
    pub fn check_finite(&self) -> Result<()> {
        if is_finite(&self.model)? {
            return Ok(());
        }
        Err(TrainError::NonFinite { what: "weights".into(), samples: Vec::new() }.into())
    }

    /// Everything a resumed run needs, between two steps.
    ///
    /// # Errors
    /// [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed).
    pub fn state(&self) -> Result<(LearnerTensors, LearnerState)> {
        let tensors = LearnerTensors {
            model: state_dict(&self.model),
            optimizer: self.optimizer.state(&self.model)?,
            ema: self.ema.as_ref().map(Ema::state),
        };
        let state = LearnerState {
            step: self.step,
            plateaus: self.schedule.state(),
            scale: self.scale.clone(),
            ema_updates: self.ema.as_ref().map(Ema::updates),
            frozen: self.frozen.clone(),
        };
        Ok((tensors, state))
    }

    /// Puts back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`WeightsError`](timburn_core::WeightsError) when tensors do not fit the model; [`Error::Argument`] when the state is another
    /// recipe's.
    pub fn load_state(mut self, tensors: &LearnerTensors, state: &LearnerState) -> Result<Self> {
        // As it was when the state was taken: frozen parameters have no optimizer state.
        self = self.freeze_until(state.frozen.clone())?;
        self.model = load_state_dict(&self.model, &tensors.model)?;
        self.optimizer.load_state(&self.model, &tensors.optimizer)?;
        self.schedule.load_state(&state.plateaus)?;
        if let Some(ema) = &mut self.ema {
            let (Some(dict), Some(updates)) = (&tensors.ema, state.ema_updates) else {
                return Err(Error::Argument { name: "ema", value: "none in the checkpoint".into(), expected: "averaged weights".into() });
            };
            ema.load_state(dict, updates)?;
        }
        self.scale = state.scale.clone();
        self.step = state.step;
        Ok(self)
    }
}
