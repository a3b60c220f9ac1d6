//! A model type of one's own that speaks timburn's contract: `cargo run --release --example own_model`

mod rotations;

use timburn::burn;
use timburn::burn::module::Module;
use timburn::burn::tensor::{Device, Tensor};
use timburn::models::blocks::{Activation, BatchNorm2d, Builder, Classifier, Conv2d, Conv2dConfig};
use timburn::models::{ImageModel, Stage, parameters, trainable_parameters};
use timburn::{Dataset, Recipe, TrainData, Trainer};

use rotations::Rotations;

/// Convolution, BN, ReLU, mean, linear.
#[derive(Module, Debug)]
struct Tiny {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    fc: Classifier,
}

impl Tiny {
    fn new(classes: usize, device: &Device) -> Self {
        let builder = Builder::new(device, 0);
        Self {
            conv1: Conv2dConfig::new(3, 64, 5).stride(2).build(&builder),
            bn1: BatchNorm2d::new(64, 1e-5, 1.0, &builder),
            fc: Classifier::linear(64, classes, &builder),
        }
    }
}

impl ImageModel for Tiny {
    fn stages(&self) -> Vec<Stage> {
        vec![Stage { name: "stem".into(), keys: vec!["conv1".into(), "bn1".into()], channels: 64, reduction: 2 }]
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        if index == 0 { Activation::Relu.forward(self.bn1.forward(self.conv1.forward(input))) } else { input }
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

fn main() -> timburn::Result<()> {
    let device = timburn::open_device("auto")?;
    let model = Tiny::new(4, &device);
    println!("{} trainable parameters in {} tensors", trainable_parameters(&model), parameters(&model).len());

    // The trainer asks for the contract alone.
    let recipe = Recipe::from_toml(include_str!("rotations/recipe.toml"))?;
    let data = TrainData::new(&recipe, Rotations::new(640)?.split(0.8, 0)?)?;
    let outcome = Trainer::new(recipe, model, data, &device)?.fit(&mut ())?;
    let accuracy = outcome.report.and_then(|report| report.top(1)).unwrap_or_default();
    println!("{:.1} % of the pictures the right way up after {} steps; chance is 25 %", 100.0 * accuracy, outcome.step);
    Ok(())
}
