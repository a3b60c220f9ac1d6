//! What a model computes, layer by layer: for inference graphs, exporters and whatever else wants to rewrite a network.
//!
//! Each family [describes](Describe) itself beside its `forward`, in terms of the same layers. The description borrows the parameters and
//! means the model as it is evaluated: batch norm with its running statistics, neither dropout nor stochastic depth.

mod fold;
mod names;

pub use fold::{FoldedConv, FoldedLinear, FoldedNorm};
pub use names::layer_names;

use crate::blocks::{Activation, BatchNorm2d, Classifier, Conv2d, HeadStep, Linear, Pool, SqueezeExcite};
use crate::image_model::ImageModel;

/// A model that can say what it computes.
pub trait Describe: ImageModel {
    /// The body's layers in order of computation, and the head.
    fn describe(&self) -> ModelGraph<'_>;
}

/// An activation in a [`ModelGraph`]: the images or a layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(usize);

impl Value {
    /// The images, `[n, channels, h, w]`.
    pub const IMAGES: Self = Self(0);

    /// 0 for the images, 1 for the first layer's output and so on.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One layer: `activation(op(input) + residual)`.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'m> {
    /// What it reads.
    pub input: Value,
    /// What it does.
    pub op: Op<'m>,
    /// What is added to that: an activation of the same shape.
    pub residual: Option<Value>,
    /// What follows.
    pub activation: Activation,
}

/// What a layer does to its input `[n, c, h, w]`.
#[derive(Debug, Clone, Copy)]
pub enum Op<'m> {
    /// A convolution, then batch norm with running statistics. [`FoldedConv::new`] makes one convolution of the two.
    Convolution {
        /// The convolution.
        conv: &'m Conv2d,
        /// The norm after it.
        norm: Option<&'m BatchNorm2d>,
    },
    /// Maximum over windows, clipped to the picture; output size `floor((size + 2 padding - kernel) / stride) + 1`.
    MaxPool {
        /// Height and width of a window.
        kernel: usize,
        /// Distance of windows.
        stride: usize,
        /// Pixels by which the first window sticks out.
        padding: usize,
    },
    /// Mean over windows, clipped to the picture, of the pixels that are there; output size `ceil((size - kernel) / stride) + 1`.
    AveragePool {
        /// Height and width of a window.
        kernel: usize,
        /// Distance of windows.
        stride: usize,
    },
    /// Every `stride`-th pixel, missing channels zero, half of them before (rounded down), half after.
    Subsample {
        /// Distance of pixels that are kept.
        stride: usize,
        /// Channels of the output.
        channels: usize,
    },
    /// Channels scaled by gates computed from their means.
    SqueezeExcite(&'m SqueezeExcite),
}

/// A model's layers.
#[derive(Debug, Clone)]
pub struct ModelGraph<'m> {
    /// The body. A layer reads images and outputs of layers before it.
    pub layers: Vec<Layer<'m>>,
    /// The last stage's output: what [`ImageModel::forward_features`] returns.
    pub features: Value,
    /// What [`ImageModel::forward_head`] does with the features; `None` for a body alone.
    pub head: Option<HeadGraph<'m>>,
}

/// A head: a pool, then steps in order, down to the logits.
#[derive(Debug, Clone)]
pub struct HeadGraph<'m> {
    /// From `[n, c, h, w]` to `[n, f]`.
    pub pool: Pool,
    /// From `[n, f]` to `[n, classes]`.
    pub steps: Vec<HeadStep<'m>>,
}

impl<'m> HeadGraph<'m> {
    /// What a classifier computes.
    pub fn of(classifier: &'m Classifier) -> Self {
        Self { pool: classifier.head().pool, steps: classifier.steps() }
    }

    /// The layer, where the head is an average pool and one fully connected layer.
    pub fn as_linear(&self) -> Option<&'m Linear> {
        match (self.pool, self.steps.as_slice()) {
            (Pool::Average, [HeadStep::Linear(layer)]) => Some(layer),
            _ => None,
        }
    }
}

impl<'m> ModelGraph<'m> {
    /// A graph without layers: its features are the images.
    pub fn new() -> Self {
        Self { layers: Vec::new(), features: Value::IMAGES, head: None }
    }

    /// Appends a layer and returns its output, which becomes the features.
    pub fn push(&mut self, layer: Layer<'m>) -> Value {
        self.layers.push(layer);
        self.features = Value(self.layers.len());
        self.features
    }

    /// Appends convolution, norm and activation.
    pub fn conv(&mut self, input: Value, conv: &'m Conv2d, norm: &'m BatchNorm2d, activation: Activation) -> Value {
        self.conv_add(input, conv, norm, None, activation)
    }

    /// Appends convolution, norm, addition and activation.
    pub fn conv_add(
        &mut self,
        input: Value,
        conv: &'m Conv2d,
        norm: &'m BatchNorm2d,
        residual: Option<Value>,
        activation: Activation,
    ) -> Value {
        self.push(Layer { input, op: Op::Convolution { conv, norm: Some(norm) }, residual, activation })
    }

    /// Appends something that nothing follows.
    pub fn op(&mut self, input: Value, op: Op<'m>) -> Value {
        self.push(Layer { input, op, residual: None, activation: Activation::Identity })
    }
}

impl Default for ModelGraph<'_> {
    fn default() -> Self {
        Self::new()
    }
}
