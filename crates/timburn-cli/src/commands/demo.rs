use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use timburn_core::disk::{System, replace_file};
use timburn_core::{Error, Result, open_device};
use timburn_infer::{Guess, Predictor};

use super::finetune::Finetune;
use super::train::unused;
use crate::interrupt::Interrupt;
use crate::output;

/// The data set of the demo; see assets/README.md.
const FILES: [(&str, &[u8]); 5] = [
    ("train-images-idx3-ubyte.gz", include_bytes!("../../assets/fashion-mnist-mini/train-images-idx3-ubyte.gz")),
    ("train-labels-idx1-ubyte.gz", include_bytes!("../../assets/fashion-mnist-mini/train-labels-idx1-ubyte.gz")),
    ("t10k-images-idx3-ubyte.gz", include_bytes!("../../assets/fashion-mnist-mini/t10k-images-idx3-ubyte.gz")),
    ("t10k-labels-idx1-ubyte.gz", include_bytes!("../../assets/fashion-mnist-mini/t10k-labels-idx1-ubyte.gz")),
    ("LICENSE", include_bytes!("../../assets/fashion-mnist-mini/LICENSE")),
];

/// Train a classifier now, offline: 500 small pictures of clothes that are part of the program.
///
/// First, what the embedded network says of the embedded photograph. Then writes the pictures to a folder and runs `timburn finetune` on it, so that what you see is what you will do with your own.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn demo
  timburn demo --minutes 5 -o demo                 more time for training the whole network
  timburn demo --json | jq .test.top1

Ctrl-C ends the training, keeps the best so far and removes the pictures (exit code 130).")]
pub(crate) struct Demo {
    /// Time for training the whole network, in minutes
    #[arg(long, value_name = "M", default_value_t = 0.5)]
    minutes: f64,
    /// Folder of data and results; must be new or empty [default: runs/demo, runs/demo-2, …]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Say what would be done, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the outcome as JSON: {"sample": [{"label", "score"}], and what timburn finetune --json prints}
    #[arg(long)]
    json: bool,
    /// No bars, only the result
    #[arg(long, short)]
    quiet: bool,
}

impl Demo {
    pub(crate) fn run(&self) -> Result<u8> {
        let folder = self.output.clone().unwrap_or_else(|| unused("demo"));
        if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            let expected = "a folder that is new or empty".into();
            return Err(Error::Argument { name: "--output", value: folder.display().to_string(), expected });
        }
        let sample = self.predict()?;
        let data = folder.join("fashion-mnist");
        let command = format!("timburn finetune {} --minutes {} -o {}", data.display(), self.minutes, folder.join("run").display());
        if self.dry_run {
            return self.describe(&sample, &data, &command);
        }
        let interrupt = Interrupt::listen()?;
        let mut pictures = Pictures { folder: data.clone(), keep: false };
        write_data(&data)?;
        if !self.quiet && !self.json {
            output::note(&format!("$ {command}"));
        }
        let finetune = Finetune::of(data, folder.join("run"), self.minutes, self.device.clone(), self.quiet, self.json);
        let (code, outcome) = finetune.outcome(&mut || Ok(interrupt.clone()))?;
        pictures.keep = code == 0;
        if self.json {
            let mut value = json!({ "sample": sample });
            if let (Some(value), Some(Value::Object(outcome))) = (value.as_object_mut(), outcome) {
                value.extend(outcome);
            }
            output::json(&value)?;
        }
        Ok(code)
    }

    fn describe(&self, sample: &[Guess], data: &Path, command: &str) -> Result<u8> {
        let bytes: usize = FILES.iter().map(|(_, content)| content.len()).sum();
        if self.json {
            output::json(&json!({ "dry_run": true, "sample": sample, "data": data, "bytes": bytes, "command": command }))?;
            return Ok(0);
        }
        output::results(|out| writeln!(out, "500 pictures ({:.1} MB) to {}\n$ {command}", bytes as f64 / 1e6, data.display()))?;
        Ok(0)
    }

    /// What the embedded network says of the embedded photograph.
    fn predict(&self) -> Result<Vec<Guess>> {
        let predictor = Predictor::embedded(&open_device(&self.device)?)?;
        let prediction = predictor.classify_bytes(timburn_data::sample_photograph(), "sample photograph")?;
        let guesses = prediction.top(3);
        if self.json {
            return Ok(guesses);
        }
        output::results(|out| {
            writeln!(out, "sample photograph")?;
            guesses.iter().try_for_each(|guess| writeln!(out, "  {:6.2} %  {}", 100.0 * guess.probability, guess.label))
        })?;
        Ok(guesses)
    }
}

/// The pictures on the disk: a demo that comes to nothing takes them away again.
struct Pictures {
    folder: PathBuf,
    keep: bool,
}

impl Drop for Pictures {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Files of ours, then folders that are empty: whatever else is there is the user's.
        for (name, _) in FILES {
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        let _ = std::fs::remove_dir(&self.folder);
        let _ = self.folder.parent().map(std::fs::remove_dir);
    }
}

fn write_data(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    for (name, content) in FILES {
        let path = folder.join(name);
        replace_file(&System, &path, |out| out.write_all(content).map_err(Error::io("write", &path)))?;
    }
    Ok(())
}
