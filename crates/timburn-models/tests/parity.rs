//! Every variant of the zoo against PyTorch: keys, activations, logits, losses, gradients and BN statistics of three training steps.
//!
//! The goldens and the generator that wrote them are in `parity/`. Errors are relative to the largest golden value of a tensor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use serde_json::Value;
use sha2::{Digest, Sha256};
use timburn_models::Stem;
use timburn_models::state_dict::{KeyPath, adapt_input_channels, input_key};
use timburn_models::{
    ARCHITECTURES, ImageModel, Model, ModelOptions, StateDict, create, load_state_dict, parameters, trainable_parameters,
};

/// Largest relative error allowed; PyTorch's own distance to f64 is around 1e-6 in evaluation and 1e-5 in training.
const TOLERANCE: f64 = 1e-4;

fn golden(name: &str) -> Value {
    // timm calls the ones with TensorFlow's padding `tf_`; timburn has no others.
    let name = if name.starts_with("efficientnet") { format!("tf_{name}") } else { name.to_owned() };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../parity/goldens/zoo/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("goldens are JSON")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn usizes(value: &Value) -> Vec<usize> {
    value.as_array().expect("an array").iter().map(|x| x.as_u64().expect("a number") as usize).collect()
}

/// Compares tensors with samples of goldens and keeps the worst error of each kind.
struct Comparison {
    name: String,
    worst: BTreeMap<&'static str, f64>,
}

impl Comparison {
    fn values(&mut self, kind: &'static str, what: &str, found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
        let scale = expected.iter().fold(0f64, |scale, x| scale.max(x.abs()));
        let difference =
            found.iter().zip(expected).fold(0f64, |worst, (a, b)| if (a - b).is_nan() { f64::NAN } else { worst.max((a - b).abs()) });
        let error = difference / scale;
        assert!(error <= TOLERANCE, "{}: {what}: relative error {error:.1e}\nfound    {found:?}\nexpected {expected:?}", self.name);
        let worst = self.worst.entry(kind).or_default();
        *worst = worst.max(error);
    }

    fn tensor(&mut self, kind: &'static str, what: &str, found: (Vec<usize>, Vec<f32>), expected: &Value) {
        let (shape, found) = found;
        assert_eq!(shape, usizes(&expected["shape"]), "{}: shape of {what}", self.name);
        let samples = floats(&expected["samples"]);
        let picked: Vec<f64> = (0..samples.len()).map(|k| f64::from(found[k * found.len() / samples.len()])).collect();
        self.values(kind, what, &picked, &samples);
        let l2 = found.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        self.values(kind, &format!("norm of {what}"), &[l2], &[expected["l2"].as_f64().expect("a number")]);
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> (Vec<usize>, Vec<f32>) {
    let data: TensorData = tensor.into_data();
    (data.shape().to_vec(), data.convert::<f32>().try_to_vec().expect("f32"))
}

/// Architecture and options of a golden.
fn variant(name: &str) -> (&str, ModelOptions) {
    let mut options = ModelOptions { dropout: Some(0.0), ..ModelOptions::default() };
    let (architecture, option) = name.rsplit_once('_').unwrap_or((name, ""));
    match option {
        "small" => {
            options.stem = Some(Stem::Small);
            options.classes = Some(10);
        }
        "os8" => options.output_stride = 8,
        "os16" => options.output_stride = 16,
        "in1" => options.in_channels = 1,
        "in4" => options.in_channels = 4,
        _ => return (name, options),
    }
    (architecture, options)
}

fn weights(name: &str, architecture: &str, model: &Model, options: &ModelOptions, bias_offset: f32, device: &Device) -> StateDict {
    if options.in_channels == 3 {
        return common::formula_weights(model, bias_offset);
    }
    // The formula fills the three-channel stem, which is then adapted, as timm does with ImageNet's.
    let rgb = create(architecture, &ModelOptions { in_channels: 3, ..options.clone() }, device).expect(name);
    let mut dict = common::formula_weights(&rgb, bias_offset);
    let key = input_key(&rgb).expect("a first convolution");
    adapt_input_channels(&mut dict, &key, options.in_channels).expect(name);
    dict
}

fn check(name: &str) {
    let golden = golden(name);
    let (architecture, options) = variant(name);
    let device = timburn_core::open_device("flex").expect("flex");
    let model = create(architecture, &options, &device).expect(name);
    let mut comparison = Comparison { name: name.into(), worst: BTreeMap::new() };

    let infos = parameters(&model);
    let mut lines: Vec<String> = infos.iter().map(|info| format!("{} {:?}\n", info.key, info.shape)).collect();
    lines.sort();
    assert_eq!(lines.len() as u64, golden["keys"]["count"], "{name}: number of keys: {lines:?}");
    let digest: String = Sha256::digest(lines.concat()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, golden["keys"]["sha256"], "{name}: keys {lines:?}");
    assert_eq!(trainable_parameters(&model) as u64, golden["parameters"], "{name}: parameters");

    // Evaluation.
    let eval = &golden["eval"];
    let dict = weights(name, architecture, &model, &options, 0.0, &device);
    let loaded = load_state_dict(&model, &dict).expect(name);
    let shape: [usize; 4] = usizes(&eval["input"]).try_into().expect("four extents");
    let stages = eval["stages"].as_object().expect("stages");
    let names: Vec<String> = loaded.stages().into_iter().map(|stage| stage.name).filter(|stage| stages.contains_key(stage)).collect();
    assert_eq!(names.len(), stages.len(), "{name}: stages {:?} and {:?}", loaded.stages(), stages.keys());
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let features = loaded.forward_intermediates(common::images("input", shape, &device), &wanted).expect("stages exist");
    for (stage, found) in wanted.iter().zip(features) {
        comparison.tensor("stages", stage, host(found), &stages[*stage]);
    }
    let logits = host(loaded.forward(common::images("input", shape, &device)));
    let winners: Vec<usize> =
        logits.1.chunks(logits.0[1]).map(|row| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()).collect();
    assert_eq!(winners, usizes(&eval["logits"]["argmax"]), "{name}: top-1");
    comparison.tensor("logits", "logits", logits, &eval["logits"]);

    train(
        &golden,
        &weights(name, architecture, &model, &options, golden["train"]["bias_offset"].as_f64().unwrap() as f32, &device),
        &model,
        &mut comparison,
    );
    println!("{name:24} {:?}", comparison.worst);
}

/// Three steps of plain SGD.
fn train(golden: &Value, dict: &StateDict, model: &Model, comparison: &mut Comparison) {
    let train = &golden["train"];
    let mut model = load_state_dict(model, dict).expect("fits").train();
    let device = timburn_core::open_device("flex").expect("flex").autodiff();
    let shape: [usize; 4] = usizes(&train["input"]).try_into().expect("four extents");
    let labels: Vec<i64> = common::labels(shape[0], model.num_classes()).into_iter().map(|label| label as i64).collect();
    let rate = train["learning_rate"].as_f64().expect("a rate");
    let mut losses = Vec::new();
    for step in 0..3 {
        let logits = model.forward(common::images(&format!("input{step}"), shape, &device));
        let target = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [shape[0]]), &device);
        let loss = log_softmax(logits, 1).gather(1, target.reshape([shape[0], 1])).mean().neg();
        losses.push(f64::from(host(loss.clone()).1[0]));
        let gradients = loss.backward();
        if step == 0 {
            for (key, expected) in train["gradients"].as_object().expect("gradients") {
                let found = gradient(&model, &gradients, key).unwrap_or_else(|| panic!("{}: no gradient for {key}", comparison.name));
                comparison.tensor("gradients", key, found, expected);
            }
        }
        model = model.map(&mut common::Sgd { gradients, rate });
    }
    comparison.values("losses", "losses", &losses, &floats(&train["losses"]["values"]));
    let trained = timburn_models::state_dict(&model);
    for (key, expected) in train["statistics"].as_object().expect("statistics") {
        let tensor = &trained.tensors[key];
        comparison.tensor("statistics", key, (tensor.shape.clone(), tensor.values().expect("host data")), expected);
    }
}

/// Gradient of the parameter `key`.
fn gradient(model: &Model, gradients: &Gradients, key: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    struct Find<'a> {
        path: KeyPath,
        gradients: &'a Gradients,
        key: &'a str,
        found: Option<(Vec<usize>, Vec<f32>)>,
    }
    impl ModuleVisitor for Find<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.path.key() == self.key {
                self.found = param.val().grad(self.gradients).map(host);
            }
        }
    }
    let mut find = Find { path: KeyPath::default(), gradients, key, found: None };
    model.visit(&mut find);
    find.found
}

macro_rules! variants {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_architecture_has_a_golden() {
            let tested = [$(stringify!($name)),*];
            for architecture in ARCHITECTURES {
                assert!(tested.contains(&architecture.name), "{} is not compared with PyTorch", architecture.name);
                let device = timburn_core::open_device("flex").expect("flex");
                let model = create(architecture.name, &ModelOptions::default(), &device).expect(architecture.name);
                assert_eq!(trainable_parameters(&model), architecture.parameters, "{}", architecture.name);
            }
        }
    };
}

variants! {
    resnet18 resnet34 resnet50 resnet101 resnet152
    resnext50_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2 wide_resnet101_2
    resnet18d resnet34d resnet50d resnet101d seresnet50 keras_resnet50
    resnet20 resnet32 resnet44 resnet56 resnet110
    resnet18_small resnet50_small resnet50_os16 resnet50_os8 resnet18_in1 resnet18_in4
    efficientnet_lite0 efficientnet_lite1 efficientnet_lite2 efficientnet_lite3 efficientnet_lite4
    mobilenet_v2
}
