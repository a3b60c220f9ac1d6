//! The charts of a run.

use super::line::{LineChart, Mark, Series};
use crate::run::SummaryRow;

/// Charts of the columns of `summary.csv` over the epochs, with the stem of a file name for each: `loss` shows all columns whose names end in
/// `loss`, `accuracy` those that contain `top1`, `top5` or `accuracy`, `learning_rate` those that contain `lr` or `learning_rate`. A chart
/// without values is left out.
pub fn summary_charts(rows: &[SummaryRow]) -> Vec<(&'static str, LineChart)> {
    let loss = |name: &str| name.ends_with("loss");
    let accuracy = |name: &str| ["top1", "top5", "accuracy"].iter().any(|part| name.contains(part));
    let rate = |name: &str| name.contains("learning_rate") || name.split('_').any(|part| part == "lr");
    let charts = [
        ("loss", "Loss", "loss", series(rows, loss)),
        ("accuracy", "Accuracy", "accuracy, %", series(rows, accuracy)),
        ("learning_rate", "Learning rate", "learning rate", series(rows, rate)),
    ];
    let charts = charts.into_iter().filter(|(_, _, _, series)| !series.is_empty());
    let chart = |(stem, title, y_label, series): (&'static str, &str, &str, Vec<Series>)| {
        let chart = LineChart { title: title.into(), x_label: "epoch".into(), y_label: y_label.into(), series, ..Default::default() };
        (stem, chart)
    };
    charts.map(chart).collect()
}

fn series(rows: &[SummaryRow], wanted: impl Fn(&str) -> bool) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for row in rows {
        for (name, value) in row.values.iter().filter(|(name, _)| wanted(name)) {
            let readable = name.replace('_', " ");
            let point = (row.epoch as f64, *value);
            match series.iter_mut().find(|series| series.name == readable) {
                Some(series) => series.points.push(point),
                None => series.push(Series::new(readable, [point])),
            }
        }
    }
    // On balanced data, accuracy and balanced accuracy are one: a line that covers another only hides it.
    let mut kept: Vec<Series> = Vec::new();
    for series in series {
        if !kept.iter().any(|earlier| coincide(&earlier.points, &series.points)) {
            kept.push(series);
        }
    }
    kept
}

fn coincide(a: &[(f64, f64)], b: &[(f64, f64)]) -> bool {
    let near = |(a, b): (&(f64, f64), &(f64, f64))| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * a.1.abs();
    a.len() > 1 && a.len() == b.len() && a.iter().zip(b).all(near)
}

/// The chart of a learning-rate finder: raw and smoothed losses `(rate, loss)` over a logarithmic axis, and the suggested rate. The axis ends
/// a little above the loss at the start: how far a diverging loss goes tells nothing.
pub fn lr_finder(raw: &[(f64, f64)], smoothed: &[(f64, f64)], suggestion: Option<f64>) -> LineChart {
    let finite = smoothed.iter().map(|point| point.1).filter(|loss| loss.is_finite());
    let (first, lowest) = (smoothed.iter().find(|point| point.1.is_finite()).map(|point| point.1), finite.fold(f64::INFINITY, f64::min));
    let y_range = first.filter(|first| *first > lowest).map(|first| {
        let room = first - lowest;
        ((lowest - 0.15 * room).min(lowest), first + 0.5 * room)
    });
    let nearest = suggestion.and_then(|rate| {
        let distance = |point: &(f64, f64)| (point.0 / rate).ln().abs();
        smoothed.iter().filter(|point| point.1.is_finite()).min_by(|a, b| distance(a).total_cmp(&distance(b))).map(|point| (rate, point.1))
    });
    let marks = nearest.map(|(x, y)| Mark { x, y, label: format!("suggested: {x:.2e}") }).into_iter().collect();
    let faint = Series { faint: true, ..Series::new("", raw.iter().copied()) };
    LineChart {
        title: "Learning-rate finder".into(),
        x_label: "learning rate".into(),
        y_label: "loss".into(),
        x_log: true,
        y_range,
        series: vec![faint, Series::new("smoothed loss", smoothed.iter().copied())],
        marks,
        ..Default::default()
    }
}
