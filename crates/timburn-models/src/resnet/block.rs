mod graph;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use timburn_kernels::subsample;

use super::config::{BlockKind, ResNetConfig, Shortcut};
use crate::blocks::{Activation, BatchNorm2d, Builder, Conv2d, Conv2dConfig, DropPath, SqueezeExcite};

/// Where a block stands in its network.
pub(super) struct BlockPlace {
    pub(super) inputs: usize,
    pub(super) planes: usize,
    pub(super) stride: usize,
    /// Dilation of the block's first 3×3, then of the rest.
    pub(super) dilations: (usize, usize),
    pub(super) drop_path: f64,
    pub(super) zero_init: bool,
}

/// One residual block: `relu(shortcut(x) + branch(x))`.
#[derive(Module, Debug)]
pub struct Block {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Option<Conv2d>,
    bn3: Option<BatchNorm2d>,
    se: Option<SqueezeExcite>,
    downsample: Option<Downsample>,
    drop_path: DropPath,
    /// Stride of a parameter-free shortcut (option A); 0 when the shortcut is another.
    subsample: usize,
}

/// The shortcut of a block that changes size or width, keyed as PyTorch's `Sequential`.
#[derive(Module, Debug)]
pub enum Downsample {
    /// Convolution, BN: keys 0 and 1.
    Convolution(ConvolutionShortcut),
    /// Average pool, convolution, BN: keys 1 and 2.
    AveragePool(AveragePoolShortcut),
}

/// [`Shortcut::Convolution`].
#[derive(Module, Debug)]
pub struct ConvolutionShortcut {
    _0: Conv2d,
    _1: BatchNorm2d,
}

/// [`Shortcut::AveragePool`].
#[derive(Module, Debug)]
pub struct AveragePoolShortcut {
    stride: usize,
    _1: Conv2d,
    _2: BatchNorm2d,
}

impl Block {
    pub(super) fn new(config: &ResNetConfig, place: &BlockPlace, builder: &Builder<'_>) -> Self {
        let &BlockPlace { inputs, planes, stride, dilations, .. } = place;
        let outputs = planes * config.block.expansion();
        let conv = |inputs, outputs, kernel| Conv2dConfig::new(inputs, outputs, kernel).bias(config.conv_bias);
        let norm = |channels| config.norm(channels, 1.0, builder);
        let last = |channels| config.norm(channels, if place.zero_init { 0.0 } else { 1.0 }, builder);

        // Parameters are made in the order of the keys, so that seeds do not depend on how this function is written down.
        let (conv1, bn1, conv2, bn2, conv3, bn3) = match config.block {
            BlockKind::Basic => (
                conv(inputs, planes, 3).dilation(dilations.0).stride(stride).build(builder),
                norm(planes),
                conv(planes, planes, 3).dilation(dilations.1).build(builder),
                last(planes),
                None,
                None,
            ),
            BlockKind::Bottleneck => {
                let width = planes * config.base_width / 64 * config.groups;
                let (first, middle) = if config.stride_first { (stride, 1) } else { (1, stride) };
                (
                    conv(inputs, width, 1).stride(first).build(builder),
                    norm(width),
                    conv(width, width, 3).dilation(dilations.0).stride(middle).groups(config.groups).build(builder),
                    norm(width),
                    Some(conv(width, outputs, 1).build(builder)),
                    Some(last(outputs)),
                )
            }
        };
        let se = config.squeeze_excite.then(|| SqueezeExcite::new(outputs, builder));
        let changes = stride != 1 || inputs != outputs;
        let project = |stride| conv(inputs, outputs, 1).stride(stride).build(builder);
        let downsample = match config.shortcut {
            Shortcut::Convolution if changes => {
                Some(Downsample::Convolution(ConvolutionShortcut { _0: project(stride), _1: norm(outputs) }))
            }
            Shortcut::AveragePool if changes => {
                Some(Downsample::AveragePool(AveragePoolShortcut { stride, _1: project(1), _2: norm(outputs) }))
            }
            _ => None,
        };
        let subsample = if config.shortcut == Shortcut::Subsample && changes { stride } else { 0 };
        let drop_path = DropPath::new(place.drop_path, builder);
        Self { conv1, bn1, conv2, bn2, conv3, bn3, se, downsample, drop_path, subsample }
    }

    /// `[n, inputs, h, w]` → `[n, outputs, h / stride, w / stride]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let relu = Activation::Relu;
        let mut branch = self.conv2.forward(self.bn1.forward_then(self.conv1.forward(input.clone()), relu));
        let mut last = &self.bn2;
        if let (Some(conv3), Some(bn3)) = (&self.conv3, &self.bn3) {
            branch = conv3.forward(self.bn2.forward_then(branch, relu));
            last = bn3;
        }
        let channels = branch.dims()[1];
        let shortcut = match &self.downsample {
            Some(Downsample::Convolution(shortcut)) => shortcut._1.forward(shortcut._0.forward(input)),
            Some(Downsample::AveragePool(shortcut)) => shortcut.forward(input),
            None if self.subsample != 0 => subsample(input, self.subsample, channels),
            None => input,
        };
        if self.se.is_none() && self.drop_path.is_identity() {
            return last.forward_add(branch, shortcut, relu);
        }
        branch = last.forward(branch);
        if let Some(se) = &self.se {
            branch = se.forward(branch);
        }
        relu.forward(shortcut + self.drop_path.forward(branch))
    }
}

impl AveragePoolShortcut {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let pooled = if self.stride == 1 {
            input
        } else {
            // timm pools with ceil_mode and without counting the padding: a last odd row is the mean of what there is.
            let options = AvgPoolOptions::new([2, 2]).with_stride([self.stride; 2]);
            avg_pool2d(input, options.with_ceil_mode(true).with_count_include_pad(false))
        };
        self._2.forward(self._1.forward(pooled))
    }
}
