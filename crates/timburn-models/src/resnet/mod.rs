//! ResNet and everything built like it: ResNeXt, Wide ResNet, ResNet-D, SE-ResNet, Keras' version 1 and the CIFAR networks.
//!
//! He et al. 2015; v1.5 as in torchvision `models/resnet.py`; variants D and SE as in timm `models/resnet.py`. Field names are
//! the checkpoints' keys.

mod block;
mod config;
mod graph;

pub use block::{AveragePoolShortcut, Block, ConvolutionShortcut, Downsample};
pub use config::{BlockKind, ResNetConfig, Shortcut};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use timburn_core::Result;

use self::block::BlockPlace;
use crate::blocks::{Activation, BatchNorm2d, Builder, Classifier, ClassifierConfig, Conv2d, Conv2dConfig, Head, max_pool_3x3_s2};
use crate::image_model::{ImageModel, Stage};
use crate::options::{ModelOptions, Stem};

/// A residual network.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: StemConvolution,
    bn1: BatchNorm2d,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    /// Empty in the CIFAR networks.
    layer4: Vec<Block>,
    fc: Classifier,
    /// Whether a maximum pool follows the stem's convolution.
    pool: bool,
    /// Input pixels per output pixel after each stage, the stem first.
    #[module(skip)]
    reductions: Vec<usize>,
    /// Output channels of each stage, the stem first.
    #[module(skip)]
    channels: Vec<usize>,
}

/// The stem's convolution: one, or ResNet-D's three.
#[derive(Module, Debug)]
pub enum StemConvolution {
    /// One convolution.
    Single(Conv2d),
    /// Three with BN and ReLU between.
    Deep(DeepStem),
}

/// ResNet-D's stem, keyed as PyTorch's `Sequential` (the ReLUs are 2 and 5).
#[derive(Module, Debug)]
pub struct DeepStem {
    _0: Conv2d,
    _1: BatchNorm2d,
    _3: Conv2d,
    _4: BatchNorm2d,
    _6: Conv2d,
}

impl StemConvolution {
    fn new(config: &ResNetConfig, in_channels: usize, builder: &Builder<'_>) -> Self {
        let conv = |inputs, outputs, kernel| Conv2dConfig::new(inputs, outputs, kernel).bias(config.conv_bias);
        match config.stem {
            Stem::Standard => Self::Single(conv(in_channels, config.planes, 7).stride(2).build(builder)),
            Stem::Small => Self::Single(conv(in_channels, config.planes, 3).build(builder)),
            Stem::Deep => Self::Deep(DeepStem {
                _0: conv(in_channels, 32, 3).stride(2).build(builder),
                _1: config.norm(32, 1.0, builder),
                _3: conv(32, 32, 3).build(builder),
                _4: config.norm(32, 1.0, builder),
                _6: conv(32, config.planes, 3).build(builder),
            }),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Single(conv) => conv.forward(input),
            Self::Deep(stem) => {
                let relu = Activation::Relu;
                let first = stem._1.forward_then(stem._0.forward(input), relu);
                let second = stem._4.forward_then(stem._3.forward(first), relu);
                stem._6.forward(second)
            }
        }
    }
}

impl ResNet {
    /// Builds a row of the table. The options were checked by [`create`](crate::create).
    pub(crate) fn new(config: &ResNetConfig, classes: usize, options: &ModelOptions, device: &Device) -> Result<Self> {
        let config = &config.with(options);
        let builder = &Builder::new(device, options.seed);
        let conv1 = StemConvolution::new(config, options.in_channels, builder);
        let bn1 = config.norm(config.planes, 1.0, builder);
        let pool = config.stem != Stem::Small;

        let blocks: usize = config.depths.iter().sum();
        let (mut inputs, mut made) = (config.planes, 0);
        let mut reduction = if pool { 4 } else { 1 };
        let (mut channels, mut reductions) = (vec![inputs], vec![reduction]);
        let mut dilation = 1;
        let mut layers = config.depths.iter().enumerate().map(|(stage, &depth)| {
            let planes = config.planes << stage;
            let mut stride = if stage == 0 { 1 } else { 2 };
            let previous = dilation;
            // Past the output stride asked for, resolution is kept and the kernels are dilated instead (torchvision, DeepLab).
            if reduction * stride > options.output_stride {
                dilation *= stride;
                stride = 1;
            }
            reduction *= stride;
            let layer: Vec<Block> = (0..depth)
                .map(|index| {
                    let first = index == 0;
                    let place = BlockPlace {
                        inputs,
                        planes,
                        stride: if first { stride } else { 1 },
                        dilations: (if first { previous } else { dilation }, dilation),
                        // timm's linear rule: the first block never drops, the last with the full rate.
                        drop_path: options.drop_path * made as f64 / (blocks.max(2) - 1) as f64,
                        zero_init: options.zero_init_residual,
                    };
                    inputs = planes * config.block.expansion();
                    made += 1;
                    Block::new(config, &place, builder)
                })
                .collect();
            channels.push(inputs);
            reductions.push(reduction);
            layer
        });
        let mut next = || layers.next().unwrap_or_default();
        let (layer1, layer2, layer3, layer4) = (next(), next(), next(), next());
        drop(layers);
        let fc = ClassifierConfig::new(inputs, classes).dropout(0.0, options.dropout).build(&options.head, builder)?;
        Ok(Self { conv1, bn1, layer1, layer2, layer3, layer4, fc, pool, reductions, channels })
    }

    /// The head.
    pub fn classifier(&self) -> &Classifier {
        &self.fc
    }

    /// The same body with a fresh head for `classes` classes, on `device`, drawn from `seed`.
    ///
    /// # Errors
    /// Those of [`Head::validate`].
    pub fn reset_head(self, head: &Head, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        Ok(Self { fc: self.fc.reset_head(head, classes, seed, device)?, ..self })
    }

    fn layers(&self) -> [&Vec<Block>; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }
}

impl ImageModel for ResNet {
    fn stages(&self) -> Vec<Stage> {
        let stage = |index: usize, name: String, keys: Vec<String>| Stage {
            name,
            keys,
            channels: self.channels[index],
            reduction: self.reductions[index],
        };
        let stem = stage(0, "stem".into(), vec!["conv1".into(), "bn1".into()]);
        let layers = (1..self.channels.len()).map(|index| stage(index, format!("layer{index}"), vec![format!("layer{index}")]));
        [stem].into_iter().chain(layers).collect()
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        if index == 0 {
            let stem = self.bn1.forward_then(self.conv1.forward(input), Activation::Relu);
            return if self.pool { max_pool_3x3_s2(stem) } else { stem };
        }
        let blocks = self.layers().get(index - 1).copied().into_iter().flatten();
        blocks.fold(input, |features, block| block.forward(features))
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        self.fc.pool(features)
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.fc.forward(pooled)
    }

    fn num_features(&self) -> usize {
        self.fc.channels()
    }

    fn num_classes(&self) -> usize {
        self.fc.classes()
    }

    fn head_keys(&self) -> Vec<String> {
        vec!["fc".into()]
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        Self { fc: self.fc.reset(classes, seed, device), ..self }
    }
}
