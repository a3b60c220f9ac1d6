//! Optimizers against PyTorch and timm, step by step; state, groups, frozen parameters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use common::{autodiff, bits, floats, golden, host, relative_error, unit, usizes};
use serde_json::Value;
use timburn_core::{Error, WeightsError};
use timburn_models::{ImageModel, ModelOptions, StateDict, WeightTensor, create};
use timburn_train::{Groups, Optimizer, OptimizerConfig, ParameterGradients, StepParams};

/// PyTorch's own distance to f64 is up to 4e-7 after these 20 steps.
const TOLERANCE: f64 = 1e-6;

/// Parameters of three ranks, any of them absent.
#[derive(Module, Debug)]
struct Parameters {
    matrix: Option<Param<Tensor<2>>>,
    conv: Option<Param<Tensor<4>>>,
    vector: Option<Param<Tensor<1>>>,
}

fn values<const D: usize>(shape: Option<Vec<usize>>, stream: &str, scale: f32) -> Option<Tensor<D>> {
    let shape: [usize; D] = shape?.try_into().expect("the rank");
    let values: Vec<f32> = unit(stream, shape.iter().product()).map(|u| scale * u - scale / 2.0).collect();
    Some(Tensor::from_data(TensorData::new(values, shape), &autodiff()))
}

impl Parameters {
    fn of(shapes: &Value) -> Self {
        let shape = |name: &str| shapes.get(name).map(usizes);
        Self {
            matrix: values(shape("matrix"), "param.matrix", 2.0).map(|value| Param::from_tensor(value.require_grad())),
            conv: values(shape("conv"), "param.conv", 2.0).map(|value| Param::from_tensor(value.require_grad())),
            vector: values(shape("vector"), "param.vector", 2.0).map(|value| Param::from_tensor(value.require_grad())),
        }
    }

    /// The gradients of the generator at `step`: `Σ p g` has the gradient g, exactly.
    fn gradients(&self, step: usize) -> ParameterGradients {
        fn term<const D: usize>(param: &Option<Param<Tensor<D>>>, name: &str, step: usize) -> Option<Tensor<1>> {
            let param = param.as_ref()?;
            let gradient = values::<D>(Some(param.dims().to_vec()), &format!("grad.{name}.{step}"), 4.0)?;
            Some((param.val() * gradient).sum())
        }
        let terms = [term(&self.matrix, "matrix", step), term(&self.conv, "conv", step), term(&self.vector, "vector", step)];
        let loss = terms.into_iter().flatten().reduce(|a, b| a + b).expect("a parameter");
        ParameterGradients::of(self, loss.backward())
    }

    fn flat(&self, name: &str) -> Vec<f64> {
        let values = match name {
            "matrix" => host(self.matrix.as_ref().expect("there").val()),
            "conv" => host(self.conv.as_ref().expect("there").val()),
            _ => host(self.vector.as_ref().expect("there").val()),
        };
        values.into_iter().map(f64::from).collect()
    }
}

/// Learning rate and momentum of the generator at `step`.
fn params(case: &Value, step: usize) -> StepParams {
    let lr = case["lr"].as_f64().expect("a rate") * (1 + step % 5) as f64 / 3.0;
    StepParams { lr, momentum: case["momentum"].as_f64().map(|momentum| momentum + 0.02 * (step % 3) as f64) }
}

fn cases() -> Vec<(String, Value, OptimizerConfig)> {
    let goldens = golden("optimizers.json");
    let cases = goldens.as_object().expect("cases").iter().map(|(name, case)| {
        let config = serde_json::from_value(case["config"].clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name.clone(), case.clone(), config)
    });
    cases.collect()
}

#[test]
fn twenty_steps_equal_pytorch() {
    for (name, case, config) in cases() {
        let mut model = Parameters::of(&case["shapes"]);
        let mut optimizer = Optimizer::new(config, Groups::uniform(&model)).expect(&name);
        let recorded = usizes(&case["steps"]);
        let mut worst = 0f64;
        for step in 0..20 {
            let gradients = model.gradients(step);
            model = optimizer.step(model, gradients, &params(&case, step)).expect(&name);
            let Some(at) = recorded.iter().position(|&recorded| recorded == step) else { continue };
            for (param, expected) in case["values"].as_object().expect("values") {
                let error = relative_error(&model.flat(param), &floats(&expected[at]));
                assert!(error <= TOLERANCE, "{name}: {param} after step {step}: relative error {error:.1e}");
                worst = worst.max(error);
            }
        }
        println!("{name:22} {worst:.1e}");
    }
}

#[test]
fn state_saved_and_loaded_at_any_step_continues_bit_for_bit() {
    for (name, case, config) in cases() {
        let fresh = || Parameters::of(&case["shapes"]);
        let optimizer = || Optimizer::new(config.clone(), Groups::of(&fresh())).expect(&name);
        let run = |mut model: Parameters, optimizer: &mut Optimizer, steps: std::ops::Range<usize>| {
            for step in steps {
                let gradients = model.gradients(step);
                model = optimizer.step(model, gradients, &params(&case, step)).expect(&name);
            }
            model
        };
        let (uninterrupted, mut first) = (run(fresh(), &mut optimizer(), 0..8), optimizer());
        for stop in [0, 1, 5] {
            let mut first_half = run(fresh(), &mut first, 0..stop);
            let state = first.state(&first_half).expect(&name);
            let mut second = optimizer();
            second.load_state(&first_half, &state).expect(&name);
            first_half = run(first_half, &mut second, stop..8);
            assert_eq!(bits(&first_half), bits(&uninterrupted), "{name}: stopped after {stop}");
            let again = second.state(&first_half).expect(&name);
            assert!(state.tensors.keys().eq(again.tensors.keys()), "{name}: the same names at every step");
            first = optimizer();
        }
    }
}

#[test]
fn state_that_does_not_fit_is_refused_with_all_names() {
    let shapes = serde_json::json!({"matrix": [6, 4], "vector": [5]});
    let model = Parameters::of(&shapes);
    let config: OptimizerConfig = serde_json::from_str(r#"{"name": "adamw"}"#).expect("adamw");
    let mut optimizer = Optimizer::new(config, Groups::of(&model)).expect("valid");
    let model = {
        let gradients = model.gradients(0);
        optimizer.step(model, gradients, &StepParams::lr(0.1)).expect("a step")
    };
    let good = optimizer.state(&model).expect("state");
    let names: Vec<&str> = good.tensors.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["matrix.exp_avg", "matrix.exp_avg_sq", "matrix.step", "vector.exp_avg", "vector.exp_avg_sq", "vector.step"],
        "PyTorch's names"
    );

    let mut bad: StateDict = good.clone();
    bad.tensors.remove("vector.step");
    bad.tensors.insert("vektor.step".into(), good.tensors["vector.step"].clone());
    bad.tensors.insert("matrix.exp_avg".into(), WeightTensor::from_f32(vec![4, 6], vec![0.0; 24]));
    let before = optimizer.state(&model).expect("state");
    let Error::Weights(WeightsError::Mismatch(mismatch)) = optimizer.load_state(&model, &bad).expect_err("does not fit") else {
        panic!("a mismatch")
    };
    assert_eq!(mismatch.missing, [("vector.step".to_owned(), vec!["vektor.step".to_owned()])]);
    assert_eq!(mismatch.unexpected, [("vektor.step".to_owned(), vec!["vector.step".to_owned()])]);
    assert_eq!((mismatch.shapes[0].key.as_str(), &mismatch.shapes[0].found), ("matrix.exp_avg", &vec![4, 6]));
    let after = optimizer.state(&model).expect("state");
    for (key, tensor) in &before.tensors {
        assert_eq!(tensor.bytes(), after.tensors[key].bytes(), "{key} is unchanged after a refusal");
    }

    let mut truncated = good.clone();
    truncated.tensors.insert("matrix.step".into(), WeightTensor::from_f32(Vec::new(), vec![1.0]));
    assert!(matches!(optimizer.load_state(&model, &truncated), Err(Error::Weights(WeightsError::Corrupt { .. }))));
}

#[test]
fn frozen_parameters_stay_bit_for_bit_and_hold_no_state() {
    let shapes = serde_json::json!({"matrix": [6, 4], "conv": [4, 3, 2, 2], "vector": [5]});
    let config: OptimizerConfig = serde_json::from_str(r#"{"name": "sgd", "momentum": 0.9, "weight_decay": 0.1}"#).expect("sgd");
    let mut model = Parameters::of(&shapes);
    // One is frozen in the model, one by its group.
    model.conv = model.conv.map(|conv| conv.set_require_grad(false));
    let groups = Groups::uniform(&model).frozen(|key| key == "vector");
    let mut optimizer = Optimizer::new(config, groups.clone()).expect("valid");
    let before = bits(&model);
    for step in 0..3 {
        let gradients = model.gradients(step);
        assert_eq!(gradients.keys().collect::<Vec<_>>(), ["matrix", "vector"]);
        model = optimizer.step(model, gradients, &StepParams::lr(0.1)).expect("a step");
    }
    let after = bits(&model);
    let changed: Vec<&str> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
    assert_eq!(changed, ["matrix"]);
    assert_eq!(optimizer.keys().collect::<Vec<_>>(), ["matrix"]);
    assert_eq!(optimizer.state(&model).expect("state").tensors.len(), 2, "momentum and step of one parameter");
    assert!(!model.conv.as_ref().expect("there").val().is_require_grad());

    // Thawed, the vector starts from nothing; frozen again, its state goes.
    optimizer.set_groups(groups.clone().frozen(|_| false));
    let gradients = model.gradients(3);
    model = optimizer.step(model, gradients, &StepParams::lr(0.1)).expect("a step");
    assert_eq!(optimizer.keys().collect::<Vec<_>>(), ["matrix", "vector"]);
    assert_ne!(bits(&model)[2], after[2]);
    optimizer.set_groups(groups);
    let gradients = model.gradients(4);
    optimizer.step(model, gradients, &StepParams::lr(0.1)).expect("a step");
    assert_eq!(optimizer.keys().collect::<Vec<_>>(), ["matrix"]);
}

#[test]
fn groups_scale_rates_and_decay() {
    let shapes = serde_json::json!({"matrix": [6, 4], "vector": [5]});
    let run = |config: &str, groups: fn(Groups) -> Groups, lr: f64| {
        let model = Parameters::of(&shapes);
        let config = serde_json::from_str(config).expect("a configuration");
        let mut optimizer = Optimizer::new(config, groups(Groups::of(&model))).expect("valid");
        let gradients = model.gradients(0);
        bits(&optimizer.step(model, gradients, &StepParams::lr(lr)).expect("a step"))
    };
    let (sgd, decayed) = (r#"{"name": "sgd"}"#, r#"{"name": "sgd", "weight_decay": 0.5}"#);
    let plain = run(sgd, |groups| groups, 0.1);
    let with_decay = run(decayed, |groups| groups, 0.1);
    assert_ne!(plain[0], with_decay[0], "matrices decay");
    assert_eq!(plain[1], with_decay[1], "vectors do not");
    let halved = run(sgd, |groups| groups.with(|key| key == "matrix", |group| group.lr_scale = 0.5), 0.2);
    assert_eq!(halved[0], plain[0]);
    assert_eq!(halved[1], run(sgd, |groups| groups, 0.2)[1]);
}

#[test]
fn norms_and_biases_of_resnet18_do_not_decay() {
    let device = timburn_core::open_device("flex").expect("flex");
    let model = create("resnet18", &ModelOptions::default(), &device).expect("resnet18");
    let groups = Groups::of(&model);
    let (without, with): (Vec<_>, Vec<_>) = groups.iter().partition(|(_, group)| group.weight_decay_scale == 0.0);
    let with: Vec<&str> = with.into_iter().map(|(key, _)| key).collect();
    // Twenty convolutions and the classifier's matrix; 20 norms with scale and shift, one bias.
    assert_eq!((with.len(), without.len()), (21, 41));
    assert!(with.iter().all(|key| *key == "fc.weight" || key.contains("conv") || key.ends_with("downsample.0.weight")), "{with:?}");
    let is_norm = |key: &str| key.contains("bn") || key.contains("downsample.1");
    assert!(without.iter().all(|(key, _)| *key == "fc.bias" || is_norm(key)));
    assert!(Groups::uniform(&model).iter().all(|(_, group)| group.weight_decay_scale == 1.0));
    assert!(groups.iter().all(|(key, _)| !key.contains("running")), "statistics are no parameters");

    let layers = model.layer_groups();
    let decayed = groups.layer_decay(&layers, 0.5);
    let scale = |key: &str| decayed.get(key).lr_scale;
    let scales = ["fc.weight", "layer4.0.conv1.weight", "layer1.1.bn2.bias", "conv1.weight", "bn1.weight"].map(scale);
    assert_eq!(scales, [1.0, 0.5, 0.0625, 0.03125, 0.03125]);
}

#[test]
fn configurations_are_checked() {
    let parse = |text: &str| serde_json::from_str::<OptimizerConfig>(text);
    let new = |text: &str| Optimizer::new(parse(text).expect(text), Groups::default());
    for bad in [
        r#"{"name": "sgd", "momentum": 1.0}"#,
        r#"{"name": "sgd", "nesterov": true}"#,
        r#"{"name": "adamw", "betas": [0.9, 1.0]}"#,
        r#"{"name": "lamb", "weight_decay": -1.0}"#,
        r#"{"name": "muon", "ns_steps": 0}"#,
    ] {
        assert!(matches!(new(bad), Err(Error::Argument { .. })), "{bad}");
    }
    for unknown in [r#"{"name": "sgdm"}"#, r#"{"name": "sgd", "momentun": 0.9}"#, r#"{"name": "adam", "lr": 0.1}"#] {
        assert!(parse(unknown).is_err(), "{unknown}");
    }
    let config = parse(r#"{"name": "adamw"}"#).expect("adamw");
    assert_eq!(parse(&serde_json::to_string(&config).expect("JSON")).expect("back"), config);
    let model = Parameters::of(&serde_json::json!({"vector": [5]}));
    let gradients = model.gradients(0);
    let mut optimizer = new(r#"{"name": "sgd"}"#).expect("valid");
    assert!(matches!(optimizer.step(model, gradients, &StepParams::lr(f64::NAN)), Err(Error::Argument { name: "lr", .. })));
}

#[test]
fn a_model_keeps_its_checkpointing() {
    let device = autodiff().gradient_checkpointing();
    let model = create("resnet20", &ModelOptions::default(), &device).expect("resnet20").train();
    let groups = Groups::of(&model);
    let mut optimizer = Optimizer::new(serde_json::from_str(r#"{"name": "sgd"}"#).expect("sgd"), groups).expect("valid");
    let mut model = model;
    for _ in 0..2 {
        let logits = model.forward(Tensor::ones([2, 3, 32, 32], &device));
        let gradients = ParameterGradients::of(&model, logits.sum().backward());
        model = optimizer.step(model, gradients, &StepParams::lr(1e-3)).expect("a step");
    }
}
