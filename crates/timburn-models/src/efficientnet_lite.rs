//! EfficientNet-Lite 0–4: EfficientNet without squeeze-and-excitation, with ReLU6, for devices without fast sigmoids.
//!
//! Tan & Le 2019; TensorFlow's `lite` models, whose SAME padding is part of the weights. Keys as timm's `tf_efficientnet_lite*`.

mod graph;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use timburn_core::Result;

use crate::blocks::{Activation, BatchNorm2d, Builder, Classifier, ClassifierConfig, Conv2d, Conv2dConfig, DropPath, Head, Init, Padding};
use crate::image_model::{ImageModel, Stage};
use crate::options::ModelOptions;

/// One row of the EfficientNet-Lite table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiteConfig {
    /// Factor on the channels of lite0's body, rounded to multiples of 8; the stem and the head keep theirs.
    pub width: f64,
    /// Factor on the blocks of lite0's stages but the first and last, rounded up.
    pub depth: f64,
    /// The paper's dropout before the classifier.
    pub dropout: f64,
}

/// Lite0's stages: blocks, kernel, stride, expansion, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] =
    [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)];
const STEM: usize = 32;
const HEAD: usize = 1280;
/// TensorFlow's BN: ε 1e-3, decay .99.
const EPSILON: f64 = 1e-3;
const MOMENTUM: f64 = 0.01;

/// An EfficientNet-Lite.
#[derive(Module, Debug)]
pub struct EfficientNetLite {
    conv_stem: Conv2d,
    bn1: BatchNorm2d,
    blocks: Vec<Vec<LiteBlock>>,
    conv_head: Conv2d,
    bn2: BatchNorm2d,
    classifier: Classifier,
}

/// A mobile inverted bottleneck, or without expansion a depthwise-separable convolution.
#[derive(Module, Debug)]
pub enum LiteBlock {
    /// Depthwise, then linear projection.
    Separable(Separable),
    /// Expansion, depthwise, linear projection.
    Inverted(Inverted),
}

/// The block of the first stage, keyed as timm's `DepthwiseSeparableConv`.
#[derive(Module, Debug)]
pub struct Separable {
    conv_dw: Conv2d,
    bn1: BatchNorm2d,
    conv_pw: Conv2d,
    bn2: BatchNorm2d,
}

/// The block of all other stages, keyed as timm's `InvertedResidual`.
#[derive(Module, Debug)]
pub struct Inverted {
    conv_pw: Conv2d,
    bn1: BatchNorm2d,
    conv_dw: Conv2d,
    bn2: BatchNorm2d,
    conv_pwl: Conv2d,
    bn3: BatchNorm2d,
    drop_path: DropPath,
    skip: bool,
}

fn norm(channels: usize, builder: &Builder<'_>) -> BatchNorm2d {
    BatchNorm2d::new(channels, EPSILON, 1.0, builder).momentum(MOMENTUM)
}

fn conv(inputs: usize, outputs: usize, kernel: usize) -> Conv2dConfig {
    Conv2dConfig::new(inputs, outputs, kernel).padding(Padding::Same)
}

/// He's initialisation counts a depthwise filter's own fan-out: one channel.
fn depthwise(channels: usize, kernel: usize) -> Conv2dConfig {
    let init = Init::Normal((2.0 / (kernel * kernel) as f64).sqrt());
    Conv2dConfig { init, ..conv(channels, channels, kernel).groups(channels) }
}

/// TensorFlow's rounding of scaled channels: the nearest multiple of 8, but never a loss of more than a tenth.
fn scaled(channels: usize, width: f64) -> usize {
    let exact = channels as f64 * width;
    let rounded = ((exact + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
}

impl LiteBlock {
    fn new(inputs: usize, outputs: usize, (kernel, stride, expand): (usize, usize, usize), drop_path: f64, builder: &Builder<'_>) -> Self {
        if expand == 1 {
            return Self::Separable(Separable {
                conv_dw: depthwise(inputs, kernel).stride(stride).build(builder),
                bn1: norm(inputs, builder),
                conv_pw: conv(inputs, outputs, 1).build(builder),
                bn2: norm(outputs, builder),
            });
        }
        let width = inputs * expand;
        Self::Inverted(Inverted {
            conv_pw: conv(inputs, width, 1).build(builder),
            bn1: norm(width, builder),
            conv_dw: depthwise(width, kernel).stride(stride).build(builder),
            bn2: norm(width, builder),
            conv_pwl: conv(width, outputs, 1).build(builder),
            bn3: norm(outputs, builder),
            drop_path: DropPath::new(drop_path, builder),
            skip: stride == 1 && inputs == outputs,
        })
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let relu6 = Activation::Relu6;
        match self {
            Self::Separable(block) => {
                let features = block.bn1.forward_then(block.conv_dw.forward(input), relu6);
                block.bn2.forward(block.conv_pw.forward(features))
            }
            Self::Inverted(block) => {
                let features = block.bn1.forward_then(block.conv_pw.forward(input.clone()), relu6);
                let features = block.bn2.forward_then(block.conv_dw.forward(features), relu6);
                let features = block.conv_pwl.forward(features);
                if block.skip && block.drop_path.is_identity() {
                    return block.bn3.forward_add(features, input, Activation::Identity);
                }
                let features = block.bn3.forward(features);
                if block.skip { input + block.drop_path.forward(features) } else { features }
            }
        }
    }
}

impl EfficientNetLite {
    /// Builds a row of the table. The options were checked by [`create`](crate::create).
    pub(crate) fn new(config: &LiteConfig, classes: usize, options: &ModelOptions, device: &Device) -> Result<Self> {
        let builder = &Builder::new(device, options.seed);
        let last = STAGES.len() - 1;
        let depth = |stage: usize, blocks: usize| {
            if stage == 0 || stage == last { blocks } else { (blocks as f64 * config.depth).ceil() as usize }
        };
        let total: usize = STAGES.iter().enumerate().map(|(stage, row)| depth(stage, row.0)).sum();
        let conv_stem = conv(options.in_channels, STEM, 3).stride(2).build(builder);
        let bn1 = norm(STEM, builder);
        let (mut inputs, mut made) = (STEM, 0);
        let blocks = STAGES.iter().enumerate().map(|(stage, &(count, kernel, stride, expand, channels))| {
            let outputs = scaled(channels, config.width);
            let layer = (0..depth(stage, count)).map(|index| {
                let shape = (kernel, if index == 0 { stride } else { 1 }, expand);
                // timm's rule for this family: rate · block / blocks.
                let block = LiteBlock::new(inputs, outputs, shape, options.drop_path * made as f64 / total as f64, builder);
                (inputs, made) = (outputs, made + 1);
                block
            });
            layer.collect()
        });
        let blocks = blocks.collect();
        Ok(Self {
            conv_stem,
            bn1,
            blocks,
            conv_head: conv(inputs, HEAD, 1).build(builder),
            bn2: norm(HEAD, builder),
            classifier: ClassifierConfig::new(HEAD, classes).dropout(config.dropout, options.dropout).build(&options.head, builder)?,
        })
    }

    /// The head.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The same body with a fresh head for `classes` classes, on `device`, drawn from `seed`.
    ///
    /// # Errors
    /// Those of [`Head::validate`].
    pub fn reset_head(self, head: &Head, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        Ok(Self { classifier: self.classifier.reset_head(head, classes, seed, device)?, ..self })
    }
}

impl ImageModel for EfficientNetLite {
    fn stages(&self) -> Vec<Stage> {
        let mut reduction = 2;
        let mut stages = vec![Stage { name: "stem".into(), keys: vec!["conv_stem".into(), "bn1".into()], channels: STEM, reduction }];
        for (index, (blocks, row)) in self.blocks.iter().zip(STAGES).enumerate() {
            reduction *= row.2;
            let channels = match blocks.first() {
                Some(LiteBlock::Separable(block)) => block.conv_pw.weight.lazy_shape()[0],
                Some(LiteBlock::Inverted(block)) => block.conv_pwl.weight.lazy_shape()[0],
                None => 0,
            };
            stages.push(Stage { name: format!("blocks.{index}"), keys: vec![format!("blocks.{index}")], channels, reduction });
        }
        stages.push(Stage { name: "conv_head".into(), keys: vec!["conv_head".into(), "bn2".into()], channels: HEAD, reduction });
        stages
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        let relu6 = Activation::Relu6;
        if index == 0 {
            return self.bn1.forward_then(self.conv_stem.forward(input), relu6);
        }
        match self.blocks.get(index - 1) {
            Some(blocks) => blocks.iter().fold(input, |features, block| block.forward(features)),
            None if index == self.blocks.len() + 1 => self.bn2.forward_then(self.conv_head.forward(input), relu6),
            None => input,
        }
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        self.classifier.pool(features)
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(pooled)
    }

    fn num_features(&self) -> usize {
        self.classifier.channels()
    }

    fn num_classes(&self) -> usize {
        self.classifier.classes()
    }

    fn head_keys(&self) -> Vec<String> {
        vec!["classifier".into()]
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        Self { classifier: self.classifier.reset(classes, seed, device), ..self }
    }
}
