use std::path::{Path, PathBuf};

use clap::Args;
use timburn_core::disk::{System, replace_file};
use timburn_core::{Error, Result, open_device};
use timburn_infer::Predictor;

use super::finetune::Finetune;
use super::train::unused;
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
  timburn demo --minutes 5 -o demo                 more time for training the whole network")]
pub(crate) struct Demo {
    /// Time for training the whole network, in minutes
    #[arg(long, value_name = "M", default_value_t = 0.5)]
    minutes: f64,
    /// Folder of data and results; must be new or empty [default: runs/demo, runs/demo-2, …]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// auto, or a backend with an optional index: flex, cuda:1, wgpu
    #[arg(long, default_value = "auto")]
    device: String,
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
        self.predict()?;
        let data = folder.join("fashion-mnist");
        write_data(&data)?;
        if !self.quiet {
            output::note(&format!("$ timburn finetune {} --minutes {} -o {}", data.display(), self.minutes, folder.join("run").display()));
        }
        Finetune::of(data, folder.join("run"), self.minutes, self.device.clone(), self.quiet).run()
    }
}

impl Demo {
    /// What the embedded network says of the embedded photograph.
    fn predict(&self) -> Result<()> {
        let predictor = Predictor::embedded(&open_device(&self.device)?)?;
        let prediction = predictor.classify_bytes(timburn_data::sample_photograph(), "sample photograph")?;
        output::results(|out| {
            writeln!(out, "sample photograph")?;
            let mut guesses = prediction.top(3).into_iter();
            guesses.try_for_each(|guess| writeln!(out, "  {:6.2} %  {}", 100.0 * guess.probability, guess.label))
        })
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
