use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use timburn_core::disk::{System, replace_file};
use timburn_core::{Error, Result};
use timburn_infer::timing::Timing;
use timburn_train::plots::BarChart;
use timburn_train::run::Environment;

use super::cell::{Cell, precision};
use super::turns::{Layer, Layers, Ready};
use crate::output;

/// A cell and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) cell: Cell,
    #[serde(flatten)]
    pub(super) measured: Option<Measured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// The numbers of a cell.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    ready: Ready,
    n: usize,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    /// At the median.
    images_per_second: f64,
    /// Bytes of main memory, the device's own not among them.
    peak_memory: Option<u64>,
    #[serde(flatten)]
    layers: Option<Layers>,
}

impl Measured {
    pub(super) fn new(ready: Ready, timing: &Timing, batch: usize, peak_memory: Option<u64>, layers: Option<Layers>) -> Self {
        Self {
            ready,
            n: timing.runs(),
            median_ms: timing.median(),
            min_ms: timing.min(),
            max_ms: timing.max(),
            images_per_second: timing.rate(batch),
            peak_memory,
            layers,
        }
    }
}

impl Row {
    pub(super) fn new(cell: Cell, outcome: std::result::Result<Measured, String>) -> Self {
        let (measured, error) = match outcome {
            Ok(measured) => (Some(measured), None),
            Err(error) => (None, Some(error)),
        };
        Self { cell, measured, error }
    }

    fn rate(&self) -> Option<f64> {
        Some(self.measured.as_ref()?.images_per_second)
    }
}

/// Everything that is told.
#[derive(Serialize)]
pub(super) struct Results {
    environment: Environment,
    threads: usize,
    pub(super) interrupted: bool,
    pub(super) answer: Option<String>,
    #[serde(rename = "cells")]
    pub(super) rows: Vec<Row>,
    /// Width of the models' column.
    #[serde(skip)]
    width: usize,
}

impl Results {
    pub(super) fn new(environment: Environment, threads: Option<usize>, cells: &[Cell]) -> Self {
        // What rayon does in the children.
        let told = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|&threads: &usize| threads > 0);
        let threads = threads.or_else(told).unwrap_or(environment.cores);
        let width = cells.iter().map(|cell| cell.model.len()).max().unwrap_or(0);
        Self { environment, threads, interrupted: false, answer: None, rows: Vec::new(), width }
    }

    /// What would be measured.
    pub(super) fn plan(&self, cells: &[Cell], json: bool) -> Result<()> {
        output::results(|out| {
            if json {
                return writeln!(out, "{}", json!({ "environment": self.environment, "threads": self.threads, "cells": cells }));
            }
            cells.iter().try_for_each(|cell| writeln!(out, "{}", self.name(cell, &cell.device).trim_end()))
        })
    }

    /// The machine, and what the columns are.
    pub(super) fn head(&self) -> Result<()> {
        let (here, threads) = (&self.environment, self.threads);
        let cpu = here.cpu.as_deref().unwrap_or(&here.architecture);
        let model = self.width;
        output::results(|out| {
            writeln!(out, "timburn {}, {cpu}, {threads} threads, {}", here.timburn, here.os)?;
            writeln!(
                out,
                "{:model$} {:9} {:>13} {:4} {:8} {:7} {:>5} {:>9} {:>19} {:>9} {:>8} {:>7}",
                "", "", "images", "", "device", "", "n", "median ms", "min-max ms", "images/s", "warm-up", "peak"
            )
        })
    }

    /// A row, and its layers.
    pub(super) fn row(&self, row: &Row, slowest_first: bool) -> Result<()> {
        output::results(|out| {
            let device = row.measured.as_ref().map_or(&row.cell.device, |found| &found.ready.opened);
            write!(out, "{}", self.name(&row.cell, device))?;
            let Some(found) = &row.measured else {
                return writeln!(out, " {}", row.error.as_deref().unwrap_or("not measured"));
            };
            let spread = format!("{}-{}", short(found.min_ms), short(found.max_ms));
            let peak = found.peak_memory.map_or_else(|| "-".into(), |bytes| format!("{} MB", bytes >> 20));
            write!(out, " {:7} {:>5} {:>9} {spread:>19}", found.ready.way, found.n, short(found.median_ms))?;
            writeln!(out, " {:>9} {:>6} s {peak:>7}", short(found.images_per_second), short(found.ready.warm_up_ms / 1e3))?;
            match &found.layers {
                Some(found) if found.layers.is_empty() => {
                    writeln!(out, "  no layers: only the kernels of the CPU tell them, in f32, bf16 and int8")
                }
                Some(layers) => table(out, layers, slowest_first),
                None => Ok(()),
            }
        })
    }

    fn name(&self, cell: &Cell, device: &str) -> String {
        let model = self.width;
        let images = format!("{}x3x{}x{}", cell.batch, cell.size, cell.size);
        format!("{:model$} {:9} {images:>13} {:4} {device:8}", cell.model, cell.work, precision(cell.precision))
    }

    /// What comes after the rows.
    pub(super) fn finish(&self, json: bool, folder: Option<&Path>) -> Result<()> {
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            let path = folder.join("bench.json");
            replace_file(&System, &path, |out| {
                let text = serde_json::to_vec_pretty(self).map_err(io::Error::from).map_err(Error::io("write", &path))?;
                out.write_all(&text).map_err(Error::io("write", &path))
            })?;
            self.chart().picture().save(folder.join("bench"))?;
        }
        output::results(|out| {
            if json {
                serde_json::to_writer(&mut *out, self)?;
                return writeln!(out);
            }
            if self.interrupted {
                writeln!(out, "stopped; the rest was not measured")?;
            }
            self.answer.iter().try_for_each(|answer| writeln!(out, "{answer}"))?;
            folder.map_or(Ok(()), |folder| writeln!(out, "{}", folder.join("bench.png").display()))
        })
    }

    /// Images a second of what was measured.
    fn chart(&self) -> BarChart {
        let one_device = self.rows.windows(2).all(|pair| matches!(pair, [a, b] if a.cell.device == b.cell.device));
        let bars = self.rows.iter().filter_map(|row| {
            let cell = &row.cell;
            let device = if one_device { String::new() } else { format!(" {}", cell.device) };
            Some((format!("{} {}x{}x{}{device}", cell.model, cell.batch, cell.size, cell.size), vec![row.rate()?]))
        });
        let work = self.rows.first().map_or_else(String::new, |row| format!("{}, {}", row.cell.work, precision(row.cell.precision)));
        let cpu = self.environment.cpu.as_deref().unwrap_or(&self.environment.architecture);
        let device = self.rows.first().filter(|_| one_device).map_or_else(String::new, |row| {
            format!(", device {}", row.measured.as_ref().map_or(&row.cell.device, |found| &found.ready.opened))
        });
        BarChart {
            title: format!("Images a second: {cpu}"),
            x_label: format!("images a second, median; {work}{device}, {} threads", self.threads),
            bars: bars.collect(),
            ordered: true,
            ..Default::default()
        }
    }
}

/// Where a run's time goes. Of a training step, whose machine's peak is known, also how near to it a class of work comes.
fn table(out: &mut dyn Write, Layers { layers, peak_gflops }: &Layers, slowest_first: bool) -> io::Result<()> {
    let mut rows: Vec<&Layer> = layers.iter().collect();
    if slowest_first {
        rows.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
    }
    let per_second = |amount: u64, milliseconds: f64| (amount > 0).then(|| amount as f64 / milliseconds.max(1e-9) / 1e6);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
    let rates = |operations: u64, bytes: Option<u64>, milliseconds: f64| {
        let rate = per_second(operations, milliseconds);
        let Some(peak) = peak_gflops else { return format!("{:>8}", number(rate)) };
        let share = rate.map_or_else(|| "-  ".to_owned(), |rate| format!("{:.0} %", 100.0 * rate / peak));
        format!("{:>8} {share:>7} {:>6}", number(rate), number(bytes.and_then(|bytes| per_second(bytes, milliseconds))))
    };
    let total: f64 = layers.iter().map(|layer| layer.milliseconds).sum();
    let (columns, what) = match peak_gflops {
        None => (format!("{:>8}", "GFLOP/s"), format!("layer, least of {} runs", super::LAYER_RUNS)),
        Some(peak) => (
            format!("{:>8} {:>7} {:>6}", "GFLOP/s", "of peak", "GB/s"),
            format!("part of the fastest of {} steps; peak, measured: {peak:.0} GFLOP/s in f32", super::STEP_RUNS),
        ),
    };
    writeln!(out, "  {:>9} {:>7} {columns}  {what}", "ms", "share")?;
    for layer in rows {
        let (time, rates) = (layer.milliseconds, rates(layer.operations, layer.bytes, layer.milliseconds));
        writeln!(out, "  {time:>9.3} {:>5.1} % {rates}  {}", 100.0 * time / total, layer.name)?;
    }
    let operations = layers.iter().map(|layer| layer.operations).sum();
    writeln!(out, "  {total:>9.3} {:>5.1} % {}  all", 100.0, rates(operations, None, total))
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// Which device to use, from what all devices that work measured; `backends` is the number of those in this build.
pub(super) fn answer(rows: &[Row], backends: usize) -> Option<String> {
    let mut devices: Vec<&str> = rows.iter().map(|row| row.cell.device.as_str()).collect();
    devices.dedup();
    devices.sort_unstable();
    devices.dedup();
    let measured = |device: &str| rows.iter().filter(|row| row.cell.device == device && row.measured.is_some()).count();
    let most = devices.iter().map(|device| measured(device)).max().filter(|&most| most > 0)?;
    devices.retain(|device| measured(device) == most);
    // Cells that all of them measured.
    let rate =
        |device: &str, cell: &Cell| rows.iter().find(|row| row.cell.device == device && row.cell.same_work(cell)).and_then(Row::rate);
    let first = devices.first().copied()?;
    let cells: Vec<&Cell> = rows.iter().map(|row| &row.cell).filter(|cell| cell.device == first).collect();
    let cells: Vec<&Cell> = cells.into_iter().filter(|cell| devices.iter().all(|device| rate(device, cell).is_some())).collect();
    if cells.is_empty() {
        return None;
    }
    let mean = |device: &str| {
        let logarithms: f64 = cells.iter().filter_map(|cell| rate(device, cell)).map(f64::ln).sum();
        (logarithms / cells.len() as f64).exp()
    };
    let mut means: Vec<(f64, &str)> = devices.iter().map(|device| (mean(device), *device)).collect();
    means.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ((best, name), others) = means.split_first()?;
    let reason = match others {
        [] if backends > 1 => "no other backend of this build does all of it here".into(),
        [] => "it is the only backend of this build (`timburn bench --help` and the README name the others)".into(),
        others => {
            let ratios: Vec<String> = others.iter().map(|(mean, name)| format!("{} times as fast as {name}", short(best / mean))).collect();
            format!("{} (geometric mean of {} cells)", ratios.join(", "), cells.len())
        }
    };
    Some(format!("On this machine use --device {name}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::super::cell::Precision;

    use super::super::cell::Kind;
    use super::*;

    fn row(device: &str, batch: usize, milliseconds: Option<f64>) -> Row {
        let cell = Cell {
            model: "resnet50",
            work: Kind::Inference,
            device: device.into(),
            batch,
            size: 224,
            precision: Precision::F32,
            stem: None,
            modules: false,
        };
        let ready = Ready {
            ready: true,
            opened: device.into(),
            way: "modules".into(),
            setup_ms: 1.0,
            first_ms: 2.0,
            warm_up_ms: 3.0,
            warm_up_runs: 2,
        };
        let measured = milliseconds.map(|time| Measured::new(ready, &Timing::new(vec![time]), batch, None, None));
        Row::new(cell, measured.ok_or_else(|| "crashed".into()))
    }

    #[test]
    fn the_fastest_that_does_everything_is_the_answer() {
        let rows = [row("cuda", 1, Some(1.0)), row("flex", 1, Some(8.0)), row("vulkan", 1, Some(0.1)), row("cuda", 8, Some(1.0))];
        let rows: Vec<Row> = rows.into_iter().chain([row("flex", 8, Some(32.0)), row("vulkan", 8, None)]).collect();
        let text = answer(&rows, 3).expect("an answer");
        assert_eq!(text, "On this machine use --device cuda: 16.0 times as fast as flex (geometric mean of 2 cells)");
        assert!(answer(&[row("flex", 1, Some(1.0)), row("wgpu", 1, None)], 2).expect("an answer").contains("no other backend"));
        assert_eq!(answer(&[row("flex", 1, None)], 1), None);
        assert_eq!(answer(&[], 1), None);
    }

    #[test]
    fn the_table_adds_up() {
        let layer = |name: &str, milliseconds, operations, bytes| Layer { name: name.into(), milliseconds, operations, bytes };
        let lines = |layers: &Layers| {
            let mut out = Vec::new();
            table(&mut out, layers, true).expect("writes");
            let text = String::from_utf8(out).expect("UTF-8");
            text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let mut layers = Layers { layers: vec![layer("first", 1.0, 2_000_000, None), layer("pool", 3.0, 0, None)], peak_gflops: None };
        assert_eq!(lines(&layers), ["3.000 75.0 % - pool", "1.000 25.0 % 2 first", "4.000 100.0 % 0 all"]);
        layers.peak_gflops = Some(4.0);
        layers.layers[1].bytes = Some(9_000_000);
        assert_eq!(lines(&layers), ["3.000 75.0 % - - 3 pool", "1.000 25.0 % 2 50 % - first", "4.000 100.0 % 0 12 % - all"]);
    }
}
