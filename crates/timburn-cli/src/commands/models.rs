use clap::Args;
use serde::Serialize;
use timburn_core::error::ModelError;
use timburn_core::suggest::nearest;
use timburn_core::{Result, open_device};
use timburn_models::{ARCHITECTURES, ImageModel, ModelOptions, create};
use timburn_weights::{Accuracy, catalogue};

use crate::output;

/// List architectures and their published weights.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn models
  timburn models resnet50           names that contain it, and the stages of the one called so
  timburn models --json

The weights marked * are those that the bare name of the architecture means. Accuracies are published ones on ImageNet-1k's \
validation set, in percent; - where the makers' packages state none. efficientnet_lite0.in1k and resnet20.cifar10 are part of the program.")]
pub(crate) struct Models {
    /// Part of a name
    #[arg(value_name = "NAME")]
    pattern: Option<String>,
    /// Print JSON: [{"name", "parameters", "input", "classes", "weights": [...]}]
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    parameters: usize,
    input: usize,
    classes: usize,
    weights: Vec<Weights>,
    /// Of the architecture that was named in full: what freezing, learning rates and Grad-CAM call its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<String>,
}

#[derive(Serialize)]
struct Weights {
    name: String,
    default: bool,
    #[serde(flatten)]
    published: Accuracy,
    input: usize,
    url: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<&'static str>,
}

impl Models {
    pub(crate) fn run(&self) -> Result<u8> {
        let pattern = self.pattern.as_deref().unwrap_or_default();
        let chosen =
            ARCHITECTURES.iter().filter(|row| row.name.contains(pattern) || row.aliases.iter().any(|alias| alias.contains(pattern)));
        let rows = chosen.map(|row| {
            Ok(Row {
                name: row.name,
                parameters: row.parameters,
                input: row.input,
                classes: row.classes,
                weights: weights_of(row.name),
                stages: if row.name == pattern { stages(row.name)? } else { Vec::new() },
            })
        });
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        if rows.is_empty() {
            let near = nearest(pattern, ARCHITECTURES.iter().map(|row| row.name));
            return Err(ModelError::UnknownArchitecture { name: pattern.into(), nearest: near }.into());
        }
        output::results(|out| {
            if self.json {
                serde_json::to_writer_pretty(&mut *out, &rows)?;
                return writeln!(out);
            }
            writeln!(out, "{:34} {:>12} {:>6} {:>7} {:>7}", "", "parameters", "input", "top-1", "top-5")?;
            for row in &rows {
                writeln!(out, "{:34} {:>12} {:>6}", row.name, millions(row.parameters), row.input)?;
                if !row.stages.is_empty() {
                    writeln!(out, "    stages: {}", row.stages.join(" "))?;
                }
                for weights in &row.weights {
                    let mark = if weights.default { "*" } else { " " };
                    let Accuracy { top1, top5 } = weights.published;
                    writeln!(
                        out,
                        "  {mark} {:30} {:>12} {:>6} {:>7} {:>7}",
                        weights.name,
                        "",
                        weights.input,
                        percent(top1),
                        percent(top5)
                    )?;
                }
            }
            Ok(())
        })?;
        Ok(0)
    }
}

fn stages(architecture: &str) -> Result<Vec<String>> {
    let model = create(architecture, &ModelOptions::default(), &open_device("auto")?)?;
    Ok(model.stages().into_iter().map(|stage| stage.name).collect())
}

fn weights_of(architecture: &str) -> Vec<Weights> {
    let rows = catalogue().iter().filter(|row| row.architecture == architecture);
    rows.map(|row| Weights {
        name: row.name(),
        default: row.is_default,
        published: row.published,
        input: row.preprocessing.input,
        url: row.url,
        licence: row.licence,
    })
    .collect()
}

fn millions(count: usize) -> String {
    format!("{:.2} M", count as f64 / 1e6)
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}
