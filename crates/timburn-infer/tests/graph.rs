//! The compiled graph against the model's own forward pass.
#![cfg(feature = "flex")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::io::Write;

use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::seed;
use timburn_infer::{Graph, GraphOptions, Precision, Predictor};
use timburn_models::{ARCHITECTURES, ImageModel, Model, ModelOptions, StateDict, Stem, WeightTensor, create, load_state_dict, state_dict};

fn flex() -> Device {
    timburn_core::open_device("flex").expect("flex")
}

/// Statistics and affine parameters of batch norm as no fresh model has them: without them folding would be hardly tested.
fn lively(model: Model) -> Model {
    let mut weights: StateDict = state_dict(&model);
    for (index, (key, tensor)) in weights.tensors.iter_mut().enumerate() {
        let count: usize = tensor.shape.iter().product();
        if tensor.shape.len() != 1 || key.contains("fc") || key.contains("classifier") {
            continue;
        }
        let (low, high) = match key.rsplit('.').next() {
            Some("running_var") => (0.6, 1.4),
            // Small enough for signals not to grow from block to block: differences would grow with them.
            Some("weight") => (0.4, 0.8),
            _ => (-0.2, 0.2),
        };
        let values = seed::uniform(seed::derive(7, &[index as u64]), count, low, high);
        *tensor = WeightTensor::from_f32(tensor.shape.clone(), values);
    }
    load_state_dict(&model, &weights).expect("its own keys")
}

fn images(shape: [usize; 4]) -> Vec<f32> {
    seed::normal(11, shape.iter().product(), 1.0)
}

fn tensor(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("f32")
}

/// Differences below the 1e-4th part of the largest value.
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_within(what, found, expected, 1e-4);
}

/// Differences below some part of the largest value.
fn assert_within(what: &str, found: &[f32], expected: &[f32], part: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0f32, |scale, x| scale.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(expected.iter().all(|x| x.is_finite()) && scale > 1e-3, "{what}: nothing to compare");
    if part > 1e-3 {
        println!("{what}: {:.2e}", worst / scale);
    }
    assert!(worst <= part * scale, "{what}: {worst} of {scale}");
}

fn check(name: &str, options: &ModelOptions, shape: [usize; 4]) {
    let device = flex();
    let model = lively(create(name, options, &device).expect(name));
    let graph = Graph::compile(&model).expect(name);
    let x = images(shape);
    let features = model.forward_features(tensor(&x, shape, &device));
    let (found, found_shape) = graph.feature_map(&x, shape).expect(name);
    assert_eq!(found_shape, features.dims(), "{name}");
    assert_close(&format!("{name} {shape:?} feature map"), &found, &values(features.clone()));
    let pooled = features.clone().mean_dim(3).mean_dim(2);
    assert_close(&format!("{name} {shape:?} features"), &graph.features(&x, shape).expect(name), &values(pooled));
    let logits = values(model.forward_head(features));
    let found = graph.run(&x, shape).expect(name);
    assert_close(&format!("{name} {shape:?} logits"), &found, &logits);
    // Neither threads nor the rest of the batch change a bit.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(pool.install(|| graph.run(&x, shape)).expect(name), found, "{name}");
    let last = &x[x.len() / shape[0] * (shape[0] - 1)..];
    let alone = graph.run(last, [1, shape[1], shape[2], shape[3]]).expect(name);
    assert_eq!(alone, found[found.len() - alone.len()..], "{name}");
    check_bf16(name, &model, &x, shape, &logits);
}

/// The same in bf16: eight bits leave up to a percent of the largest logit after fifty layers of random weights.
fn check_bf16(name: &str, model: &Model, x: &[f32], shape: [usize; 4], logits: &[f32]) {
    if !Precision::Bf16.is_supported() {
        let _ = writeln!(std::io::stderr(), "skipped: this processor does not multiply bf16");
        return;
    }
    let graph = Graph::compile_with(model, GraphOptions { precision: Precision::Bf16 }).expect(name);
    assert_eq!(graph.precision(), Precision::Bf16);
    let found = graph.run(x, shape).expect(name);
    assert_within(&format!("{name} {shape:?} bf16 logits"), &found, logits, 2e-2);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(pool.install(|| graph.run(x, shape)).expect(name), found, "{name}");
    let last = &x[x.len() / shape[0] * (shape[0] - 1)..];
    let alone = graph.run(last, [1, shape[1], shape[2], shape[3]]).expect(name);
    assert_eq!(alone, found[found.len() - alone.len()..], "{name}");
    let wide = Graph::compile(model).expect(name);
    let size = [shape[2], shape[3]];
    assert!(graph.memory(shape[0], size).expect(name) < wide.memory(shape[0], size).expect(name), "{name}");
    assert!(graph.parameter_bytes() < wide.parameter_bytes(), "{name}");
}

#[test]
fn every_architecture_agrees_with_its_forward_pass() {
    for row in ARCHITECTURES {
        // The deep ones repeat the blocks of the shallow ones, and cost seconds.
        if ["101", "152", "110"].iter().any(|depth| row.name.contains(depth)) {
            continue;
        }
        let size = if row.input == 32 { [32, 32] } else { [64, 72] };
        check(row.name, &ModelOptions::classes(11), [2, 3, size[0], size[1]]);
    }
}

#[test]
fn options_and_odd_sizes_agree() {
    let classes = ModelOptions::classes(5);
    for (name, size) in [("resnet18", [57, 43]), ("resnet50d", [61, 47]), ("efficientnet_lite0", [75, 49]), ("mobilenet_v2", [33, 70])] {
        check(name, &classes, [1, 3, size[0], size[1]]);
    }
    check("resnet18", &ModelOptions { in_channels: 1, ..classes.clone() }, [3, 1, 64, 64]);
    check("resnet18", &ModelOptions { in_channels: 6, ..classes.clone() }, [1, 6, 64, 64]);
    check("resnet50", &ModelOptions { output_stride: 8, ..classes.clone() }, [1, 3, 64, 64]);
    check("resnet18", &ModelOptions { stem: Some(Stem::Small), drop_path: 0.2, ..classes.clone() }, [9, 3, 32, 32]);
    check("resnet20", &classes, [2, 3, 31, 35]);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let graph = Graph::compile(&create("resnet20", &ModelOptions::default(), &flex()).expect("resnet20")).expect("a graph");
    for (len, shape) in
        [(0, [1, 3, 32, 32]), (3 * 32 * 32, [2, 3, 32, 32]), (32 * 32, [1, 1, 32, 32]), (0, [1, 3, 0, 32]), (1, [usize::MAX; 4])]
    {
        assert!(graph.run(&vec![0.0; len], shape).is_err(), "{shape:?}");
    }
    assert!(graph.run(&[], [0, 3, 32, 32]).expect("no images").is_empty());
    for shape in [[0, 3, 32, 32], [1, 1, 32, 32], [1, 3, 0, 32], [2, 3, usize::MAX, 32]] {
        assert!(graph.profile(shape, 0).is_err(), "{shape:?}");
    }
    // However large: a number, or an error.
    let _ = graph.memory(8, [1 << 33; 2]);
    for size in [[usize::MAX / 2; 2], [usize::MAX, 224], [usize::MAX; 2]] {
        let _ = graph.memory(usize::MAX, size);
    }
}

/// Working memory goes from call to call, whatever the size of the images, and never to two at once.
#[test]
fn a_graph_serves_threads_and_sizes() {
    let model = lively(create("efficientnet_lite0", &ModelOptions::classes(7), &flex()).expect("lite0"));
    let graph = &Graph::compile(&model).expect("a graph");
    let shapes = [[1, 3, 96, 64], [3, 3, 33, 47], [11, 3, 40, 40], [1, 3, 64, 96]];
    let expected = &shapes.map(|shape| Graph::compile(&model).expect("a graph").run(&images(shape), shape).expect("logits"));
    std::thread::scope(|scope| {
        for first in 0..4 {
            scope.spawn(move || {
                for turn in 0..8 {
                    let which = (first + turn) % shapes.len();
                    assert_eq!(graph.run(&images(shapes[which]), shapes[which]).expect("logits"), expected[which], "{:?}", shapes[which]);
                }
            });
        }
    });
    let [one, many] = [1, 8].map(|images| graph.memory(images, [96, 64]).expect("a size"));
    assert!(one > 0 && many >= one && graph.memory(1000, [96, 64]).expect("a size") == many);
}

#[test]
fn the_embedded_model_in_bf16_agrees_on_the_photograph() {
    let device = flex();
    let plain = Predictor::embedded(&device).expect("embedded");
    let reduced = Predictor::embedded(&device).expect("embedded").with_precision(Precision::Bf16).expect("a graph");
    assert_eq!(reduced.precision() == Precision::Bf16, Precision::Bf16.is_supported());
    assert_eq!(plain.precision(), Precision::F32);
    let classify = |predictor: &Predictor| predictor.classify_bytes(timburn_data::sample_photograph(), "sample").expect("a prediction");
    let (found, expected) = (classify(&reduced), classify(&plain));
    assert_eq!(found.top(1)[0].index, expected.top(1)[0].index);
    for (found, expected) in found.probabilities.iter().zip(&expected.probabilities) {
        assert!((found - expected).abs() < 0.03, "{found} {expected}");
    }
}

#[test]
fn precisions_have_names() {
    for precision in Precision::ALL {
        assert_eq!(precision.to_string().parse::<Precision>().expect("its own name"), precision);
    }
    let message = "bf61".parse::<Precision>().expect_err("no such precision").to_string();
    assert!(message.contains("bf61") && message.contains("f32 or bf16"), "{message}");
}

#[test]
fn the_embedded_model_agrees_on_the_photograph() {
    let device = flex();
    let compiled = Predictor::embedded(&device).expect("embedded");
    let plain = Predictor::embedded(&device).expect("embedded").without_graph().expect("a model");
    let classify = |predictor: &Predictor| predictor.classify_bytes(timburn_data::sample_photograph(), "sample").expect("a prediction");
    let (found, expected) = (classify(&compiled), classify(&plain));
    let logits = |probabilities: &[f32]| probabilities.iter().map(|p| p.ln()).collect::<Vec<f32>>();
    assert_close("photograph", &logits(&found.probabilities), &logits(&expected.probabilities));
    let order = |prediction: &timburn_infer::Prediction| prediction.top(5).into_iter().map(|guess| guess.index).collect::<Vec<_>>();
    assert_eq!(order(&found), order(&expected));
}
