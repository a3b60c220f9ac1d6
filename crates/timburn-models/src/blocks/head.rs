//! What comes after a body, as data: a pool, layers, an output.

use serde::{Deserialize, Serialize};
use timburn_core::{Error, Result};

/// What follows a model's body, by name or layer by layer. In TOML:
///
/// ```toml
/// head = "linear"
/// head = "fastai"
/// head = { mlp = { widths = [1024, 512], dropout = 0.2, batch_norm = true } }
/// head = { cosine = { scale = 10.0, learned = true } }
/// head = { layers = { pool = "max" } }
/// head = { layers = { pool = { flatten = [8, 8] }, layers = ["batch_norm", { linear = 128 }, "relu", { dropout = 0.5 }] } }
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Average pool, dropout by the family's rule, linear.
    #[default]
    Linear,
    /// fastai's `create_head` with its defaults: maximum and average pool, BN, dropout 0.25, 512, ReLU, BN, dropout 0.5, linear.
    Fastai,
    /// Average pool, hidden layers, linear.
    Mlp(Mlp),
    /// Average pool, then [`Cosine`].
    Cosine(Cosine),
    /// The general form, which all others are shorthands of.
    Layers(HeadLayers),
}

/// Hidden layers: for each width a linear layer, BN if asked for, ReLU, dropout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Outputs of the hidden layers, from the body on.
    pub widths: Vec<usize>,
    /// Probability after each ReLU, in `[0, 1)`.
    #[serde(default)]
    pub dropout: f64,
    /// Normalises before each ReLU.
    #[serde(default)]
    pub batch_norm: bool,
}

/// Logits are the cosines between features and one weight vector a class, times a scale: what counts is the direction, so that classes
/// with few samples are not outweighed (Gidaris & Komodakis 2018).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// The scale, or its initial value; above 0.
    pub scale: f64,
    /// Whether training changes it.
    pub learned: bool,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { scale: 10.0, learned: true }
    }
}

/// A pool, layers on pooled features, and the output layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadLayers {
    /// From `[n, c, h, w]` to `[n, f]`.
    pub pool: Pool,
    /// From `f` features to those that the output reads.
    pub layers: Vec<HeadLayer>,
    /// One logit a class.
    pub output: Output,
    /// How linear layers and batch norms start; the family's way when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<LayerStyle>,
}

/// How a head gets from a map of features to one vector of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean over all positions: `c` features.
    #[default]
    Average,
    /// The maximum over all positions: `c` features.
    Max,
    /// First the maxima, then the means, as fastai's `AdaptiveConcatPool2d`: `2 c` features.
    AverageMax,
    /// Every position of a grid of this height and width, channel by channel: `c · height · width` features. Features of another size are
    /// averaged into the grid first (`AdaptiveAvgPool2d`).
    Flatten([usize; 2]),
}

/// A layer between pool and output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadLayer {
    /// Batch normalisation of each feature: ε 1e-5, momentum 0.1.
    BatchNorm,
    /// Fully connected, with so many outputs.
    Linear(usize),
    /// `max(x, 0)`.
    Relu,
    /// Sets features to zero with this probability, in `[0, 1)`, in training.
    Dropout(f64),
}

/// The last layer of a head.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Fully connected.
    #[default]
    Linear,
    /// See [`Cosine`].
    Cosine(Cosine),
}

/// By whose convention layers start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerStyle {
    /// `torch.nn.Linear`: weight and bias uniform on `±1/√inputs`.
    #[default]
    Pytorch,
    /// torchvision's MobileNets: weight normal with standard deviation 0.01, bias zero.
    Torchvision,
    /// fastai's `create_head` and `apply_init`: weight normal with variance `2 / inputs`, no bias; β of batch norms 1e-3.
    Fastai,
    /// Keras' `Dense`: weight uniform on `±√(6 / (inputs + outputs))`, bias zero.
    Keras,
}

/// Bound on widths and grid sides: above it a typing error is likelier than a purpose.
const LARGEST: usize = 65_536;

impl Head {
    /// The head layer by layer.
    pub fn layers(&self) -> HeadLayers {
        match self {
            Self::Linear => HeadLayers::default(),
            Self::Fastai => HeadLayers {
                pool: Pool::AverageMax,
                layers: vec![
                    HeadLayer::BatchNorm,
                    HeadLayer::Dropout(0.25),
                    HeadLayer::Linear(512),
                    HeadLayer::Relu,
                    HeadLayer::BatchNorm,
                    HeadLayer::Dropout(0.5),
                ],
                output: Output::Linear,
                style: Some(LayerStyle::Fastai),
            },
            Self::Mlp(mlp) => HeadLayers { layers: mlp.layers(), ..HeadLayers::default() },
            Self::Cosine(cosine) => HeadLayers { output: Output::Cosine(*cosine), ..HeadLayers::default() },
            Self::Layers(layers) => layers.clone(),
        }
    }

    /// Whether this is the plain linear head.
    pub fn is_linear(&self) -> bool {
        *self == Self::Linear
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`] for the first one.
    pub fn validate(&self) -> Result<()> {
        let argument = |name, value: String, expected: &str| Err(Error::Argument { name, value, expected: expected.into() });
        let HeadLayers { pool, layers, output, .. } = self.layers();
        if matches!(self, Self::Mlp(mlp) if mlp.widths.is_empty()) {
            return argument("head", "an mlp without widths".into(), "at least one width, or head = \"linear\"");
        }
        if let Pool::Flatten(sides) = pool
            && let Some(side) = sides.iter().find(|side| !(1..=1024).contains(*side))
        {
            return argument("head", format!("flatten = {side}"), "a grid of 1 to 1024 in each direction");
        }
        for layer in layers {
            match layer {
                HeadLayer::Linear(width) if !(1..=LARGEST).contains(&width) => {
                    return argument("head", format!("width {width}"), "1 to 65536 outputs");
                }
                HeadLayer::Dropout(rate) if !(0.0..1.0).contains(&rate) => {
                    return argument("head", format!("dropout {rate}"), "a probability in [0, 1)");
                }
                _ => {}
            }
        }
        match output {
            Output::Cosine(Cosine { scale, .. }) if !(scale > 0.0 && scale <= 1e6) => {
                argument("head", format!("scale {scale}"), "a number above 0, at most 1e6")
            }
            _ => Ok(()),
        }
    }
}

impl Mlp {
    fn layers(&self) -> Vec<HeadLayer> {
        let hidden = |&width: &usize| {
            let norm = self.batch_norm.then_some(HeadLayer::BatchNorm);
            let dropout = (self.dropout != 0.0).then_some(HeadLayer::Dropout(self.dropout));
            [Some(HeadLayer::Linear(width)), norm, Some(HeadLayer::Relu), dropout].into_iter().flatten()
        };
        self.widths.iter().flat_map(hidden).collect()
    }
}

impl Pool {
    /// Features that it makes of `channels` channels.
    pub fn features(self, channels: usize) -> usize {
        match self {
            Self::Average | Self::Max => channels,
            Self::AverageMax => 2 * channels,
            Self::Flatten([height, width]) => channels.saturating_mul(height).saturating_mul(width),
        }
    }
}
