//! What a model computes, layer by layer: for inference graphs, exporters and whatever else wants to rewrite a network.
//!
//! Each family [describes](Describe) itself beside its `forward`, in terms of the same layers. The description
//! means the model as it is evaluated: batch norm with its running statistics, neither dropout nor stochastic depth. It shares the parameters
//! with the model, and outlives it: who drops the model first gives each layer's memory back with the layer.

mod fold;
mod names;

pub use fold::{FoldedConv, FoldedLinear, FoldedNorm};

use std::collections::HashMap;

use burn::module::{Module, ParamId};

use crate::blocks::{Activation, BatchNorm2d, Classifier, Conv2d, HeadStep, Linear, Pool, SqueezeExcite};
use crate::image_model::ImageModel;

/// A model that can say what it computes.
pub trait Describe: ImageModel {
    /// The body's layers in order of computation, and the head.
    fn describe(&self) -> ModelGraph;
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
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it reads.
    pub input: Value,
    /// What it does.
    pub op: Op,
    /// What is added to that: an activation of the same shape.
    pub residual: Option<Value>,
    /// What follows.
    pub activation: Activation,
}

/// What a layer does to its input `[n, c, h, w]`.
#[derive(Debug, Clone)]
pub enum Op {
    /// A convolution, then batch norm with running statistics. [`FoldedConv::new`] makes one convolution of the two.
    Convolution {
        /// The convolution.
        conv: Conv2d,
        /// The norm after it.
        norm: Option<BatchNorm2d>,
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
    SqueezeExcite(SqueezeExcite),
}

/// A model's layers.
#[derive(Debug, Clone)]
pub struct ModelGraph {
    /// The body. A layer reads images and outputs of layers before it.
    pub layers: Vec<Layer>,
    /// The last stage's output: what [`ImageModel::forward_features`] returns.
    pub features: Value,
    /// What [`ImageModel::forward_head`] does with the features; `None` for a body alone.
    pub head: Option<HeadGraph>,
    /// The name of each layer by the ids of its parameters: their key without its last part (`layer1.0.conv1`), empty for a module that is
    /// the layer itself.
    pub names: HashMap<ParamId, String>,
}

/// A head: a pool, then steps in order, down to the logits.
#[derive(Debug, Clone)]
pub struct HeadGraph {
    /// From `[n, c, h, w]` to `[n, f]`.
    pub pool: Pool,
    /// From `[n, f]` to `[n, classes]`.
    pub steps: Vec<HeadStep>,
}

impl HeadGraph {
    /// What a classifier computes.
    pub fn of(classifier: &Classifier) -> Self {
        Self { pool: classifier.head().pool, steps: classifier.steps() }
    }

    /// The layer, where the head is an average pool and one fully connected layer.
    pub fn as_linear(&self) -> Option<&Linear> {
        match (self.pool, self.steps.as_slice()) {
            (Pool::Average, [HeadStep::Linear(layer)]) => Some(layer),
            _ => None,
        }
    }
}

impl ModelGraph {
    /// A graph of `model` that has no layers yet: its features are the images.
    pub fn of<M: Module>(model: &M) -> Self {
        Self { layers: Vec::new(), features: Value::IMAGES, head: None, names: names::layer_names(model) }
    }

    /// Appends a layer and returns its output, which becomes the features.
    pub fn push(&mut self, layer: Layer) -> Value {
        self.layers.push(layer);
        self.features = Value(self.layers.len());
        self.features
    }

    /// Appends convolution, norm and activation.
    pub fn conv(&mut self, input: Value, conv: &Conv2d, norm: &BatchNorm2d, activation: Activation) -> Value {
        self.conv_add(input, conv, norm, None, activation)
    }

    /// Appends convolution, norm, addition and activation.
    pub fn conv_add(&mut self, input: Value, conv: &Conv2d, norm: &BatchNorm2d, residual: Option<Value>, activation: Activation) -> Value {
        let op = Op::Convolution { conv: conv.clone(), norm: Some(norm.clone()) };
        self.push(Layer { input, op, residual, activation })
    }

    /// Appends something that nothing follows.
    pub fn op(&mut self, input: Value, op: Op) -> Value {
        self.push(Layer { input, op, residual: None, activation: Activation::Identity })
    }
}
