use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use timburn_core::Result;

use super::autocast::widened;
use super::head::{Head, HeadLayer, HeadLayers, LayerStyle, Output, Pool};
use super::{Activation, BatchNorm2d, Builder, CosineLinear, Init, Linear, global_average_pool, global_max_pool};

/// What a [`Classifier`] sits on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassifierConfig {
    /// Channels of the body's last stage.
    pub channels: usize,
    /// Outputs.
    pub classes: usize,
    /// Probability of dropout after the pool: of any head where given, else of heads without layers of their own by the family's rule.
    pub dropout: Option<f64>,
    /// The family's dropout.
    pub family_dropout: f64,
    /// How layers start unless the head says.
    pub style: LayerStyle,
}

impl ClassifierConfig {
    /// No dropout, PyTorch's initial values.
    pub fn new(channels: usize, classes: usize) -> Self {
        Self { channels, classes, dropout: None, family_dropout: 0.0, style: LayerStyle::Pytorch }
    }

    /// The family's dropout, and the caller's that takes precedence over it.
    pub fn dropout(self, family_dropout: f64, dropout: Option<f64>) -> Self {
        Self { dropout, family_dropout, ..self }
    }

    /// Another way to start.
    pub fn style(self, style: LayerStyle) -> Self {
        Self { style, ..self }
    }

    /// Makes the classifier that `head` describes.
    ///
    /// # Errors
    /// Those of [`Head::validate`].
    pub fn build(self, head: &Head, builder: &Builder<'_>) -> Result<Classifier> {
        head.validate()?;
        Ok(self.made(head.layers(), builder))
    }

    /// Makes the classifier with a plain linear head.
    pub fn linear(self, builder: &Builder<'_>) -> Classifier {
        self.made(HeadLayers::default(), builder)
    }

    fn made(self, head: HeadLayers, builder: &Builder<'_>) -> Classifier {
        let style = head.style.unwrap_or(self.style);
        let mut inputs = head.pool.features(self.channels);
        let has_layers = !head.layers.is_empty();
        let dropout = self.dropout.unwrap_or(if has_layers { 0.0 } else { self.family_dropout });
        let mut layers: Vec<Layer> = Vec::with_capacity(head.layers.len() + 1);
        for &layer in &head.layers {
            layers.push(match layer {
                HeadLayer::BatchNorm => Layer::BatchNorm(style.batch_norm(inputs, builder)),
                HeadLayer::Linear(width) => {
                    let linear = style.linear(inputs, width, builder);
                    inputs = width;
                    Layer::Linear(linear)
                }
                HeadLayer::Relu => Layer::Relu(Relu { activation: Activation::Relu }),
                HeadLayer::Dropout(rate) => Layer::Dropout(DropoutConfig::new(rate).init()),
            });
        }
        let output = match head.output {
            Output::Linear => Layer::Linear(style.linear(inputs, self.classes, builder)),
            Output::Cosine(cosine) => Layer::Cosine(CosineLinear::new(inputs, self.classes, cosine, builder)),
        };
        let layers = if has_layers {
            layers.push(output);
            Layers::Stack(layers)
        } else {
            Layers::Single(output)
        };
        Classifier { dropout: DropoutConfig::new(dropout).init(), __: layers, head, config: self }
    }
}

impl LayerStyle {
    fn linear(self, inputs: usize, outputs: usize, builder: &Builder<'_>) -> Linear {
        let zero = Init::Constant(0.0);
        let (weight, bias) = match self {
            Self::Pytorch => return Linear::new(inputs, outputs, builder),
            Self::Torchvision => (Init::Normal(0.01), Some(zero)),
            Self::Fastai => (Init::Normal((2.0 / inputs as f64).sqrt()), None),
            Self::Keras => (Init::Uniform((6.0 / (inputs + outputs) as f64).sqrt()), Some(zero)),
        };
        Linear { weight: builder.parameter([outputs, inputs], weight), bias: bias.map(|bias| builder.parameter([outputs], bias)) }
    }

    fn batch_norm(self, features: usize, builder: &Builder<'_>) -> BatchNorm2d {
        let mut norm = BatchNorm2d::new(features, 1e-5, 1.0, builder);
        if self == Self::Fastai {
            norm.bias = builder.parameter([features], Init::Constant(1e-3));
        }
        norm
    }
}

/// The head of a model: pool, layers, output.
///
/// A model that takes heads of any kind answers both [`ImageModel::pool`](crate::ImageModel::pool) and
/// [`classify`](crate::ImageModel::classify) from it; with [`linear`](Self::linear) alone, the former's own answer will do.
///
/// As a family's field `fc` its keys are those of PyTorch's layer: `fc.weight`, `fc.bias` for a single output layer, and with layers before
/// it those of a `Sequential` that begins after the pool (`fc.0.weight`, …, layers without parameters counted). fastai counts pool and flatten
/// too: its numbers are higher by 2.
#[derive(Module, Debug)]
pub struct Classifier {
    dropout: Dropout,
    /// Named so that it adds nothing to the keys; see [`KeyPath`](crate::state_dict::KeyPath).
    __: Layers,
    #[module(skip)]
    head: HeadLayers,
    #[module(skip)]
    config: ClassifierConfig,
}

/// The output layer, alone or after others.
#[derive(Module, Debug)]
enum Layers {
    Single(Layer),
    Stack(Vec<Layer>),
}

#[derive(Module, Debug)]
enum Layer {
    Linear(Linear),
    BatchNorm(BatchNorm2d),
    Relu(Relu),
    Dropout(Dropout),
    Cosine(CosineLinear),
}

/// A step of a head as it is evaluated.
#[derive(Debug, Clone)]
pub enum HeadStep {
    /// A fully connected layer.
    Linear(Linear),
    /// Batch norm of each feature, with running statistics.
    BatchNorm(BatchNorm2d),
    /// An activation.
    Activation(Activation),
    /// Scaled cosines.
    Cosine(CosineLinear),
}

/// A ReLU that has a place in a list of modules.
#[derive(Module, Debug)]
struct Relu {
    #[module(skip)]
    activation: Activation,
}

impl Layer {
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(layer) => layer.forward(input),
            Self::BatchNorm(norm) => {
                let [n, features] = input.dims();
                norm.forward(input.reshape([n, features, 1, 1])).reshape([n, features])
            }
            Self::Relu(relu) => relu.activation.forward(input),
            Self::Dropout(dropout) => dropout.forward(input),
            Self::Cosine(layer) => layer.forward(input),
        }
    }

    /// `None` for what does nothing in evaluation.
    fn step(&self) -> Option<HeadStep> {
        match self {
            Self::Linear(layer) => Some(HeadStep::Linear(layer.clone())),
            Self::BatchNorm(norm) => Some(HeadStep::BatchNorm(norm.clone())),
            Self::Relu(relu) => Some(HeadStep::Activation(relu.activation)),
            Self::Dropout(_) => None,
            Self::Cosine(layer) => Some(HeadStep::Cosine(layer.clone())),
        }
    }
}

impl Classifier {
    /// A plain linear head on `channels` channels.
    pub fn linear(channels: usize, classes: usize, builder: &Builder<'_>) -> Self {
        ClassifierConfig::new(channels, classes).linear(builder)
    }

    /// The last stage's output `[n, c, h, w]` → what the layers read, `[n, f]`.
    pub fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        match self.head.pool {
            Pool::Average => global_average_pool(features),
            Pool::Max => global_max_pool(features),
            Pool::AverageMax => Tensor::cat(vec![global_max_pool(features.clone()), global_average_pool(features)], 1),
            Pool::Flatten(grid) => {
                let features = widened(features);
                let [_, _, h, w] = features.dims();
                let features = if [h, w] == grid { features } else { adaptive_avg_pool2d(features, grid) };
                features.flatten(1, 3)
            }
        }
    }

    /// Pooled features `[n, f]` → logits `[n, classes]`.
    pub fn forward(&self, pooled: Tensor<2>) -> Tensor<2> {
        let pooled = self.dropout.forward(pooled);
        match &self.__ {
            Layers::Single(layer) => layer.forward(pooled),
            Layers::Stack(layers) => layers.iter().fold(pooled, |features, layer| layer.forward(features)),
        }
    }

    /// What [`forward`](Self::forward) does in evaluation, step by step. The pool comes before; [`head`](Self::head) names it.
    pub fn steps(&self) -> Vec<HeadStep> {
        match &self.__ {
            Layers::Single(layer) => layer.step().into_iter().collect(),
            Layers::Stack(layers) => layers.iter().filter_map(Layer::step).collect(),
        }
    }

    /// What it is, layer by layer: for who rebuilds it elsewhere. Dropout after the pool is not part of it.
    pub fn head(&self) -> &HeadLayers {
        &self.head
    }

    /// Channels of the stage that it reads.
    pub fn channels(&self) -> usize {
        self.config.channels
    }

    /// Outputs.
    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// A fresh linear head on the same body.
    pub fn reset(&self, classes: usize, seed: u64, device: &Device) -> Self {
        ClassifierConfig { classes, ..self.config }.linear(&Builder::new(device, seed))
    }

    /// A fresh head on the same body.
    ///
    /// # Errors
    /// Those of [`Head::validate`].
    pub fn reset_head(&self, head: &Head, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        ClassifierConfig { classes, ..self.config }.build(head, &Builder::new(device, seed))
    }
}
