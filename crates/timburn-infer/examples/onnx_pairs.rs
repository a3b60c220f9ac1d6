//! ONNX exports, each with images and the answers that timburn gives: what other runtimes are checked with (`parity/README.md`).
//!
//! ```text
//! cargo build --release --workspace --example onnx_pairs
//! target/release/examples/onnx_pairs DIR [all]
//! ```
//!
//! Weights and images come from the formula of the zoo's goldens, but for EfficientNet-Lite0's own on the photograph. The deepest rows, which
//! repeat the blocks of others and take 1.5 GB, are written with `all`.
#![allow(clippy::expect_used, reason = "a program of the tests")]

#[path = "../../timburn-models/tests/common/mod.rs"]
mod formula;

use std::path::PathBuf;

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use timburn_core::preprocessing::ChannelOrder;
use timburn_core::{Classes, Preprocessing, Result};
use timburn_data::{DecodeOptions, Rgb8Image, decode_bytes, prepare, sample_photograph, to_tensor};
use timburn_models::blocks::{Cosine, Head, HeadLayer, HeadLayers, Mlp, Pool};
use timburn_models::{ARCHITECTURES, ImageModel, Model, ModelOptions, StateDict, Stem, WeightTensor, create, load_state_dict};
use timburn_weights::{Bundle, Card, ModelSpec, OnnxOptions, Precision, embedded, write_onnx, write_safetensors};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("usage: onnx_pairs DIR [all]"));
    let all = arguments.next().is_some_and(|word| word == "all");
    std::fs::create_dir_all(&folder).expect("a folder");
    let pairs = Pairs { folder, device: timburn_core::open_device("flex")? };

    for row in ARCHITECTURES {
        if all || !["101", "152", "110"].iter().any(|depth| row.name.contains(depth)) {
            let size = if row.input == 32 { [32, 32] } else { [64, 72] };
            pairs.model(row.name, row.name, ModelOptions::classes(11), size)?;
        }
    }
    let classes = || ModelOptions::classes(5);
    for (name, size) in [("resnet18", [57, 43]), ("resnet18d", [61, 47]), ("efficientnet_lite0", [75, 49]), ("mobilenet_v2", [33, 70])] {
        pairs.model(&format!("{name}_odd"), name, classes(), size)?;
    }
    pairs.model("resnet20_odd", "resnet20", classes(), [31, 35])?;
    pairs.model("resnet18_gray", "resnet18", ModelOptions { in_channels: 1, ..classes() }, [64, 64])?;
    pairs.model("resnet18_small", "resnet18", ModelOptions { stem: Some(Stem::Small), ..classes() }, [32, 32])?;
    pairs.model("resnet18_dilated", "resnet18", ModelOptions { output_stride: 8, ..classes() }, [64, 64])?;
    for (name, head, outputs) in heads() {
        pairs.model(&format!("head_{name}"), "resnet20", ModelOptions { head, ..ModelOptions::classes(outputs) }, [32, 40])?;
    }

    let softmax = OnnxOptions { softmax: true, ..OnnxOptions::default() };
    let half = OnnxOptions { precision: Precision::F16, ..OnnxOptions::default() };
    let pixels = OnnxOptions { include_preprocessing: true, ..softmax.clone() };
    for (name, outputs, onnx) in [("softmax", 5, &softmax), ("softmax_one_logit", 1, &softmax), ("half", 5, &half)] {
        let bundle = bundle("resnet20", ModelOptions::classes(outputs));
        let mut model = pairs.formula(&bundle)?;
        if onnx.precision == Precision::F16 {
            model = exact_in_halves(model)?;
        }
        pairs.write(&format!("option_{name}"), &model, &bundle, onnx, formula::images("input", [2, 3, 32, 32], &pairs.device))?;
    }
    for (name, channels) in [("pixels", ChannelOrder::Rgb), ("pixels_bgr", ChannelOrder::Bgr)] {
        let mut bundle = bundle("resnet20", ModelOptions::classes(5));
        bundle.preprocessing.channels = channels;
        let noise = formula::unit("pixels", 2 * 3 * 32 * 32).map(|unit| (256.0 * unit) as u8).collect::<Vec<u8>>();
        let image = |pixels: &[u8]| Rgb8Image { width: 32, height: 32, pixels: pixels.to_vec() };
        let images: Vec<Rgb8Image> = noise.chunks(3 * 32 * 32).map(image).collect();
        pairs.pixels(&format!("option_{name}"), &pairs.formula(&bundle)?, &bundle, &pixels, &images)?;
    }

    let bundle = embedded()?;
    let photograph = decode_bytes(sample_photograph(), "the photograph", &DecodeOptions::default())?;
    let photograph = prepare(&photograph, &bundle.preprocessing);
    let model = bundle.load(&pairs.device)?;
    let images = to_tensor(std::slice::from_ref(&photograph), &bundle.preprocessing, &pairs.device)?;
    pairs.write("photograph_lite0", &model, &bundle, &OnnxOptions::default(), images)?;
    pairs.pixels("photograph_lite0_pixels", &model, &bundle, &pixels, &[photograph])
}

/// Heads of every kind, for features of 8×10.
fn heads() -> Vec<(&'static str, Head, usize)> {
    let layers = |pool, layers: &[HeadLayer]| Head::Layers(HeadLayers { pool, layers: layers.to_vec(), ..HeadLayers::default() });
    let hidden = [HeadLayer::BatchNorm, HeadLayer::Linear(24), HeadLayer::Relu, HeadLayer::Dropout(0.5), HeadLayer::BatchNorm];
    vec![
        ("fastai", Head::Fastai, 5),
        ("mlp", Head::Mlp(Mlp { widths: vec![16, 8], dropout: 0.3, batch_norm: true }), 5),
        ("cosine", Head::Cosine(Cosine { scale: 7.5, learned: true }), 5),
        ("cosine_fixed", Head::Cosine(Cosine { scale: 12.0, learned: false }), 5),
        ("max_one_logit", layers(Pool::Max, &[]), 1),
        ("flatten", layers(Pool::Flatten([8, 10]), &hidden), 5),
        ("flatten_averaged", layers(Pool::Flatten([3, 4]), &hidden), 5),
    ]
}

fn bundle(architecture: &str, options: ModelOptions) -> Bundle {
    let classes = options.classes.unwrap_or(5);
    let classes = Classes::numbered(if classes == 1 { 2 } else { classes });
    let model = ModelSpec { architecture: architecture.into(), options };
    Bundle {
        model,
        classes,
        preprocessing: Preprocessing::cifar10(),
        card: Card::default(),
        ranges: None,
        weights: StateDict::new("formula"),
    }
}

/// The same network with parameters that folding and rounding to halves leave as they are.
fn exact_in_halves(model: Model) -> Result<Model> {
    let mut weights = timburn_models::state_dict(&model);
    for (key, tensor) in &mut weights.tensors {
        let mut values = tensor.values().expect("values");
        match key.rsplit('.').next() {
            Some("running_var") => values.fill(1.0 - 1e-5),
            Some("weight") if tensor.shape.len() == 1 => values.fill(1.0),
            Some("weight") => values.iter_mut().for_each(|value| *value = (*value * 512.0).round() / 512.0),
            _ => {}
        }
        *tensor = WeightTensor::from_f32(tensor.shape.clone(), values);
    }
    load_state_dict(&model, &weights)
}

struct Pairs {
    folder: PathBuf,
    device: Device,
}

impl Pairs {
    /// The model of a bundle with weights by the formula.
    fn formula(&self, bundle: &Bundle) -> Result<Model> {
        let model = create(&bundle.model.architecture, &bundle.model.options, &self.device)?;
        let mut weights = formula::formula_weights(&model, 0.0);
        for (key, tensor) in &mut weights.tensors {
            if key.ends_with("scale") {
                *tensor = WeightTensor::from_f32(vec![1], vec![7.5]);
            }
        }
        load_state_dict(&model, &weights)
    }

    fn model(&self, name: &str, architecture: &str, options: ModelOptions, size: [usize; 2]) -> Result<()> {
        let images = formula::images("input", [2, options.in_channels, size[0], size[1]], &self.device);
        let bundle = bundle(architecture, options);
        self.write(name, &self.formula(&bundle)?, &bundle, &OnnxOptions { size: Some(size), ..OnnxOptions::default() }, images)
    }

    fn write(&self, name: &str, model: &Model, about: &Bundle, onnx: &OnnxOptions, images: Tensor<4>) -> Result<()> {
        self.answer(name, model, about, onnx, images.clone(), images)
    }

    fn pixels(&self, name: &str, model: &Model, about: &Bundle, onnx: &OnnxOptions, images: &[Rgb8Image]) -> Result<()> {
        let tensors = to_tensor(images, &about.preprocessing, &self.device)?;
        // Bytes as f32, as the pair's file has them; the graph takes u8.
        let bytes: Vec<f32> = images.iter().flat_map(|image| image.pixels.iter().map(|&byte| byte.into())).collect();
        let [n, _, height, width] = tensors.dims();
        let given = Tensor::from_data(burn::tensor::TensorData::new(bytes, [n, height, width, 3]), &self.device);
        self.answer(name, model, about, onnx, given, tensors)
    }

    /// Writes the model, and `given` with what the model says of `images`.
    fn answer(&self, name: &str, model: &Model, about: &Bundle, onnx: &OnnxOptions, given: Tensor<4>, images: Tensor<4>) -> Result<()> {
        let path = self.folder.join(name);
        let signature = write_onnx(model, about, path.with_extension("onnx"), onnx)?;
        let logits = model.forward(images);
        let output = match (onnx.softmax, logits.dims()[1]) {
            (false, _) => logits,
            (true, 1) => Tensor::cat(vec![sigmoid(-logits.clone()), sigmoid(logits)], 1),
            (true, _) => softmax(logits, 1),
        };
        let mut pair = StateDict::new(name);
        pair.tensors.insert("images".into(), stored(given));
        pair.tensors.insert(signature.output.0.into(), stored(output));
        println!("{name}: {signature}");
        write_safetensors(&pair, path.with_extension("safetensors"), Precision::F32, &Default::default())
    }
}

fn stored<const D: usize>(tensor: Tensor<D>) -> WeightTensor {
    let shape = tensor.dims().to_vec();
    WeightTensor::from_f32(shape, tensor.into_data().convert::<f32>().try_to_vec().expect("f32"))
}
