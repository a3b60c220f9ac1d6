use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use timburn_core::error::TrainError;
use timburn_core::{Result, open_device};
use timburn_data::Dataset;
use timburn_train::lr_finder::Point;
use timburn_train::trainer::FoundLr;
use timburn_train::{LrFinder, Recipe, find_lr, plots};

use super::estimate::check_place;
use super::train::recipes::{model, read_data, read_recipe};
use crate::interrupt::Interrupt;
use crate::output;

/// Find a learning rate: a short run at growing rates, as fastai's lr_find.
///
/// Nothing of the run is kept. The suggestion is the middle of the longest valley of the smoothed loss; the steepest point is told beside it,
/// and the curve is drawn, because a look at it is worth more than either.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn find-lr cats-and-dogs --data pets/
  timburn find-lr recipe.toml --data flowers/ --steps 200 --end 1 -o lr
  timburn find-lr recipe.toml --json | jq .valley
  timburn find-lr recipe.toml --dry-run")]
pub(crate) struct FindLr {
    /// A recipe's file or name (timburn train --list)
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The data set; takes precedence over the recipe's data.path
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Changes a value of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// First learning rate
    #[arg(long, value_name = "LR", default_value_t = LrFinder::default().start_lr)]
    start: f64,
    /// Last learning rate
    #[arg(long, value_name = "LR", default_value_t = LrFinder::default().end_lr)]
    end: f64,
    /// Steps between them; a loss that explodes ends the sweep early
    #[arg(long, value_name = "N", default_value_t = LrFinder::default().num_it)]
    steps: usize,
    /// Where the curve goes, without its extension: STEM.png and STEM.svg, replaced if they are there
    #[arg(long, short, value_name = "STEM", default_value = "lr-finder")]
    output: PathBuf,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Check everything, say what would be done, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: {"valley", "steepest", "curve", "points": [{"lr", "loss", "smoothed"}]}
    #[arg(long)]
    json: bool,
    /// No bar
    #[arg(long, short)]
    quiet: bool,
}

impl FindLr {
    pub(crate) fn run(&self) -> Result<u8> {
        let finder = LrFinder { start_lr: self.start, end_lr: self.end, num_it: self.steps, ..LrFinder::default() };
        finder.validate()?;
        let (recipe, _) = read_recipe(&self.recipe, &self.set, self.data.as_deref())?;
        let device = open_device(&self.device)?;
        let data = read_data(&recipe)?;
        let model = model(&recipe, data.classes().len(), &device)?;

        let steps_of = data.train().len().div_ceil(recipe.train.batch_size);
        check_place(&self.output)?;
        if self.dry_run {
            return self.describe(&recipe, data.train().len(), steps_of);
        }

        let interrupt = Interrupt::listen()?;
        let bar = if self.quiet || self.json {
            indicatif::ProgressBar::hidden()
        } else {
            output::bar(self.steps as u64, "{bar:30} {pos}/{len} {msg}, {eta} left")
        };
        let found = find_lr(&recipe, model, &data, &device, finder, &mut |point: &Point| {
            bar.inc(1);
            bar.set_message(format!("lr {:.2e}, loss {:.3}", point.lr, point.loss));
            if interrupt.happened() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let found = found?;
        if interrupt.happened() {
            return interrupt.settle(Err(TrainError::Interrupted.into()));
        }
        self.draw(&found)?;
        self.tell(&found)
    }

    fn describe(&self, recipe: &Recipe, pictures: usize, steps_of_an_epoch: usize) -> Result<u8> {
        let batch = recipe.train.batch_size;
        let curve = format!("{}.png", self.output.display());
        if self.json {
            let value = json!({
                "dry_run": true, "training": pictures, "batch": batch, "steps": self.steps, "start": self.start, "end": self.end, "curve": curve,
            });
            output::json(&value)?;
            return Ok(0);
        }
        output::results(|out| {
            writeln!(out, "{} steps of {batch} pictures at most, {:.1e} to {:.1e}", self.steps, self.start, self.end)?;
            writeln!(out, "{pictures} training pictures, {steps_of_an_epoch} steps an epoch")?;
            writeln!(out, "curve to {curve}")
        })?;
        Ok(0)
    }

    fn draw(&self, found: &FoundLr) -> Result<()> {
        let curve = |loss: fn(&Point) -> f64| -> Vec<(f64, f64)> { found.points.iter().map(|point| (point.lr, loss(point))).collect() };
        plots::lr_finder(&curve(|point| point.raw), &curve(|point| point.loss), found.valley).picture().save(&self.output)
    }

    fn tell(&self, found: &FoundLr) -> Result<u8> {
        if self.json {
            let points: Vec<_> =
                found.points.iter().map(|point| json!({ "lr": point.lr, "loss": point.raw, "smoothed": point.loss })).collect();
            let curve = format!("{}.png", self.output.display());
            let value = json!({ "valley": found.valley, "steepest": found.steepest, "curve": curve, "points": points });
            output::results(|out| writeln!(out, "{value}"))?;
            return Ok(0);
        }
        output::results(|out| match (found.valley, found.steepest) {
            (Some(valley), Some(steepest)) => {
                writeln!(out, "valley    {valley:.2e}   suggested: --set train.lr={valley:.2e}")?;
                writeln!(out, "steepest  {steepest:.2e}")?;
                writeln!(out, "curve     {}", format_args!("{}.png", self.output.display()))
            }
            _ => writeln!(out, "no suggestion: the sweep ended after {} steps; try more steps or a lower first rate", found.points.len()),
        })?;
        Ok(0)
    }
}
