use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value, json};
use timburn_core::disk::{self, Disk, System};
use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};

use super::environment::Environment;
use super::lines::{self, Lines};
use super::summary::{self, Summary, SummaryRow};
use crate::lock::{FolderLock, LOCK};

const RECIPE: &str = "recipe.toml";
const ENVIRONMENT: &str = "environment.json";
const METRICS: &str = "metrics.jsonl";
const SUMMARY: &str = "summary.csv";
const BAD_FILES: &str = "bad_files.jsonl";
const LOG: &str = "log";
const CHECKPOINTS: &str = "checkpoints";
const PLOTS: &str = "plots";
/// What training and transfer learning leave beside a run's own files: the bundle, the evidence.
const RESULTS: [&str; 5] = ["model.timburn", "report.html", "card.md", "predictions.csv", RESULT];
const RESULT: &str = "result.json";
/// Beginning of the names of event files.
pub(super) const EVENTS: &str = "events.out.tfevents.";

/// What to do with a run that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Leave it alone and give an error.
    #[default]
    Refuse,
    /// Remove its files, and only those that a run writes.
    Replace,
}

/// A run's folder, open for writing; it may be shared among threads. Whoever has it open is its only writer.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    metrics: Mutex<Lines>,
    summary: Mutex<Summary>,
    bad_files: Mutex<(Lines, BTreeSet<String>)>,
    _lock: FolderLock,
}

impl RunFolder {
    /// Creates the folder of a new run, with the text of its recipe. An empty folder is taken as it is.
    ///
    /// # Errors
    /// [`CheckpointError::Occupied`] where a run is and `overwrite` does not allow to replace it, or where files are that no run writes;
    /// [`CheckpointError::Locked`] while another run writes there; [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, overwrite: Overwrite, recipe: &str, environment: &Environment) -> Result<Self> {
        let (path, disk) = (path.as_ref(), Arc::new(System));
        check_free(path, overwrite)?;
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let lock = FolderLock::take(path)?;
        // Nobody else can have come in since.
        check_free(path, overwrite)?;
        // The recipe last: as long as it is there, the folder is a run's, and an interrupted removal can be repeated.
        let mut old = contents(path)?;
        old.sort_by_key(|name| name == RECIPE);
        for name in old.iter().filter(|name| *name != LOCK) {
            let old = path.join(name);
            disk::remove_tree(&*disk, &old).map_err(Error::io("remove", &old))?;
        }
        disk::replace_file(&*disk, &path.join(RECIPE), |out| {
            out.write_all(recipe.as_bytes()).map_err(Error::io("write", path.join(RECIPE)))
        })?;
        Self::open(path, disk, lock, environment)
    }

    /// Writes what came of the run to `result.json`, whole or not at all, in place of what was said before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_result(&self, result: &Value) -> Result<()> {
        let path = self.path.join(RESULT);
        let text = serde_json::to_vec_pretty(result).map_err(io::Error::from).map_err(Error::io("write", &path))?;
        disk::replace_file(&*self.disk, &path, |out| out.write_all(&text).map_err(Error::io("write", &path)))
    }

    /// Whether [`create`](Self::create) would take this folder; nothing is written.
    ///
    /// # Errors
    /// [`CheckpointError::Occupied`] as for [`create`](Self::create); [`Error::Io`].
    pub fn check(path: impl AsRef<Path>, overwrite: Overwrite) -> Result<()> {
        check_free(path.as_ref(), overwrite)
    }

    /// Opens the folder of an interrupted run. [`rewind`](Self::rewind) it to the checkpoint's step before anything is added.
    ///
    /// # Errors
    /// [`CheckpointError::NotARun`] where no run is; [`CheckpointError::Locked`] while it is still going on; [`Error::Io`].
    pub fn resume(path: impl AsRef<Path>, environment: &Environment) -> Result<Self> {
        Self::resume_on(Arc::new(System), path, environment)
    }

    /// As [`resume`](Self::resume), with all replacements of files made through `disk`.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_on(disk: Arc<dyn Disk>, path: impl AsRef<Path>, environment: &Environment) -> Result<Self> {
        let path = path.as_ref();
        if !path.join(RECIPE).is_file() {
            return Err(CheckpointError::NotARun { path: path.to_owned(), missing: RECIPE }.into());
        }
        let lock = FolderLock::take(path)?;
        Self::open(path, disk, lock, environment)
    }

    fn open(path: &Path, disk: Arc<dyn Disk>, lock: FolderLock, environment: &Environment) -> Result<Self> {
        for name in contents(path)?.iter().filter(|name| is_leftover(name)) {
            let leftover = path.join(name);
            disk::remove_tree(&*disk, &leftover).map_err(Error::io("remove", &leftover))?;
        }
        for name in [CHECKPOINTS, PLOTS] {
            let folder = path.join(name);
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        add_environment(&*disk, &path.join(ENVIRONMENT), environment)?;
        let bad_files = path.join(BAD_FILES);
        let known = String::from_utf8_lossy(&lines::read(&bad_files)?).lines().filter_map(bad_path).collect();
        Ok(Self {
            path: path.to_owned(),
            metrics: Mutex::new(Lines::open(path.join(METRICS))?),
            summary: Mutex::new(Summary::open(path.join(SUMMARY))?),
            bad_files: Mutex::new((Lines::open(bad_files)?, known)),
            disk,
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the checkpoints, see [`CheckpointStore::open`](crate::CheckpointStore::open).
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// Folder of the plots.
    pub fn plots(&self) -> PathBuf {
        self.path.join(PLOTS)
    }

    /// The text of the recipe that the run was started with.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn recipe(&self) -> Result<String> {
        let path = self.path.join(RECIPE);
        fs::read_to_string(&path).map_err(Error::io("read", &path))
    }

    /// Adds a line to `metrics.jsonl`: `step` and the fields of `values`, which must serialise to an object. Numbers that are not finite
    /// become `null`. The line outlives the process when this returns.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Argument`] for values that are no object.
    pub fn append_metrics(&self, step: u64, values: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(values).map_err(|error| not_an_object(&error.to_string()))?;
        let Value::Object(values) = value else { return Err(not_an_object(&value.to_string())) };
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(values.into_iter().filter(|(key, _)| key != "step"));
        lock(&self.metrics).append(&Value::Object(line).to_string())
    }

    /// The lines of `metrics.jsonl`. A last line that was not finished is left out.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`]; [`Error::Io`].
    pub fn metrics(&self) -> Result<Vec<Map<String, Value>>> {
        let _no_line_is_half_written = lock(&self.metrics);
        let path = self.path.join(METRICS);
        let text = String::from_utf8_lossy(&lines::read(&path)?).into_owned();
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).enumerate();
        whole.map(|(index, line)| parse_metrics(&path, index, line)).collect()
    }

    /// Adds a row to `summary.csv`. The first row of a run decides the columns; a later one may leave some out. A value that is not finite
    /// is an empty cell.
    ///
    /// # Errors
    /// [`Error::Argument`] for a column that the first row did not have; [`Error::Io`].
    pub fn append_summary(&self, epoch: u64, step: u64, values: &[(&str, f64)]) -> Result<()> {
        lock(&self.summary).append(epoch, step, values)
    }

    /// The rows of `summary.csv`.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`]; [`Error::Io`].
    pub fn summary(&self) -> Result<Vec<SummaryRow>> {
        let _no_row_is_half_written = lock(&self.summary);
        summary::rows(&self.path.join(SUMMARY))
    }

    /// Records a file that is left out of the run, once per run however often it is met.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append_bad_file(&self, file: &Path, reason: &str) -> Result<()> {
        let file = file.to_string_lossy().into_owned();
        let mut bad_files = lock(&self.bad_files);
        if bad_files.1.contains(&file) {
            return Ok(());
        }
        bad_files.0.append(&json!({ "path": file, "reason": reason }).to_string())?;
        bad_files.1.insert(file);
        Ok(())
    }

    /// `log`, open for appending.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&self) -> Result<fs::File> {
        let path = self.path.join(LOG);
        fs::OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))
    }

    /// Takes `metrics.jsonl` and `summary.csv` back to `step`, that of the checkpoint from which the run goes on: what came later will come
    /// again. Each file is replaced in one step, so that an interruption here costs another call.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] for a line that no run writes; [`Error::Io`].
    pub fn rewind(&self, step: u64) -> Result<()> {
        let path = self.path.join(METRICS);
        lock(&self.metrics).retain(&*self.disk, |index, line| {
            let line = parse_metrics(&path, index, line)?;
            Ok(line.get("step").and_then(Value::as_u64).is_some_and(|found| found <= step))
        })?;
        lock(&self.summary).rewind(&*self.disk, step)
    }

    /// Removes a run that came to nothing, without a step's metrics and without a checkpoint, so that it does not stand in the way of the
    /// next try. Any other is left as it is. Returns whether it was removed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`CheckpointError::Malformed`] as for [`metrics`](Self::metrics).
    pub fn discard_unused(self) -> Result<bool> {
        if !self.metrics()?.is_empty() || contents(&self.checkpoints())?.iter().any(|name| name != LOCK) {
            return Ok(false);
        }
        let Self { path, disk, _lock, .. } = self;
        let mut names: Vec<String> = contents(&path)?.into_iter().filter(|name| is_a_run_s(name)).collect();
        // The recipe last but for the lock: until then the folder is a run's, that can be resumed or replaced.
        names.sort_by_key(|name| (name == LOCK, name == RECIPE));
        for name in names {
            let file = path.join(name);
            disk::remove_tree(&*disk, &file).map_err(Error::io("remove", &file))?;
        }
        // Whatever else is in it is the user's.
        let emptied = contents(&path)?.is_empty();
        if emptied {
            fs::remove_dir(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(emptied)
    }

    /// Makes the lines so far last through a power cut. Before a checkpoint is saved, this keeps the metrics from falling behind it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        lock(&self.metrics).sync()?;
        lock(&self.summary).sync()?;
        lock(&self.bad_files).0.sync()
    }
}

/// A thread that panicked while it wrote has left whole lines.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_an_object(value: &str) -> Error {
    Error::Argument { name: "metrics", value: value.to_owned(), expected: "an object with a field per metric".into() }
}

fn parse_metrics(path: &Path, index: usize, line: &str) -> Result<Map<String, Value>> {
    let found = match serde_json::from_str(line) {
        Ok(Value::Object(map)) if map.get("step").is_some_and(Value::is_u64) => return Ok(map),
        Ok(_) => line.chars().take(80).collect(),
        Err(error) => error.to_string(),
    };
    let expected = "a JSON object with a step".to_owned();
    Err(CheckpointError::Malformed { path: path.to_owned(), line: index + 1, expected, found }.into())
}

fn bad_path(line: &str) -> Option<String> {
    serde_json::from_str::<Value>(line).ok()?.get("path")?.as_str().map(str::to_owned)
}

/// Adds to the environments of all starts, the newest last.
fn add_environment(disk: &dyn Disk, path: &Path, environment: &Environment) -> Result<()> {
    let bytes = lines::read(path)?;
    let mut starts: Vec<Value> = if bytes.is_empty() {
        Vec::new()
    } else {
        serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Malformed {
            path: path.to_owned(),
            line: error.line(),
            expected: "a list with the environment of each start".into(),
            found: error.to_string(),
        })?
    };
    let failed = || Error::io("write", path);
    starts.push(serde_json::to_value(environment).map_err(io::Error::from).map_err(failed())?);
    let text = serde_json::to_vec_pretty(&starts).map_err(io::Error::from).map_err(failed())?;
    disk::replace_file(disk, path, |out| out.write_all(&text).and_then(|()| out.write_all(b"\n")).map_err(failed()))
}

/// Names in the folder; none where there is no folder. A name that is not UTF-8 is none of a run's, and is shown as well as can be.
fn contents(path: &Path) -> Result<Vec<String>> {
    match fs::read_dir(path) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(Error::io("list", path)))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", path)(error)),
    }
}

fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(disk::INCOMPLETE)
}

fn is_a_run_s(name: &str) -> bool {
    [RECIPE, ENVIRONMENT, METRICS, SUMMARY, BAD_FILES, LOG, CHECKPOINTS, PLOTS, LOCK].contains(&name)
        || RESULTS.contains(&name)
        || name.starts_with(EVENTS)
        || is_leftover(name)
}

fn check_free(path: &Path, overwrite: Overwrite) -> Result<()> {
    let names = contents(path)?;
    let reason = if names.iter().all(|name| name == LOCK || is_leftover(name)) {
        return Ok(());
    } else if !names.iter().any(|name| name == RECIPE) {
        "the folder is not empty and no run's; choose another one".to_owned()
    } else if overwrite == Overwrite::Refuse {
        "a run is there; choose another folder, or allow to overwrite it (--overwrite); one of `timburn train` can be resumed".to_owned()
    } else if let Some(name) = names.iter().find(|name| !is_a_run_s(name)) {
        format!("`{name}` in it is no file of a run; move it away first")
    } else {
        return Ok(());
    };
    Err(CheckpointError::Occupied { path: path.to_owned(), reason }.into())
}
