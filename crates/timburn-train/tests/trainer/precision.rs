//! bf16 and f16 on the CPU against f32: bf16 by the kernels, f16 as flex emulates it.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor};
use serde_json::{Value, json};
use timburn_core::Error;
use timburn_core::error::TrainError;
use timburn_models::state_dict::WeightDtype;
use timburn_models::{ImageModel, Model, ModelOptions, autocast, create, state_dict};
use timburn_train::{Learner, Loss, LossConfig, ParameterGradients, Precision, Reduction, Targets};

use super::common::{bits, host, unit};
use super::tiny::{Tiny, White};
use super::{alone, device, recipe};

const CLASSES: usize = 5;
const LABELS: [usize; 8] = [0, 1, 2, 3, 4, 0, 1, 2];

fn model(name: &str) -> Model {
    let options = ModelOptions { classes: Some(CLASSES), dropout: Some(0.0), seed: 3, ..ModelOptions::default() };
    create(name, &options, &device().autodiff()).unwrap()
}

/// Eight pictures of noise around a level of their class's own.
fn images(side: usize, device: &Device) -> Tensor<4> {
    let noise = unit("pictures", LABELS.len() * 3 * side * side);
    let values: Vec<f32> = noise.enumerate().map(|(i, x)| 2.0 * x - 1.0 + (LABELS[i / (3 * side * side)] as f32 - 2.0) * 0.4).collect();
    Tensor::<1>::from_floats(values.as_slice(), device).reshape([LABELS.len(), 3, side, side])
}

/// `‖a - b‖ / ‖b‖`.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / norm(&mut b.iter().map(|b| f64::from(*b)))
}

/// Logits and gradients by key of one pass, as f32, and the model with its statistics; the loss scaled by `scale` meanwhile.
fn pass<M: ImageModel>(model: M, side: usize, precision: Precision, scale: f64) -> (Vec<f32>, BTreeMap<String, Vec<f32>>, M) {
    let device = device().autodiff();
    let logits = autocast(precision.dtype(), || model.forward(images(side, &device)));
    assert_eq!(logits.dtype(), DType::F32, "the head is f32");
    let targets = Targets::classes(&LABELS, CLASSES, &device).unwrap();
    let loss = Loss::new(LossConfig::default(), CLASSES).unwrap().forward(logits.clone(), targets, Reduction::Mean).unwrap();
    let gradients = ParameterGradients::of(&model, (loss * scale).backward());
    let keys: Vec<String> = gradients.keys().map(str::to_owned).collect();
    let host_gradients = keys.into_iter().map(|key| {
        let gradient = gradients.get(&key).unwrap();
        assert_eq!(gradient.dtype(), DType::F32, "the gradient of {key}");
        (key, host(gradient / scale))
    });
    (host(logits), host_gradients.collect(), model)
}

/// Distances from f32 must be below `bounds`, twice what was found: logits, all gradients together, the head's gradients, running statistics together.
fn compare<M: ImageModel>(name: &str, model: impl Fn() -> M, side: usize, precision: Precision, bounds: [f64; 4]) {
    let scale = if precision == Precision::F16 { 1024.0 } else { 1.0 };
    let (expected, found) = (pass(model(), side, Precision::F32, 1.0), pass(model(), side, precision, scale));
    assert!(expected.1.keys().eq(found.1.keys()));
    let head = model().head_keys();
    let is_head = |key: &str| head.iter().any(|head| key.starts_with(head.as_str()));
    let join = |gradients: &BTreeMap<String, Vec<f32>>, all: bool| {
        let chosen = gradients.iter().filter(|(key, _)| all || is_head(key));
        chosen.flat_map(|(_, values)| values).copied().collect::<Vec<f32>>()
    };
    let statistics = |model: &M| {
        let all = bits(model).into_iter().filter(|(key, _)| key.ends_with("running_var") || key.ends_with("running_mean"));
        all.flat_map(|(_, values)| values).map(f32::from_bits).collect::<Vec<f32>>()
    };
    let distances = [
        distance(&found.0, &expected.0),
        distance(&join(&found.1, true), &join(&expected.1, true)),
        distance(&join(&found.1, false), &join(&expected.1, false)),
        distance(&statistics(&found.2), &statistics(&expected.2)),
    ];
    assert!(distances.iter().all(|distance| *distance > 0.0), "{name}, {precision:?}: nothing was computed in it");
    let text = distances.map(|distance| format!("{distance:.1e}")).join(", ");
    assert!(distances.iter().zip(bounds).all(|(found, bound)| *found < bound), "{name}, {precision:?}: {text}, bounds {bounds:?}");
    assert_all_f32(&found.2);
}

fn assert_all_f32<M: ImageModel>(model: &M) {
    for (key, tensor) in state_dict(model).tensors {
        assert!(tensor.dtype == WeightDtype::F32 || key.ends_with("num_batches_tracked"), "{key}: {:?}", tensor.dtype);
    }
}

#[test]
fn one_pass_stays_near_f32() {
    let _alone = alone();
    let tiny = || Tiny::new(CLASSES, White::Harmless);
    compare("tiny", tiny, 32, Precision::BF16, [1.2e-3, 6e-3, 2.2e-3, 1.7e-4]);
    compare("tiny", tiny, 32, Precision::F16, [1.7e-4, 1.1e-3, 2.6e-4, 2e-5]);
    // Depth multiplies roundings; PyTorch's autocast on the CPU is as far off on networks and pictures like these (logits, all gradients):
    // resnet20 6.2e-3, 0.19 in bf16, 9.0e-4, 0.058 in f16; resnet18 3.8e-2, 0.38 and 4.3e-3, 0.14; lite0 0.18, 1.03 and 2.5e-2. Where the
    // whole gradient is no more than noise, it has no bound.
    for (name, side, bf16, f16) in [
        ("resnet20", 32, [1e-2, 0.3, 7e-3, 8e-4], [2.5e-3, 0.14, 1.3e-3, 1.5e-4]),
        ("resnet18", 64, [8e-2, 0.75, 7e-2, 1.6e-3], [7e-3, 0.26, 9e-3, 2e-4]),
        ("efficientnet_lite0", 64, [0.4, f64::INFINITY, 0.62, 1.7e-3], [6e-2, f64::INFINITY, 0.12, 3e-4]),
    ] {
        compare(name, || model(name), side, Precision::BF16, bf16);
        compare(name, || model(name), side, Precision::F16, f16);
    }
}

fn learner(precision: &str) -> Learner<Model> {
    let text = format!(
        "epochs = 1\nlr = 0.02\nprecision = {precision:?}\n[ema]\ndecay = 0.5\n[schedule]\nchain = [{{ curve = {{ name = \"constant\" }} }}]"
    );
    Learner::new(&recipe(16, &text), model("resnet20"), &device(), 10).unwrap()
}

fn backward(learner: &mut Learner<Model>) {
    let device = learner.device().clone();
    let labels = Tensor::from_ints(LABELS.map(|label| label as i32), &device);
    learner.backward(images(16, &device), Targets::classes(&LABELS, CLASSES, &device).unwrap(), labels).unwrap();
}

#[test]
fn ten_steps_stay_near_f32() {
    let _alone = alone();
    let train = |precision| {
        let mut learner = learner(precision);
        let losses: Vec<f64> = (0..10)
            .map(|_| {
                backward(&mut learner);
                let (next, update) = std::mem::replace(&mut learner, self::learner(precision)).update().unwrap();
                learner = next;
                let update = update.expect("a step");
                assert!(!update.skipped, "{precision}");
                update.loss
            })
            .collect();
        assert_all_f32(learner.model());
        assert_all_f32(&learner.valid());
        losses
    };
    let expected = train("f32");
    assert!(expected[9] < 0.5 * expected[0], "nothing was learned: {expected:?}");
    for (precision, bound) in [("bf16", 0.08), ("f16", 0.08)] {
        let found = train(precision);
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst > 0.0 && worst < bound, "{precision}: {worst:.1e}\n{found:?}\n{expected:?}");
    }
}

/// The learner with another loss scale.
fn scaled(learner: Learner<Model>, changes: &[(&str, Value)]) -> Learner<Model> {
    let (tensors, state) = learner.state().unwrap();
    let mut state = serde_json::to_value(&state).unwrap();
    for (key, value) in changes {
        state["scale"][key] = value.clone();
    }
    learner.load_state(&tensors, &serde_json::from_value(state).unwrap()).unwrap()
}

fn scale_of(learner: &Learner<Model>) -> Value {
    serde_json::to_value(learner.state().unwrap().1).unwrap()
}

#[test]
fn an_overflow_skips_the_step_and_many_in_a_row_are_an_error() {
    let _alone = alone();
    let mut learner = scaled(learner("f16"), &[("scale", json!(1e30)), ("max_skipped", json!(3))]);
    let trainable =
        |learner: &Learner<Model>| bits(learner.model()).into_iter().filter(|(key, _)| !key.contains("running_")).collect::<Vec<_>>();
    let (start, average) = (trainable(&learner), bits(&learner.valid()));
    for skipped in 1..3 {
        backward(&mut learner);
        let (next, update) = learner.update().unwrap();
        learner = next;
        let update = update.expect("a step");
        assert!(update.skipped && update.loss.is_finite(), "{update:?}");
        assert!(trainable(&learner) == start && bits(&learner.valid()) == average, "a skipped step changed weights");
        let state = scale_of(&learner);
        assert_eq!(state["scale"]["scale"], json!(1e30 / f64::from(1 << skipped)));
        assert_eq!(
            (&state["scale"]["total_skipped"], &state["step"], &state["ema_updates"]),
            (&json!(skipped), &json!(skipped), &json!(0))
        );
    }
    backward(&mut learner);
    let error = learner.update().err().expect("three in a row");
    assert!(matches!(error, Error::Train(TrainError::LossScale { skipped: 3, scale }) if scale == 1e30 / 8.0), "{error}");
    assert_eq!(error.exit_code(), 5);
}

#[test]
fn a_scale_that_is_too_large_comes_down_until_training_goes_on() {
    let _alone = alone();
    let mut learner = scaled(learner("f16"), &[("scale", json!(f64::from(1 << 26)))]);
    let mut skips = 0u32;
    let mut losses = Vec::new();
    for _ in 0..20 {
        backward(&mut learner);
        let (next, update) = learner.update().unwrap();
        learner = next;
        let update = update.expect("a step");
        if update.skipped {
            assert!(losses.is_empty(), "an overflow after a good step");
            skips += 1;
        } else {
            losses.push(update.loss);
        }
    }
    assert!((1..=14).contains(&skips), "{skips}");
    let state = scale_of(&learner);
    assert_eq!((&state["scale"]["scale"], &state["scale"]["total_skipped"]), (&json!(f64::from(1 << (26 - skips))), &json!(skips)));
    assert!(losses.last() < losses.first(), "{losses:?}");
}
