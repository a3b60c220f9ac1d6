//! The graph of bytes against the model's own forward pass, and what it refuses. The kernels' bits have tests of their own.
#![cfg(feature = "flex")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::{Error, WeightsError, seed};
use timburn_infer::{Calibrator, Compiled, GradCam, Graph, GraphOptions, Precision, Predictor};
use timburn_models::{ARCHITECTURES, ImageModel, Model, ModelOptions, StateDict, WeightTensor, create, load_state_dict, state_dict};
use timburn_weights::ActivationRanges;

fn flex() -> Device {
    timburn_core::open_device("flex").expect("flex")
}

/// Statistics and affine parameters of batch norm as trained models have them: neither ones nor zeros.
fn lively(model: Model) -> Model {
    let mut weights: StateDict = state_dict(&model);
    for (index, (key, tensor)) in weights.tensors.iter_mut().enumerate() {
        let count: usize = tensor.shape.iter().product();
        if tensor.shape.len() != 1 || key.contains("fc") || key.contains("classifier") {
            continue;
        }
        let (low, high) = match key.rsplit('.').next() {
            Some("running_var") => (0.6, 1.4),
            Some("weight") => (0.4, 0.8),
            _ => (-0.2, 0.2),
        };
        *tensor = WeightTensor::from_f32(tensor.shape.clone(), seed::uniform(seed::derive(7, &[index as u64]), count, low, high));
    }
    load_state_dict(&model, &weights).expect("its own keys")
}

fn model(name: &str) -> Model {
    lively(create(name, &ModelOptions::classes(11), &flex()).expect(name))
}

fn images(shape: [usize; 4]) -> Vec<f32> {
    seed::normal(11, shape.iter().product(), 1.0)
}

fn ranges(model: &Model, images: &[f32], shape: [usize; 4]) -> ActivationRanges {
    let mut calibrator = Calibrator::new(model).expect("a calibrator");
    calibrator.observe(images, shape).expect("images");
    calibrator.finish().expect("ranges")
}

/// Root of the mean squared difference over that of the values.
fn noise(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let error = square(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    error / square(&mut expected.iter().map(|&value| f64::from(value)))
}

fn check(name: &str, shape: [usize; 4]) {
    let device = flex();
    let model = model(name);
    let x = images(shape);
    let graph = Graph::quantized(&model, &ranges(&model, &x, shape)).expect(name);
    assert_eq!((graph.precision(), graph.has_head()), (Precision::Int8, true));
    let features = model.forward_features(Tensor::from_data(TensorData::new(x.clone(), shape), &device));
    let (found, found_shape) = graph.feature_map(&x, shape).expect(name);
    assert_eq!(found_shape, features.dims(), "{name}");
    let expected = features.clone().into_data().try_to_vec::<f32>().expect("f32");
    let noise = [noise(&found, &expected), {
        let logits = model.forward_head(features).into_data().try_to_vec::<f32>().expect("f32");
        noise(&graph.run(&x, shape).expect(name), &logits)
    }];
    println!("{name}: features {:.3}, logits {:.3}", noise[0], noise[1]);
    // A byte is worth two digits, and some fifty layers of random weights add up; a layer that is wrong makes it about one.
    assert!(noise.iter().all(|&noise| noise < 0.06), "{name}: {noise:?}");

    // Neither threads nor the rest of the batch change a bit.
    let found = graph.run(&x, shape).expect(name);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(pool.install(|| graph.run(&x, shape)).expect(name), found, "{name}");
    let last = &x[x.len() / shape[0] * (shape[0] - 1)..];
    let alone = graph.run(last, [1, shape[1], shape[2], shape[3]]).expect(name);
    assert_eq!(alone, found[found.len() - alone.len()..], "{name}");

    assert!(2 * graph.parameter_bytes() < Graph::compile(&model).expect(name).parameter_bytes(), "{name}");
}

#[test]
fn every_architecture_agrees_with_its_forward_pass() {
    for row in ARCHITECTURES {
        // The deep and wide ones repeat the blocks of the others, and cost seconds.
        let more = ["101", "152", "110", "resnet34", "resnet44", "resnet56", "wide", "lite1", "lite2", "lite3", "lite4"];
        if more.iter().any(|part| row.name.contains(part)) {
            continue;
        }
        let size = if row.input == 32 { [31, 35] } else { [64, 72] };
        check(row.name, [2, 3, size[0], size[1]]);
    }
}

/// Order and threads do not matter; what was seen does.
#[test]
fn ranges_depend_on_the_images_alone() {
    let model = model("resnet20");
    let shape = [6, 3, 32, 32];
    let x = images(shape);
    let found = ranges(&model, &x, shape);
    let mut back = Calibrator::new(&model).expect("a calibrator");
    for image in x.chunks_exact(x.len() / 6).rev() {
        back.observe(image, [1, 3, 32, 32]).expect("an image");
    }
    assert_eq!(back.finish().expect("ranges"), found);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(pool.install(|| ranges(&model, &x, shape)), found);
    assert_ne!(ranges(&model, &x[..3 * 32 * 32], [1, 3, 32, 32]), found);
    // The images, 19 convolutions, the pooled features; shortcuts without weights and pools have none.
    assert_eq!(found.0.len(), 21, "{found:?}");
    assert!(found.0["images"][0] < -2.0 && found.0["images"][1] > 2.0 && found.0["conv1"][0] == 0.0, "{found:?}");
}

type Map = std::collections::BTreeMap<String, [f32; 2]>;

#[test]
fn ranges_that_do_not_fit_are_refused() {
    let model = model("resnet20");
    let (shape, x) = ([1, 3, 32, 32], images([1, 3, 32, 32]));
    let good = ranges(&model, &x, shape);
    let fault = |change: &dyn Fn(&mut Map)| {
        let mut ranges = good.clone();
        change(&mut ranges.0);
        match Graph::quantized(&model, &ranges) {
            Err(Error::Weights(WeightsError::Ranges { layer, .. })) => layer,
            other => format!("{other:?}"),
        }
    };
    assert_eq!(fault(&|ranges| _ = ranges.remove("layer1.0.conv1")), "layer1.0.conv1");
    assert_eq!(fault(&|ranges| _ = ranges.remove("pooled")), "pooled");
    assert_eq!(fault(&|ranges| _ = ranges.insert("layer9.conv".into(), [0.0, 1.0])), "layer9.conv");
    for bad in [[f32::NAN, 1.0], [0.0, f32::INFINITY], [2.0, -2.0]] {
        assert_eq!(fault(&|ranges| _ = ranges.insert("conv1".into(), bad)), "conv1");
    }
    // Next to nothing and next to everything are ranges like others.
    for odd in [[0.0, 0.0], [-1e-40, 1e-40], [f32::MIN, f32::MAX]] {
        let mut ranges = good.clone();
        ranges.0.insert("conv1".into(), odd);
        let logits = Graph::quantized(&model, &ranges).expect("a range").run(&x, shape).expect("logits");
        assert!(logits.iter().all(|logit| logit.is_finite()), "{odd:?}: {logits:?}");
    }

    assert!(matches!(Calibrator::new(&model).expect("a calibrator").finish(), Err(Error::Argument { .. })));
    assert!(matches!(Calibrator::new(&model).expect("a calibrator").observe(&x, [1, 1, 32, 32]), Err(Error::Argument { .. })));
    let options = GraphOptions { precision: Precision::Int8 };
    let message = Graph::compile_with(&model, options).expect_err("no ranges").to_string();
    assert!(message.contains("export MODEL --int8 --calibrate FOLDER"), "{message}");
}

#[test]
fn gates_that_are_not_finite_are_refused() {
    let model = model("seresnet50");
    let shape = [1, 3, 64, 64];
    let good = ranges(&model, &images(shape), shape);
    let mut weights = state_dict(&model);
    let (_, tensor) = weights.tensors.iter_mut().find(|(key, _)| key.contains(".se.")).expect("a gate");
    *tensor = WeightTensor::from_f32(tensor.shape.clone(), vec![f32::INFINITY; tensor.shape.iter().product()]);
    let broken = load_state_dict(&model, &weights).expect("its own keys");
    assert!(matches!(Graph::quantized(&broken, &good), Err(Error::Weights(WeightsError::Ranges { .. }))));
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let model = model("resnet20");
    let (shape, mut x) = ([1, 3, 32, 32], images([1, 3, 32, 32]));
    let good = ranges(&model, &x, shape);
    let mut weights = state_dict(&model);
    let tensor = weights.tensors.get_mut("layer2.0.conv1.weight").expect("a convolution");
    *tensor = WeightTensor::from_f32(tensor.shape.clone(), vec![f32::NAN; tensor.shape.iter().product()]);
    let broken = load_state_dict(&model, &weights).expect("its own keys");
    assert!(matches!(Graph::quantized(&broken, &good), Err(Error::Weights(WeightsError::Ranges { .. }))));
    let mut calibrator = Calibrator::new(&broken).expect("a calibrator");
    let error = calibrator.observe(&x, shape).expect_err("NaN");
    assert!(matches!(&error, Error::Weights(WeightsError::Ranges { layer, .. }) if layer == "layer2.0.conv1"), "{error}");

    x[5] = f32::INFINITY;
    assert!(Calibrator::new(&model).expect("a calibrator").observe(&x, shape).is_err());
    // Of what is not a number there is no byte: any answer is one.
    x[6] = f32::NAN;
    assert!(Graph::quantized(&model, &good).expect("a graph").run(&x, shape).expect("logits").iter().all(|logit| logit.is_finite()));
}

#[test]
#[cfg(feature = "embedded")]
fn the_embedded_model_finds_the_cat() {
    let device = flex();
    let predictor = Predictor::embedded(&device).expect("embedded");
    let plain = predictor.classify_bytes(timburn_data::sample_photograph(), "sample").expect("a prediction");
    let message = Predictor::embedded(&device).expect("embedded").with_precision(Precision::Int8).expect_err("no ranges").to_string();
    assert!(message.contains("--calibrate"), "{message}");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cat.jpg");
    std::fs::write(&path, timburn_data::sample_photograph()).expect("written");
    let ranges = predictor.calibrate(&[&path], |outcome| outcome.expect("reads")).expect("ranges");
    let mut left_out = Vec::new();
    let some = predictor.calibrate(&[folder.path().join("none.jpg"), path.clone()], |outcome| left_out.extend(outcome.err()));
    assert_eq!(some.expect("ranges of the one that can be read"), ranges);
    assert!(matches!(left_out.as_slice(), [error] if error.to_string().contains("none.jpg")), "{left_out:?}");
    assert!(predictor.calibrate(&[folder.path().join("none.jpg")], |_| ()).is_err());
    assert!(predictor.calibrate::<&str>(&[], |_| ()).is_err());
    let quantized = predictor.quantized(&ranges).expect("a graph");
    assert_eq!(quantized.precision(), Precision::Int8);
    let found = quantized.classify_bytes(timburn_data::sample_photograph(), "sample").expect("a prediction");
    assert_eq!(found.top(1)[0].index, plain.top(1)[0].index);
}

/// A bundle carries the ranges to where it predicts.
#[test]
#[cfg(feature = "embedded")]
fn a_bundle_keeps_its_ranges() {
    let device = flex();
    let mut bundle = timburn_weights::embedded().expect("embedded");
    let photograph = [timburn_data::decode_bytes(timburn_data::sample_photograph(), "sample", &Default::default()).expect("a picture")];
    let predictor = Predictor::new(&bundle, &device).expect("a predictor");
    let ranges = predictor.calibrate_prepared(&[predictor.prepare(&photograph[0])]).expect("ranges");
    bundle.ranges = Some(ranges.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.timburn");
    bundle.save(&path, timburn_weights::Precision::F16).expect("saved");
    let again = timburn_weights::Bundle::open(&path).expect("opened");
    assert_eq!(again.ranges, Some(ranges.clone()));
    let classify = |predictor: &Predictor| {
        predictor.classify_bytes(timburn_data::sample_photograph(), "sample").expect("a prediction").probabilities.clone()
    };
    // The embedded weights are of half precision already.
    let expected = classify(&predictor.quantized(&ranges).expect("a graph"));
    let found = Predictor::new(&again, &device).expect("a predictor").with_precision(Precision::Int8).expect("ranges");
    assert_eq!(classify(&found), expected);
    // Still a bundle like any other.
    assert_eq!(Predictor::new(&again, &device).expect("a predictor").precision(), Precision::F32);
}

/// What `eval` scores is what `predict` computes: the classifier is of the graph's precision too.
#[test]
#[cfg(feature = "embedded")]
fn a_compiled_model_classifies_as_the_graph_does() {
    let device = flex();
    let bundle = timburn_weights::embedded().expect("embedded");
    let model = bundle.load(&device).expect("a model");
    let shape = [2, 3, 64, 64];
    let images = images(shape);
    let ranges = ranges(&model, &images, shape);
    let graph = Graph::quantized(&model, &ranges).expect("a graph");
    let pooled = graph.features(&images, shape).expect("features");
    let expected = graph.classify(&pooled, 2).expect("features of two images").expect("a classifier");
    assert_eq!(expected, graph.run(&images, shape).expect("logits"));
    assert!(graph.classify(&pooled, 3).is_err());
    assert_eq!(graph.classify(&[], 0).expect("nothing"), Some(Vec::new()));

    let compiled = Compiled::quantized(model.clone(), &device, &ranges).expect("compiled");
    assert_eq!(compiled.precision(), Precision::Int8);
    // Gradients are the model's: an explanation is the same.
    let picture = Tensor::<4>::from_data(TensorData::new(images[..images.len() / 2].to_vec(), [1, 3, 64, 64]), &device);
    let by_model = GradCam::new(&model, &bundle.preprocessing, None, &device).expect("a stage");
    let by_graph = GradCam::new(&compiled, &bundle.preprocessing, None, &device).expect("a stage");
    assert_eq!(by_graph.map_tensor(picture.clone(), Some(3)).expect("a map"), by_model.map_tensor(picture, Some(3)).expect("a map"));
    let features = Tensor::<2>::from_data(TensorData::new(pooled.clone(), [2, pooled.len() / 2]), &device);
    let found = compiled.classify(features).into_data().try_to_vec::<f32>().expect("logits");
    assert_eq!(found, expected);
}
