//! Models as ONNX files, for onnxruntime, TensorRT, OpenVINO, tract and whatever else reads them.
//!
//! | | |
//! |---|---|
//! | operators | opset 17, IR version 8 |
//! | input | `images`, f32 `[batch, channels, height, width]`, normalised; with [`OnnxOptions::include_preprocessing`] the pixels themselves, u8 `[batch, height, width, 3]` RGB |
//! | output | `logits`, f32 `[batch, classes]`; with [`OnnxOptions::softmax`] `probabilities` |
//! | sizes | any batch; height and width are fixed, by default to the preprocessing's |
//! | batch norm | folded into the convolutions, as `torch.onnx.export` does for a model in evaluation |
//! | properties | `timburn.version`, `.architecture`, `.model`, `.classes`, `.preprocessing`, `.card`, `.licence`: JSON as in a [`Bundle`], but for version, architecture and licence, which are plain text |
//!
//! Half precision means storage: kernels and matrices are halves that the runtime widens when it loads the file, computation is in f32. So
//! the file is half the size and runs anywhere; a runtime that computes in halves has its own switch for that.

mod body;
mod head;
mod nodes;
mod proto;

use std::fmt;
use std::path::Path;

use timburn_core::disk::{self, System};
use timburn_core::error::ModelError;
use timburn_core::preprocessing::ChannelOrder;
use timburn_core::{Error, Preprocessing, Result};
use timburn_models::graph::Describe;
use timburn_models::outputs_fit;

use self::body::Map;
use self::nodes::Nodes;
use self::proto::Attribute::{Int, Ints};
use self::proto::{ElementType, File, OPSET, Port};
use crate::bundle::{Bundle, PREFIX, json};
use crate::write::Precision;

/// Readers of protocol buffers refuse longer messages.
const LARGEST: u64 = i32::MAX as u64;
/// Bound on height and width: that of [`Preprocessing::validate`].
const MAX_SIDE: usize = 4096;

/// How a model is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnnxOptions {
    /// How kernels and matrices are stored; the file computes in f32. bfloat16 is refused.
    pub precision: Precision,
    /// The graph begins with the normalisation: it takes resized and cropped pixels, u8 `[batch, height, width, 3]`, RGB.
    pub include_preprocessing: bool,
    /// The graph ends with the softmax (for one logit of two classes, the probabilities of both).
    pub softmax: bool,
    /// Height and width of the images, 1 to 4096; the preprocessing's where absent.
    pub size: Option<[usize; 2]>,
}

/// What a file takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxSignature {
    /// Name, element type and extents after the batch of the input.
    pub input: (&'static str, &'static str, Vec<usize>),
    /// Name and number of the outputs.
    pub output: (&'static str, usize),
}

impl fmt::Display for OnnxSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, kind, dims) = &self.input;
        write!(f, "{name} {kind} [batch")?;
        dims.iter().try_for_each(|extent| write!(f, ", {extent}"))?;
        write!(f, "] -> {} f32 [batch, {}], opset {OPSET}", self.output.0, self.output.1)
    }
}

/// Writes `model` to `path` as an ONNX file, as evaluated, replacing what is there in one step: a reader sees the old file or the new one, and
/// an error leaves the old one. The parameters are in memory twice meanwhile.
///
/// `about` says what the model is: its classes, preprocessing and card go into the file. Its weights are not read.
///
/// ```
/// use timburn_weights::{OnnxOptions, write_onnx};
///
/// # #[cfg(feature = "embedded")]
/// # fn main() -> timburn_core::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// # let path = folder.path().join("resnet20.onnx");
/// let bundle = timburn_weights::pretrained_bundle("resnet20.cifar10")?;
/// let model = bundle.load(&timburn_core::open_device("auto")?)?;
/// let signature = write_onnx(&model, &bundle, &path, &OnnxOptions { softmax: true, ..OnnxOptions::default() })?;
/// assert_eq!(signature.to_string(), "images f32 [batch, 3, 32, 32] -> probabilities f32 [batch, 10], opset 17");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// # Errors
/// [`Error::Argument`] for bfloat16, for images too small for the network, for preprocessing of other than three channels, for a
/// model without head, and for one beyond 2 GiB, the most that the format allows; [`ModelError::ClassCount`] when classes and outputs disagree;
/// [`WeightsError::Corrupt`](timburn_core::WeightsError::Corrupt) for a value beyond the range of the precision; [`Error::Io`].
pub fn write_onnx<M: Describe>(model: &M, about: &Bundle, path: impl AsRef<Path>, options: &OnnxOptions) -> Result<OnnxSignature> {
    let path = path.as_ref();
    about.preprocessing.validate()?;
    if options.precision == Precision::BF16 {
        return Err(argument("precision", "bf16", "f32 or f16 for ONNX: most runtimes have no bfloat16"));
    }
    let size = options.size.unwrap_or([about.preprocessing.input; 2]);
    if size.iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return Err(argument("size", &format!("{}x{}", size[0], size[1]), "1 to 4096 pixels in each direction"));
    }
    let graph = model.describe();
    let Some(head) = &graph.head else {
        return Err(argument("model", "a body", "a model with a head"));
    };
    let channels = body::channels(&graph);
    let output_name = if options.softmax { "probabilities" } else { "logits" };
    let mut nodes = Nodes::new(options.precision == Precision::F16, &["images", output_name]);
    let (input, value) = input(&mut nodes, &about.preprocessing, channels, size, options)?;
    let features = body::body(&mut nodes, &graph, Map { value, channels, size })?;
    let mut row = head::head(&mut nodes, head, &graph.names, &features)?;
    if !outputs_fit(row.features, about.classes.len()) {
        return Err(ModelError::ClassCount { model: row.features, classes: about.classes.len() }.into());
    }
    if options.softmax {
        row = head::probabilities(&mut nodes, row, about.classes.len());
    }
    nodes.finish(output_name);
    let output = Port { name: output_name.into(), kind: ElementType::F32, dims: vec![row.features] };
    let (description, properties) = (description(about, options), properties(about)?);
    let file = File {
        name: &about.model.architecture,
        description: &description,
        nodes: &nodes.nodes,
        initializers: &nodes.initializers,
        input: &input,
        output: &output,
        properties: &properties,
    };
    within_limit(file.len())?;
    disk::replace_file(&System, path, |out| file.write(out).map_err(Error::io("write", path)))?;
    let kind = if input.kind == ElementType::U8 { "u8" } else { "f32" };
    Ok(OnnxSignature { input: ("images", kind, input.dims), output: (output_name, row.features) })
}

/// The graph's input, and the value that the body reads: normalised `[batch, channels, height, width]`.
fn input(
    nodes: &mut Nodes,
    preprocessing: &Preprocessing,
    channels: usize,
    [height, width]: [usize; 2],
    options: &OnnxOptions,
) -> Result<(Port, String)> {
    let name = "images".to_owned();
    if !options.include_preprocessing {
        return Ok((Port { name: name.clone(), kind: ElementType::F32, dims: vec![channels, height, width] }, name));
    }
    if channels != 3 {
        let expected = "3 for pixels as input: the preprocessing is of colour pictures";
        return Err(argument("in_channels", &channels.to_string(), expected));
    }
    let pixels = nodes.node("Cast", "pixels", &[&name], vec![Int("to", ElementType::F32 as i64)]);
    let mut value = nodes.node("Transpose", "pixels/planar", &[&pixels], vec![Ints("perm", vec![0, 3, 1, 2])]);
    if preprocessing.channels == ChannelOrder::Bgr {
        let order = nodes.integers("pixels/order", vec![2, 1, 0]);
        value = nodes.node("Gather", "pixels/bgr", &[&value, &order], vec![Int("axis", 1)]);
    }
    // (x / 255 - mean) / std
    let scaled = |values: [f32; 3]| values.iter().map(|&value| (f64::from(value) * 255.0) as f32).collect();
    let mean = nodes.constant("mean", vec![1, 3, 1, 1], scaled(preprocessing.mean));
    let std = nodes.constant("std", vec![1, 3, 1, 1], scaled(preprocessing.std));
    let centred = nodes.node("Sub", "pixels/centred", &[&value, &mean], vec![]);
    let value = nodes.node("Div", "pixels/normalised", &[&centred, &std], vec![]);
    Ok((Port { name, kind: ElementType::U8, dims: vec![height, width, 3] }, value))
}

/// What a person reads of the file.
fn description(about: &Bundle, options: &OnnxOptions) -> String {
    let Preprocessing { mean, std, channels, .. } = &about.preprocessing;
    let order = format!("{channels:?}").to_uppercase();
    let images = if options.include_preprocessing {
        "pixels 0 to 255, resized and cropped, RGB".to_owned()
    } else {
        format!("(x / 255 - mean) / std of pixels x, resized and cropped, channels {order}, mean {mean:?}, std {std:?}")
    };
    let name = about.card.name.as_deref().unwrap_or(&about.model.architecture);
    format!("{name}, {} classes; images: {images}. The properties say more.", about.classes.len())
}

fn properties(about: &Bundle) -> Result<Vec<(String, String)>> {
    let name = &about.weights.name;
    let mut properties = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("architecture", about.model.architecture.clone()),
        ("model", json(&about.model, name)?),
        ("classes", json(&about.classes, name)?),
        ("preprocessing", json(&about.preprocessing, name)?),
        ("card", json(&about.card, name)?),
    ];
    properties.extend(about.card.licence.clone().map(|licence| ("licence", licence)));
    Ok(properties.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value)).collect())
}

/// Refuses files that no reader takes: a message of protocol buffers ends below 2 GiB.
fn within_limit(bytes: u64) -> Result<()> {
    if bytes > LARGEST {
        let value = format!("{:.1} GB", bytes as f64 / 1e9);
        return Err(argument("size of the ONNX file", &value, "less than 2 GiB, the format's limit; f16 is half the size"));
    }
    Ok(())
}

fn argument(name: &'static str, value: &str, expected: &str) -> Error {
    Error::Argument { name, value: value.into(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_formats_limit_is_refused() {
        assert!(within_limit(LARGEST).is_ok());
        let error = within_limit(LARGEST + 1).unwrap_err().to_string();
        assert!(error.contains("2.1 GB") && error.contains("2 GiB"), "{error}");
    }
}
