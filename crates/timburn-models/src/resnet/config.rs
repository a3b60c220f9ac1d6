use crate::blocks::{BatchNorm2d, Builder};
use crate::options::{ModelOptions, Stem};

/// The residual branch's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3, 1×1, the last four times as wide.
    Bottleneck,
}

impl BlockKind {
    /// Output channels per plane.
    pub const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// How the shortcut follows a change of size or width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// 1×1 convolution with the stride, then BN.
    Convolution,
    /// 2×2 average pool, 1×1 convolution, BN: ResNet-D.
    AveragePool,
    /// Every second pixel, missing channels zero: He et al.'s option A for CIFAR. No parameters.
    Subsample,
}

/// One row of the ResNet table: [`ResNetConfig::new`] gives torchvision's, the other methods say how a row differs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResNetConfig {
    /// Kind of block in all stages.
    pub block: BlockKind,
    /// Blocks per stage; three or four stages.
    pub depths: &'static [usize],
    /// Planes of the first stage; each further stage doubles them.
    pub planes: usize,
    /// Groups of the 3×3 convolution of a bottleneck (ResNeXt).
    pub groups: usize,
    /// Width of a bottleneck's 3×3 at 64 planes, per group.
    pub base_width: usize,
    /// What comes first.
    pub stem: Stem,
    /// Shortcut of blocks that change size or width.
    pub shortcut: Shortcut,
    /// Squeeze-and-excitation at the end of each branch.
    pub squeeze_excite: bool,
    /// Bottleneck's stride on the first 1×1 (the paper's v1, Keras) instead of the 3×3 (v1.5, torchvision).
    pub stride_first: bool,
    /// Whether convolutions have biases (Keras).
    pub conv_bias: bool,
    /// Added to the variance in BN.
    pub epsilon: f64,
    /// Weight of the newest batch in BN's running statistics.
    pub momentum: f64,
}

impl ResNetConfig {
    /// A torchvision ResNet of these depths.
    pub const fn new(block: BlockKind, depths: &'static [usize]) -> Self {
        Self {
            block,
            depths,
            planes: 64,
            groups: 1,
            base_width: 64,
            stem: Stem::Standard,
            shortcut: Shortcut::Convolution,
            squeeze_excite: false,
            stride_first: false,
            conv_bias: false,
            epsilon: 1e-5,
            momentum: 0.1,
        }
    }

    /// ResNeXt's groups and width per group, or Wide ResNet's width with one group.
    pub const fn grouped(self, groups: usize, base_width: usize) -> Self {
        Self { groups, base_width, ..self }
    }

    /// ResNet-D: deep stem and average-pool shortcut.
    pub const fn d(self) -> Self {
        Self { stem: Stem::Deep, shortcut: Shortcut::AveragePool, ..self }
    }

    /// With squeeze-and-excitation.
    pub const fn squeeze_excite(self) -> Self {
        Self { squeeze_excite: true, ..self }
    }

    /// He et al.'s network for CIFAR with `6 n + 2` layers: three stages of 16, 32 and 64 planes, option A shortcuts.
    pub const fn cifar(depths: &'static [usize]) -> Self {
        Self { planes: 16, stem: Stem::Small, shortcut: Shortcut::Subsample, ..Self::new(BlockKind::Basic, depths) }
    }

    /// `keras.applications.ResNet50`: version 1 with convolution biases.
    pub const fn keras(self) -> Self {
        Self { stride_first: true, conv_bias: true, epsilon: 1.001e-5, momentum: 0.01, ..self }
    }

    /// A BN of this row.
    pub(super) fn norm(&self, channels: usize, scale: f32, builder: &Builder<'_>) -> BatchNorm2d {
        BatchNorm2d::new(channels, self.epsilon, scale, builder).momentum(self.momentum)
    }

    /// Input pixels per output pixel of the whole body, undilated.
    pub(crate) const fn total_stride(&self) -> usize {
        let stem = match self.stem {
            Stem::Standard | Stem::Deep => 4,
            Stem::Small => 1,
        };
        stem << (self.depths.len() - 1)
    }

    /// With the options that replace something in the row.
    pub(crate) fn with(self, options: &ModelOptions) -> Self {
        Self { stem: options.stem.unwrap_or(self.stem), ..self }
    }
}
