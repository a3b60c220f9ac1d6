use std::path::Path;

use clap::Args;
use serde_json::json;
use timburn_core::device::Device;
use timburn_core::{Result, device_name, open_device};
use timburn_train::metrics::Comparison;
use timburn_train::report::{Evidence, Table, environment_facts};
use timburn_train::run::Environment;

use super::contestant::{ClassMap, Contestant, Scoring, Sitting, called, of_weights};
use super::eval::summary;
use crate::interrupt::Interrupt;
use crate::output;

/// Decides the bootstrap's draws.
const SEED: u64 = 0;

/// Compare two models on the same pictures: is the difference more than chance?
///
/// Both answer every picture. What they differ on is tested (McNemar's exact test), and the difference of their accuracies has a 95 % interval
/// (paired bootstrap). The models may have different classes, as long as the data's are among them or --map gathers them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn compare efficientnet_lite0 pets.timburn pets/ --map cats-and-dogs.csv
  timburn compare before.timburn after.timburn flowers/ --split test --json
  timburn compare resnet50 resnet18 imagenet/val --dry-run")]
pub(crate) struct Compare {
    /// A bundle's file, or a model's name
    #[arg(value_name = "A")]
    first: String,
    /// Another one
    #[arg(value_name = "B")]
    second: String,
    #[command(flatten)]
    scoring: Scoring,
}

impl Compare {
    pub(crate) fn run(&self) -> Result<u8> {
        let (dataset, part) = self.scoring.split.of(timburn_data::open(&self.scoring.data)?)?;
        let map = self.scoring.map.as_deref().map(ClassMap::read).transpose()?;
        let device = open_device(&self.scoring.device)?;
        let open = |name: &str| Contestant::open(name, None, &device, timburn_infer::Precision::F32);
        let contestants = [open(&self.first)?, open(&self.second)?];
        let sittings = contestants.iter().map(|contestant| contestant.sit(&dataset, map.as_ref())).collect::<Result<Vec<_>>>()?;
        let folder = self.scoring.folder("compare")?;
        if self.scoring.dry_run {
            let pairs: Vec<_> = contestants.iter().zip(&sittings).collect();
            return self.scoring.describe(&pairs, part, &folder, &device);
        }
        let interrupt = Interrupt::listen()?;
        interrupt.settle(self.score(contestants.iter().zip(sittings).collect(), part, &folder, &device, &interrupt))
    }

    fn score(&self, pairs: Vec<(&Contestant, Sitting)>, part: &str, folder: &Path, device: &Device, interrupt: &Interrupt) -> Result<u8> {
        let mut sittings = Vec::new();
        for (contestant, sitting) in pairs {
            let found =
                contestant.examine(&sitting, &self.scoring.terms(), device, &interrupt.stop).map_err(of_weights(&contestant.name))?;
            sittings.push((contestant, sitting, found));
        }
        let [first, second] = sittings.as_slice() else { return Ok(1) };
        for bad in &first.2.bad {
            log::warn!("left out: {}", bad.reason);
        }
        // Both saw the same files in the same order; what one could not read, the other could not either.
        let answers = first.2.predictions.iter().zip(second.2.predictions.iter());
        let comparison = Comparison::of(answers.map(|(a, b)| (a.is_right(), b.is_right())), SEED);

        let mut pages = Vec::new();
        if !self.scoring.no_report {
            for ((contestant, sitting, found), letter) in sittings.iter().zip(["a", "b"]) {
                let explain = contestant.explain(sitting, device)?;
                let mut evidence = Evidence::new(format!("{} on {}", contestant.name, called(&self.scoring.data)), &sitting.classes, found);
                evidence.lead =
                    format!("{} pictures{}, the {part} of {}.", found.report.samples, self.scoring.views(), self.scoring.data.display());
                evidence.grad_cam = Some(&explain);
                evidence.facts = environment_facts(&Environment::collect(&device_name(device)));
                evidence.tables = vec![self.table(&comparison)];
                pages.push(evidence.write(folder.join(letter))?);
            }
        }
        if self.scoring.json {
            let value = json!({
                "a": { "model": self.first, "score": summary(&first.2.report) }, "b": { "model": self.second, "score": summary(&second.2.report) },
                "part": part, "flip": self.scoring.flip, "bad": first.2.bad.len(), "comparison": comparison, "reports": pages,
            });
            output::results(|out| writeln!(out, "{value}"))?;
            return Ok(0);
        }
        let table = self.table(&comparison);
        output::results(|out| {
            for row in &table.rows {
                writeln!(out, "{:24} {}", row.first().map_or("", String::as_str), row.get(1).map_or("", String::as_str))?;
            }
            writeln!(out, "{}", verdict(&comparison))?;
            pages.iter().try_for_each(|page| writeln!(out, "report  {}", page.display()))
        })?;
        Ok(0)
    }

    fn table(&self, comparison: &Comparison) -> Table {
        let total = comparison.samples.max(1) as f64;
        let share = |count: u64| format!("{:.2} % ({count} of {})", 100.0 * count as f64 / total, comparison.samples);
        let row = |name: String, value: String| vec![name, value];
        let points = |share: f64| format!("{:+.2}", 100.0 * share);
        let [low, high] = comparison.interval;
        Table {
            caption: format!("A: {}, B: {}, on the same pictures", self.first, self.second),
            head: vec!["".into(), "".into()],
            rows: vec![
                row("A right".into(), share(comparison.both + comparison.only_first)),
                row("B right".into(), share(comparison.both + comparison.only_second)),
                row("only A right".into(), comparison.only_first.to_string()),
                row("only B right".into(), comparison.only_second.to_string()),
                row("neither right".into(), comparison.neither.to_string()),
                row(
                    "B minus A".into(),
                    format!("{} points, 95 % interval {} to {}", points(comparison.difference), points(low), points(high)),
                ),
                row("McNemar's exact test".into(), format!("p = {}", p_value(comparison.p_value))),
            ],
        }
    }
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}

/// What the numbers say, without a threshold taken for a truth.
fn verdict(comparison: &Comparison) -> &'static str {
    match (comparison.p_value < 0.05, comparison.difference > 0.0) {
        (false, _) => "No difference that these pictures could not also show by chance (p ≥ 0.05).",
        (true, true) => "B is better: so uneven a split is rare among equals (p < 0.05).",
        (true, false) => "A is better: so uneven a split is rare among equals (p < 0.05).",
    }
}
