use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use timburn_core::{Error, Result, open_device};
use timburn_infer::{Guess, Precision, Prediction, Predictor};
use timburn_weights::{HubOptions, resolve};

use crate::advice::advice;
use crate::interrupt::Interrupt;
use crate::output::{self, DownloadBar};

/// Name a picture's most probable classes.
///
/// Without FILE, classifies a photograph that is part of the program. A folder stands for the pictures in and below it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn predict                                  a first look, offline
  timburn predict dog.jpg --top 3
  timburn predict holiday/ --json > labels.json
  timburn predict dog.jpg --model resnet50         downloads torchvision's best once
  timburn predict dog.jpg --model resnet50 --weights resnet50-11ad3fa6.pth
  timburn predict rose.jpg --weights flowers.timburn

A picture that cannot be read is an error on stderr and costs no other its answer; the exit code is then 3. Ctrl-C ends after the batch \
at hand (exit code 130).")]
pub(crate) struct Predict {
    /// Pictures (JPEG, PNG, GIF, WebP, BMP, TIFF) or folders of pictures
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Architecture, or weights as `arch.tag`; `timburn models` lists them [default: the embedded EfficientNet-Lite0]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Weights: a timburn bundle, or .safetensors or .pth for the architecture given with --model
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// f32; bf16: half the memory for weights, and faster where the CPU multiplies bf16 (AVX512-BF16), probabilities to some two digits; int8:
    /// a quarter of it and the fastest (AVX512-VNNI, AVX-VNNI), for a bundle of `timburn export --int8`
    #[arg(long, value_name = "TYPE", default_value_t)]
    precision: Precision,
    /// Classes to show per picture
    #[arg(long, default_value_t = 5, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Pictures in a batch
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Print JSON: [{"file", "predictions": [{"label", "score", "index", "id"}]}], errors as {"file", "error"}
    #[arg(long)]
    json: bool,
    /// No bar
    #[arg(long, short)]
    quiet: bool,
}

/// What became of one picture, as `--json` prints it.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Predicted {
        file: String,
        predictions: Vec<Guess>,
    },
    Failed {
        file: String,
        error: String,
        #[serde(skip)]
        advice: Option<&'static str>,
    },
}

impl Predict {
    pub(crate) fn run(&self) -> Result<u8> {
        let files = self.files.iter().map(|path| pictures_in(path, "FILE")).collect::<Result<Vec<_>>>()?.concat();
        let device = open_device(&self.device)?;
        let progress = DownloadBar::default();
        let bundle = resolve(self.model.as_deref(), self.weights.as_deref(), &HubOptions::from_env(), &progress)?;
        progress.clear();
        let predictor = Predictor::with(&bundle, &device, self.precision)?;
        if self.files.is_empty() {
            return self.sample(&predictor);
        }

        let interrupt = Interrupt::listen()?;
        let bar = if self.quiet {
            indicatif::ProgressBar::hidden()
        } else {
            output::bar(files.len() as u64, "{bar:30} {pos}/{len} pictures, {rate}, {eta} left")
        };
        let (mut code, mut explained) = (0, false);
        for (number, batch) in files.chunks(usize::from(self.batch)).enumerate() {
            let outcomes = predictor.classify_files(batch);
            let failure = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
            code = if code == 0 { failure.map_or(0, Error::exit_code) } else { code };
            let answers: Vec<Answer> = batch.iter().zip(outcomes).map(|(path, outcome)| self.answer(path, outcome)).collect();
            // Each batch is out before the next one starts: an interrupt loses nothing that was computed.
            bar.suspend(|| self.print(&answers, number == 0, &mut explained))?;
            bar.inc(batch.len() as u64);
            if interrupt.happened() || output::reader_is_gone() {
                break;
            }
        }
        bar.finish_and_clear();
        // Also of a run that was interrupted: what was printed is a whole list.
        self.finish()?;
        Ok(if interrupt.happened() { interrupt.code() } else { code })
    }

    fn answer(&self, path: &Path, outcome: Result<Prediction>) -> Answer {
        let file = path.display().to_string();
        match outcome {
            Ok(prediction) => Answer::Predicted { file, predictions: prediction.top(self.top as usize) },
            Err(error) => Answer::Failed { file, error: error.to_string(), advice: advice(&error) },
        }
    }

    /// The photograph in the program.
    fn sample(&self, predictor: &Predictor) -> Result<u8> {
        let outcome = predictor.classify_bytes(timburn_data::sample_photograph(), "sample photograph");
        self.print(&[self.answer(Path::new("sample photograph"), outcome)], true, &mut false)?;
        self.finish()?;
        Ok(0)
    }

    /// Prints answers as they come; in JSON they are the elements of one list.
    fn print(&self, answers: &[Answer], first: bool, explained: &mut bool) -> Result<()> {
        output::results(|out| {
            for (index, answer) in answers.iter().enumerate() {
                if let Answer::Failed { error, advice, .. } = answer {
                    output::error(error);
                    // Of many bad files, one is explained.
                    if let Some(advice) = advice.filter(|_| !std::mem::replace(explained, true)) {
                        output::note(&format!("  help: {advice}"));
                    }
                }
                if self.json {
                    out.write_all(if first && index == 0 { b"[\n" } else { b",\n" })?;
                    serde_json::to_writer(&mut *out, answer)?;
                } else if let Answer::Predicted { file, predictions } = answer {
                    writeln!(out, "{file}")?;
                    for guess in predictions {
                        writeln!(out, "  {:6.2} %  {}", 100.0 * guess.probability, guess.label)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Ends the list.
    fn finish(&self) -> Result<()> {
        if self.json { output::results(|out| out.write_all(b"\n]\n")) } else { Ok(()) }
    }
}

/// The picture at `path`, or all pictures in and below the folder at `path`, sorted.
pub(super) fn pictures_in(path: &Path, name: &'static str) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?;
            // A link to a folder is not followed: it could lead back here.
            let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if kind.is_dir() && !hidden {
                folders.push(entry.path());
            } else if !kind.is_dir() && !hidden && looks_like_a_picture(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::Argument {
            name,
            value: path.display().to_string(),
            expected: format!("a folder with pictures ({})", EXTENSIONS.join(", ")),
        });
    }
    Ok(found)
}

const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff"];

fn looks_like_a_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}
