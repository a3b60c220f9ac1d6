use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Content, Flag, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use timburn_kernels::{Activation, BatchNorm, batch_norm, batch_norm_train};

use super::{Builder, Init};

/// What a [`BatchNorm2d`] does with its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNormMode {
    /// Normalises with the batch's statistics and updates the running ones.
    Train,
    /// Inside a training step, normalises with the running statistics and leaves them as they are: a frozen layer.
    Frozen,
    /// Outside training, normalises with the running statistics.
    Eval,
}

/// Batch normalisation over `[n, h, w]` with PyTorch's semantics.
///
/// Burn's own `BatchNorm` keeps the *biased* batch variance in its running statistics, PyTorch the unbiased one; and Burn's running
/// statistics are shared by clones and late by one batch. Here a clone is a copy, and an update is seen at once.
///
/// The mode follows Burn's module states: [`Module::train`] trains, [`Module::valid`] evaluates, `freeze` and `freeze_group` freeze
/// until `unfreeze`. A layer made on a device without autodiff starts in evaluation.
#[derive(Module, Debug)]
pub struct BatchNorm2d {
    /// Scale γ, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift β, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Mean over past batches, `[channels]`.
    pub running_mean: RunningStat,
    /// Unbiased variance over past batches, `[channels]`.
    pub running_var: RunningStat,
    /// On in training, off when frozen or evaluating.
    pub training: Param<Flag>,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm2d {
    /// γ = `scale`, β = 0, statistics of the standard normal, momentum 0.1.
    pub fn new(channels: usize, epsilon: f64, scale: f32, builder: &Builder<'_>) -> Self {
        let training = Param::from_bool(true);
        Self {
            weight: builder.parameter([channels], Init::Constant(scale)),
            bias: builder.parameter([channels], Init::Constant(0.0)),
            running_mean: RunningStat::new(Tensor::zeros([channels], builder.device)),
            running_var: RunningStat::new(Tensor::ones([channels], builder.device)),
            training: if builder.device.is_autodiff() { training } else { training.valid() },
            momentum: 0.1,
            epsilon,
        }
    }

    /// With this momentum (PyTorch's convention: the weight of the newest batch).
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// What [`forward`](Self::forward) will do.
    pub fn mode(&self) -> BatchNormMode {
        if self.training.is_enabled() {
            BatchNormMode::Train
        } else if self.weight.lazy_device().is_autodiff() {
            BatchNormMode::Frozen
        } else {
            BatchNormMode::Eval
        }
    }

    /// `[n, channels, h, w]` → same shape. In [`BatchNormMode::Train`] the running statistics move on.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.normalise(input, None, Activation::Identity)
    }

    /// The activation of [`forward`](Self::forward), in one pass over the data where the backend can.
    pub fn forward_then(&self, input: Tensor<4>, activation: Activation) -> Tensor<4> {
        self.normalise(input, None, activation)
    }

    /// The activation of `residual` plus [`forward`](Self::forward), in one pass over the data where the backend can.
    pub fn forward_add(&self, input: Tensor<4>, residual: Tensor<4>, activation: Activation) -> Tensor<4> {
        self.normalise(input, Some(residual), activation)
    }

    fn normalise(&self, input: Tensor<4>, residual: Option<Tensor<4>>, activation: Activation) -> Tensor<4> {
        let norm = BatchNorm { weight: self.weight.val(), bias: self.bias.val(), epsilon: self.epsilon, residual, activation };
        if self.mode() != BatchNormMode::Train {
            return batch_norm(input, norm, self.running_mean.value(), self.running_var.value());
        }
        let [n, _, h, w] = input.dims();
        let count = (n * h * w) as f64;
        let batch = batch_norm_train(input, norm);
        // PyTorch refuses a single value per channel; its unbiased variance would be 0/0. The biased one (zero) is kept instead.
        let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        self.running_mean.blend(batch.mean, self.momentum);
        self.running_var.blend(batch.variance * unbiased, self.momentum);
        batch.output
    }
}

/// A running statistic: a buffer that the forward pass updates. Cloning copies it; an update is visible at once.
pub struct RunningStat {
    id: ParamId,
    value: Mutex<Tensor<1>>,
}

impl RunningStat {
    /// Starts at `value`.
    pub fn new(value: Tensor<1>) -> Self {
        Self { id: ParamId::new(), value: Mutex::new(value.detach()) }
    }

    fn lock(&self) -> MutexGuard<'_, Tensor<1>> {
        // A panic elsewhere cannot leave a half-written value: the tensor is replaced whole.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current value.
    pub fn value(&self) -> Tensor<1> {
        self.lock().clone()
    }

    /// `value ← (1 - momentum) · value + momentum · newest`.
    fn blend(&self, newest: Tensor<1>, momentum: f64) {
        let mut value = self.lock();
        *value = (value.clone() * (1.0 - momentum) + newest.detach() * momentum).detach();
    }

    fn replaced(&self, value: Tensor<1>) -> Self {
        Self { id: self.id, value: Mutex::new(value) }
    }
}

impl Clone for RunningStat {
    fn clone(&self) -> Self {
        self.replaced(self.value())
    }
}

impl fmt::Debug for RunningStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunningStat({})", self.id)
    }
}

impl fmt::Display for RunningStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ModuleDisplayDefault for RunningStat {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&"RunningStat").optional()
    }
}

impl ModuleDisplay for RunningStat {}

impl Module for RunningStat {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let (id, value, _) = mapper.map_float(Param::initialized(self.id, self.value())).consume();
        // A mapper may change the value, but a buffer never takes part in the gradient.
        Self { id, value: Mutex::new(value.set_require_grad(false)) }
    }

    fn to_device(self, device: &Device) -> Self {
        self.replaced(self.value().to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn collect_devices(&self, mut devices: Vec<Device>) -> Vec<Device> {
        let device = self.value().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.replaced(self.value().without_autodiff())
    }

    fn train(self) -> Self {
        let value = self.value();
        self.replaced(if value.is_autodiff() { value } else { Tensor::from_inner(value) })
    }
}
