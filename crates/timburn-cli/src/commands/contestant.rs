//! A model that is scored on data it was not made for: whose classes are whose.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use timburn_core::device::Device;
use timburn_core::error::TrainError;
use timburn_core::{Classes, Error, Result, WeightsError};
use timburn_data::loader::{Normalization, Sampling};
use timburn_data::{Dataset, DynDataset, Loader, LoaderOptions, Rgb8Image, Splits};
use timburn_infer::{Compiled, GradCam};
use timburn_models::ImageModel;
use timburn_train::recipe::TestTime;
use timburn_train::{Evaluator, Examination, Grouped, Loss, LossConfig, Precision, StopFlag};
use timburn_weights::{Bundle, HubOptions, resolve};

use super::estimate::{about, check_output, forward_time};
use super::train::unused;
use crate::output::{self, DownloadBar};

/// Samples whose features are kept for a map of them.
const MAPPED: usize = 2000;

/// Which pictures are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// The test set; without one the validation set; without that everything
    Auto,
    /// The training set
    Train,
    /// The validation set
    Validation,
    /// The test set
    Test,
}

/// What scoring verbs have in common.
#[derive(Args)]
pub(super) struct Scoring {
    /// The data set, in any layout that `timburn data inspect` knows
    #[arg(value_name = "DATA")]
    pub(super) data: PathBuf,
    /// Which pictures
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) split: Part,
    /// Lines `CLASS OF THE MODEL,CLASS OF THE DATA`, for a model without the data's classes: names, ids, indices or ranges of indices
    #[arg(long, value_name = "FILE")]
    pub(super) map: Option<PathBuf>,
    /// Folder of the report; must be new or empty [default: runs/VERB-NAME, runs/VERB-NAME-2, …]
    #[arg(long, short, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Replace the report that is in the folder
    #[arg(long, requires = "output")]
    pub(super) overwrite: bool,
    /// No report, only the numbers
    #[arg(long, conflicts_with = "output")]
    pub(super) no_report: bool,
    /// Pictures in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) batch: u16,
    /// Look at each picture and its mirror image, and average the two answers: twice the time, often a little more accurate
    #[arg(long)]
    pub(super) flip: bool,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub(super) device: String,
    /// Check everything, say what would be done and how long it takes, write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the numbers as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// No bars
    #[arg(long, short)]
    pub(super) quiet: bool,
}

impl Scoring {
    /// Where the report of `verb` goes.
    pub(super) fn folder(&self, verb: &str) -> Result<PathBuf> {
        let name = self.data.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.output.clone().unwrap_or_else(|| unused(&format!("{verb}-{name}")));
        if !self.no_report {
            check_output(&folder, self.overwrite)?;
        }
        Ok(folder)
    }

    /// How both verbs examine.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            batch: usize::from(self.batch),
            test_time: if self.flip { TestTime::Flip } else { TestTime::None },
            features: !self.no_report,
            quiet: self.quiet || self.json,
        }
    }

    /// What a report says of each picture's views.
    pub(super) fn views(&self) -> &'static str {
        if self.flip { ", each with its mirror image" } else { "" }
    }

    /// Says what would be done, for `--dry-run`.
    pub(super) fn describe(&self, contestants: &[(&Contestant, &Sitting)], part: &str, folder: &Path, device: &Device) -> Result<u8> {
        let mut models = Vec::new();
        for (contestant, sitting) in contestants {
            let pictures = sitting.dataset.len();
            let views = if self.flip { 2 } else { 1 };
            let batch = usize::from(self.batch);
            let time = forward_time(&contestant.model, &contestant.bundle.preprocessing, views * pictures, batch, device)?;
            models.push((contestant.name.as_str(), pictures, time));
        }
        if self.json {
            let told = |(name, pictures, time): &(&str, usize, Duration)| json!({ "model": name, "pictures": pictures, "estimated_seconds": time.as_secs_f64() });
            let report = (!self.no_report).then_some(folder);
            let value = json!({ "dry_run": true, "part": part, "flip": self.flip, "models": models.iter().map(told).collect::<Vec<_>>(), "report": report });
            output::json(&value)?;
            return Ok(0);
        }
        output::results(|out| {
            for (name, pictures, time) in &models {
                writeln!(out, "{name}: {pictures} pictures, the {part}; {} (forward passes alone)", about(*time))?;
            }
            if self.no_report { Ok(()) } else { writeln!(out, "report to {}", folder.display()) }
        })?;
        Ok(0)
    }
}

impl Part {
    /// The pictures, and what to call them.
    pub(super) fn of(self, splits: Splits) -> Result<(DynDataset, &'static str)> {
        let missing = |what: &str| Error::Argument {
            name: "--split",
            value: what.to_owned(),
            expected: "a part that the data has; timburn data inspect shows them".into(),
        };
        let Splits { train, validation, test } = splits;
        match self {
            Self::Train => Ok((train, "training set")),
            Self::Validation => validation.map(|set| (set, "validation set")).ok_or_else(|| missing("validation")),
            Self::Test => test.map(|set| (set, "test set")).ok_or_else(|| missing("test")),
            Self::Auto => Ok(match (test, validation) {
                (Some(test), _) => (test, "test set"),
                (None, Some(validation)) => (validation, "validation set"),
                (None, None) => (train, "whole set"),
            }),
        }
    }
}

/// A model with what it needs.
pub(super) struct Contestant {
    /// As the user called it.
    pub(super) name: String,
    pub(super) bundle: Bundle,
    model: Compiled,
}

/// How a contestant is examined.
pub(super) struct Terms {
    /// Pictures in a batch.
    pub(super) batch: usize,
    /// Views of each picture.
    pub(super) test_time: TestTime,
    /// Keeps features of some pictures, for a map of them.
    pub(super) features: bool,
    /// No bar.
    pub(super) quiet: bool,
}

/// A contestant and pictures labelled so that it can be scored on them.
pub(super) struct Sitting {
    model: Answers,
    pub(super) dataset: DynDataset,
    pub(super) classes: Classes,
}

enum Answers {
    Own(Box<Compiled>),
    Gathered(Box<Grouped<Compiled>>),
}

impl Contestant {
    /// A bundle's file, or the name of published weights; `weights` are those for a name.
    pub(super) fn open(name: &str, weights: Option<&Path>, device: &Device, precision: timburn_infer::Precision) -> Result<Self> {
        let progress = DownloadBar::default();
        let file = Path::new(name);
        // What is written like a file is one, also where it is missing: no model is called so.
        let is_file = file.is_file() || file.components().count() > 1 || file.extension().is_some_and(|extension| extension == "timburn");
        let (model, weights) = match weights {
            None if is_file => (None, Some(file)),
            _ => (Some(name), weights),
        };
        let bundle = resolve(model, weights, &HubOptions::from_env(), &progress)?;
        progress.clear();
        Self::with_precision(name, bundle, device, precision)
    }

    /// The model of a bundle that is at hand.
    pub(super) fn of(name: &str, bundle: Bundle, device: &Device) -> Result<Self> {
        Self::with_precision(name, bundle, device, timburn_infer::Precision::F32)
    }

    fn with_precision(name: &str, bundle: Bundle, device: &Device, precision: timburn_infer::Precision) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let model = match (&bundle.ranges, precision) {
            (Some(ranges), timburn_infer::Precision::Int8) => Compiled::quantized(bundle.load(&device)?, &device, ranges)?,
            _ => Compiled::with_precision(bundle.load(&device)?, &device, precision)?,
        };
        Ok(Self { name: name.to_owned(), bundle, model })
    }

    /// What the network is computed in.
    pub(super) fn precision(&self) -> timburn_infer::Precision {
        self.model.precision()
    }

    /// Brings the model's classes and the data's together: the data's are looked up among the model's, by id or name; else `map` says which of
    /// the model's stand for which of the data's.
    pub(super) fn sit(&self, dataset: &DynDataset, map: Option<&ClassMap>) -> Result<Sitting> {
        let (own, asked) = (&self.bundle.classes, dataset.classes());
        if own.names == asked.names {
            let model = Answers::Own(Box::new(self.model.clone()));
            return Ok(Sitting { model, dataset: dataset.clone(), classes: asked.clone() });
        }
        let known = |index: usize| {
            let id = asked.ids.get(index).or_else(|| asked.names.get(index));
            id.and_then(|id| own.index_of(id)).or_else(|| asked.name(index).and_then(|name| own.index_of(name)))
        };
        if (0..asked.len()).all(|index| known(index).is_some()) {
            let dataset: DynDataset = Arc::new(dataset.clone().with_classes(own)?);
            return Ok(Sitting { model: Answers::Own(Box::new(self.model.clone())), dataset, classes: own.clone() });
        }
        let Some(map) = map else {
            let unknown: Vec<&str> =
                (0..asked.len()).filter(|&index| known(index).is_none()).filter_map(|index| asked.name(index)).collect();
            let expected = format!("classes of {}, or --map FILE, which says which of its classes stand for them", self.name);
            return Err(Error::Argument { name: "classes of the data", value: shortened(&unknown), expected });
        };
        let model = Grouped::new(self.model.clone(), map.groups(own, asked)?)?;
        Ok(Sitting { model: Answers::Gathered(Box::new(model)), dataset: dataset.clone(), classes: asked.clone() })
    }

    /// Scores it, until `stop` asks for the end.
    pub(super) fn examine(&self, sitting: &Sitting, terms: &Terms, device: &Device, stop: &StopFlag) -> Result<Examination> {
        let device = device.clone().without_autodiff();
        let options = LoaderOptions { batch_size: terms.batch, sampling: Sampling::Sequential, ..LoaderOptions::default() };
        let loader = Loader::new(sitting.dataset.clone(), Arc::new(self.bundle.preprocessing.clone()), options)?;
        let bar = if terms.quiet {
            indicatif::ProgressBar::hidden()
        } else {
            output::bar(loader.samples() as u64, "{msg} {bar:30} {pos}/{len} pictures, {rate}, {eta} left")
        };
        bar.set_message(self.name.clone());
        let outputs = sitting.model.outputs();
        let loss = Loss::new(LossConfig::for_outputs(outputs), outputs)?;
        let evaluator = Evaluator {
            loader: &loader,
            normalization: Normalization::from(&self.bundle.preprocessing),
            loss: Some(&loss),
            test_time: terms.test_time,
            top: &[1, 5],
            precision: Precision::F32,
        };
        let kept = if terms.features { MAPPED } else { 0 };
        let mut progress = |done: usize| bar.inc(done as u64);
        let found = match &sitting.model {
            Answers::Own(model) => evaluator.examine_until(model.as_ref(), &device, kept, stop, &mut progress),
            Answers::Gathered(model) => evaluator.examine_until(model.as_ref(), &device, kept, stop, &mut progress),
        };
        bar.finish_and_clear();
        found
    }

    /// Explains answers of a sitting.
    pub(super) fn explain(&self, sitting: &Sitting, device: &Device) -> Result<impl Fn(&Rgb8Image, usize) -> Result<Rgb8Image> + use<>> {
        enum Cam {
            Own(GradCam<Compiled>),
            Gathered(GradCam<Grouped<Compiled>>),
        }
        let cam = match &sitting.model {
            Answers::Own(model) => Cam::Own(GradCam::new(model.as_ref(), &self.bundle.preprocessing, None, device)?),
            Answers::Gathered(model) => Cam::Gathered(GradCam::new(model.as_ref(), &self.bundle.preprocessing, None, device)?),
        };
        Ok(move |image: &Rgb8Image, class: usize| match &cam {
            Cam::Own(cam) => cam.overlay(image, Some(class)),
            Cam::Gathered(cam) => cam.overlay(image, Some(class)),
        })
    }
}

/// An answer that is no number comes of the weights where nothing is trained whose rate could be lowered.
pub(super) fn of_weights(name: &str) -> impl FnOnce(Error) -> Error {
    let name = name.to_owned();
    move |error| match error {
        Error::Train(TrainError::NonFiniteSamples { names, .. }) => WeightsError::NonFinite { name, of: names.into_iter().next() }.into(),
        error => error,
    }
}

impl Answers {
    fn outputs(&self) -> usize {
        match self {
            Self::Own(model) => model.num_classes(),
            Self::Gathered(model) => model.num_classes(),
        }
    }
}

/// Which classes of a model stand for which classes of the data.
pub(super) struct ClassMap {
    path: PathBuf,
    /// Line, class of the model or range of indices, class of the data.
    lines: Vec<(usize, String, String)>,
}

impl ClassMap {
    /// Reads lines `CLASS,DATA CLASS`: a class's name, id or index, or a range of indices (`281-285,cats`). `#` begins a remark.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            // Names of ImageNet's classes hold commas; those of folders seldom do.
            let Some((model, data)) = line.rsplit_once(',') else {
                return Err(fault(path, number + 1, line, "CLASS OF THE MODEL,CLASS OF THE DATA"));
            };
            lines.push((number + 1, model.trim().to_owned(), data.trim().to_owned()));
        }
        Ok(Self { path: path.to_owned(), lines })
    }

    fn groups(&self, own: &Classes, asked: &Classes) -> Result<Vec<Vec<usize>>> {
        let mut groups = vec![Vec::new(); asked.len()];
        for (line, model, data) in &self.lines {
            let members: Vec<usize> = if let Some(index) = own.index_of(model) {
                vec![index]
            } else {
                let (first, last) = model.split_once('-').unwrap_or((model, model));
                match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
                    (Ok(first), Ok(last)) if first <= last && last < own.len() => (first..=last).collect(),
                    _ => return Err(fault(&self.path, *line, model, &format!("a class of the model, or indices below {}", own.len()))),
                }
            };
            let group = asked.index_of(data).and_then(|index| groups.get_mut(index));
            match group {
                Some(group) => group.extend(members),
                None => return Err(fault(&self.path, *line, data, &format!("a class of the data: {}", shortened(&asked.names)))),
            }
        }
        if let Some(empty) = groups.iter().position(Vec::is_empty) {
            let expected = format!("a line for class `{}` of the data", asked.name(empty).unwrap_or_default());
            return Err(Error::Argument { name: "--map", value: self.path.display().to_string(), expected });
        }
        Ok(groups)
    }
}

fn fault(path: &Path, line: usize, found: &str, expected: &str) -> Error {
    Error::Argument { name: "--map", value: format!("{}, line {line}: {found}", path.display()), expected: expected.to_owned() }
}

/// The first few of many.
fn shortened(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(shown.len());
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// What a title calls the data at `path`: its last part.
pub(crate) fn called(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_gathers_names_ids_and_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.csv");
        std::fs::write(&path, "# two kinds\n281-283,cats\ntabby, tabby cat,cats # a name with a comma\n\nn02085620, dogs\n").unwrap();
        let (mut own, asked) = (Classes::imagenet(), Classes::new(vec!["cats".into(), "dogs".into()]));
        own.names[281] = "tabby, tabby cat".into();
        let groups = ClassMap::read(&path).unwrap().groups(&own, &asked).unwrap();
        assert_eq!(groups, [vec![281, 282, 283, 281], vec![151]]);

        for (text, expected) in [("281\n", "line 1"), ("0-1000,cats\n", "below 1000"), ("1,birds\n", "cats, dogs"), ("1,cats\n", "`dogs`")]
        {
            std::fs::write(&path, text).unwrap();
            let error = ClassMap::read(&path).and_then(|map| map.groups(&own, &asked)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
