//! Twenty training steps against PyTorch: optimizer, schedule, loss, clipping, accumulation and EMA together, on whole networks.
//!
//! What may differ is stated by the golden itself: PyTorch's own distance between f32 and f64. The run must stay within a few times that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use common::{autodiff, floats, formula_weights, golden, host, relative_error, unit, usizes};
use serde_json::Value;
use timburn_models::{ImageModel, Model, ModelOptions, StateDict, create, load_state_dict, state_dict};
use timburn_train::{Accumulator, Ema, Groups, Loss, Optimizer, ParameterGradients, Reduction, Schedule, StepParams, Targets};

const STEPS: u64 = 20;

fn images(name: &str, shape: [usize; 4]) -> Tensor<4> {
    let values: Vec<f32> = unit(name, shape.iter().product()).map(|u| 4.0 * u - 2.0).collect();
    Tensor::from_data(TensorData::new(values, shape), &autodiff())
}

/// A part of a recipe, as a user writes it.
fn part<T: serde::de::DeserializeOwned>(recipe: &Value, name: &str) -> Option<T> {
    recipe.get(name).map(|value| serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn compare(name: &str, kind: &str, found: &StateDict, expected: &Value) {
    for (key, expected) in expected.as_object().expect("tensors") {
        let values = found.tensors[key].values().expect("host data");
        let samples = floats(&expected["samples"]);
        let picked: Vec<f64> = (0..samples.len()).map(|k| f64::from(values[k * values.len() / samples.len()])).collect();
        let error = relative_error(&picked, &samples);
        let allowed = tolerance(expected);
        println!("{name:24} {kind} {key:28} {error:.1e} of {allowed:.1e}");
        assert!(error <= allowed, "{name}: {kind} {key}: relative error {error:.1e}, allowed {allowed:.1e}");
    }
}

/// Five times PyTorch's own error, and no less than f32 can give over twenty steps.
fn tolerance(record: &Value) -> f64 {
    (5.0 * record["f64_error"].as_f64().expect("an error")).max(5e-6)
}

fn check(name: &str) {
    let goldens = golden("training.json");
    let case = &goldens[name];
    let recipe = &case["recipe"];
    let classes = case["classes"].as_u64().expect("a number") as usize;
    let shape: [usize; 4] = usizes(&case["shape"]).try_into().expect("four extents");
    let [batch, ..] = shape;
    let architecture = recipe["model"].as_str().expect("a name");
    let model = create(architecture, &ModelOptions::classes(classes), &autodiff()).expect(architecture);
    let weights = formula_weights(&model, case["bias_offset"].as_f64().expect("a number") as f32);
    let mut model: Model = load_state_dict(&model, &weights).expect("fits").train();

    let lr = recipe["lr"].as_f64().expect("a rate");
    let schedule = Schedule::new(part(recipe, "schedule").expect("there"), lr, STEPS as f64, 1).expect("valid");
    let mut optimizer = Optimizer::new(part(recipe, "optimizer").expect("there"), Groups::of(&model)).expect("valid");
    let loss = Loss::new(part(recipe, "loss").expect("there"), classes).expect("valid");
    let clip = part(recipe, "clip");
    let mut ema = part(recipe, "ema").map(|config| Ema::new(config, &model).expect("valid"));
    let mixup: Option<f64> = part(recipe, "mixup");
    let micro_batches: u64 = part(recipe, "accumulate").unwrap_or(1);

    let labels: Vec<usize> = (0..batch).map(|i| (7 * i + 3) % classes).collect();
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let mut accumulator = Accumulator::default();
        let mut total = 0.0;
        for micro_batch in 0..micro_batches {
            let mut images = images(&format!("input{}", (step * micro_batches + micro_batch) % 4), shape);
            let mut targets = Targets::classes(&labels, classes, &autodiff()).expect("in range");
            if let Some(share) = mixup {
                images = images.clone() * share + images.flip([0]) * (1.0 - share);
                let mut soft = vec![0.0; batch * classes];
                for (row, label) in labels.iter().enumerate() {
                    soft[row * classes + label] += share as f32;
                    soft[(batch - 1 - row) * classes + label] += 1.0 - share as f32;
                }
                targets = Targets::Soft(Tensor::from_data(TensorData::new(soft, [batch, classes]), &autodiff()));
            }
            let value = loss.forward(model.forward(images), targets, Reduction::Mean).expect("shapes fit");
            total += f64::from(host(value.clone())[0]) / micro_batches as f64;
            accumulator.add(ParameterGradients::of(&model, value.backward()), batch);
        }
        let mut gradients = accumulator.take().expect("a micro-batch");
        if let Some(clip) = clip {
            gradients = gradients.clip(clip).expect("on the CPU").0;
        }
        let rates = schedule.rates(step);
        model = optimizer.step(model, gradients, &StepParams { lr: rates.lr, momentum: rates.momentum }).expect("a step");
        ema = ema.map(|ema| ema.update(&model));
        losses.push(total);
    }
    let error = relative_error(&losses, &floats(&case["losses"]["values"]));
    let allowed = tolerance(&case["losses"]);
    println!("{name:24} losses {error:.1e} of {allowed:.1e}");
    assert!(error <= allowed, "{name}: losses: relative error {error:.1e}, allowed {allowed:.1e}\n{losses:?}");
    compare(name, "final", &state_dict(&model), &case["final"]);
    assert_eq!(ema.is_some(), case.get("ema").is_some());
    if let Some(ema) = ema {
        compare(name, "ema", &ema.state(), &case["ema"]);
    }
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_golden_is_compared() {
            let tested = [$(stringify!($name)),*];
            for name in golden("training.json").as_object().expect("cases").keys() {
                assert!(tested.contains(&name.as_str()), "{name}");
            }
        }
    };
}

cases! {
    sgd_one_cycle_ema adamw_cosine_clip rmsprop label_smoothing mixup bce_accumulated resnet50_sgd_one_cycle resnet50_adamw_cosine
}
