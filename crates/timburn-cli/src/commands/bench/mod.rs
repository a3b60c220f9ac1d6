mod cell;
mod child;
mod show;
mod turns;
mod work;

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use timburn_core::device::{check_name, compiled};
use timburn_core::{Error, Result};
use timburn_infer::timing::Timing;
use timburn_models::{Architecture, Stem};
use timburn_train::StopFlag;
use timburn_train::run::Environment;

use self::cell::{Cell, Kind, PRECISIONS, Precision, STEMS};
use self::child::{Fault, Turns};
use self::show::{Measured, Results, Row};
use self::turns::Message;
use crate::interrupt::Interrupt;
use crate::output;

/// Runs of which a layer's least time is told.
const LAYER_RUNS: usize = 20;
/// Training steps of which the fastest one's parts are told.
const STEP_RUNS: usize = 5;

/// Measure speed: predictions or training steps, on this machine, on every backend.
///
/// Each cell (model, batch, device) is measured in a process of its own, after a warm-up that is told apart: on GPUs kernels are compiled then and
/// chosen by trial. Weights are random. On the CPU predictions run through the inference graph, elsewhere through Burn's modules. Times end when
/// the device has finished. A device that does not come up, or crashes, is a row that says so.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn bench                                     EfficientNet-Lite0 and ResNet-50
  timburn bench resnet50 --train --precision bf16
  timburn bench --compare-backends                  which --device is the fastest here?
  timburn bench resnet50 --device cuda --device flex --batch 1,64,256 -o results
  timburn bench resnet50 --batch 1 --layers=time    where the time goes, slowest layer first
  timburn bench resnet50 --train --layers           a training step, by class of work

Ctrl-C stops and shows what was measured so far (exit code 130).")]
pub(crate) struct Bench {
    /// Architectures, as `timburn models` lists them
    #[arg(value_name = "MODEL", default_values = ["efficientnet_lite0", "resnet50"])]
    models: Vec<String>,
    /// Training steps instead of predictions: forward, loss, backward, SGD
    #[arg(long)]
    train: bool,
    /// Images that are computed together; several with commas [default: 1,8; to train 8, networks for 32 pixels 128]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Vec<u32>,
    /// Height and width of the images [default: the model's]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: Option<u32>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu; may be given several times [default: auto]
    #[arg(long, value_name = "NAME", conflicts_with = "compare_backends")]
    device: Vec<String>,
    /// Every backend of this build, and which one to use
    #[arg(long)]
    compare_backends: bool,
    /// Element type of convolutions: f32, bf16, f16, and for predictions on the CPU int8
    #[arg(long, default_value = "f32", value_name = "TYPE", value_parser = by_name(&PRECISIONS))]
    precision: Precision,
    /// Another stem for a ResNet: standard, deep, small (for 32 pixels)
    #[arg(long, value_name = "STEM", value_parser = by_name(&STEMS))]
    stem: Option<Stem>,
    /// Burn's modules on the CPU too, instead of the inference graph
    #[arg(long)]
    modules: bool,
    /// The time of each layer of the inference graph, or of each class of work in a training step; in their order or the slowest first
    #[arg(long, value_name = "ORDER", num_args = 0..=1, require_equals = true, default_missing_value = "order", conflicts_with = "modules")]
    layers: Option<LayerOrder>,
    /// Threads of the CPU [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seconds for each cell, after its warm-up; three runs at least
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// List what would be measured, measure nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Folder for bench.json and a chart, bench.svg and bench.png
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// No bar
    #[arg(long, short)]
    quiet: bool,
    /// Measures one cell by turns: see `turns`
    #[arg(long, hide = true)]
    turns: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayerOrder {
    /// As they run
    Order,
    /// The slowest first
    Time,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<u8> {
        let cells = self.cells()?;
        if self.turns {
            let [cell] = cells.as_slice() else {
                return Err(argument("--turns", format!("{} cells", cells.len()), "one model, one batch, one device"));
            };
            return turns::serve(cell);
        }
        let devices = self.devices().join(", ");
        let mut results = Results::new(Environment::collect(&devices), self.threads.map(usize::from), &cells);
        if self.dry_run {
            results.plan(&cells, self.json)?;
            return Ok(0);
        }
        let interrupt = Interrupt::listen()?;
        if !self.json {
            results.head()?;
        }
        let bar = if self.quiet || self.json {
            ProgressBar::hidden()
        } else {
            output::bar(cells.len() as u64, "{bar:30} {pos}/{len} {msg}, {elapsed}")
        };
        for cell in &cells {
            bar.set_message(format!("{} {} {}x{} on {}", cell.model, cell.work, cell.batch, cell.size, cell.device));
            let outcome = match self.measure(cell, &interrupt.stop) {
                Ok(measured) => Ok(measured),
                Err(Fault::Failed(why)) => Err(why),
                Err(Fault::Interrupted) => {
                    results.interrupted = true;
                    break;
                }
            };
            let row = Row::new(cell.clone(), outcome);
            if !self.json {
                bar.suspend(|| results.row(&row, self.layers == Some(LayerOrder::Time)))?;
            }
            results.rows.push(row);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if self.compare_backends && !results.interrupted {
            results.answer = show::answer(&results.rows, compiled().len());
        }
        results.finish(self.json, self.output.as_deref())?;
        Ok(match results.interrupted {
            true => interrupt.code(),
            _ if results.rows.iter().all(|row| row.error.is_some()) => 1,
            _ => 0,
        })
    }

    fn devices(&self) -> Vec<String> {
        match (self.compare_backends, self.device.is_empty()) {
            (true, _) => compiled().into_iter().map(str::to_owned).collect(),
            (false, true) => vec!["auto".into()],
            (false, false) => self.device.clone(),
        }
    }

    /// What is measured, the devices next to each other.
    fn cells(&self) -> Result<Vec<Cell>> {
        if self.train || self.modules {
            self.precision.of_modules()?;
        }
        let devices = self.devices();
        devices.iter().try_for_each(|name| check_name(name))?;
        let mut cells = Vec::new();
        for name in &self.models {
            let architecture = Architecture::find(name)?;
            let small = architecture.input <= 32;
            let batches = match (self.batch.is_empty(), self.train) {
                (false, _) => self.batch.clone(),
                (true, true) => vec![if small { 128 } else { 8 }],
                (true, false) => vec![1, 8],
            };
            for batch in batches {
                cells.extend(devices.iter().map(|device| Cell {
                    model: architecture.name,
                    work: if self.train { Kind::Training } else { Kind::Inference },
                    device: device.clone(),
                    batch: batch as usize,
                    size: self.size.map_or(architecture.input, |size| size as usize),
                    precision: self.precision,
                    stem: self.stem,
                    modules: self.modules,
                }));
            }
        }
        Ok(cells)
    }

    fn measure(&self, cell: &Cell, stop: &StopFlag) -> std::result::Result<Measured, Fault> {
        let failed = |error: Error| Fault::Failed(error.to_string());
        let program = std::env::current_exe().map_err(Error::io("find", "this program")).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(cell.arguments());
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let mut child = Turns::start(command, stop).map_err(failed)?;
        let strange = |message: Message| Fault::Failed(format!("an answer to no question: {message:?}"));
        let ready = match child.hear()? {
            Message::Ready(ready) => ready,
            other => return Err(strange(other)),
        };
        let (timing, peak_memory) = match child.ask(&format!("measure {}", self.seconds))? {
            Message::Times { milliseconds, peak_memory } => (Timing::new(milliseconds), peak_memory),
            other => return Err(strange(other)),
        };
        let runs = if self.train { STEP_RUNS } else { LAYER_RUNS };
        let layers = match self.layers.map(|_| child.ask(&format!("layers {runs}"))).transpose()? {
            Some(Message::Layers(layers)) => Some(layers),
            _ => None,
        };
        Ok(Measured::new(ready, &timing, cell.batch, peak_memory, layers))
    }
}

/// A parser of the names in `rows`.
fn by_name<T: Copy + Send + Sync + 'static>(
    rows: &'static [(&'static str, T)],
) -> impl Fn(&str) -> std::result::Result<T, String> + Clone + Send + Sync {
    move |text| {
        let found = rows.iter().find(|row| row.0 == text).map(|row| row.1);
        found.ok_or_else(|| format!("expected one of: {}", rows.iter().map(|row| row.0).collect::<Vec<_>>().join(", ")))
    }
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, 0 to 3600".into())
}

fn argument(name: &'static str, value: String, expected: &str) -> Error {
    Error::Argument { name, value, expected: expected.into() }
}
