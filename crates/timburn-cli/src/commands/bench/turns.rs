//! The child's side: measures one cell by turns, as it is told on stdin.
//!
//! A line of JSON says that all is warm, or why it is not. Then each line `measure SECONDS` is answered with the times of the runs, and `layers RUNS`
//! with those of the layers, until stdin ends. A process of its own has its own peak of memory, takes its turn among others
//! (`benches/peers`), and may crash with its driver.

use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timburn_core::device::{Device, compiled, panic_message};
use timburn_core::error::DeviceError;
use timburn_core::{Result, open_device};
use timburn_infer::timing::{Timing, peak_memory, warm_up};

use super::cell::Cell;
use super::work::Work;
use crate::output;

/// Fewest runs of a turn.
const LEAST: usize = 3;

/// A line on stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Message {
    Ready(Ready),
    Failed { error: String, exit_code: u8 },
    Times { milliseconds: Vec<f64>, peak_memory: Option<u64> },
    Layers(Layers),
}

/// All is warm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) ready: bool,
    /// The device, by the backend's name where it was `auto`.
    pub(super) opened: String,
    /// `graph` or `modules`.
    pub(super) way: String,
    /// Milliseconds to open the device, build the model and compile the graph.
    pub(super) setup_ms: f64,
    /// Milliseconds of the first run.
    pub(super) first_ms: f64,
    /// Milliseconds of all runs before the first that counts: on GPUs mostly the compilation of kernels and their choice by trial.
    pub(super) warm_up_ms: f64,
    pub(super) warm_up_runs: usize,
}

/// Where a run's time goes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Layers {
    /// The layers of a graph, or the classes of work of a training step.
    pub(super) layers: Vec<Layer>,
    /// Multiplications and additions (f32) a second that this machine's threads do at most, in units of 10⁹; of training steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) peak_gflops: Option<f64>,
}

/// Time of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) milliseconds: f64,
    /// Multiplications and additions of its convolutions.
    pub(super) operations: u64,
    /// Bytes that have to be read and written at least; of training steps' classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
}

impl Layer {
    pub(super) fn new(name: String, time: Duration, operations: u64, bytes: Option<u64>) -> Self {
        Self { name, milliseconds: time.as_secs_f64() * 1e3, operations, bytes }
    }
}

/// Speaks until stdin ends.
pub(super) fn serve(cell: &Cell) -> Result<u8> {
    // A panic of a backend is this cell's failure, told like any other.
    let outcome = catch_unwind(AssertUnwindSafe(|| speak(cell)));
    let outcome = outcome
        .unwrap_or_else(|panic| Err(DeviceError::Failed { name: cell.device.clone(), reason: panic_message(panic.as_ref()) }.into()));
    let Err(error) = outcome else { return Ok(0) };
    say(&Message::Failed { error: error.to_string(), exit_code: error.exit_code() })?;
    Ok(error.exit_code())
}

fn speak(cell: &Cell) -> Result<()> {
    let start = Instant::now();
    let (opened, device) = open(&cell.device)?;
    let mut work = Work::new(cell, &device)?;
    let setup_ms = start.elapsed().as_secs_f64() * 1e3;
    let warm = warm_up(|| work.run(&device))?;
    say(&Message::Ready(Ready {
        ready: true,
        opened,
        way: work.way().into(),
        setup_ms,
        first_ms: warm.first,
        warm_up_ms: warm.total,
        warm_up_runs: warm.runs,
    }))?;
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        match line.split_once(' ') {
            Some(("measure", seconds)) => {
                let timing = Timing::measure(seconds.parse().unwrap_or(0.0), LEAST, || work.run(&device))?;
                say(&Message::Times { milliseconds: timing.milliseconds().into(), peak_memory: peak_memory() })?;
            }
            Some(("layers", runs)) => say(&Message::Layers(work.layers(runs.parse().unwrap_or(1))?))?,
            _ => {}
        }
    }
    Ok(())
}

/// The device called `name`; of `auto` also which one it is.
fn open(name: &str) -> Result<(String, Device)> {
    let first = || compiled().into_iter().find_map(|backend| Some((backend.to_owned(), open_device(backend).ok()?)));
    match (name == "auto").then(first).flatten() {
        Some(found) => Ok(found),
        None => Ok((name.to_owned(), open_device(name)?)),
    }
}

fn say(message: &Message) -> Result<()> {
    output::results(|out| {
        serde_json::to_writer(&mut *out, message)?;
        writeln!(out)
    })
}
