mod plan;
mod report;
mod screen;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use timburn_core::error::TrainError;
use timburn_core::{Error, Result, device_name, open_device};
use timburn_data::Dataset;
use timburn_models::Head;
use timburn_train::run::{Environment, Overwrite};
use timburn_train::transfer::{Epochs, FineTune, FineTuned, PhaseReport};
use timburn_train::{Recorder, RunFolder, StopFlag};
use timburn_weights::{Bundle, HubOptions, resolve};

use self::screen::Screen;
use super::estimate::check_place;
use super::eval::summary;
use super::train::{discarded, unused};
use crate::interrupt::Interrupt;
use crate::output::{self, DownloadBar};

/// Make a classifier of a folder of pictures.
///
/// A network that ImageNet taught looks at every picture once; a head is trained on what it says; then, as far as the time given allows, the
/// network itself is trained too, its early layers slowly. What did best on the validation set is the result: one file for
/// `timburn predict --weights`, with a report.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn finetune flowers/                      a folder a class, or train/, val/, test/ of such
  timburn finetune flowers/ --minutes 30 -o runs/flowers
  timburn finetune flowers/ --head-only          the quickest good answer
  timburn finetune flowers/ --model resnet50 --head fastai --epochs 5
  timburn finetune flowers/ --per-class 10       what would ten pictures a class give?
  timburn finetune flowers/ --dry-run            what would be done, and for how long?
  timburn predict rose.jpg --weights runs/finetune-flowers/model.timburn

Ctrl-C ends the training and keeps the best so far (exit code 130); a second one exits at once.")]
pub(crate) struct Finetune {
    /// The data set: class folders, an archive of them, or any other layout that `timburn data inspect` knows
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Architecture, or weights as `arch.tag`; `timburn models` lists them [default: the embedded EfficientNet-Lite0]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Weights: a timburn bundle, or .safetensors or .pth for the architecture given with --model
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// linear, fastai, cosine, or hidden widths: 1024,512
    #[arg(long, value_name = "HEAD", default_value = "linear", value_parser = parse_head, help_heading = HEAD)]
    head: Head,
    /// Train the head alone
    #[arg(long, conflicts_with_all = ["epochs", "minutes"], help_heading = NETWORK)]
    head_only: bool,
    /// Epochs in which the whole network is trained [default: as many as fit --minutes, 5 at most]
    #[arg(long, value_name = "N", help_heading = NETWORK)]
    epochs: Option<u64>,
    /// Time for training the whole network, in minutes
    #[arg(long, value_name = "M", default_value_t = 10.0, conflicts_with = "epochs", help_heading = NETWORK)]
    minutes: f64,
    /// Leave everything up to this stage as it is (`timburn models NAME` lists the stages)
    #[arg(long, value_name = "STAGE", help_heading = NETWORK)]
    freeze: Option<String>,
    /// Views of each training picture that the head sees: 1, or more with random crops and flips
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = HEAD)]
    views: u16,
    /// Only so many training pictures of each class
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = DATA)]
    per_class: Option<u32>,
    /// Weigh rare classes up
    #[arg(long, help_heading = DATA)]
    balanced: bool,
    /// One sigmoid output instead of two, for two classes
    #[arg(long, help_heading = HEAD)]
    sigmoid: bool,
    /// Learning rate of the last layers
    #[arg(long, value_name = "LR", default_value_t = FineTune::default().lr, help_heading = NETWORK)]
    lr: f64,
    /// Pictures in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Share of the pictures held out for validation, where the data has no validation set
    #[arg(long, value_name = "SHARE", default_value_t = FineTune::default().validation, help_heading = DATA)]
    validation: f64,
    /// Decides split, order, augmentation and first weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder of the results; must be new or empty [default: runs/finetune-NAME, runs/finetune-NAME-2, …]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Remove the run that is in the folder; files that no run writes are never removed
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Keep features here, and find them here the next time
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Check everything, say what would be done and how long it takes, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the outcome as JSON: {"run", "model", "report", "chosen", "validation", "test", "baselines", "phases"}
    #[arg(long)]
    json: bool,
    /// Print every event as a line of JSON, the outcome last
    #[arg(long, conflicts_with = "json")]
    events: bool,
    /// No bars, only the result
    #[arg(long, short)]
    quiet: bool,
}

const DATA: &str = "Data";
const HEAD: &str = "Head";
const NETWORK: &str = "Training of the whole network";

fn parse_head(text: &str) -> std::result::Result<Head, String> {
    let widths: std::result::Result<Vec<usize>, _> = text.split(',').map(|width| width.trim().parse()).collect();
    let head = match (text, widths) {
        ("linear", _) => Head::Linear,
        ("fastai", _) => Head::Fastai,
        ("cosine", _) => Head::Cosine(Default::default()),
        (_, Ok(widths)) => Head::Mlp(timburn_models::blocks::head::Mlp { widths, ..Default::default() }),
        _ => return Err("expected linear, fastai, cosine, or widths such as 1024,512".into()),
    };
    head.validate().map_err(|error| error.to_string())?;
    Ok(head)
}

impl Finetune {
    /// `timburn finetune DATA --minutes MINUTES --output OUTPUT`.
    pub(super) fn of(data: PathBuf, output: PathBuf, minutes: f64, device: String, quiet: bool, json: bool) -> Self {
        let defaults = FineTune::default();
        Self {
            data,
            model: None,
            weights: None,
            head: Head::Linear,
            head_only: false,
            epochs: None,
            minutes,
            freeze: None,
            views: 1,
            per_class: None,
            balanced: false,
            sigmoid: false,
            lr: defaults.lr,
            batch: 32,
            validation: defaults.validation,
            seed: 0,
            output: Some(output),
            overwrite: false,
            cache: None,
            device,
            dry_run: false,
            json,
            events: false,
            quiet,
        }
    }

    pub(crate) fn run(&self) -> Result<u8> {
        let (code, outcome) = self.outcome(&mut Interrupt::listen)?;
        if let Some(value) = outcome.filter(|_| self.json || self.dry_run) {
            output::json(&value)?;
        }
        Ok(code)
    }

    /// Does it; the exit code, and the outcome as `--json` prints it. From `listen` on, signals end it between two steps.
    pub(super) fn outcome(&self, listen: &mut dyn FnMut() -> Result<Interrupt>) -> Result<(u8, Option<Value>)> {
        let splits = timburn_data::open(&self.data)?;
        let device = open_device(&self.device)?;
        let progress = DownloadBar::new(self.quiet);
        let bundle = resolve(self.model.as_deref(), self.weights.as_deref(), &HubOptions::from_env(), &progress)?;
        progress.clear();
        let outputs = if self.sigmoid { 1 } else { splits.classes().len() };
        let recipe = self.job(StopFlag::default())?.recipe(&bundle.preprocessing, outputs)?;
        if self.sigmoid && splits.classes().len() != 2 {
            let expected = "two classes".into();
            return Err(Error::Argument { name: "--sigmoid", value: format!("{} classes", splits.classes().len()), expected });
        }
        let name = self.data.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = self.output.clone().unwrap_or_else(|| unused(&format!("finetune-{name}")));
        let overwrite = if self.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
        // Before all the work, not after it.
        RunFolder::check(&path, overwrite)?;
        check_place(&path)?;
        if self.dry_run {
            return Ok((0, self.describe(&bundle, splits, outputs, &path, &device)?));
        }

        let environment = Environment::collect(&device_name(&device));
        // Before the folder: who interrupts from here on leaves none.
        let interrupt = listen()?;
        let mut job = self.job(interrupt.stop.clone())?;
        let folder = RunFolder::create(&path, overwrite, &self.text(&recipe, &base(&bundle))?, &environment)?;
        job.checkpoints = Some(folder.checkpoints());
        let screen = Screen::new(self.events, self.is_quiet());
        screen.note(&format!("{}: {} pictures of {} classes", self.data.display(), splits.train.len(), splits.classes().len()));
        let mut watch = (Recorder::new(folder, splits.classes().clone(), None)?, screen);
        let tuned = job.fit_observed(&bundle, splits, &device, &mut watch);
        watch.1.clear();
        let tuned = match tuned {
            Err(error) => {
                let error = discarded(watch.0, error);
                return match error {
                    Error::Train(TrainError::Interrupted) => {
                        watch.1.note(&error.to_string());
                        let value = json!({ "run": null, "interrupted": true });
                        self.event(&value)?;
                        Ok((interrupt.code(), Some(value)))
                    }
                    error => Err(error),
                };
            }
            Ok(tuned) => tuned,
        };
        for bad in &tuned.bad {
            watch.0.folder().append_bad_file(Path::new(&bad.name), &bad.reason)?;
            log::warn!("left out: {}", bad.reason);
        }
        let file = path.join("model.timburn");
        tuned.save(&file)?;
        let page = if tuned.interrupted {
            watch.1.note("stopped: the best so far is the result, without a report");
            None
        } else {
            Some(self.report(&tuned, watch.0.folder(), &environment, &device, &file)?)
        };
        let value = self.value(&tuned, &path, &file, page.as_deref());
        watch.0.folder().write_result(&result(&value, &tuned))?;
        self.tell(&tuned, &value, &file, page.as_deref())?;
        Ok((if tuned.interrupted { interrupt.code() } else { 0 }, Some(value)))
    }

    /// Whether stderr is for errors and warnings alone.
    fn is_quiet(&self) -> bool {
        self.quiet || self.json || self.events
    }

    fn job(&self, stop: StopFlag) -> Result<FineTune> {
        if !(self.minutes >= 0.0 && self.minutes <= 1e6) {
            return Err(Error::Argument { name: "--minutes", value: self.minutes.to_string(), expected: "a number from 0 on".into() });
        }
        let within = Epochs::Within { time: Duration::from_secs_f64(60.0 * self.minutes), most: 5 };
        Ok(FineTune {
            epochs: if self.head_only { Epochs::Fixed(0) } else { self.epochs.map_or(within, Epochs::Fixed) },
            head: self.head.clone(),
            single_logit: self.sigmoid,
            views: usize::from(self.views),
            batch_size: usize::from(self.batch),
            lr: self.lr,
            freeze: self.freeze.clone(),
            balanced: self.balanced,
            validation: self.validation,
            per_class: self.per_class.map(|count| count as usize),
            seed: self.seed,
            cache: self.cache.clone(),
            stop,
            ..FineTune::default()
        })
    }

    /// The outcome for programs; shares in `[0, 1]`.
    fn value(&self, tuned: &FineTuned, run: &Path, file: &Path, page: Option<&Path>) -> Value {
        let phase = |phase: &PhaseReport| json!({ "name": phase.name, "epochs": phase.epochs, "seconds": phase.time.as_secs_f64(), "top1": phase.report.top(1), "loss": phase.report.loss });
        json!({
            "run": run, "model": file, "report": page, "chosen": tuned.chosen, "interrupted": tuned.interrupted, "bad": tuned.bad.len(),
            "validation": summary(&tuned.validation), "test": tuned.test.as_ref().map(summary),
            "shared": tuned.shared, "baselines": { "knn": tuned.baselines.knn, "probe": tuned.baselines.probe },
            "phases": tuned.phases.iter().map(phase).collect::<Vec<_>>(),
        })
    }

    /// The last line of `--events`.
    fn event(&self, value: &Value) -> Result<()> {
        if !self.events {
            return Ok(());
        }
        let mut line = json!({ "event": "outcome" });
        if let (Some(line), Some(value)) = (line.as_object_mut(), value.as_object()) {
            line.extend(value.clone());
        }
        output::json(&line)
    }

    fn tell(&self, tuned: &FineTuned, value: &Value, file: &Path, page: Option<&Path>) -> Result<()> {
        if self.events || self.json {
            return self.event(value);
        }
        let top1 = |report: &timburn_train::Report| report.top(1).map(|share| 100.0 * share);
        output::results(|out| {
            if let Some(score) = top1(&tuned.validation) {
                let set = if tuned.data.scores_on_test { "test set, which made the choice too: " } else { "" };
                writeln!(out, "validation  {score:.2} % of {} pictures ({set}{})", tuned.validation.samples, said(tuned.chosen))?;
            }
            if let Some((score, test)) = tuned.test.as_ref().and_then(|test| Some((top1(test)?, test))) {
                let shared = tuned.shared.iter().find(|shared| shared.part == "test").map(|shared| shared.count);
                let but = shared.map_or_else(String::new, |count| format!("; {count} of them are training pictures too"));
                writeln!(out, "test        {score:.2} % of {} pictures, which took no part in any choice{but}", test.samples)?;
            }
            writeln!(
                out,
                "baselines   {:.2} % nearest neighbours, {:.2} % logistic regression",
                100.0 * tuned.baselines.knn,
                100.0 * tuned.baselines.probe
            )?;
            if let Some(page) = page {
                writeln!(out, "report      {}", page.display())?;
            }
            writeln!(out, "model       {}", file.display())?;
            writeln!(out, "use it      timburn predict PICTURE --weights {}", file.display())?;
            if cfg!(feature = "serve") {
                writeln!(out, "show it     timburn serve {}", file.display())?;
            }
            Ok(())
        })
    }
}

/// The outcome for `result.json`: with the whole reports, of the model that was chosen.
fn result(value: &Value, tuned: &FineTuned) -> Value {
    let mut result = value.clone();
    if let Some(fields) = result.as_object_mut() {
        fields.insert("best".into(), json!(tuned.validation.top(1)));
        fields.insert("validation".into(), json!(tuned.validation));
        fields.insert("test".into(), json!(tuned.test));
    }
    result
}

/// What the network's weights are called.
fn base(bundle: &Bundle) -> String {
    bundle.card.name.clone().or_else(|| bundle.card.source.clone()).unwrap_or_else(|| bundle.model.architecture.clone())
}

/// As `--head` takes it.
fn named(head: &Head) -> String {
    match head {
        Head::Linear => "linear".into(),
        Head::Fastai => "fastai".into(),
        Head::Cosine(_) => "cosine".into(),
        Head::Mlp(mlp) => mlp.widths.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        Head::Layers(_) => "layers".into(),
    }
}

fn said(chosen: &str) -> &'static str {
    if chosen == "body" { "the whole network trained" } else { "the head alone trained" }
}
