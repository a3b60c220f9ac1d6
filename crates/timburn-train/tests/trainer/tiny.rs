//! A user's own model: convolution, BN, ReLU, mean, linear; with a look inside and a value that can go wrong.

use std::sync::{Arc, Mutex};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use timburn_models::blocks::{Activation, BatchNorm2d, Builder, Conv2d, Conv2dConfig, Linear};
use timburn_models::{ImageModel, Stage};

/// What a wholly white picture does to a [`Tiny`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum White {
    /// Nothing.
    Harmless,
    /// The logits are NaN.
    SpoilsLogits,
    /// The logits are right, the gradient of `gain` is NaN.
    SpoilsGradient,
}

#[derive(Module, Debug)]
pub(crate) struct Tiny {
    pub(crate) conv1: Conv2d,
    pub(crate) bn1: BatchNorm2d,
    gain: Param<Tensor<1>>,
    fc: Linear,
    #[module(skip)]
    white: White,
    /// Sizes of the pictures it got in training, and how many.
    #[module(skip)]
    pub(crate) seen: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Tiny {
    pub(crate) fn new(classes: usize, white: White) -> Self {
        let device = super::device().autodiff();
        let builder = Builder::new(&device, 0);
        Self {
            conv1: Conv2dConfig::new(3, 8, 3).stride(2).build(&builder),
            bn1: BatchNorm2d::new(8, 1e-5, 1.0, &builder),
            gain: builder.parameter([1], timburn_models::blocks::Init::Constant(1.0)),
            fc: Linear::new(8, classes, &builder),
            white,
            seen: Arc::default(),
        }
    }

    /// `[n, 1, 1, 1]`, zero or wrong; pixels are in `0.0..=1.0`.
    fn spoilt(&self, images: &Tensor<4>) -> Tensor<4> {
        let darkness = images.clone().mean_dim(1).mean_dim(2).mean_dim(3).neg() + 1.0;
        match self.white {
            White::Harmless => darkness * 0.0,
            White::SpoilsLogits => darkness.log() * 0.0,
            White::SpoilsGradient => (darkness * self.gain.val().reshape([1, 1, 1, 1])).sqrt() * 0.0,
        }
    }
}

impl ImageModel for Tiny {
    fn stages(&self) -> Vec<Stage> {
        let keys = ["conv1", "bn1", "gain"].map(str::to_owned).to_vec();
        vec![Stage { name: "stem".into(), keys, channels: 8, reduction: 2 }]
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        if index > 0 {
            return input;
        }
        if input.device().is_autodiff() {
            self.seen.lock().expect("no panic").push((input.dims()[3], input.dims()[0]));
        }
        let spoilt = self.spoilt(&input);
        Activation::Relu.forward(self.bn1.forward(self.conv1.forward(input + spoilt)))
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.fc.forward(pooled)
    }

    fn num_features(&self) -> usize {
        self.fc.inputs()
    }

    fn num_classes(&self) -> usize {
        self.fc.outputs()
    }

    fn head_keys(&self) -> Vec<String> {
        vec!["fc".into()]
    }

    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        Self { fc: Linear::new(self.fc.inputs(), classes, &Builder::new(device, seed)), ..self }
    }
}
