//! Logistic regression and nearest neighbours against scikit-learn, and a probe as a head.

use burn::tensor::{Tensor, TensorData};
use timburn_core::Error;
use timburn_core::error::TrainError;
use timburn_models::{Head, ImageModel, ModelOptions};
use timburn_train::StopFlag;
use timburn_train::transfer::{Features, Probe, knn_accuracy, score, with_probe};

use crate::common::{floats, golden, host, relative_error, unit};
use crate::{clouds, device, features, pretrained};

const WIDTH: usize = 6;

/// The features of `parity/probe.py`.
fn made_up(name: &str, count: usize) -> Features {
    let labels: Vec<usize> = (0..count).map(|at| [0, 1, 1, 2, 1, 0][at % 6]).collect();
    let rows: Vec<f32> = unit(&format!("probe.{name}"), count * WIDTH)
        .enumerate()
        .map(|(at, u)| {
            let (label, feature) = (labels[at / WIDTH], at % WIDTH);
            let shift = if feature == label { 0.25 } else { 0.0 };
            ((f64::from(u) + shift) * 2f64.powi(feature as i32) + feature as f64) as f32
        })
        .collect();
    features(&rows, &labels, 1)
}

/// `rows · weight + bias`, row by row.
fn logits(probe: &Probe, rows: &[f32]) -> Vec<f64> {
    let classes = probe.bias.len();
    let width = probe.weight.len() / classes;
    let logit = |row: &[f32], class: usize| {
        let products = row.iter().enumerate().map(|(at, x)| f64::from(*x) * f64::from(probe.weight[at * classes + class]));
        products.sum::<f64>() + f64::from(probe.bias[class])
    };
    rows.chunks(width).flat_map(|row| (0..classes).map(|class| logit(row, class)).collect::<Vec<_>>()).collect()
}

#[test]
fn a_stop_ends_the_fit() {
    let (train, validation) = (made_up("train", 90), made_up("validation", 60));
    let stop = StopFlag::default();
    let fit = || Probe::fit_until(&train, &validation, 3, &[], &device(), &stop);
    assert_eq!(fit().unwrap(), Probe::fit(&train, &validation, 3, &[], &device()).unwrap());
    stop.request();
    assert!(matches!(fit(), Err(Error::Train(TrainError::Interrupted))));
}

#[test]
fn the_probe_is_scikit_learn_s() {
    let golden = golden("probe.json");
    let (train, validation) = (made_up("train", 90), made_up("validation", 60));
    for (name, weights) in [("plain", &[][..]), ("weighted", &[1.0, 0.25, 4.0])] {
        let probe = Probe::fit(&train, &validation, 3, weights, &device()).unwrap();
        let case = &golden[name];
        let number = |key: &str| case[key].as_f64().expect("a number");
        assert_eq!(probe.penalty, number("penalty"), "{name}");
        assert!((probe.loss - number("loss")).abs() < 1e-4, "{name}: {} {}", probe.loss, number("loss"));
        assert_eq!(probe.accuracy, number("accuracy"), "{name}");
        let mut found = logits(&probe, &validation.rows(0, 0..60).unwrap());
        // A constant for all classes changes no probability; scikit-learn's biases sum to 0 too.
        for row in found.chunks_mut(3) {
            let mean = row.iter().sum::<f64>() / 3.0;
            row.iter_mut().for_each(|logit| *logit -= mean);
        }
        let error = relative_error(&found, &floats(&case["logits"]));
        assert!(error < 1e-3, "{name}: {error:.1e}");
    }
}

#[test]
fn neighbours_vote_as_scikit_learn_s() {
    let golden = golden("probe.json");
    let (train, validation) = (made_up("train", 90), made_up("validation", 60));
    for (k, expected) in golden["neighbours"].as_object().expect("cases") {
        let found = knn_accuracy(&train, &validation, 3, k.parse().expect("a number"), &device()).unwrap();
        assert_eq!(Some(found), expected.as_f64(), "{k} neighbours");
    }
    // Themselves are their own nearest; more neighbours than there are pictures are all of them.
    assert_eq!(knn_accuracy(&train, &train, 3, 1, &device()).unwrap(), 1.0);
    assert_eq!(
        knn_accuracy(&train, &validation, 3, 1000, &device()).unwrap(),
        knn_accuracy(&train, &validation, 3, 90, &device()).unwrap()
    );
}

#[test]
fn what_does_not_vary_in_training_has_no_say() {
    let labels: Vec<usize> = (0..24).map(|at| at % 2).collect();
    let mut rows: Vec<f32> = unit("constant", 24 * 4).collect();
    for (row, label) in rows.chunks_mut(4).zip(&labels) {
        row[0] += *label as f32;
        // Neither is a sum of powers of two: its mean is rounded.
        (row[2], row[3]) = (0.3, 1.7e4 / 3.0);
    }
    let train = features(&rows, &labels, 1);
    for row in rows.chunks_mut(4) {
        (row[2], row[3]) = (0.9, -1.0);
    }
    let elsewhere = features(&rows, &labels, 1);
    let probe = Probe::fit(&train, &elsewhere, 2, &[], &device()).unwrap();
    assert!(probe.weight.iter().chain(&probe.bias).all(|x| x.is_finite()), "{probe:?}");
    assert_eq!(probe.weight[4..], [0.0; 4], "{probe:?}");
    assert!(probe.accuracy > 0.8, "{probe:?}");
}

#[test]
fn one_class_is_learnt_as_the_only_one() {
    let train = features(&unit("single", 8 * 4).collect::<Vec<_>>(), &[1; 8], 1);
    for weights in [&[][..], &[1.0, 2.0, 3.0]] {
        let probe = Probe::fit(&train, &train, 3, weights, &device()).unwrap();
        assert_eq!(probe.accuracy, 1.0);
        assert!(probe.loss.is_finite() && probe.weight.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn every_view_is_learnt_from() {
    let labels = [0, 1, 2, 0, 1, 2, 0, 1, 2];
    let (one, two) = (clouds("views", 12, &labels, 1), clouds("views", 12, &labels, 2));
    assert_eq!(crate::all(&one, 0), crate::all(&two, 0));
    let fit = |train: &Features| Probe::fit(train, &one, 3, &[], &device()).unwrap().weight;
    assert_ne!(fit(&one), fit(&two));
    // Twice the same is as good as once.
    let rows = one.rows(0, 0..9).unwrap();
    let twice = features(&[rows.clone(), rows].concat(), &labels, 2);
    for (a, b) in fit(&one).iter().zip(fit(&twice)) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
}

#[test]
fn a_probe_is_a_head() {
    let labels: Vec<usize> = (0..30).map(|at| at % 3).collect();
    let set = clouds("as a head", 64, &labels, 1);
    let probe = Probe::fit(&set, &set, 3, &[], &device()).unwrap();
    let model = pretrained(&ModelOptions::classes(3));
    let headed = with_probe(&model, &probe).unwrap().expect("a linear head");
    let rows = set.rows(0, 0..30).unwrap();
    let tensor = |rows: &[f32]| Tensor::<2>::from_data(TensorData::new(rows.to_vec(), [rows.len() / 64, 64]), &device());
    let found: Vec<f64> = host(headed.classify(tensor(&rows))).into_iter().map(f64::from).collect();
    assert!(relative_error(&found, &logits(&probe, &rows)) < 1e-5);
    let report = score(&headed, &set, &device()).unwrap();
    assert_eq!(report.top(1), Some(probe.accuracy));
    assert!((report.loss.unwrap() - probe.loss).abs() < 1e-4, "{:?} {}", report.loss, probe.loss);
    assert_eq!(crate::body(&crate::model_bits(&headed)), crate::body(&crate::model_bits(&model)));

    // One logit for two classes: the second's minus the first's.
    let two: Vec<usize> = (0..30).map(|at| at % 2).collect();
    let set = clouds("two", 64, &two, 1);
    let probe = Probe::fit(&set, &set, 2, &[], &device()).unwrap();
    let headed = with_probe(&pretrained(&ModelOptions::classes(1)), &probe).unwrap().expect("a linear head");
    let rows = set.rows(0, 0..30).unwrap();
    let found: Vec<f64> = host(headed.classify(tensor(&rows))).into_iter().map(f64::from).collect();
    let expected: Vec<f64> = logits(&probe, &rows).chunks(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(relative_error(&found, &expected) < 1e-5);
    let report = score(&headed, &set, &device()).unwrap();
    assert!((report.loss.unwrap() - probe.loss).abs() < 1e-4, "{:?} {}", report.loss, probe.loss);

    // Heads that are no such thing, other widths, other numbers of classes.
    for options in [
        ModelOptions { head: Head::Fastai, ..ModelOptions::classes(2) },
        ModelOptions { head: Head::Cosine(Default::default()), ..ModelOptions::classes(2) },
        ModelOptions::classes(4),
    ] {
        assert!(with_probe(&pretrained(&options), &probe).unwrap().is_none(), "{options:?}");
    }
    let narrow = Probe { weight: probe.weight[..64].to_vec(), ..probe };
    assert!(with_probe(&pretrained(&ModelOptions::classes(2)), &narrow).unwrap().is_none());
}

#[test]
fn features_that_are_no_numbers_are_an_error_at_the_latest_when_scored() {
    let labels = [0, 1, 0, 1, 0, 1];
    let mut rows: Vec<f32> = unit("nan", 6 * 64).collect();
    rows[70] = f32::NAN;
    let set = features(&rows, &labels, 1);
    let probe = Probe::fit(&set, &set, 2, &[], &device()).unwrap();
    knn_accuracy(&set, &set, 2, 3, &device()).unwrap();
    let headed = with_probe(&pretrained(&ModelOptions::classes(2)), &probe).unwrap().expect("a linear head");
    assert!(matches!(score(&headed, &set, &device()), Err(Error::Train(_))));
}
