pub(super) mod recipes;
mod screen;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use timburn_core::error::{CheckpointError, TrainError};
use timburn_core::{Error, Result, device_name, open_device};
use timburn_data::{Dataset, DynDataset};
use timburn_models::state_dict::parameters;
use timburn_models::{Model, trainable_parameters};
use timburn_train::recipe::{Document, TestTime};
use timburn_train::report::{Evidence, environment_facts};
use timburn_train::run::{Environment, Overwrite};
use timburn_train::trainer::Ending;
use timburn_train::{CheckpointStore, Outcome, Recipe, Recorder, RunFolder, TrainData, Trainer};
use timburn_weights::{Bundle, ModelSpec};

use self::recipes::{SHIPPED, missing, model, preprocessing, read_data, read_recipe, resolved};
use self::screen::Screen;
use super::contestant::{Contestant, Terms};
use super::estimate::check_place;
use super::eval::summary;
use crate::interrupt::Interrupt;
use crate::output;

/// The file by which a folder is known as a run's.
const RECIPE: &str = "recipe.toml";

/// Train a model as a recipe says, or go on with a run.
///
/// RECIPE is a file, or the name of a recipe that is part of the program. The run folder gets the resolved recipe, the metrics of every step,
/// checkpoints, plots and, at the end, the best model as a bundle.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn train cifar10-resnet20 --data cifar-10-python.tar.gz
  timburn train recipe.toml --data flowers/ --set train.epochs=3 -o runs/flowers
  timburn train --resume runs/flowers                goes on, bit for bit as if never stopped
  timburn train recipe.toml --dry-run                checks everything, starts nothing
  timburn train recipe.toml --json | jq .score.top1  one object at the end; --events: every step
  timburn train --list                               recipes that are part of the program

Ctrl-C finishes the step, saves, and exits with 130 (SIGTERM: 143); a second one exits at once.")]
pub(crate) struct Train {
    /// A recipe's file or name
    #[arg(value_name = "RECIPE", required_unless_present_any = ["resume", "list"], conflicts_with = "resume")]
    recipe: Option<PathBuf>,
    /// The data set; takes precedence over the recipe's data.path
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Changes a value of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run folder; must be new or empty [default: runs/NAME, runs/NAME-2, …]
    #[arg(long, short, value_name = "DIR", conflicts_with = "resume")]
    output: Option<PathBuf>,
    /// Remove the run that is in the folder; files that no run writes are never removed
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Check everything, print the resolved recipe, start nothing
    #[arg(long)]
    dry_run: bool,
    /// List the recipes that are part of the program
    #[arg(long)]
    list: bool,
    /// Print the outcome as JSON: {"run", "ending", "step", "best", "score", "model", "report"}
    #[arg(long)]
    json: bool,
    /// Print every event as a line of JSON: step, evaluation, epoch, end; then the outcome
    #[arg(long, conflicts_with = "json")]
    events: bool,
    /// No bar and no line per epoch
    #[arg(long, short)]
    quiet: bool,
}

impl Train {
    pub(crate) fn run(&self) -> Result<u8> {
        if self.list && self.json {
            let described = |(name, text): &(&str, &str)| -> Result<serde_json::Value> {
                Ok(json!({ "name": name, "description": Recipe::from_toml(text)?.description.trim() }))
            };
            output::json(&SHIPPED.iter().map(described).collect::<Result<Vec<_>>>()?.into())?;
            return Ok(0);
        }
        if self.list {
            output::results(|out| {
                SHIPPED.iter().try_for_each(|(name, text)| {
                    let recipe = Recipe::from_toml(text).map_err(std::io::Error::other)?;
                    writeln!(out, "{name:28} {}", recipe.description.split_whitespace().collect::<Vec<_>>().join(" "))
                })
            })?;
            return Ok(0);
        }
        let (recipe, name) = self.recipe()?;
        let device = open_device(&self.device)?;
        let data = read_data(&recipe)?;
        let model = model(&recipe, data.classes().len(), &device)?;
        let overwrite = if self.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
        let new = self.output.clone().unwrap_or_else(|| unused(&name));
        if self.resume.is_none() {
            RunFolder::check(&new, overwrite)?;
            check_place(&new)?;
        }
        if self.dry_run {
            return self.describe(&recipe, &data, &model);
        }

        let environment = Environment::collect(&device_name(&device));
        let run = Run { device, environment, validation: data.validation().clone(), scores_on_test: data.scores_on_test };
        // Before the folder: what does not fit together leaves nothing behind.
        let trainer = Trainer::new(recipe.clone(), model, data, &run.device)?;
        let interrupt = Interrupt::listen()?;
        let folder = match &self.resume {
            Some(folder) => RunFolder::resume(folder, &run.environment)?,
            None => RunFolder::create(new, overwrite, &recipe.to_toml()?, &run.environment)?,
        };
        let path = folder.path().to_owned();
        let store = CheckpointStore::open(folder.checkpoints(), recipe.checkpoints.keep_last)?;
        let trainer = trainer.with_checkpoints(store)?.with_stop(interrupt.stop.clone());
        let resumed_at = self.resume.as_ref().map(|_| trainer.step());
        let recorder = Recorder::new(folder, run.validation.classes().clone(), resumed_at)?;
        if !self.is_quiet() {
            let note = if run.scores_on_test { "; scores are of the test set, for want of a validation set" } else { "" };
            output::note(&format!("{}{note}", path.display()));
        }
        let mut watch = (recorder, Screen::new(&recipe, self.events, self.is_quiet()));
        let outcome = trainer.fit(&mut watch);
        watch.1.clear();
        let outcome = match outcome {
            Err(error) if self.resume.is_none() => return Err(discarded(watch.0, error)),
            outcome => outcome?,
        };
        self.finish(&recipe, &run, watch.0.folder(), &outcome, &interrupt)
    }

    /// Whether stderr is for errors and warnings alone.
    fn is_quiet(&self) -> bool {
        self.quiet || self.json || self.events
    }

    /// The resolved recipe, and the name of a new run's folder.
    fn recipe(&self) -> Result<(Recipe, String)> {
        match (&self.resume, &self.recipe) {
            (Some(folder), _) if !folder.join(RECIPE).is_file() => {
                Err(CheckpointError::NotARun { path: folder.clone(), missing: RECIPE }.into())
            }
            (Some(folder), _) => {
                let document = Document::read(folder.join(RECIPE))?;
                let recipe = resolved(document, &self.set, self.data.as_deref())?;
                if recipe.model.is_none() {
                    let expected = "the folder of a `timburn train`; what `timburn finetune` began, it begins again (--overwrite)".into();
                    return Err(Error::Argument { name: "--resume", value: folder.display().to_string(), expected });
                }
                Ok((recipe, String::new()))
            }
            (None, Some(path)) => read_recipe(path, &self.set, self.data.as_deref()),
            (None, None) => Err(missing("RECIPE", "none", "a recipe's file or name")),
        }
    }

    fn describe(&self, recipe: &Recipe, data: &TrainData, model: &Model) -> Result<u8> {
        let text = recipe.to_toml()?;
        if self.json {
            let value = json!({
                "dry_run": true, "training": data.train().len(), "validation": data.validation().len(), "classes": data.classes().len(),
                "parameters": trainable_parameters(model), "recipe": serde_json::to_value(recipe).unwrap_or_default(),
            });
            output::json(&value)?;
            return Ok(0);
        }
        output::results(|out| {
            writeln!(
                out,
                "# {} training and {} validation pictures, {} classes",
                data.train().len(),
                data.validation().len(),
                data.classes().len()
            )?;
            writeln!(out, "# {} tensors, {} trainable parameters", parameters(model).len(), trainable_parameters(model))?;
            write!(out, "{text}")
        })?;
        Ok(0)
    }

    /// Writes the best model as a bundle and says how it went.
    fn finish(&self, recipe: &Recipe, run: &Run, folder: &RunFolder, outcome: &Outcome<Model>, interrupt: &Interrupt) -> Result<u8> {
        let path = folder.path();
        let mut told = json!({
            "run": path, "ending": outcome.ending, "step": outcome.step, "best": outcome.best,
            "metric": recipe.checkpoints.best.name(), "part": if run.scores_on_test { "test set" } else { "validation set" },
        });
        if outcome.ending == Ending::Interrupted {
            let resume = format!("timburn train --resume {}", path.display());
            if !self.json && !self.events {
                output::note(&format!("stopped at step {}; go on with: {resume}", outcome.step));
            }
            told["resume"] = resume.into();
            self.tell(&told, "")?;
            return Ok(interrupt.code());
        }
        let Some(section) = &recipe.model else { return Ok(0) };
        let classes = run.validation.classes();
        let weights = outcome.best_weights()?.unwrap_or_else(|| timburn_models::state_dict(&outcome.model));
        let architecture = section.name.split('.').next().unwrap_or_default().to_owned();
        let options = timburn_models::ModelOptions { classes: Some(section.outputs(classes.len())), ..section.options.clone() };
        let mut card = timburn_weights::Card { recipe: serde_json::to_value(recipe).unwrap_or_default(), ..Default::default() };
        card.measured.top1 = outcome.best.filter(|_| recipe.checkpoints.best.name() == "top1").map(|best| 100.0 * best);
        let bundle = Bundle {
            model: ModelSpec { architecture, options },
            classes: classes.clone(),
            preprocessing: preprocessing(recipe)?,
            card,
            ranges: None,
            weights,
        };
        let file = path.join("model.timburn");
        bundle.save(&file, timburn_weights::Precision::F32)?;
        told["model"] = json!(file);
        let mut text = file.display().to_string();
        if let Some(best) = outcome.best {
            let name = recipe.checkpoints.best.name();
            text.push_str(&match name {
                "loss" => format!("  {name} {best:.4}"),
                _ => format!("  {name} {:.2} %", 100.0 * best),
            });
        }
        let code = match self.report(recipe, run, folder, bundle, interrupt) {
            // The model is what the run was for: it is kept.
            Err(Error::Train(TrainError::Interrupted)) => {
                output::note("stopped while the report was made: the model is whole, the report is missing");
                interrupt.code()
            }
            found => {
                let (page, score) = found?;
                told["report"] = json!(page);
                told["score"] = score;
                text.push_str(&format!("\n{}", page.display()));
                0
            }
        };
        self.tell(&told, &text)?;
        Ok(code)
    }

    /// The outcome, for programs or for people.
    fn tell(&self, value: &serde_json::Value, text: &str) -> Result<()> {
        if self.events {
            let mut line = json!({ "event": "outcome" });
            if let (Some(line), Some(value)) = (line.as_object_mut(), value.as_object()) {
                line.extend(value.clone());
            }
            return output::json(&line);
        }
        if self.json {
            return output::json(value);
        }
        if text.is_empty() { Ok(()) } else { output::results(|out| writeln!(out, "{text}")) }
    }

    /// One page about the run, the score that of the bundle on the validation set.
    fn report(
        &self,
        recipe: &Recipe,
        run: &Run,
        folder: &RunFolder,
        bundle: Bundle,
        interrupt: &Interrupt,
    ) -> Result<(PathBuf, serde_json::Value)> {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let contestant = Contestant::of(&name, bundle, &run.device)?;
        let sitting = contestant.sit(&run.validation, None)?;
        let batch = if recipe.evaluation.batch_size == 0 { recipe.train.batch_size } else { recipe.evaluation.batch_size };
        let terms = Terms { batch, test_time: recipe.evaluation.test_time, features: true, quiet: self.is_quiet() };
        let found = contestant.examine(&sitting, &terms, &run.device, &interrupt.stop)?;
        let explain = contestant.explain(&sitting, &run.device)?;
        let score = summary(&found.report);
        let summary = folder.summary()?;
        let mut evidence = Evidence::new(name, &sitting.classes, &found);
        let set = if run.scores_on_test { "test set, which also chose the best checkpoint" } else { "validation set" };
        let views = if terms.test_time == TestTime::Flip { "each picture and its mirror image" } else { "one view of each picture" };
        evidence.lead = format!("{} The score is that of the best checkpoint on the {set}, {views}, in f32.", recipe.description.trim());
        evidence.summary = &summary;
        evidence.grad_cam = Some(&explain);
        evidence.facts = environment_facts(&run.environment);
        evidence.recipe = Some(recipe.to_toml()?);
        Ok((evidence.write(folder.path())?, score))
    }
}

/// What a run's report needs beside its folder.
struct Run {
    device: timburn_core::device::Device,
    environment: Environment,
    validation: DynDataset,
    scores_on_test: bool,
}

/// `runs/NAME`, or the first of `runs/NAME-2`, … that is not there.
pub(super) fn unused(name: &str) -> PathBuf {
    let numbered = |number: u32| Path::new("runs").join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
    (1..).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(1))
}

/// The error that ended a new run, whose folder goes if the run never got to a step.
pub(super) fn discarded(recorder: Recorder, error: Error) -> Error {
    let folder = recorder.into_folder();
    let default = folder.path().parent() == Some(Path::new("runs"));
    if let Err(second) = folder.discard_unused() {
        log::warn!("the folder of the run that failed is still there: {second}");
    }
    if default {
        // Made for the run, and of no use without one; with others in it, it stays.
        let _ = std::fs::remove_dir("runs");
    }
    error
}
