//! MobileNetV2: inverted residuals with linear bottlenecks. Sandler et al. 2018; keys as torchvision's `mobilenet_v2`.

mod graph;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use timburn_core::Result;

use crate::blocks::{Activation, BatchNorm2d, Builder, Classifier, ClassifierConfig, Conv2d, Conv2dConfig, DropPath, Head, LayerStyle};
use crate::image_model::{ImageModel, Stage};
use crate::options::ModelOptions;

/// Expansion, output channels, blocks, stride of each group of blocks.
const GROUPS: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
const STEM: usize = 32;
const HEAD: usize = 1280;
/// Where the stages end in `features`, chosen as torchvision's feature extractors do: at each resolution.
const STAGE_ENDS: [(usize, usize); 6] = [(2, 2), (4, 4), (7, 8), (14, 16), (18, 32), (19, 32)];

/// A MobileNetV2.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    features: Vec<Feature>,
    classifier: SecondOf,
}

/// One element of `features`.
#[derive(Module, Debug)]
pub enum Feature {
    /// Convolution, BN, ReLU6: the first and the last.
    Convolution(ConvNormAct),
    /// An inverted residual.
    Inverted(InvertedResidual),
}

/// Convolution, BN, ReLU6.
#[derive(Module, Debug)]
pub struct ConvNormAct {
    _0: Conv2d,
    _1: BatchNorm2d,
}

/// An inverted residual.
#[derive(Module, Debug)]
pub struct InvertedResidual {
    conv: Branch,
    drop_path: DropPath,
    skip: bool,
}

/// The layers of an inverted residual, keyed as PyTorch's `Sequential`.
#[derive(Module, Debug)]
pub enum Branch {
    /// Depthwise, projection.
    Separable(Separable),
    /// Expansion, depthwise, projection.
    Expanded(Expanded),
}

/// Without expansion.
#[derive(Module, Debug)]
pub struct Separable {
    _0: ConvNormAct,
    _1: Conv2d,
    _2: BatchNorm2d,
}

/// With expansion.
#[derive(Module, Debug)]
pub struct Expanded {
    _0: ConvNormAct,
    _1: ConvNormAct,
    _2: Conv2d,
    _3: BatchNorm2d,
}

/// torchvision's `classifier` is dropout (element 0) and the fully connected layer; another head takes the place of the latter.
#[derive(Module, Debug)]
pub struct SecondOf {
    _1: Classifier,
}

fn norm(channels: usize, builder: &Builder<'_>) -> BatchNorm2d {
    BatchNorm2d::new(channels, 1e-5, 1.0, builder)
}

impl ConvNormAct {
    fn new(config: Conv2dConfig, builder: &Builder<'_>) -> Self {
        Self { _0: config.build(builder), _1: norm(config.outputs, builder) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self._1.forward_then(self._0.forward(input), Activation::Relu6)
    }
}

impl InvertedResidual {
    fn new(inputs: usize, outputs: usize, (expand, stride): (usize, usize), drop_path: f64, builder: &Builder<'_>) -> Self {
        let width = inputs * expand;
        let depthwise = Conv2dConfig::new(width, width, 3).stride(stride).groups(width);
        let project = Conv2dConfig::new(width, outputs, 1);
        let conv = if expand == 1 {
            Branch::Separable(Separable {
                _0: ConvNormAct::new(depthwise, builder),
                _1: project.build(builder),
                _2: norm(outputs, builder),
            })
        } else {
            Branch::Expanded(Expanded {
                _0: ConvNormAct::new(Conv2dConfig::new(inputs, width, 1), builder),
                _1: ConvNormAct::new(depthwise, builder),
                _2: project.build(builder),
                _3: norm(outputs, builder),
            })
        };
        Self { conv, drop_path: DropPath::new(drop_path, builder), skip: stride == 1 && inputs == outputs }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let features = match &self.conv {
            Branch::Separable(branch) => branch._1.forward(branch._0.forward(input.clone())),
            Branch::Expanded(branch) => branch._2.forward(branch._1.forward(branch._0.forward(input.clone()))),
        };
        let norm = match &self.conv {
            Branch::Separable(branch) => &branch._2,
            Branch::Expanded(branch) => &branch._3,
        };
        if self.skip && self.drop_path.is_identity() {
            return norm.forward_add(features, input, Activation::Identity);
        }
        let features = norm.forward(features);
        if self.skip { input + self.drop_path.forward(features) } else { features }
    }
}

impl MobileNetV2 {
    /// Builds the network at width 1. The options were checked by [`create`](crate::create).
    pub(crate) fn new(classes: usize, options: &ModelOptions, device: &Device) -> Result<Self> {
        let builder = &Builder::new(device, options.seed);
        let stem = Conv2dConfig::new(options.in_channels, STEM, 3).stride(2);
        let mut features = vec![Feature::Convolution(ConvNormAct::new(stem, builder))];
        let total: usize = GROUPS.iter().map(|group| group.2).sum();
        let mut inputs = STEM;
        for (expand, outputs, blocks, stride) in GROUPS {
            for index in 0..blocks {
                let shape = (expand, if index == 0 { stride } else { 1 });
                let drop_path = options.drop_path * (features.len() - 1) as f64 / total as f64;
                features.push(Feature::Inverted(InvertedResidual::new(inputs, outputs, shape, drop_path, builder)));
                inputs = outputs;
            }
        }
        features.push(Feature::Convolution(ConvNormAct::new(Conv2dConfig::new(inputs, HEAD, 1), builder)));
        let config = ClassifierConfig::new(HEAD, classes).dropout(0.2, options.dropout).style(LayerStyle::Torchvision);
        Ok(Self { features, classifier: SecondOf { _1: config.build(&options.head, builder)? } })
    }

    /// The head.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier._1
    }

    /// The same body with a fresh head for `classes` classes, on `device`, drawn from `seed`.
    ///
    /// # Errors
    /// Those of [`Head::validate`].
    pub fn reset_head(self, head: &Head, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        Ok(Self { classifier: SecondOf { _1: self.classifier._1.reset_head(head, classes, seed, device)? }, ..self })
    }
}

impl ImageModel for MobileNetV2 {
    fn stages(&self) -> Vec<Stage> {
        let mut start = 0;
        let stages = STAGE_ENDS.iter().map(|&(end, reduction)| {
            let keys = (start..end).map(|index| format!("features.{index}")).collect();
            start = end;
            let channels = match self.features.get(end - 1) {
                Some(Feature::Inverted(InvertedResidual { conv: Branch::Separable(branch), .. })) => branch._1.weight.lazy_shape()[0],
                Some(Feature::Inverted(InvertedResidual { conv: Branch::Expanded(branch), .. })) => branch._2.weight.lazy_shape()[0],
                _ => HEAD,
            };
            Stage { name: format!("features.{}", end - 1), keys, channels, reduction }
        });
        stages.collect()
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        let Some(&(end, _)) = STAGE_ENDS.get(index) else { return input };
        let start = if index == 0 { 0 } else { STAGE_ENDS[index - 1].0 };
        self.features[start..end].iter().fold(input, |features, feature| match feature {
            Feature::Convolution(layer) => layer.forward(features),
            Feature::Inverted(block) => block.forward(features),
        })
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        self.classifier._1.pool(features)
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.classifier._1.forward(pooled)
    }

    fn num_features(&self) -> usize {
        self.classifier._1.channels()
    }

    fn num_classes(&self) -> usize {
        self.classifier._1.classes()
    }

    fn head_keys(&self) -> Vec<String> {
        vec!["classifier".into()]
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        Self { classifier: SecondOf { _1: self.classifier._1.reset(classes, seed, device) }, ..self }
    }
}
