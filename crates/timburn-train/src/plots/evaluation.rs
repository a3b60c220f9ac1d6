//! The charts of an evaluation.

use timburn_core::Classes;

use super::{BarChart, Bin, ConfusionMatrix, Picture, ReliabilityDiagram, ScatterPlot};
use crate::feature_sample::FeatureSample;
use crate::metrics::Report;

/// Charts of a report with the stem of a file name for each: `confusion` (counts), `confusion_normalised` (per cent of each class), `classes`
/// (precision, recall and F1 of the classes that have samples, lowest F1 first) and `reliability`.
pub fn evaluation_charts(report: &Report, classes: &Classes) -> Vec<(&'static str, Picture)> {
    let matrix = |title: &str, normalised| ConfusionMatrix {
        title: title.into(),
        classes: classes.names.clone(),
        counts: report.confusion.clone(),
        normalised,
    };
    let bars = report.per_class.iter().zip(&classes.names).filter(|(class, _)| class.support > 0);
    let bars = bars.map(|(class, name)| (name.clone(), [class.precision, class.recall, class.f1].map(|share| 100.0 * share).into()));
    let bars = BarChart {
        title: "Precision, recall and F1 of each class".into(),
        x_label: "%".into(),
        series: ["precision", "recall", "F1"].map(str::to_owned).into(),
        bars: bars.collect(),
        full: Some(100.0),
        ..Default::default()
    };
    let bins = report.reliability.iter().map(|bin| Bin { confidence: bin.confidence, accuracy: bin.accuracy, count: bin.samples });
    let diagram = ReliabilityDiagram { title: "Reliability".into(), bins: bins.collect(), ece: report.ece.unwrap_or(0.0) };
    vec![
        ("confusion", matrix("Confusion", false).picture()),
        ("confusion_normalised", matrix("Confusion, per cent of each class", true).picture()),
        ("classes", bars.picture()),
        ("reliability", diagram.picture()),
    ]
}

/// Samples on the two principal components of their features, by true class.
pub fn embedding_map(features: &FeatureSample, classes: &Classes) -> ScatterPlot {
    let map = features.principal_components();
    let percent = map.explained.map(|share| 100.0 * share);
    ScatterPlot {
        title: "Features of the samples".into(),
        subtitle: format!("two principal components of {} features, {} samples, by true class", features.width(), features.len()),
        x_label: format!("first component, {:.1} % of the variance", percent[0]),
        y_label: format!("second component, {:.1} %", percent[1]),
        classes: classes.names.clone(),
        points: features.classes.iter().copied().zip(map.points).collect(),
    }
}
