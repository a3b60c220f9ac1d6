//! A run's folder, filled while it runs.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use timburn_core::{Classes, Result};
use timburn_infer::timing::peak_memory;

use super::event::{EndEvent, EpochEvent, EvaluationEvent, Observer, StepEvent};
use crate::metrics::Report;
use crate::plots::{evaluation_charts, summary_charts};
use crate::run::{EventWriter, RunFolder};

/// Writes what a run says to its folder: a line a step and an evaluation, a row an epoch, TensorBoard's events, and the plots.
pub struct Recorder {
    folder: RunFolder,
    events: EventWriter,
    classes: Classes,
    /// The newest evaluation, for the plots at the end.
    report: Option<Report>,
}

/// What `metrics.jsonl` keeps of an evaluation.
#[derive(Serialize)]
struct Evaluation<'a> {
    evaluation: bool,
    epoch: u64,
    ema: bool,
    best: bool,
    seconds: f64,
    #[serde(flatten)]
    report: Summary<'a>,
}

/// A report without its tables.
#[derive(Serialize)]
struct Summary<'a> {
    samples: u64,
    loss: Option<f64>,
    top: &'a [crate::metrics::TopK],
    balanced_accuracy: Option<f64>,
    macro_f1: Option<f64>,
    ece: Option<f64>,
    auroc: Option<f64>,
}

impl Recorder {
    /// Records into `folder`; `resumed_at` is the step that the run goes on from, whose later lines are taken back.
    ///
    /// # Errors
    /// Those of [`RunFolder::rewind`] and [`EventWriter::create`].
    pub fn new(folder: RunFolder, classes: Classes, resumed_at: Option<u64>) -> Result<Self> {
        folder.rewind(resumed_at.unwrap_or(0))?;
        let mut events = EventWriter::create(folder.path(), resumed_at)?;
        if resumed_at.is_none() {
            events.text("recipe", 0, &format!("```toml\n{}\n```", folder.recipe()?))?;
        }
        Ok(Self { folder, events, classes, report: None })
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Ends the recording and gives the folder back.
    pub fn into_folder(self) -> RunFolder {
        self.folder
    }

    fn draw(&self) -> Result<()> {
        let plots = self.folder.plots();
        for (stem, chart) in summary_charts(&self.folder.summary()?) {
            chart.picture().save(plots.join(stem))?;
        }
        if let Some(report) = &self.report {
            draw_report(report, &self.classes, &plots)?;
        }
        Ok(())
    }
}

/// Draws the charts of an evaluation, see [`evaluation_charts`], into `folder`, as PNG and SVG.
///
/// # Errors
/// [`Error::Io`](timburn_core::Error::Io).
pub fn draw_report(report: &Report, classes: &Classes, folder: impl AsRef<Path>) -> Result<()> {
    for (stem, picture) in evaluation_charts(report, classes) {
        picture.save(folder.as_ref().join(stem))?;
    }
    Ok(())
}

impl Observer for Recorder {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        self.folder.append_metrics(event.step, event)?;
        for bad in &event.bad {
            self.folder.append_bad_file(Path::new(&bad.name), &bad.reason)?;
        }
        self.events.scalar("train/loss", event.step, event.loss)?;
        self.events.scalar("train/top1", event.step, event.top1)?;
        self.events.scalar("train/lr", event.step, event.lr)
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        for bad in &event.bad {
            self.folder.append_bad_file(Path::new(&bad.name), &bad.reason)?;
        }
        let report = &event.report;
        let Report { samples, loss, ref top, balanced_accuracy, macro_f1, ece, auroc, .. } = *report;
        let report_line = Summary { samples, loss, top, balanced_accuracy, macro_f1, ece, auroc };
        let (epoch, ema, best, seconds) = (event.epoch, event.ema, event.best, event.time.as_secs_f64());
        self.folder.append_metrics(event.step, &Evaluation { evaluation: true, epoch, ema, best, seconds, report: report_line })?;
        if let Some(loss) = loss {
            self.events.scalar("validation/loss", event.step, loss)?;
        }
        for top in top {
            self.events.scalar(&format!("validation/top{}", top.k), event.step, top.accuracy.unwrap_or(f64::NAN))?;
        }
        self.report = Some(report.clone());
        Ok(())
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        let percent = |share: Option<f64>| share.map_or(f64::NAN, |share| 100.0 * share);
        let evaluation = event.evaluation.as_ref();
        let of = |value: fn(&Report) -> Option<f64>| evaluation.and_then(value);
        self.folder.append_summary(
            event.epoch + 1,
            event.step,
            &[
                ("train_loss", event.loss),
                ("train_top1", 100.0 * event.top1),
                ("validation_loss", of(|report| report.loss).unwrap_or(f64::NAN)),
                ("validation_top1", percent(of(|report| report.top(1)))),
                ("validation_top5", percent(of(|report| report.top(5)))),
                ("validation_balanced_accuracy", percent(of(|report| report.balanced_accuracy))),
                ("lr", event.lr),
                ("images_per_second", event.images_per_second),
                ("data_wait_percent", 100.0 * event.data_wait),
                ("peak_memory_mb", peak_memory().map_or(f64::NAN, |bytes| bytes as f64 / 1048576.0)),
            ],
        )?;
        self.folder.sync()?;
        self.draw()
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        let report = self.report.as_ref();
        self.folder.write_result(&json!({
            "ending": event.ending,
            "step": event.step,
            "epochs": event.epochs,
            "best": event.best,
            "checkpoint": event.checkpoint,
            "validation": report,
        }))
    }
}
