//! ONNX files read back field by field: structure, parameters, properties, refusals. What they compute is checked in onnxruntime and tract
//! (`parity/README.md`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../timburn-models/tests/common/mod.rs"]
mod formula;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use burn::tensor::Device;
use half::f16;
use timburn_core::error::ModelError;
use timburn_core::preprocessing::ChannelOrder;
use timburn_core::{Classes, Error, Preprocessing, WeightsError, open_device};
use timburn_models::blocks::{Cosine, Head, HeadLayer, HeadLayers, HeadStep, Mlp, Pool};
use timburn_models::graph::{Describe, FoldedConv, FoldedLinear, FoldedNorm, Op};
use timburn_models::{ARCHITECTURES, Model, ModelOptions, StateDict, WeightTensor, create, load_state_dict};
use timburn_weights::{Bundle, Card, ModelSpec, OnnxOptions, Precision, write_onnx};

/// A message's fields in their order: varints, and bytes of what has a length.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let number = varint(&mut bytes);
        match tag & 7 {
            0 => found.push((tag >> 3, number, &[][..])),
            2 => {
                let (content, rest) = bytes.split_at(usize::try_from(number).unwrap());
                found.push((tag >> 3, 0, content));
                bytes = rest;
            }
            kind => panic!("wire type {kind}"),
        }
    }
    found
}

fn all(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter(move |(number, ..)| *number == field).map(|(_, _, bytes)| bytes)
}

fn numbers(message: &[u8], field: u64) -> Vec<i64> {
    fields(message).into_iter().filter(|(number, ..)| *number == field).map(|(_, value, _)| value as i64).collect()
}

fn texts(message: &[u8], field: u64) -> Vec<String> {
    all(message, field).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

fn text(message: &[u8], field: u64) -> String {
    texts(message, field).concat()
}

struct Node {
    op: String,
    name: String,
    inputs: Vec<String>,
    output: String,
    /// Integers, or lists of them.
    attributes: BTreeMap<String, Vec<i64>>,
}

struct Tensor {
    dims: Vec<i64>,
    /// As in `TensorProto.DataType`.
    kind: i64,
    raw: Vec<u8>,
}

impl Tensor {
    fn values(&self) -> Vec<f32> {
        match self.kind {
            1 => self.raw.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            10 => self.raw.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
            kind => panic!("values of type {kind}"),
        }
    }
}

/// Name, element type, extents; the batch is -1.
type Port = (String, i64, Vec<i64>);

struct File {
    nodes: Vec<Node>,
    tensors: BTreeMap<String, Tensor>,
    input: Port,
    output: Port,
    properties: BTreeMap<String, String>,
}

fn read(path: &Path) -> File {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!((numbers(&bytes, 1), text(&bytes, 2).as_str()), (vec![8], "timburn"));
    assert_eq!(text(&bytes, 3), env!("CARGO_PKG_VERSION"));
    let opsets: Vec<(String, Vec<i64>)> = all(&bytes, 8).map(|opset| (text(opset, 1), numbers(opset, 2))).collect();
    assert_eq!(opsets, [(String::new(), vec![17])]);
    let properties = all(&bytes, 14).map(|entry| (text(entry, 1), text(entry, 2))).collect();
    let [graph] = all(&bytes, 7).collect::<Vec<_>>()[..] else { panic!("one graph") };

    let node = |message: &[u8]| {
        let attribute = |message: &[u8]| {
            let list = numbers(message, 20) == [7];
            (text(message, 1), numbers(message, if list { 8 } else { 3 }))
        };
        let [output] = &texts(message, 2)[..] else { panic!("one output") };
        let attributes = all(message, 5).map(attribute).collect();
        Node { op: text(message, 4), name: text(message, 3), inputs: texts(message, 1), output: output.clone(), attributes }
    };
    let tensor = |message: &[u8]| {
        let raw = all(message, 9).next().expect("values").to_vec();
        (text(message, 8), Tensor { dims: numbers(message, 1), kind: numbers(message, 2)[0], raw })
    };
    let port = |field: u64| {
        let [value] = all(graph, field).collect::<Vec<_>>()[..] else { panic!("one port") };
        let kind = all(all(value, 2).next().unwrap(), 1).next().unwrap();
        let dimension = |message: &[u8]| if text(message, 2) == "batch" { -1 } else { numbers(message, 1)[0] };
        (text(value, 1), numbers(kind, 1)[0], all(all(kind, 2).next().unwrap(), 1).map(dimension).collect())
    };
    let file = File {
        nodes: all(graph, 1).map(node).collect(),
        tensors: all(graph, 5).map(tensor).collect(),
        input: port(11),
        output: port(12),
        properties,
    };
    assert_eq!(all(graph, 5).count(), file.tensors.len(), "names of tensors are unique");
    assert_whole(&file);
    file
}

/// Every value that is read was made before, every one made is read, names are unique, lengths right.
fn assert_whole(file: &File) {
    let mut defined: HashSet<&str> = file.tensors.keys().map(String::as_str).collect();
    assert!(defined.insert(&file.input.0));
    let mut names = HashSet::new();
    let mut used = HashSet::new();
    for node in &file.nodes {
        for input in &node.inputs {
            assert!(defined.contains(input.as_str()), "{} reads {input}", node.name);
            used.insert(input.as_str());
        }
        assert!(defined.insert(&node.output), "{} is made twice", node.output);
        assert!(names.insert(&node.name), "two nodes {}", node.name);
    }
    assert_eq!(file.nodes.last().unwrap().output, file.output.0);
    used.insert(&file.output.0);
    let unused: Vec<_> = defined.difference(&used).collect();
    assert!(unused.is_empty(), "nobody reads {unused:?}");
    for (name, tensor) in &file.tensors {
        let size = BTreeMap::from([(1, 4), (7, 8), (10, 2)])[&tensor.kind];
        assert_eq!(tensor.raw.len() as i64, tensor.dims.iter().product::<i64>() * size, "{name}");
    }
}

fn flex() -> Device {
    open_device("flex").unwrap()
}

fn model(architecture: &str, options: &ModelOptions) -> Model {
    let model = create(architecture, options, &flex()).unwrap();
    load_state_dict(&model, &formula::formula_weights(&model, 0.0)).unwrap()
}

fn about(architecture: &str, options: &ModelOptions) -> Bundle {
    let count = options.classes.unwrap_or(1000);
    Bundle {
        model: ModelSpec { architecture: architecture.into(), options: options.clone() },
        classes: Classes::numbered(if count == 1 { 2 } else { count }),
        preprocessing: Preprocessing { input: 64, ..Preprocessing::torchvision(64, 64) },
        card: Card { licence: Some("CC0-1.0".into()), source: Some("a formula".into()), ..Card::default() },
        ranges: None,
        weights: StateDict::new("formula"),
    }
}

fn written(architecture: &str, options: &ModelOptions, onnx: &OnnxOptions) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write_onnx(&model(architecture, options), &about(architecture, options), &path, onnx).unwrap();
    read(&path)
}

#[test]
fn every_family_is_a_whole_graph_with_its_folded_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let options = ModelOptions::classes(7);
    // One of each kind of block; others are more of the same.
    let rows = ["resnet18", "resnet18d", "resnet50", "resnext50_32x4d", "seresnet50", "keras_resnet50", "resnet20", "mobilenet_v2"];
    for name in rows.into_iter().chain(["efficientnet_lite0"]) {
        assert!(ARCHITECTURES.iter().any(|row| row.name == name));
        let model = model(name, &options);
        let signature = write_onnx(&model, &about(name, &options), &path, &OnnxOptions::default()).unwrap();
        assert_eq!(signature.to_string(), "images f32 [batch, 3, 64, 64] -> logits f32 [batch, 7], opset 17");
        let file = read(&path);
        assert_eq!(file.input, ("images".into(), 1, vec![-1, 3, 64, 64]), "{name}");
        assert_eq!(file.output, ("logits".into(), 1, vec![-1, 7]), "{name}");

        let graph = model.describe();
        let mut convolutions = 0;
        for layer in &graph.layers {
            let convs = match &layer.op {
                Op::Convolution { conv, norm } => vec![(conv, norm.as_ref())],
                Op::SqueezeExcite(layer) => layer.layers().map(|conv| (conv, None)).to_vec(),
                _ => vec![],
            };
            for (conv, norm) in convs {
                let (key, folded) = (&graph.names[&conv.weight.id], FoldedConv::new(conv, norm).unwrap());
                let weight = &file.tensors[&format!("{key}.weight")];
                assert_eq!(weight.dims, folded.shape.map(|extent| extent as i64), "{name}: {key}");
                assert_eq!(weight.values(), folded.weight, "{name}: {key}");
                assert_eq!(file.tensors[&format!("{key}.bias")].values(), folded.bias, "{name}: {key}");
                let node = file.nodes.iter().find(|node| node.name == *key).expect("a node named as the layer");
                assert_eq!((node.op.as_str(), &node.attributes["group"]), ("Conv", &vec![conv.groups as i64]), "{name}: {key}");
                // A stride that two pointwise convolutions of Keras' blocks share comes before them.
                let before = file.nodes.iter().find(|before| before.output == node.inputs[0] && before.name.starts_with("stride."));
                let strides = [Some(node), before].into_iter().flatten().map(|node| node.attributes["strides"][0]);
                assert_eq!(strides.product::<i64>(), conv.stride as i64, "{name}: {key}");
                convolutions += 1;
            }
        }
        assert_eq!(file.nodes.iter().filter(|node| node.op == "Conv").count(), convolutions, "{name}");
        let shared = file.nodes.iter().filter(|node| node.name.starts_with("stride.")).count();
        assert_eq!(shared, if name == "keras_resnet50" { 3 } else { 0 }, "{name}");
        let additions = graph.layers.iter().filter(|layer| layer.residual.is_some()).count();
        assert_eq!(file.nodes.iter().filter(|node| node.op == "Add").count(), additions, "{name}");
    }
}

#[test]
fn padding_is_what_the_size_needs() {
    let pads = |name: &str, size: usize, node: &str| {
        let options = OnnxOptions { size: Some([size; 2]), ..OnnxOptions::default() };
        let file = written(name, &ModelOptions::classes(3), &options);
        file.nodes.iter().find(|found| found.name.starts_with(node)).expect(node).attributes["pads"].clone()
    };
    // TensorFlow's SAME: the odd zero comes last.
    assert_eq!(pads("efficientnet_lite0", 64, "conv_stem"), [0, 0, 1, 1]);
    assert_eq!(pads("efficientnet_lite0", 65, "conv_stem"), [1, 1, 1, 1]);
    assert_eq!(pads("mobilenet_v2", 64, "features.0.0"), [1, 1, 1, 1]);
    // 65 pixels are 17 after the stem: the last window of the shortcut's pool has one column.
    assert_eq!(pads("resnet18d", 65, "average_pool"), [0, 0, 1, 1]);
    assert_eq!(pads("resnet18d", 64, "average_pool"), [0, 0, 0, 0]);
    assert_eq!(pads("resnet18d", 1, "average_pool"), [0, 0, 1, 1]);
}

#[test]
fn every_head_is_written_with_its_parameters() {
    let layers = |pool, layers: &[HeadLayer]| Head::Layers(HeadLayers { pool, layers: layers.to_vec(), ..HeadLayers::default() });
    let hidden = [HeadLayer::BatchNorm, HeadLayer::Linear(9), HeadLayer::Relu, HeadLayer::Dropout(0.5), HeadLayer::BatchNorm];
    let cosine = |learned| Head::Cosine(Cosine { scale: 7.5, learned });
    let global = ["GlobalAveragePool", "Flatten"];
    let cases: Vec<(Head, Vec<&str>)> = vec![
        (Head::Linear, [&global[..], &["Gemm"]].concat()),
        (
            Head::Mlp(Mlp { widths: vec![8], dropout: 0.2, batch_norm: true }),
            [&global[..], &["Gemm", "Mul", "Add", "Relu", "Gemm"]].concat(),
        ),
        (cosine(true), [&global[..], &["ReduceL2", "Max", "Div", "Gemm"]].concat()),
        (cosine(false), [&global[..], &["ReduceL2", "Max", "Div", "Gemm"]].concat()),
        (layers(Pool::Max, &[]), vec!["GlobalMaxPool", "Flatten", "Gemm"]),
        // 64 pixels are 16×16 features of ResNet-20.
        (layers(Pool::Flatten([16, 16]), &hidden), vec!["Flatten", "Mul", "Add", "Gemm", "Relu", "Mul", "Add", "Gemm"]),
        (layers(Pool::Flatten([3, 5]), &[]), vec!["MatMul", "MatMul", "Flatten", "Gemm"]),
        (
            Head::Fastai,
            [&["GlobalMaxPool", "Flatten"], &global[..], &["Concat", "Mul", "Add", "Gemm", "Relu", "Mul", "Add", "Gemm"]].concat(),
        ),
    ];
    for (head, ops) in cases {
        let options = ModelOptions { head: head.clone(), ..ModelOptions::classes(4) };
        let file = written("resnet20", &options, &OnnxOptions::default());
        let found: Vec<&str> = file.nodes.iter().map(|node| node.op.as_str()).collect();
        assert!(found.ends_with(&ops), "{head:?}: {found:?}");

        let model = model("resnet20", &options);
        let graph = model.describe();
        for step in &graph.head.as_ref().expect("a head").steps {
            let (id, first, second) = match step {
                HeadStep::Linear(layer) => (layer.weight.id, "weight", FoldedLinear::new(layer).unwrap().weight),
                HeadStep::Cosine(layer) => (layer.weight.id, "weight", FoldedLinear::cosine(layer).unwrap().weight),
                HeadStep::BatchNorm(norm) => (norm.weight.id, "scale", FoldedNorm::new(norm).unwrap().scale),
                HeadStep::Activation(_) => continue,
            };
            assert_eq!(file.tensors[&format!("{}.{first}", graph.names[&id])].values(), second, "{head:?}");
        }
    }
}

#[test]
fn means_over_a_grid_are_a_matrix_for_each_axis() {
    let head = Head::Layers(HeadLayers { pool: Pool::Flatten([3, 2]), ..HeadLayers::default() });
    let onnx = OnnxOptions { size: Some([16, 20]), ..OnnxOptions::default() };
    let file = written("resnet20", &ModelOptions { head, ..ModelOptions::classes(2) }, &onnx);
    // AdaptiveAvgPool2d of 4 rows into 3: 0..2, 1..3, 2..4; of 5 columns into 2: 0..3, 2..5.
    let rows = &file.tensors["grid/rows"];
    assert_eq!((&rows.dims[..], rows.values()), (&[3, 4][..], vec![0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5]));
    let columns = &file.tensors["grid/columns"];
    let third = 1.0 / 3.0;
    assert_eq!((&columns.dims[..], columns.values()), (&[5, 2][..], vec![third, 0.0, third, 0.0, third, third, 0.0, third, 0.0, third]));
}

#[test]
fn options_change_both_ends_and_the_storage() {
    let classes = ModelOptions::classes(3);
    let ops = |file: &File| file.nodes.iter().map(|node| node.op.clone()).collect::<Vec<_>>();
    let pixels = OnnxOptions { include_preprocessing: true, softmax: true, ..OnnxOptions::default() };
    let file = written("resnet20", &classes, &pixels);
    assert_eq!(file.input, ("images".into(), 2, vec![-1, 64, 64, 3]));
    assert_eq!(file.output, ("probabilities".into(), 1, vec![-1, 3]));
    assert!(ops(&file).starts_with(&["Cast", "Transpose", "Sub", "Div", "Conv"].map(String::from)), "{:?}", ops(&file));
    assert_eq!(file.nodes.last().unwrap().op, "Softmax");
    let means = file.tensors["mean"].values();
    assert!(means.iter().zip([123.675, 116.28, 103.53]).all(|(found, mean)| (found - mean).abs() < 1e-4), "{means:?}");

    // One logit of two classes has two probabilities.
    let file = written("resnet20", &ModelOptions::classes(1), &OnnxOptions { softmax: true, ..OnnxOptions::default() });
    assert_eq!(file.output, ("probabilities".into(), 1, vec![-1, 2]));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut bgr = about("resnet20", &classes);
    bgr.preprocessing.channels = ChannelOrder::Bgr;
    write_onnx(&model("resnet20", &classes), &bgr, &path, &pixels).unwrap();
    assert!(ops(&read(&path)).contains(&"Gather".to_owned()));

    let (full, half) = (
        written("resnet20", &classes, &OnnxOptions::default()),
        written("resnet20", &classes, &OnnxOptions { precision: Precision::F16, ..OnnxOptions::default() }),
    );
    for (name, tensor) in full.tensors.iter().filter(|(_, tensor)| tensor.kind == 1) {
        let stored = &half.tensors[name];
        assert_eq!(stored.kind, if tensor.dims.len() > 1 { 10 } else { 1 }, "{name}");
        let rounded = |x: f32| if tensor.dims.len() > 1 { f16::from_f32(x).to_f32() } else { x };
        assert_eq!(stored.values(), tensor.values().into_iter().map(rounded).collect::<Vec<_>>(), "{name}");
    }
    let casts = ops(&half).iter().filter(|op| *op == "Cast").count();
    assert_eq!(casts, half.tensors.values().filter(|tensor| tensor.kind == 10).count());
    // Gray pictures are the model's affair, as long as they come normalised.
    let file = written("resnet20", &ModelOptions { in_channels: 1, ..classes }, &OnnxOptions::default());
    assert_eq!(file.input.2, [-1, 1, 64, 64]);
}

#[test]
fn the_properties_are_the_bundles_and_a_file_is_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (folder.path().join("model.onnx"), folder.path().join("again.onnx"));
    let options = ModelOptions { head: Head::Fastai, ..ModelOptions::classes(3) };
    let (model, about) = (model("resnet20", &options), about("resnet20", &options));
    for path in [&path, &again] {
        write_onnx(&model, &about, path, &OnnxOptions::default()).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    let properties = read(&path).properties;
    let expected = BTreeMap::from([
        ("timburn.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("timburn.architecture", "resnet20".to_owned()),
        ("timburn.licence", "CC0-1.0".to_owned()),
        ("timburn.model", serde_json::to_string(&about.model).unwrap()),
        ("timburn.classes", serde_json::to_string(&about.classes).unwrap()),
        ("timburn.preprocessing", serde_json::to_string(&about.preprocessing).unwrap()),
        ("timburn.card", serde_json::to_string(&about.card).unwrap()),
    ]);
    assert_eq!(properties, expected.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    let classes: Classes = serde_json::from_str(&properties["timburn.classes"]).unwrap();
    assert_eq!(classes, about.classes);
}

#[test]
fn what_cannot_be_written_is_an_error_that_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "old").unwrap();
    let classes = ModelOptions::classes(3);
    let fails = |options: &ModelOptions, onnx: OnnxOptions, about: Bundle| {
        let error = write_onnx(&model("resnet20", options), &about, &path, &onnx).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{error}");
        error
    };
    let default = OnnxOptions::default;
    let own = || about("resnet20", &classes);
    let argument = |error: Error, expected: &str| assert!(matches!(error, Error::Argument { name, .. } if name == expected), "{expected}");
    argument(fails(&classes, OnnxOptions { precision: Precision::BF16, ..default() }, own()), "precision");
    for side in [0, 4097, usize::MAX] {
        argument(fails(&classes, OnnxOptions { size: Some([32, side]), ..default() }, own()), "size");
    }
    let gray = ModelOptions { in_channels: 1, ..classes.clone() };
    argument(fails(&gray, OnnxOptions { include_preprocessing: true, ..default() }, own()), "in_channels");
    let bad = Preprocessing { std: [0.0; 3], ..own().preprocessing };
    argument(fails(&classes, default(), Bundle { preprocessing: bad, ..own() }), "preprocessing.std");
    let error = fails(&classes, default(), Bundle { classes: Classes::imagenet(), ..own() });
    assert!(matches!(error, Error::Model(ModelError::ClassCount { model: 3, classes: 1000 })), "{error}");

    // A variance near zero: folded, the weights are too large for halves, though none of the model's own is.
    let plain = model("resnet20", &classes);
    let mut weights = formula::formula_weights(&plain, 0.0);
    weights.tensors.insert("bn1.weight".into(), WeightTensor::from_f32(vec![16], vec![1e6; 16]));
    let large = load_state_dict(&plain, &weights).unwrap();
    let error = write_onnx(&large, &own(), &path, &OnnxOptions { precision: Precision::F16, ..default() }).unwrap_err();
    assert!(matches!(&error, Error::Weights(WeightsError::Corrupt { name, .. }) if name.contains("conv1.weight")), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    write_onnx(&large, &own(), &path, &default()).unwrap();
    assert_eq!(read(&path).output.2, [-1, 3]);
    let missing = write_onnx(&plain, &own(), folder.path().join("missing/model.onnx"), &default());
    assert!(matches!(missing, Err(Error::Io { .. })));
}
