//! Every model family on every backend of this build against flex: the forward pass and one training step.
//!
//! `cargo test --release -p timburn-models --features wgpu --test backends -- --nocapture`; with flex alone there is nothing to compare.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/mod.rs"]
mod formula;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use timburn_core::device::compiled;
use timburn_core::open_device;
use timburn_models::{ImageModel, ModelOptions, create, load_state_dict, state_dict};

/// One of each family, and of each kind of block within ResNet.
const FAMILIES: [&str; 7] = ["resnet18", "resnet50d", "resnext50_32x4d", "seresnet50", "resnet20", "efficientnet_lite0", "mobilenet_v2"];
const BATCH: usize = 4;
const SIZE: usize = 64;
const CLASSES: usize = 10;

/// What a device computes: values that another device must compute too.
struct Outcome {
    logits: Vec<f32>,
    loss: Vec<f32>,
    gradient_norms: Vec<f32>,
    statistics: Vec<f32>,
    trained: Vec<f32>,
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("f32")
}

fn run(name: &str, device: &Device) -> Outcome {
    let options = ModelOptions { dropout: Some(0.0), ..ModelOptions::classes(CLASSES) };
    let model = create(name, &options, device).expect(name);
    let evaluated = load_state_dict(&model, &formula::formula_weights(&model, 0.0)).expect("the formula fits");
    let shape = [BATCH, 3, SIZE, SIZE];
    let logits = host(evaluated.forward(formula::images("input", shape, device)));

    // Biases off the kink of ReLU, see parity/models.py: two correct devices must not differ by a gate.
    let model = load_state_dict(&model, &formula::formula_weights(&model, 3.0)).expect("the formula fits").train();
    let training = device.clone().autodiff();
    let labels: Vec<i64> = formula::labels(BATCH, CLASSES).into_iter().map(|label| label as i64).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [BATCH, 1]), &training);
    let loss = log_softmax(model.forward(formula::images("input0", shape, &training)), 1).gather(1, labels).mean().neg();
    let value = host(loss.clone().inner());
    let gradients = loss.backward();
    let mut norms = Norms { gradients: &gradients, found: Vec::new() };
    model.visit(&mut norms);
    let gradient_norms = norms.found;
    let trained = state_dict(&model.map(&mut formula::Sgd { gradients, rate: 0.01 }).valid());
    let samples = |statistic: bool| {
        let chosen = trained.tensors.iter().filter(|(key, _)| key.contains("running_") == statistic);
        chosen.flat_map(|(_, tensor)| tensor.values().expect("on the host").into_iter().step_by(97)).collect()
    };
    Outcome { logits, loss: value, gradient_norms, statistics: samples(true), trained: samples(false) }
}

struct Norms<'a> {
    gradients: &'a Gradients,
    found: Vec<f32>,
}

impl ModuleVisitor for Norms<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.extend(host(gradient.powf_scalar(2.0).sum().sqrt()));
        }
    }
}

/// Largest difference over the largest value.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0f32, |scale, x| scale.max(x.abs()));
    found.iter().zip(expected).fold(0f32, |worst, (a, b)| if a.is_finite() { worst.max((a - b).abs() / scale) } else { f32::INFINITY })
}

#[test]
fn every_family_computes_the_same_on_every_backend() {
    let others: Vec<&str> = compiled().into_iter().filter(|name| *name != "flex").collect();
    if others.is_empty() || !compiled().contains(&"flex") {
        formula::skipped(&format!("this build has only {}", compiled().join(", ")));
        return;
    }
    let flex = open_device("flex").expect("flex is compiled in");
    let mut failures = Vec::new();
    for backend in others {
        let device = open_device(backend).unwrap_or_else(|error| panic!("{error}"));
        for name in FAMILIES {
            let (found, expected) = (run(name, &device), run(name, &flex));
            let errors = [
                ("logits", error(&found.logits, &expected.logits), 1e-4),
                ("loss", error(&found.loss, &expected.loss), 1e-4),
                ("gradients", error(&found.gradient_norms, &expected.gradient_norms), 1e-3),
                ("statistics", error(&found.statistics, &expected.statistics), 1e-4),
                ("trained", error(&found.trained, &expected.trained), 1e-3),
            ];
            let line = errors.map(|(what, error, _)| format!("{what} {error:.1e}")).join("  ");
            println!("{backend:8} {name:20} {line}");
            if errors.iter().any(|(_, error, limit)| error > limit) {
                failures.push(format!("{backend} {name}: {line}"));
            }
        }
    }
    assert!(failures.is_empty(), "differs from flex:\n{}", failures.join("\n"));
}
