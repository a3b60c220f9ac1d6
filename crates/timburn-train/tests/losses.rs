//! Losses against PyTorch and timm: values, gradients, faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::tensor::{Tensor, TensorData};
use common::{autodiff, floats, golden, host, relative_error, usizes};
use timburn_core::Error;
use timburn_train::{ClassWeights, Loss, LossConfig, Reduction, Targets};

/// Of the largest value; PyTorch's own f32 results are within 2e-7 of f64.
const TOLERANCE: f64 = 1e-6;

fn doubles(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn matrix(values: Vec<f64>, shape: [usize; 2]) -> Tensor<2> {
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &autodiff())
}

#[test]
fn values_and_gradients_equal_pytorch() {
    let golden = golden("losses.json");
    let [n, classes]: [usize; 2] = usizes(&golden["shape"]).try_into().expect("two extents");
    let logits = floats(&golden["logits"]);
    let labels = usizes(&golden["labels"]);
    let cases = golden["cases"].as_object().expect("cases");
    assert_eq!(cases.len(), 21);
    for (name, case) in cases {
        let config: LossConfig = serde_json::from_value(case["config"].clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (width, logits, targets) = match case["targets"].as_str().expect("a kind") {
            "classes" => (classes, logits.clone(), Targets::classes(&labels, classes, &autodiff()).expect("in range")),
            "soft" => (classes, logits.clone(), Targets::Soft(matrix(floats(&golden["soft"]), [n, classes]))),
            _ => {
                let labels: Vec<usize> = labels.iter().map(|label| label % 2).collect();
                let column = logits.iter().copied().step_by(classes).collect();
                (1, column, Targets::classes(&labels, 2, &autodiff()).expect("in range"))
            }
        };
        let loss = Loss::new(config, width).expect(name);
        let leaf = matrix(logits, [n, width]).require_grad();
        let mean = loss.forward(leaf.clone(), targets.clone(), Reduction::Mean).expect(name);
        let error = relative_error(&doubles(host(mean.clone())), &[case["mean_f64"].as_f64().expect("a loss")]);
        assert!(error <= TOLERANCE, "{name}: mean: {error:.1e}");
        let gradient = leaf.grad(&mean.backward()).expect("a gradient");
        let error = relative_error(&doubles(host(gradient)), &floats(&case["gradient_f64"]));
        assert!(error <= TOLERANCE, "{name}: gradient: {error:.1e}");
        let none = loss.forward(leaf, targets, Reduction::None).expect(name);
        let error = relative_error(&doubles(host(none)), &floats(&case["none"]));
        assert!(error <= TOLERANCE, "{name}: per sample: {error:.1e}");
    }
}

#[test]
fn logits_that_are_no_numbers_are_never_hidden() {
    let configs = [
        LossConfig::default(),
        LossConfig::CrossEntropy { label_smoothing: 0.1, class_weights: None },
        LossConfig::BinaryCrossEntropy { smoothing: 0.1, target_threshold: None, class_weights: None },
        LossConfig::BinaryCrossEntropy { smoothing: 0.0, target_threshold: Some(0.2), class_weights: None },
    ];
    for config in configs {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in 0..6 {
                let mut logits = vec![0.5; 6];
                logits[at] = bad;
                let loss = Loss::new(config.clone(), 3).expect("valid");
                // With a probability for every class, -∞ for any of them is wrong without measure.
                let targets = matrix(vec![0.4, 0.3, 0.3, 0.2, 0.4, 0.4], [2, 3]);
                let value = loss.forward(matrix(logits, [2, 3]), Targets::Soft(targets), Reduction::Mean).expect("shapes fit");
                assert!(!host(value)[0].is_finite(), "{config:?}: {bad} at {at}");
            }
        }
    }
}

#[test]
fn a_detector_starting_from_zero_has_a_gradient() {
    let loss = Loss::new(LossConfig::BinaryCrossEntropy { smoothing: 0.0, target_threshold: None, class_weights: None }, 1).expect("valid");
    let leaf = matrix(vec![0.0, 0.0], [2, 1]).require_grad();
    let targets = Targets::classes(&[0, 1], 2, &autodiff()).expect("two classes");
    let gradients = loss.forward(leaf.clone(), targets, Reduction::Mean).expect("shapes fit").backward();
    assert_eq!(host(leaf.grad(&gradients).expect("a gradient")), [0.25, -0.25]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let ce = |label_smoothing, class_weights| LossConfig::CrossEntropy { label_smoothing, class_weights };
    for (config, logits) in [
        (ce(1.5, None), 3),
        (ce(f64::NAN, None), 3),
        (ce(0.0, Some(ClassWeights::Given(vec![1.0; 2]))), 3),
        (ce(0.0, Some(ClassWeights::Given(vec![1.0, f32::NAN, 1.0]))), 3),
        (ce(0.0, None), 1),
        (LossConfig::BinaryCrossEntropy { smoothing: 1.0, target_threshold: None, class_weights: None }, 3),
    ] {
        assert!(matches!(Loss::new(config.clone(), logits), Err(Error::Argument { .. })), "{config:?}");
    }
    assert!(Targets::classes(&[0, 3], 3, &autodiff()).is_err());
    let loss = Loss::new(LossConfig::default(), 3).expect("valid");
    let targets = || Targets::classes(&[0, 1], 3, &autodiff()).expect("in range");
    assert!(loss.forward(matrix(vec![0.0; 8], [2, 4]), targets(), Reduction::Mean).is_err());
    assert!(loss.forward(matrix(vec![0.0; 9], [3, 3]), targets(), Reduction::Mean).is_err());
    let soft = Targets::Soft(matrix(vec![0.0; 8], [2, 4]));
    assert!(loss.forward(matrix(vec![0.0; 6], [2, 3]), soft, Reduction::Mean).is_err());
    for unknown in [r#"{"name": "focal"}"#, r#"{"name": "cross_entropy", "smoothing": 0.1}"#] {
        assert!(serde_json::from_str::<LossConfig>(unknown).is_err(), "{unknown}");
    }
}
