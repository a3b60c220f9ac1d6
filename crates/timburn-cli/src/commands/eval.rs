use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use timburn_core::device::Device;
use timburn_core::{Result, device_name, open_device};
use timburn_infer::Precision;
use timburn_train::Report;
use timburn_train::report::{Evidence, environment_facts};
use timburn_train::run::Environment;

use super::contestant::{ClassMap, Contestant, Scoring, Sitting, called, of_weights};
use crate::interrupt::Interrupt;
use crate::output;

/// Score a model on labelled pictures, with a report.
///
/// MODEL is a bundle's file, or an architecture or `arch.tag` as `timburn models` lists them. The classes of the data are looked up among the
/// model's by id or name. The report is one page: curves, confusion, calibration, predictions, mistakes, what they rest on.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn eval flowers.timburn flowers/                the test set, else the validation set
  timburn eval efficientnet_lite0 imagenet/val --json
  timburn eval resnet50 pets/ --map cats-and-dogs.csv  ImageNet's classes gathered into two
  timburn eval resnet50 photos/ --weights resnet50.pth -o report
  timburn eval resnet50 imagenet/val --dry-run         how many pictures, about how long?

predictions.csv in the report holds names exactly as they are. A spreadsheet takes those that begin with = + - or @ for formulas: \
import the columns as text there.")]
pub(crate) struct Eval {
    /// A bundle's file, or a model's name
    #[arg(value_name = "MODEL")]
    model: String,
    /// Weights for the model named
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Element type of the network: f32; bf16: faster where the CPU multiplies bf16 (AVX512-BF16); int8, for a bundle of `timburn export --int8`
    #[arg(long, value_name = "TYPE", default_value_t)]
    precision: Precision,
    #[command(flatten)]
    scoring: Scoring,
}

impl Eval {
    pub(crate) fn run(&self) -> Result<u8> {
        let (dataset, part) = self.scoring.split.of(timburn_data::open(&self.scoring.data)?)?;
        let map = self.scoring.map.as_deref().map(ClassMap::read).transpose()?;
        let device = open_device(&self.scoring.device)?;
        let contestant = Contestant::open(&self.model, self.weights.as_deref(), &device, self.precision)?;
        let sitting = contestant.sit(&dataset, map.as_ref())?;
        let folder = self.scoring.folder("eval")?;
        if self.scoring.dry_run {
            return self.scoring.describe(&[(&contestant, &sitting)], part, &folder, &device);
        }
        let interrupt = Interrupt::listen()?;
        interrupt.settle(self.score(&contestant, &sitting, part, &folder, &device, &interrupt))
    }

    fn score(
        &self,
        contestant: &Contestant,
        sitting: &Sitting,
        part: &str,
        folder: &Path,
        device: &Device,
        interrupt: &Interrupt,
    ) -> Result<u8> {
        let found = contestant.examine(sitting, &self.scoring.terms(), device, &interrupt.stop).map_err(of_weights(&contestant.name))?;
        let page = if self.scoring.no_report {
            None
        } else {
            let explain = contestant.explain(sitting, device)?;
            let title = format!("{} on {}", contestant.name, called(&self.scoring.data));
            let mut evidence = Evidence::new(title, &sitting.classes, &found);
            evidence.lead =
                format!("{} pictures{}, the {part} of {}.", found.report.samples, self.scoring.views(), self.scoring.data.display());
            evidence.grad_cam = Some(&explain);
            evidence.facts = environment_facts(&Environment::collect(&device_name(device)));
            Some(evidence.write(folder)?)
        };
        for bad in &found.bad {
            log::warn!("left out: {}", bad.reason);
        }
        if self.scoring.json {
            let value = json!({
                "model": contestant.name, "precision": contestant.precision().to_string(), "flip": self.scoring.flip, "part": part, "bad": found.bad.len(), "report": page, "score": summary(&found.report),
            });
            output::results(|out| writeln!(out, "{value}"))?;
            return Ok(0);
        }
        output::results(|out| {
            for (name, value) in lines(&found.report) {
                writeln!(out, "{name:18} {value}")?;
            }
            page.iter().try_for_each(|page| writeln!(out, "{:18} {}", "report", page.display()))
        })?;
        Ok(0)
    }
}

/// A report's numbers, shares in `[0, 1]`.
pub(super) fn summary(report: &Report) -> serde_json::Value {
    let top: serde_json::Map<String, serde_json::Value> =
        report.top.iter().map(|top| (format!("top{}", top.k), json!(top.accuracy))).collect();
    let mut value = json!({
        "samples": report.samples, "loss": report.loss, "balanced_accuracy": report.balanced_accuracy, "macro_f1": report.macro_f1,
        "ece": report.ece, "auroc": report.auroc,
    });
    if let Some(value) = value.as_object_mut() {
        value.extend(top);
    }
    value
}

/// A report's numbers for people.
pub(super) fn lines(report: &Report) -> Vec<(String, String)> {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let mut lines: Vec<(String, String)> = Vec::new();
    lines.extend(report.informative().filter_map(|top| Some((format!("top-{}", top.k), percent(top.accuracy?)))));
    if let Some(first) = lines.first_mut() {
        first.1.push_str(&format!("  of {} pictures", report.samples));
    }
    lines.extend(report.balanced_accuracy.map(|share| ("balanced accuracy".into(), percent(share))));
    lines.extend(report.macro_f1.map(|share| ("macro F1".into(), percent(share))));
    lines.extend(report.ece.map(|share| ("calibration error".into(), percent(share))));
    lines.extend(report.auroc.map(|area| ("AUROC".into(), format!("{area:.4}"))));
    lines.extend(report.loss.map(|loss| ("loss".into(), format!("{loss:.4}"))));
    lines
}
