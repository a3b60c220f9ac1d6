//! Metrics against scikit-learn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{floats, golden, usizes};
use timburn_core::Error;
use timburn_core::error::TrainError;
use timburn_train::{Metrics, Report};

fn close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12, "{what}: {found} for {expected}");
}

#[test]
fn every_value_equals_scikit_learn() {
    for (name, case) in golden("metrics.json").as_object().expect("cases") {
        let width = case["width"].as_u64().expect("a number") as usize;
        let logits: Vec<f32> = floats(&case["logits"]).into_iter().map(|x| x as f32).collect();
        let labels = usizes(&case["labels"]);
        let mut reports = Vec::new();
        for batch in [labels.len(), 7, 1] {
            let mut metrics = Metrics::new(width, &[1, 2]);
            for (logits, labels) in logits.chunks(batch * width).zip(labels.chunks(batch)) {
                metrics.add(logits, labels).expect(name);
            }
            reports.push(metrics.report());
        }
        assert!(reports.iter().all(|report| *report == reports[0]), "{name}: the same however it is batched");
        let report = &reports[0];
        assert_eq!(report.samples, labels.len() as u64);
        for k in [1, 2] {
            close(name, report.top(k).expect("asked for"), case["top"][k.to_string()].as_f64().expect("a number"));
        }
        let confusion: Vec<Vec<usize>> = case["confusion"].as_array().expect("rows").iter().map(usizes).collect();
        let found: Vec<Vec<usize>> = report.confusion.iter().map(|row| row.iter().map(|&count| count as usize).collect()).collect();
        assert_eq!(found, confusion, "{name}");
        for (class, found) in report.per_class.iter().enumerate() {
            close(&format!("{name}: precision of {class}"), found.precision, floats(&case["precision"])[class]);
            close(&format!("{name}: recall of {class}"), found.recall, floats(&case["recall"])[class]);
            close(&format!("{name}: F1 of {class}"), found.f1, floats(&case["f1"])[class]);
            assert_eq!(found.support as usize, usizes(&case["support"])[class]);
        }
        close(name, report.balanced_accuracy.expect("samples"), case["balanced_accuracy"].as_f64().expect("a number"));
        close(name, report.macro_f1.expect("samples"), case["macro_f1"].as_f64().expect("a number"));
        close(&format!("{name}: ECE"), report.ece.expect("samples"), case["ece"].as_f64().expect("a number"));
        for (found, expected) in report.reliability.iter().zip(case["bins"].as_array().expect("bins")) {
            let expected = floats(expected);
            assert_eq!(found.samples as f64, expected[0], "{name}: bin up to {}", found.upper);
            close(name, found.confidence, expected[1]);
            close(name, found.accuracy, expected[2]);
        }
        assert_eq!(report.auroc.is_some(), case.get("auroc").is_some(), "{name}");
        if let Some(auroc) = report.auroc {
            close(&format!("{name}: AUROC"), auroc, case["auroc"].as_f64().expect("a number"));
        }
        let json = serde_json::to_string(report).expect("JSON");
        // serde_json reads numbers to within a unit of the last place.
        let back: Report = serde_json::from_str(&json).expect("back");
        assert_eq!((back.samples, &back.confusion, back.top(1)), (report.samples, &report.confusion, report.top(1)));
    }
}

#[test]
fn losses_are_weighted_by_samples() {
    let mut metrics = Metrics::new(3, &[]);
    assert_eq!(metrics.report().loss, None);
    metrics.add_loss(1.0, 30);
    metrics.add_loss(4.0, 10);
    close("loss", metrics.report().loss.expect("two batches"), 1.75);
}

#[test]
fn faults_are_named_and_change_nothing() {
    let mut metrics = Metrics::new(3, &[1, 5]);
    metrics.add(&[1.0, 0.0, 0.0], &[0]).expect("fine");
    let before = metrics.report();
    let Err(Error::Train(TrainError::NonFinite { samples, .. })) =
        metrics.add(&[0.0, 1.0, 0.0, f32::NAN, 0.0, 0.0, 0.0, 1.0, 0.0], &[0, 1, 2])
    else {
        panic!("a NaN is an error")
    };
    assert_eq!(samples, [1]);
    assert!(matches!(metrics.add(&[0.0; 3], &[3]), Err(Error::Argument { name: "label", .. })));
    assert!(matches!(metrics.add(&[0.0; 4], &[0]), Err(Error::Argument { name: "logits", .. })));
    assert_eq!(metrics.report(), before);
    assert_eq!(before.top.len(), 1, "no accuracy among more than all classes");
}

#[test]
fn nothing_seen_gives_no_values() {
    let report = Metrics::new(2, &[1]).report();
    assert_eq!((report.loss, report.top(1), report.balanced_accuracy, report.ece, report.auroc), (None, None, None, None, None));
    let mut one_sided = Metrics::new(2, &[1]);
    one_sided.add(&[0.0, 1.0, 1.0, 0.0], &[1, 1]).expect("fine");
    assert_eq!(one_sided.report().auroc, None, "no curve without negatives");
    assert_eq!(one_sided.report().balanced_accuracy, Some(0.5));
}
