use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use timburn_core::{Error, Result};
use timburn_weights::{HubOptions, Precision, resolve, write_safetensors};

use crate::output::{self, DownloadBar};

/// Write a model to a file that other programs read.
///
/// safetensors holds the weights under torchvision's or timm's names, so that PyTorch loads them with strict=True; a bundle holds classes,
/// preprocessing and model card too, and is a safetensors file as well.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn export flowers.timburn -o flowers.safetensors
  timburn export flowers.timburn -o small.timburn --dtype f16     half the size
  timburn export resnet18 --weights resnet18.pth -o resnet18.safetensors
  timburn export resnet50 -o resnet50.timburn                     for machines without network")]
pub(crate) struct Export {
    /// A bundle's file, or a model's name
    #[arg(value_name = "MODEL")]
    model: String,
    /// Weights for the model named
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The file, replaced if it is there; its extension says what it becomes: .timburn (bundle) or .safetensors
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Element type of kernels and matrices; biases and norms stay in f32
    #[arg(long, value_name = "TYPE", value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Print JSON: {"file", "bytes", "tensors"}
    #[arg(long)]
    json: bool,
    /// No bar of a download
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

impl Export {
    pub(crate) fn run(&self) -> Result<u8> {
        let extension = self.output.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !["timburn", "safetensors"].contains(&extension.as_str()) {
            let value = self.output.display().to_string();
            return Err(Error::Argument { name: "--output", value, expected: "a name that ends in .timburn or .safetensors".into() });
        }
        let progress = DownloadBar::new(self.quiet);
        let file = std::path::Path::new(&self.model);
        let (model, weights) = match &self.weights {
            None if file.is_file() => (None, Some(file)),
            weights => (Some(self.model.as_str()), weights.as_deref()),
        };
        let bundle = resolve(model, weights, &HubOptions::from_env(), &progress)?;
        progress.clear();
        if extension == "timburn" {
            bundle.save(&self.output, self.dtype.into())?;
        } else {
            write_safetensors(&bundle.weights, &self.output, self.dtype.into(), &Default::default())?;
        }
        let size = std::fs::metadata(&self.output).map_err(Error::io("read", &self.output))?.len();
        if self.json {
            output::json(&json!({ "file": self.output, "bytes": size, "tensors": bundle.weights.tensors.len() }))?;
            return Ok(0);
        }
        output::results(|out| {
            writeln!(out, "{}  {:.1} MB, {} tensors", self.output.display(), size as f64 / 1e6, bundle.weights.tensors.len())
        })?;
        Ok(0)
    }
}
