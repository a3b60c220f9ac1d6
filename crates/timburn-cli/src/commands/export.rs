use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use timburn_core::{Error, Result, open_device};
use timburn_weights::{
    ActivationRanges, Bundle, HubOptions, OnnxOptions, OnnxSignature, Precision, resolve, write_onnx, write_safetensors,
};

use super::predict::pictures_in;
use crate::output::{self, DownloadBar};

/// Write a model to a file that other programs read.
///
/// safetensors holds the weights under torchvision's or timm's names, so that PyTorch loads them with strict=True; a bundle holds classes,
/// preprocessing and model card too, and is a safetensors file as well. ONNX holds the network itself, for onnxruntime, TensorRT, OpenVINO,
/// tract: any number of images, f32 [batch, channels, height, width], normalised as the bundle says; batch norm is folded in; classes,
/// preprocessing and card are in its properties.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn export flowers.timburn -o flowers.safetensors
  timburn export flowers.timburn -o small.timburn --dtype f16     half the size
  timburn export resnet18 --weights resnet18.pth -o resnet18.safetensors
  timburn export resnet50 -o resnet50.timburn                     for machines without network
  timburn export flowers.timburn -o flowers.onnx                  images in, logits out
  timburn export flowers.timburn -o pixels.onnx --include-preprocessing --softmax
  timburn export flowers.timburn --int8 --calibrate flowers/train -o flowers-int8.timburn")]
pub(crate) struct Export {
    /// A bundle's file, or a model's name
    #[arg(value_name = "MODEL")]
    model: String,
    /// Weights for the model named
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The file, replaced if it is there; its extension says what it becomes: .timburn (bundle), .safetensors or .onnx
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Element type of kernels and matrices; biases and norms stay in f32. ONNX: f32 or f16, widened when the file is loaded
    #[arg(long, value_name = "TYPE", value_enum, default_value = "f32")]
    dtype: Dtype,
    /// ONNX: take resized and cropped pixels, u8 [batch, height, width, 3], RGB, and normalise them in the graph
    #[arg(long)]
    include_preprocessing: bool,
    /// ONNX: give probabilities instead of logits
    #[arg(long)]
    softmax: bool,
    /// ONNX: height and width of the images, instead of the preprocessing's
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// A bundle that also predicts in eight bits: `--precision int8`. Needs --calibrate
    #[arg(long, requires = "calibrate")]
    int8: bool,
    /// Pictures like those that are to be predicted, of all classes, in or below this folder: the ranges of the network's activations are
    /// measured on them. Their labels do not matter
    #[arg(long, value_name = "FOLDER", requires = "int8")]
    calibrate: Option<PathBuf>,
    /// Pictures of that folder to use, evenly spread
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "int8")]
    images: u32,
    /// Print JSON: {"file", "bytes", "content", "calibration": {"pictures", "left_out", "ranges"}}
    #[arg(long)]
    json: bool,
    /// No bars
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
        if !["timburn", "safetensors", "onnx"].contains(&extension.as_str()) {
            let expected = "a name that ends in .timburn, .safetensors or .onnx";
            return Err(argument("--output", &self.output.display().to_string(), expected));
        }
        let only_onnx =
            [("--include-preprocessing", self.include_preprocessing), ("--softmax", self.softmax), ("--size", self.size.is_some())];
        if let Some((option, _)) = only_onnx.iter().find(|(_, given)| *given && extension != "onnx") {
            return Err(argument(option, &format!("with {}", self.output.display()), "an --output that ends in .onnx"));
        }
        if self.int8 && extension != "timburn" {
            return Err(argument("--int8", &format!("with {}", self.output.display()), "an --output that ends in .timburn"));
        }
        if self.int8 && cfg!(not(feature = "flex")) {
            return Err(argument("--int8", "this build", "one with the backend `flex`, whose kernels compute in eight bits"));
        }
        let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(argument("--output", &self.output.display().to_string(), &format!("a folder that is there: {}", folder.display())));
        }
        // Before anything is downloaded: a folder without pictures is the user's to correct.
        let pictures = self.calibrate.as_deref().map(|folder| self.spread(folder)).transpose()?;
        let progress = DownloadBar::new(self.quiet);
        let file = Path::new(&self.model);
        let (model, weights) = match &self.weights {
            None if file.is_file() => (None, Some(file)),
            weights => (Some(self.model.as_str()), weights.as_deref()),
        };
        let mut bundle = resolve(model, weights, &HubOptions::from_env(), &progress)?;
        progress.clear();
        let mut calibrated = None;
        let content = match extension.as_str() {
            "onnx" => self.onnx(&bundle)?.to_string(),
            "timburn" => {
                let mut content = format!("{} tensors", bundle.weights.tensors.len());
                if let Some(pictures) = &pictures {
                    let (ranges, used) = self.ranges(&bundle, pictures)?;
                    let plural = if used == 1 { "" } else { "s" };
                    content += &format!(", ranges of {} activations on {used} picture{plural}", ranges.0.len());
                    calibrated = Some(json!({ "pictures": used, "left_out": pictures.len() - used, "ranges": ranges.0.len() }));
                    bundle.ranges = Some(ranges);
                }
                bundle.save(&self.output, self.dtype.into())?;
                content
            }
            _ => {
                write_safetensors(&bundle.weights, &self.output, self.dtype.into(), &Default::default())?;
                format!("{} tensors", bundle.weights.tensors.len())
            }
        };
        let size = std::fs::metadata(&self.output).map_err(Error::io("read", &self.output))?.len();
        if self.json {
            output::json(&json!({ "file": self.output, "bytes": size, "content": content, "calibration": calibrated }))?;
            return Ok(0);
        }
        output::results(|out| writeln!(out, "{}  {:.1} MB, {content}", self.output.display(), size as f64 / 1e6))?;
        Ok(0)
    }

    /// Some of the pictures of a folder, evenly spread: where it has a folder for each class, of all of them.
    fn spread(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        if !folder.is_dir() {
            return Err(argument("--calibrate", &folder.display().to_string(), "a folder of pictures"));
        }
        let pictures = pictures_in(folder, "--calibrate")?;
        let (all, wanted) = (pictures.len(), pictures.len().min(self.images as usize));
        Ok((0..wanted).filter_map(|index| pictures.get(index * all / wanted).cloned()).collect())
    }

    /// The ranges of a model's activations on pictures, and how many of these could be read.
    #[cfg(feature = "flex")]
    fn ranges(&self, bundle: &Bundle, pictures: &[PathBuf]) -> Result<(ActivationRanges, usize)> {
        let predictor = timburn_infer::Predictor::new(bundle, &open_device("flex")?)?;
        let bar = if self.quiet || self.json {
            indicatif::ProgressBar::hidden()
        } else {
            output::bar(pictures.len() as u64, "{bar:30} {pos}/{len} pictures, {rate}, {eta} left")
        };
        let mut used = 0;
        let ranges = predictor.calibrate(pictures, |outcome| {
            bar.inc(1);
            match outcome {
                Ok(()) => used += 1,
                Err(error) => bar.suspend(|| log::warn!("left out: {error}")),
            }
        });
        bar.finish_and_clear();
        Ok((ranges?, used))
    }

    #[cfg(not(feature = "flex"))]
    fn ranges(&self, _: &Bundle, _: &[PathBuf]) -> Result<(ActivationRanges, usize)> {
        Err(argument("--int8", "this build", "one with the backend `flex`"))
    }

    fn onnx(&self, bundle: &Bundle) -> Result<OnnxSignature> {
        let options = OnnxOptions {
            precision: self.dtype.into(),
            include_preprocessing: self.include_preprocessing,
            softmax: self.softmax,
            size: self.size.map(|side| [side; 2]),
        };
        // Parameters are only folded: the host's memory is the place, where a backend for it is compiled in.
        let device = open_device("flex").or_else(|_| open_device("auto"))?;
        write_onnx(&bundle.load(&device)?, bundle, &self.output, &options)
    }
}

fn argument(name: &'static str, value: &str, expected: &str) -> Error {
    Error::Argument { name, value: value.into(), expected: expected.into() }
}
