use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use timburn_core::{Error, Preprocessing, Result, device_name, open_device};
use timburn_data::{Dataset, DynDataset};
use timburn_models::state_dict::parameters;
use timburn_models::{Model, create, trainable_parameters};
use timburn_train::recipe::Document;
use timburn_train::report::{Evidence, environment_facts};
use timburn_train::run::{Environment, Overwrite};
use timburn_train::trainer::{EndEvent, Ending, EpochEvent, EvaluationEvent, StepEvent};
use timburn_train::{CheckpointStore, Observer, Outcome, Recipe, Recorder, RunFolder, StopFlag, TrainData, Trainer};
use timburn_weights::{Bundle, HubOptions, ModelSpec, resolve};

use super::contestant::Contestant;
use crate::output::{self, DownloadBar};

/// The recipes that are part of the program, by name.
const SHIPPED: [(&str, &str); 20] = [
    ("cats-and-dogs", include_str!("../../../../recipes/cats-and-dogs.toml")),
    ("cifar10-resnet18", include_str!("../../../../recipes/cifar10-resnet18.toml")),
    ("cifar10-resnet20", include_str!("../../../../recipes/cifar10-resnet20.toml")),
    ("cifar10-resnet20-onecycle", include_str!("../../../../recipes/cifar10-resnet20-onecycle.toml")),
    ("cifar10-resnet50-transfer", include_str!("../../../../recipes/cifar10-resnet50-transfer.toml")),
    ("imagenet-resnet50-ffcv16", include_str!("../../../../recipes/imagenet-resnet50-ffcv16.toml")),
    ("imagenet-resnet50-ffcv18", include_str!("../../../../recipes/imagenet-resnet50-ffcv18.toml")),
    ("imagenet-resnet50-onecycle", include_str!("../../../../recipes/imagenet-resnet50-onecycle.toml")),
    ("imagenet-resnet50-rsb-a1", include_str!("../../../../recipes/imagenet-resnet50-rsb-a1.toml")),
    ("imagenet-resnet50-rsb-a2", include_str!("../../../../recipes/imagenet-resnet50-rsb-a2.toml")),
    ("imagenet-resnet50-rsb-a3", include_str!("../../../../recipes/imagenet-resnet50-rsb-a3.toml")),
    ("imagenet-resnet50-tv1", include_str!("../../../../recipes/imagenet-resnet50-tv1.toml")),
    ("imagenet-resnet50-tv2", include_str!("../../../../recipes/imagenet-resnet50-tv2.toml")),
    ("s1-cifar10", include_str!("../../../../recipes/s1-cifar10.toml")),
    ("s1-cifar10-corrected", include_str!("../../../../recipes/s1-cifar10-corrected.toml")),
    ("s2-cifar10", include_str!("../../../../recipes/s2-cifar10.toml")),
    ("s2-cifar10-corrected", include_str!("../../../../recipes/s2-cifar10-corrected.toml")),
    ("s3-cats-and-dogs", include_str!("../../../../recipes/s3-cats-and-dogs.toml")),
    ("s3-cats-and-dogs-corrected", include_str!("../../../../recipes/s3-cats-and-dogs-corrected.toml")),
    ("s4-cifar10", include_str!("../../../../recipes/s4-cifar10.toml")),
];

/// Train a model as a recipe says, or go on with a run.
///
/// RECIPE is a file, or the name of a recipe that is part of the program. The run folder gets the resolved recipe, the metrics of every step,
/// checkpoints, plots and, at the end, the best model as a bundle.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn train cifar10-resnet20 --data cifar-10-python.tar.gz
  timburn train recipe.toml --data flowers/ --set train.epochs=3 --set train.lr=0.02 -o runs/flowers
  timburn train --resume runs/flowers                    goes on from the newest checkpoint, bit for bit
  timburn train recipe.toml --dry-run                    checks everything, prints the resolved recipe, starts nothing
  timburn train --list                                   recipes that are part of the program

Ctrl-C finishes the step, saves, and exits with 130 (SIGTERM: 143); a second one exits at once.")]
pub(crate) struct Train {
    /// A recipe's file or name
    #[arg(value_name = "RECIPE", required_unless_present_any = ["resume", "list"], conflicts_with = "resume")]
    recipe: Option<PathBuf>,
    /// The data set; takes precedence over the recipe's data.path
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Changes a value of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run folder; must be new or empty [default: runs/NAME, runs/NAME-2, …]
    #[arg(long, short, value_name = "DIR", conflicts_with = "resume")]
    output: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, default_value = "auto")]
    device: String,
    /// Check everything, print the resolved recipe, start nothing
    #[arg(long)]
    dry_run: bool,
    /// List the recipes that are part of the program
    #[arg(long)]
    list: bool,
    /// Print an event a line as JSON: step, evaluation, epoch, end
    #[arg(long)]
    json: bool,
    /// No bar and no line per epoch
    #[arg(long, short)]
    quiet: bool,
}

impl Train {
    pub(crate) fn run(&self) -> Result<u8> {
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
        if self.dry_run {
            return self.describe(&recipe, &data, &model);
        }

        let environment = Environment::collect(&device_name(&device));
        let run = Run { device, environment, validation: data.validation().clone(), scores_on_test: data.scores_on_test };
        // Before the folder: what does not fit together leaves nothing behind.
        let trainer = Trainer::new(recipe.clone(), model, data, &run.device)?;
        let folder = match &self.resume {
            Some(folder) => RunFolder::resume(folder, &run.environment)?,
            None => RunFolder::create(
                self.output.clone().unwrap_or_else(|| unused(&name)),
                Overwrite::Refuse,
                &recipe.to_toml()?,
                &run.environment,
            )?,
        };
        let path = folder.path().to_owned();
        let (stop, signal) = (StopFlag::default(), Arc::new(AtomicUsize::new(0)));
        listen(&stop, &signal)?;
        let store = CheckpointStore::open(folder.checkpoints(), recipe.checkpoints.keep_last)?;
        let trainer = trainer.with_checkpoints(store)?.with_stop(stop);
        let resumed_at = self.resume.as_ref().map(|_| trainer.step());
        let recorder = Recorder::new(folder, run.validation.classes().clone(), resumed_at)?;
        if !self.quiet && !self.json {
            let note = if run.scores_on_test { "; scores are of the test set, for want of a validation set" } else { "" };
            output::note(&format!("{}{note}", path.display()));
        }
        let mut watch = (recorder, Screen::new(&recipe, self.json, self.quiet));
        let outcome = trainer.fit(&mut watch);
        watch.1.clear();
        let outcome = match outcome {
            Err(error) if self.resume.is_none() => return Err(discarded(watch.0, error)),
            outcome => outcome?,
        };
        self.finish(&recipe, &run, watch.0.folder(), &outcome)?;
        Ok(match (outcome.ending, signal.load(Ordering::Relaxed)) {
            (Ending::Interrupted, signal) => 128 + signal as u8,
            _ => 0,
        })
    }

    /// The resolved recipe, and the name of a new run's folder.
    fn recipe(&self) -> Result<(Recipe, String)> {
        match (&self.resume, &self.recipe) {
            (Some(folder), _) => {
                let document = Document::read(folder.join("recipe.toml"))?;
                Ok((resolved(document, &self.set, self.data.as_deref())?, String::new()))
            }
            (None, Some(path)) => read_recipe(path, &self.set, self.data.as_deref()),
            (None, None) => Err(missing("RECIPE", "none", "a recipe's file or name")),
        }
    }

    fn describe(&self, recipe: &Recipe, data: &TrainData, model: &Model) -> Result<u8> {
        let text = recipe.to_toml()?;
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
    fn finish(&self, recipe: &Recipe, run: &Run, folder: &RunFolder, outcome: &Outcome<Model>) -> Result<()> {
        let path = folder.path();
        let classes = run.validation.classes();
        if outcome.ending == Ending::Interrupted {
            if !self.json {
                output::note(&format!("stopped at step {}; go on with: timburn train --resume {}", outcome.step, path.display()));
            }
            return Ok(());
        }
        let Some(section) = &recipe.model else { return Ok(()) };
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
            weights,
        };
        let file = path.join("model.timburn");
        bundle.save(&file, timburn_weights::Precision::F32)?;
        let page = self.report(recipe, run, folder, bundle)?;
        if !self.json && !self.quiet {
            let best =
                outcome.best.map_or_else(String::new, |best| format!(", best {} {:.2} %", recipe.checkpoints.best.name(), 100.0 * best));
            output::results(|out| writeln!(out, "{}{best}\n{}", file.display(), page.display()))?;
        }
        Ok(())
    }

    /// One page about the run, the score that of the bundle on the validation set.
    fn report(&self, recipe: &Recipe, run: &Run, folder: &RunFolder, bundle: Bundle) -> Result<PathBuf> {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let contestant = Contestant::of(&name, bundle, &run.device)?;
        let sitting = contestant.sit(&run.validation, None)?;
        let batch = if recipe.evaluation.batch_size == 0 { recipe.train.batch_size } else { recipe.evaluation.batch_size };
        let found = contestant.examine(&sitting, batch, true, &run.device, self.quiet || self.json)?;
        let explain = contestant.explain(&sitting, &run.device)?;
        let summary = folder.summary()?;
        let mut evidence = Evidence::new(name, &sitting.classes, &found);
        let set = if run.scores_on_test { "test set, which also chose the best checkpoint" } else { "validation set" };
        evidence.lead = format!(
            "{} The score is that of the best checkpoint on the {set}, one view of each picture, in f32.",
            recipe.description.trim()
        );
        evidence.summary = &summary;
        evidence.grad_cam = Some(&explain);
        evidence.facts = environment_facts(&run.environment);
        evidence.recipe = Some(recipe.to_toml()?);
        evidence.write(folder.path())
    }
}

/// What a run's report needs beside its folder.
struct Run {
    device: timburn_core::device::Device,
    environment: Environment,
    validation: DynDataset,
    scores_on_test: bool,
}

/// The recipe of that file or name with the command line's values, and its own name.
pub(super) fn read_recipe(path: &Path, settings: &[String], data: Option<&Path>) -> Result<(Recipe, String)> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let shipped = SHIPPED.iter().find(|(name, _)| !path.exists() && Path::new(name) == path);
    let document = match shipped {
        Some((name, text)) => Document::new(*name, *text),
        None => Document::read(path)?,
    };
    Ok((resolved(document, settings, data)?, stem))
}

/// Settings in their order, `--data` last: what is nearest to the user's hand wins.
fn resolved(document: Document, settings: &[String], data: Option<&Path>) -> Result<Recipe> {
    let data = data.map(|path| toml_string(path).map(|path| format!("data.path={path}"))).transpose()?;
    let document = settings.iter().chain(&data).try_fold(document, |document, setting| document.set(setting))?;
    Recipe::from_document(&document)
}

/// The recipe's data set.
pub(super) fn read_data(recipe: &Recipe) -> Result<TrainData> {
    let path = recipe.data.path.as_ref().ok_or_else(|| missing("data.path", "none", "a data set: --data PATH"))?;
    TrainData::new(recipe, timburn_data::open(path)?)
}

/// The model of the recipe, with its starting weights.
pub(super) fn model(recipe: &Recipe, classes: usize, device: &timburn_core::device::Device) -> Result<Model> {
    let section = recipe.model.as_ref().ok_or_else(|| missing("model.name", "none", "an architecture, as `timburn models` lists them"))?;
    let options =
        timburn_models::ModelOptions { classes: Some(section.outputs(classes)), seed: recipe.train.seed, ..section.options.clone() };
    let device = device.clone().autodiff();
    if !section.pretrained && section.weights.is_none() {
        return create(&section.name, &options, &device);
    }
    let progress = DownloadBar::default();
    let bundle = resolve(Some(&section.name), section.weights.as_deref(), &HubOptions::from_env(), &progress)?;
    progress.clear();
    bundle.load_with(&options, &device)
}

/// What the bundle says about its pictures: the recipe's evaluation.
fn preprocessing(recipe: &Recipe) -> Result<Preprocessing> {
    timburn_data::Pipeline::new(recipe.augment.evaluation.clone())?.preprocessing()
}

/// `runs/NAME`, or the first of `runs/NAME-2`, … that is not there.
pub(super) fn unused(name: &str) -> PathBuf {
    let numbered = |number: u32| Path::new("runs").join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
    (1..).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(1))
}

/// The error that ended a new run, whose folder goes if the run never got to a step.
pub(super) fn discarded(recorder: Recorder, error: Error) -> Error {
    if let Err(second) = recorder.into_folder().discard_unused() {
        log::warn!("the folder of the run that failed is still there: {second}");
    }
    error
}

/// The first signal asks for the stop, the second one ends the process.
pub(super) fn listen(stop: &StopFlag, signal: &Arc<AtomicUsize>) -> Result<()> {
    for number in [SIGINT, SIGTERM] {
        let failed = || Error::io("listen for signals of", "this process");
        signal_hook::flag::register_conditional_shutdown(number, 128 + number, stop.inner()).map_err(failed())?;
        signal_hook::flag::register(number, stop.inner()).map_err(failed())?;
        signal_hook::flag::register_usize(number, signal.clone(), number as usize).map_err(failed())?;
    }
    Ok(())
}

fn toml_string(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| missing("--data", &path.display().to_string(), "a path in UTF-8"))?;
    Ok(serde_json::Value::from(text).to_string())
}

fn missing(name: &'static str, value: &str, expected: &str) -> Error {
    Error::Argument { name, value: value.into(), expected: expected.into() }
}

/// The run on the terminal: a bar an epoch, a line when it is over; or an event a line.
struct Screen {
    bar: ProgressBar,
    epochs: u64,
    json: bool,
    quiet: bool,
    /// Whether the bad files of the validation set were told.
    warned: bool,
    /// Of this epoch.
    samples: u64,
    time: Duration,
}

impl Screen {
    fn new(recipe: &Recipe, json: bool, quiet: bool) -> Self {
        let bar = if json || quiet { ProgressBar::hidden() } else { output::bar(0, "{prefix} {bar:24} {pos}/{len} {msg}, {eta} left") };
        Self { bar, epochs: recipe.train.epochs, json, quiet, warned: false, samples: 0, time: Duration::ZERO }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn event(&self, kind: &str, value: serde_json::Value) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut line = json!({ "event": kind });
        if let (Some(line), serde_json::Value::Object(value)) = (line.as_object_mut(), value) {
            line.extend(value);
        }
        output::results(|out| writeln!(out, "{line}"))
    }
}

fn value(event: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(event).unwrap_or_default()
}

impl Observer for Screen {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        if event.done == 1 {
            (self.samples, self.time) = (0, Duration::ZERO);
            self.bar.reset();
        }
        self.samples += event.samples as u64;
        self.time += event.time;
        self.bar.set_length(event.steps_per_epoch);
        self.bar.set_prefix(format!("epoch {}/{}", event.epoch + 1, self.epochs));
        self.bar.set_position(event.done);
        let rate = self.samples as f64 / self.time.as_secs_f64().max(1e-9);
        self.bar.set_message(format!("loss {:.3}, top-1 {:.1} %, lr {:.2e}, {rate:.0} images/s", event.loss, 100.0 * event.top1, event.lr));
        for bad in &event.bad {
            self.bar.suspend(|| log::warn!("left out: {}", bad.reason));
        }
        self.event("step", value(event))
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        if self.bar.length() != Some(total as u64) {
            self.bar.reset();
            self.bar.set_length(total as u64);
            self.bar.set_position(0);
            self.bar.set_message("scoring");
        }
        self.bar.inc(done as u64);
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        // Once: they will be as bad after the next epoch.
        if !std::mem::replace(&mut self.warned, true) {
            for bad in &event.bad {
                self.bar.suspend(|| log::warn!("not scored: {}", bad.reason));
            }
        }
        self.event("evaluation", json!({ "step": event.step, "epoch": event.epoch, "ema": event.ema, "best": event.best, "loss": event.report.loss, "top": event.report.top }))
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        if !self.json && !self.quiet {
            let evaluation = event.evaluation.as_ref().map_or_else(String::new, |report| {
                format!(
                    "; validation loss {:.4}, top-1 {:.2} %",
                    report.loss.unwrap_or(f64::NAN),
                    100.0 * report.top(1).unwrap_or(f64::NAN)
                )
            });
            let line = format!(
                "epoch {}/{}: loss {:.4}, top-1 {:.2} %{evaluation}; {:.0} images/s, {:.1} % waiting for data",
                event.epoch + 1,
                self.epochs,
                event.loss,
                100.0 * event.top1,
                event.images_per_second,
                100.0 * event.data_wait
            );
            self.bar.suspend(|| output::note(&line));
        }
        let mut event_value = value(event);
        if let Some(object) = event_value.as_object_mut() {
            object.remove("evaluation");
        }
        self.event("epoch", event_value)
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        self.event("end", json!({ "ending": event.ending, "step": event.step, "epochs": event.epochs, "best": event.best, "checkpoint": event.checkpoint }))
    }
}
