//! What every row of the registry promises besides parity: groups, heads, modes, options, and that it learns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use timburn_core::error::ModelError;
use timburn_core::{Error, WeightsError};
use timburn_models::Stem;
use timburn_models::blocks::{BatchNorm2d, BatchNormMode, Builder, Conv2dConfig, Padding, fold_batch_norm};
use timburn_models::{
    ARCHITECTURES, Architecture, ImageModel, Model, ModelOptions, WeightTensor, create, load_state_dict, parameters, state_dict,
};

fn flex() -> Device {
    timburn_core::open_device("flex").expect("flex is in every test build")
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("f32")
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    host(tensor).into_iter().map(f32::to_bits).collect()
}

#[test]
fn layer_groups_hold_every_parameter_once() {
    for row in ARCHITECTURES {
        let model = row.build(&ModelOptions::default(), &flex()).expect(row.name);
        let groups = model.layer_groups();
        for info in parameters(&model) {
            let owners = groups.iter().filter(|group| group.contains(&info.key)).count();
            assert_eq!(owners, 1, "{}: {} is in {owners} groups", row.name, info.key);
        }
        let stages = model.stages();
        assert_eq!(stages.last().expect("stages").channels, model.num_features(), "{}", row.name);
        assert_eq!(groups.last().expect("groups").name, "head");
    }
}

#[test]
fn stages_tell_their_shapes() {
    for name in ["resnet18d", "resnet20", "efficientnet_lite1", "mobilenet_v2"] {
        let model = create(name, &ModelOptions::default(), &flex()).expect(name);
        let stages = model.stages();
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        let features = model.forward_intermediates(Tensor::ones([1, 3, 64, 64], &flex()), &names).expect(name);
        for (stage, found) in stages.iter().zip(features) {
            assert_eq!(found.dims(), [1, stage.channels, 64 / stage.reduction, 64 / stage.reduction], "{name}: {}", stage.name);
        }
    }
    let model = create("resnet18", &ModelOptions::default(), &flex()).expect("resnet18");
    let unknown = model.forward_intermediates(Tensor::ones([1, 3, 32, 32], &flex()), &["layer9"]);
    assert!(matches!(unknown, Err(Error::Model(ModelError::UnknownStage { .. }))), "{unknown:?}");
}

#[test]
fn a_new_classifier_keeps_the_body() {
    for name in ["resnet18", "efficientnet_lite0", "mobilenet_v2"] {
        let model = create(name, &ModelOptions::default(), &flex()).expect(name);
        let images = || common::images("x", [1, 3, 64, 64], &flex());
        let before = bits(model.forward_features(images()));
        let reset = model.reset_classifier(7, 3, &flex());
        assert_eq!(reset.num_classes(), 7, "{name}");
        assert_eq!(bits(reset.forward_features(images())), before, "{name}");
        assert_eq!(reset.forward(images()).dims(), [1, 7], "{name}");
    }
}

#[test]
fn initial_weights_are_a_function_of_the_seed() {
    let key = "layer4.1.conv2.weight";
    let values = |seed, touch_first: bool| {
        let model = create("resnet18", &ModelOptions { seed, ..ModelOptions::default() }, &flex()).expect("resnet18");
        if touch_first {
            model.forward(Tensor::ones([1, 3, 32, 32], &flex()));
        }
        state_dict(&model).tensors[key].values().expect("host")
    };
    let one = values(1, false);
    assert_eq!(one, values(1, true), "whatever was initialised first");
    assert_ne!(one, values(2, false));
    // He's fan-out rule: variance 2 / (512 · 9).
    let variance = one.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / one.len() as f64;
    assert!((variance * 512.0 * 9.0 / 2.0 - 1.0).abs() < 0.01, "{variance}");
}

#[test]
fn batch_norm_modes() {
    let device = flex().autodiff();
    let norm = BatchNorm2d::new(2, 1e-5, 1.0, &Builder::new(&device, 0));
    assert_eq!(norm.mode(), BatchNormMode::Train);
    let copy = norm.clone();
    let input = || Tensor::<4>::from_data(TensorData::new(vec![1f32, 2.0, 3.0, 6.0, -1.0, 0.0, 5.0, 8.0], [2, 2, 2, 1]), &device);
    norm.forward(input());
    // PyTorch: 0.9 · 1 + 0.1 · unbiased variance of {1, 2, -1, 0} = 0.9 + 0.1 · 5/3, seen at once.
    let var = host(norm.running_var.value());
    assert!((var[0] - (0.9 + 0.1 * 5.0 / 3.0)).abs() < 1e-6, "{var:?}");
    assert_eq!(host(copy.running_var.value()), [1.0, 1.0], "a clone is a copy");

    let frozen = norm.freeze();
    assert_eq!(frozen.mode(), BatchNormMode::Frozen);
    let before = bits(frozen.running_mean.value());
    frozen.forward(input());
    assert_eq!(bits(frozen.running_mean.value()), before);
    assert_eq!(frozen.valid().train().mode(), BatchNormMode::Frozen, "an evaluation does not thaw it");
    let thawed = frozen.unfreeze();
    assert_eq!(thawed.mode(), BatchNormMode::Train);
    let eval = thawed.valid();
    assert_eq!(eval.mode(), BatchNormMode::Eval);
    assert_eq!(eval.train().mode(), BatchNormMode::Train);
    assert_eq!(BatchNorm2d::new(2, 1e-5, 1.0, &Builder::new(&flex(), 0)).mode(), BatchNormMode::Eval, "no autodiff, no training");
}

#[test]
fn folding_changes_nothing() {
    let device = flex();
    let builder = Builder::new(&device, 5);
    for bias in [false, true] {
        let conv = Conv2dConfig::new(4, 6, 5).stride(2).padding(Padding::Same).groups(2).bias(bias).build(&builder);
        let mut norm = BatchNorm2d::new(6, 1e-3, 1.0, &builder);
        norm.weight = Param::from_tensor(Tensor::from_floats([0.5, -1.0, 2.0, 0.1, 1.0, 3.0], &device));
        norm.bias = Param::from_tensor(Tensor::from_floats([1.0, 0.0, -1.0, 0.5, 0.2, 0.3], &device));
        norm.running_mean = timburn_models::blocks::RunningStat::new(Tensor::from_floats([0.1, 0.2, -0.3, 0.4, 0.0, 1.0], &device));
        norm.running_var = timburn_models::blocks::RunningStat::new(Tensor::from_floats([0.5, 2.0, 1.0, 0.1, 1.5, 3.0], &device));
        let input = common::images("fold", [2, 4, 9, 12], &device);
        let expected = host(norm.forward(conv.forward(input.clone())));
        let found = host(fold_batch_norm(&conv, &norm).forward(input));
        let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 2e-5, "{error}");
    }
}

#[test]
fn impossible_options_are_errors() {
    let build = |name: &str, options: ModelOptions| create(name, &options, &flex()).err();
    let default = ModelOptions::default;
    assert!(
        matches!(build("resnet5", default()), Some(Error::Model(ModelError::UnknownArchitecture { nearest, .. })) if nearest[0] == "resnet50")
    );
    assert!(matches!(build("resnet18", ModelOptions::classes(0)), Some(Error::Argument { name: "classes", .. })));
    for in_channels in [0, 1 << 40, usize::MAX] {
        assert!(matches!(build("resnet18", ModelOptions { in_channels, ..default() }), Some(Error::Argument { name: "in_channels", .. })));
    }
    assert!(matches!(build("resnet18", ModelOptions::classes(1 << 40)), Some(Error::Argument { name: "classes", .. })));
    assert!(matches!(build("resnet18", ModelOptions { drop_path: 1.0, ..default() }), Some(Error::Argument { .. })));
    assert!(matches!(build("resnet18", ModelOptions { dropout: Some(f64::NAN), ..default() }), Some(Error::Argument { .. })));
    assert!(matches!(build("resnet18", ModelOptions { output_stride: 7, ..default() }), Some(Error::Argument { .. })));
    for (name, options) in [
        ("resnet20", ModelOptions { stem: Some(Stem::Deep), ..default() }),
        ("mobilenet_v2", ModelOptions { stem: Some(Stem::Small), ..default() }),
        ("efficientnet_lite0", ModelOptions { output_stride: 16, ..default() }),
        ("resnet50", ModelOptions { output_stride: 8, stem: Some(Stem::Small), ..default() }),
        ("mobilenet_v2", ModelOptions { zero_init_residual: true, ..default() }),
    ] {
        assert!(matches!(build(name, options), Some(Error::Model(ModelError::UnsupportedOption { .. }))), "{name}");
    }
    assert_eq!(Architecture::find("tf_efficientnet_lite0").expect("alias").name, "efficientnet_lite0");
}

#[test]
fn zero_init_makes_blocks_the_identity_at_the_start() {
    let options = ModelOptions { zero_init_residual: true, ..ModelOptions::default() };
    let model = create("resnet50", &options, &flex()).expect("resnet50");
    let dict = state_dict(&model);
    for (key, tensor) in &dict.tensors {
        let last = key.ends_with("bn3.weight");
        if last || key.ends_with("bn2.weight") {
            assert!(tensor.values().expect("host").iter().all(|&x| x == if last { 0.0 } else { 1.0 }), "{key}");
        }
    }
}

#[test]
fn drop_path_drops_whole_samples_in_training_only() {
    let options = ModelOptions { drop_path: 0.9, ..ModelOptions::default() };
    let model = create("resnet18", &options, &flex()).expect("resnet18");
    let plain = create("resnet18", &ModelOptions::default(), &flex()).expect("resnet18");
    let images = |device: &Device| common::images("x", [2, 3, 32, 32], device);
    assert_eq!(bits(model.forward(images(&flex()))), bits(plain.forward(images(&flex()))), "evaluation ignores it");
    let (a, b) = (model.train(), flex().autodiff());
    assert_ne!(bits(a.forward(images(&b)).inner()), bits(a.forward(images(&b)).inner()), "training draws anew");
}

#[test]
fn one_error_lists_every_mismatch_and_leaves_the_model_alone() {
    let model = create("resnet18", &ModelOptions::default(), &flex()).expect("resnet18");
    let before = state_dict(&model).tensors["conv1.weight"].bytes().expect("host");
    let mut dict = common::formula_weights(&model, 0.0);
    let moved = dict.tensors.remove("layer1.0.conv1.weight").expect("there");
    dict.tensors.insert("layer1.0.conv_1.weight".into(), moved);
    dict.tensors.insert("bn1.num_batches_tracked".into(), WeightTensor::from_f32(vec![], vec![1.0]));
    dict.tensors.insert("fc.bias".into(), WeightTensor::from_f32(vec![10], vec![0.0; 10]));
    let Err(Error::Weights(WeightsError::Mismatch(mismatch))) = load_state_dict(&model, &dict) else { panic!("must not load") };
    assert_eq!(mismatch.missing, [("layer1.0.conv1.weight".to_owned(), vec!["layer1.0.conv_1.weight".to_owned()])]);
    assert_eq!(mismatch.unexpected.len(), 1);
    assert_eq!((mismatch.shapes[0].expected.as_slice(), mismatch.shapes[0].found.as_slice()), (&[1000][..], &[10][..]));
    assert_eq!(state_dict(&model).tensors["conv1.weight"].bytes().expect("host"), before);
}

#[test]
fn weights_go_out_and_in_unchanged() {
    for row in ARCHITECTURES.iter().filter(|row| row.parameters < 15_000_000) {
        let model = row.build(&ModelOptions::default(), &flex()).expect(row.name);
        let dict = common::formula_weights(&model, 0.0);
        let back = state_dict(&load_state_dict(&model, &dict).expect(row.name));
        assert!(dict.tensors.keys().eq(back.tensors.keys()), "{}", row.name);
        for (key, tensor) in &dict.tensors {
            assert_eq!(tensor.bytes(), back.tensors[key].bytes(), "{}: {key}", row.name);
        }
    }
}

#[test]
fn half_of_the_architectures_overfit_one_batch() {
    overfit(0);
}

#[test]
fn the_other_half_of_the_architectures_overfit_one_batch() {
    overfit(1);
}

/// Plain SGD on one batch: the loss of every second architecture falls. (Two tests, because they run side by side.)
///
/// Four values in a channel, as the last maps have here, make training chaotic: rounding decides how long a loss overshoots, not that it falls.
fn overfit(first: usize) {
    const STEPS: usize = 40;
    let fell = |losses: &[f32]| losses.last().zip(losses.first()).is_some_and(|(last, first)| *last < 0.5 * first);
    let device = flex().autodiff();
    for row in ARCHITECTURES.iter().skip(first).step_by(2) {
        let size = row.input.min(32);
        // The widest overshoot with the rate of the others.
        let rate = if row.name.starts_with("wide") { 0.002 } else { 0.01 };
        let options = ModelOptions { dropout: Some(0.0), ..ModelOptions::classes(4) };
        let mut model: Model = row.build(&options, &flex()).expect(row.name).train();
        let target = Tensor::<2, Int>::from_data(TensorData::new(vec![0i64, 1, 2, 3], [4, 1]), &device);
        let images = common::images("overfit", [4, 3, size, size], &device);
        let mut losses = Vec::new();
        for _ in 0..STEPS {
            let loss = log_softmax(model.forward(images.clone()), 1).gather(1, target.clone()).mean().neg();
            losses.push(host(loss.clone().inner())[0]);
            if fell(&losses) {
                break;
            }
            model = model.map(&mut common::Sgd { gradients: loss.backward(), rate });
        }
        assert!(losses.iter().all(|loss| loss.is_finite()) && fell(&losses), "{}: {losses:?}", row.name);
    }
}
