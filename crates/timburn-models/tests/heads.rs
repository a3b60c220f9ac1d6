//! Heads against PyTorch and fastai (`parity/heads.py`): keys, outputs, gradients, statistics, initial values; then what models do with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde_json::Value;
use timburn_core::Error;
use timburn_models::blocks::{Builder, Classifier, ClassifierConfig, Cosine, Head, HeadLayer, HeadLayers, LayerStyle, Mlp, Output, Pool};
use timburn_models::state_dict::KeyPath;
use timburn_models::{ImageModel, ModelOptions, StateDict, WeightTensor, create, load_state_dict, outputs_fit, parameters, state_dict};

/// Largest error allowed, relative to the largest value of a tensor.
const TOLERANCE: f64 = 1e-5;
const CHANNELS: usize = 6;

fn flex() -> Device {
    timburn_core::open_device("flex").expect("flex")
}

fn goldens() -> Value {
    serde_json::from_str(include_str!("../../../parity/goldens/heads.json")).expect("goldens are JSON")
}

fn host<const D: usize>(tensor: Tensor<D>) -> (Vec<usize>, Vec<f32>) {
    let data: TensorData = tensor.into_data();
    (data.shape().to_vec(), data.convert::<f32>().try_to_vec().expect("f32"))
}

/// The head of each golden, and its outputs.
fn heads() -> Vec<(&'static str, Head, usize)> {
    let hidden = ["batch_norm", "linear 128", "relu", "dropout", "linear 64", "relu", "dropout", "batch_norm"].map(|layer| match layer {
        "batch_norm" => HeadLayer::BatchNorm,
        "linear 128" => HeadLayer::Linear(128),
        "linear 64" => HeadLayer::Linear(64),
        "relu" => HeadLayer::Relu,
        _ => HeadLayer::Dropout(0.5),
    });
    let flatten = |grid| Head::Layers(HeadLayers { pool: Pool::Flatten(grid), layers: hidden.to_vec(), ..HeadLayers::default() });
    vec![
        ("linear", Head::Linear, 5),
        ("fastai", Head::Fastai, 5),
        ("mlp", Head::Mlp(Mlp { widths: vec![16, 8], dropout: 0.3, batch_norm: true }), 5),
        ("flatten", flatten([3, 4]), 5),
        ("flatten_averaged", flatten([2, 3]), 5),
        ("max_one_logit", Head::Layers(HeadLayers { pool: Pool::Max, ..HeadLayers::default() }), 1),
        ("cosine", Head::Cosine(Cosine { scale: 7.5, learned: true }), 5),
    ]
}

/// The same head with dropout that drops nothing, in training too.
fn without_dropout(head: &Head) -> Head {
    let mut layers = head.layers();
    for layer in &mut layers.layers {
        if let HeadLayer::Dropout(rate) = layer {
            *rate = 0.0;
        }
    }
    Head::Layers(layers)
}

fn formula(classifier: &Classifier) -> StateDict {
    let mut dict = StateDict::new("formula");
    for info in parameters(classifier) {
        let values = if info.key == "scale" { vec![7.5] } else { common::tensor(&format!("fc.{}", info.key), &info.shape, 0.0) };
        dict.tensors.insert(info.key, WeightTensor::from_f32(info.shape, values));
    }
    dict
}

fn assert_close(what: &str, (shape, found): (Vec<usize>, Vec<f32>), expected: &Value) {
    let expected_shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).expect("shape");
    assert_eq!(shape, expected_shape, "{what}");
    let samples: Vec<f64> = serde_json::from_value(expected["samples"].clone()).expect("samples");
    // Relative to the tensor's largest value; where PyTorch's own rounding is larger, a few times that.
    let scale = samples.iter().fold(0f64, |scale, x| scale.max(x.abs()));
    let tolerance = (TOLERANCE * scale).max(4.0 * expected["f32_error"].as_f64().expect("an error"));
    for (k, sample) in samples.iter().enumerate() {
        let value = f64::from(found[k * found.len() / samples.len()]);
        assert!((value - sample).abs() <= tolerance, "{what}[{k}]: {value} instead of {sample}");
    }
    let l2 = found.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let expected_l2 = expected["l2"].as_f64().expect("a norm");
    assert!((l2 - expected_l2).abs() <= tolerance * (found.len() as f64).sqrt(), "{what}: norm {l2} instead of {expected_l2}");
}

fn gradients(classifier: &Classifier, gradients: &Gradients) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    struct Find<'a>(KeyPath, &'a Gradients, BTreeMap<String, (Vec<usize>, Vec<f32>)>);
    impl ModuleVisitor for Find<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.1) {
                self.2.insert(self.0.key(), host(gradient));
            }
        }
    }
    let mut find = Find(KeyPath::default(), gradients, BTreeMap::new());
    classifier.visit(&mut find);
    find.2
}

#[test]
fn heads_are_those_of_pytorch_and_fastai() {
    let goldens = goldens();
    for (name, head, classes) in heads() {
        let golden = &goldens[name];
        let device = flex();
        let build = |head: &Head| {
            let made = ClassifierConfig::new(CHANNELS, classes).build(head, &Builder::new(&device, 0)).expect(name);
            load_state_dict(&made, &formula(&made)).expect(name)
        };
        let classifier = build(&head);
        let mut keys: Vec<String> = parameters(&classifier).into_iter().map(|info| info.key).collect();
        keys.sort();
        assert_eq!(serde_json::to_value(keys).unwrap(), golden["keys"], "{name}");

        let [h, w]: [usize; 2] = serde_json::from_value(golden["size"].clone()).unwrap();
        let shape = [4, CHANNELS, h, w];
        let logits = classifier.forward(classifier.pool(common::images("features", shape, &device)));
        assert_close(&format!("{name}: eval"), host(logits), &golden["eval"]);

        let trained = build(&without_dropout(&head)).train();
        let features = common::images("features", shape, &device.clone().autodiff()).require_grad();
        let logits = trained.forward(trained.pool(features.clone()));
        assert_close(&format!("{name}: train"), host(logits.clone()), &golden["train"]);
        let upstream = common::images("upstream", [4, classes, 1, 1], &device.clone().autodiff()).reshape([4, classes]);
        let all = (logits * upstream).sum().backward();
        let mut found = gradients(&trained, &all);
        found.insert("features".into(), host(features.grad(&all).expect("features")));
        let expected = golden["gradients"].as_object().expect("gradients");
        assert!(found.keys().eq(expected.keys().collect::<std::collections::BTreeSet<_>>()), "{name}: {:?}", found.keys());
        for (key, gradient) in found {
            assert_close(&format!("{name}: gradient of {key}"), gradient, &expected[&key]);
        }
        let after = state_dict(&trained);
        for (key, expected) in golden["statistics"].as_object().expect("statistics") {
            let tensor = &after.tensors[key];
            assert_close(&format!("{name}: {key}"), (tensor.shape.clone(), tensor.values().unwrap()), expected);
        }
    }
}

#[test]
fn fastais_head_starts_as_fastais() {
    let made = ClassifierConfig::new(512, 37).build(&Head::Fastai, &Builder::new(&flex(), 3)).unwrap();
    let dict = state_dict(&made);
    let goldens = goldens();
    let golden = goldens["fastai_start"].as_object().expect("values");
    assert_eq!(dict.tensors.len(), golden.len());
    for (key, expected) in golden {
        let tensor = &dict.tensors[key];
        assert_eq!(tensor.shape, serde_json::from_value::<Vec<usize>>(expected["shape"].clone()).unwrap(), "{key}");
        let (mean, std) = moments(&tensor.values().unwrap());
        let (wanted_mean, wanted_std) = (expected["mean"].as_f64().unwrap(), expected["std"].as_f64().unwrap());
        // Both are draws: within 3 % of each other's spread, which 18,944 weights keep to.
        assert!((mean - wanted_mean).abs() <= 0.03 * wanted_std + 1e-7, "{key}: mean {mean} instead of {wanted_mean}");
        assert!((std - wanted_std).abs() <= 0.03 * wanted_std, "{key}: deviation {std} instead of {wanted_std}");
    }
}

fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    (mean, (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[test]
fn styles_start_with_their_distributions() {
    let (inputs, outputs) = (300, 100);
    let third = |bound: f64| bound / 3f64.sqrt();
    let cases = [
        (LayerStyle::Pytorch, third(1.0 / 300f64.sqrt()), Some(third(1.0 / 300f64.sqrt()))),
        (LayerStyle::Torchvision, 0.01, Some(0.0)),
        (LayerStyle::Fastai, (2.0f64 / 300.0).sqrt(), None),
        (LayerStyle::Keras, third((6.0f64 / 400.0).sqrt()), Some(0.0)),
    ];
    for (style, weight, bias) in cases {
        let head = Head::Layers(HeadLayers { style: Some(style), ..HeadLayers::default() });
        let dict = state_dict(&ClassifierConfig::new(inputs, outputs).build(&head, &Builder::new(&flex(), 1)).unwrap());
        let (mean, std) = moments(&dict.tensors["weight"].values().unwrap());
        assert!(mean.abs() < 0.03 * weight && (std - weight).abs() < 0.03 * weight, "{style:?}: {mean} ± {std}");
        assert_eq!(dict.tensors.contains_key("bias"), bias.is_some(), "{style:?}");
        if let Some(bias) = bias {
            let (_, std) = moments(&dict.tensors["bias"].values().unwrap());
            assert!((std - bias).abs() <= 0.15 * bias, "{style:?}: bias {std}");
        }
    }
    // A family's own way holds unless the head says otherwise.
    let spread = |head: Head| {
        let options = ModelOptions { head, ..ModelOptions::classes(50) };
        let dict = state_dict(&create("mobilenet_v2", &options, &flex()).unwrap());
        moments(&dict.tensors["classifier.1.weight"].values().unwrap()).1
    };
    assert!((spread(Head::Linear) - 0.01).abs() < 3e-4);
    let pytorch = Head::Layers(HeadLayers { style: Some(LayerStyle::Pytorch), ..HeadLayers::default() });
    assert!((spread(pytorch) - third(1.0 / 1280f64.sqrt())).abs() < 5e-4);
}

#[test]
fn every_family_takes_every_head_and_keeps_its_body() {
    let images = || common::images("x", [2, 3, 64, 64], &flex());
    let bits = |tensor: Tensor<4>| host(tensor).1.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for (name, prefix) in [("resnet18", "fc"), ("efficientnet_lite0", "classifier"), ("mobilenet_v2", "classifier.1")] {
        let plain = create(name, &ModelOptions::classes(5), &flex()).expect(name);
        let body = bits(plain.forward_features(images()));
        let mut old: Vec<String> = parameters(&plain).into_iter().map(|info| info.key).collect();
        old.retain(|key| !key.starts_with(prefix));
        assert!(parameters(&plain).iter().any(|info| info.key == format!("{prefix}.weight")), "{name}");
        for (kind, head, classes) in heads() {
            let options = ModelOptions { head: head.clone(), ..ModelOptions::classes(classes) };
            let made = create(name, &options, &flex()).expect(name);
            assert_eq!(made.forward(images()).dims(), [2, classes], "{name}: {kind}");
            let reset = plain.clone().reset_head(&head, classes, 0, &flex()).expect(name);
            assert_eq!(reset.num_classes(), classes, "{name}: {kind}");
            assert_eq!(*reset.classifier().head(), head.layers(), "{name}: {kind}");
            assert_eq!(reset.num_features(), plain.num_features(), "{name}: {kind}");
            assert_eq!(bits(reset.forward_features(images())), body, "{name}: {kind}");
            let keys: Vec<String> = parameters(&reset).into_iter().map(|info| info.key).collect();
            assert!(old.iter().all(|key| keys.contains(key)), "{name}: {kind}");
            let groups = reset.layer_groups();
            let head_group = groups.last().expect("a head");
            for key in keys.iter().filter(|key| !old.contains(key)) {
                assert!(key.starts_with(&format!("{prefix}.")) && head_group.contains(key), "{name}: {kind}: {key}");
            }
            // Features that are kept classify as the model does.
            let pooled = reset.pool(reset.forward_features(images()));
            assert_eq!(host(reset.classify(pooled)), host(reset.forward(images())), "{name}: {kind}");
            let linear = reset.reset_classifier(7, 1, &flex());
            assert!(parameters(&linear).iter().any(|info| info.key == format!("{prefix}.weight") && info.shape[0] == 7), "{name}: {kind}");
        }
    }
}

#[test]
fn dropout_is_the_familys_only_before_an_output_alone() {
    let device = flex().autodiff();
    let differs = |head: Head, dropout: Option<f64>| {
        let config = ClassifierConfig::new(64, 10).dropout(0.5, dropout);
        let classifier = config.build(&head, &Builder::new(&device, 0)).unwrap().train();
        let input = || Tensor::<2>::ones([1, 64], &device);
        host(classifier.forward(input())) != host(classifier.forward(input()))
    };
    let layers = || Head::Mlp(Mlp { widths: vec![8], ..Mlp::default() });
    assert!(differs(Head::Linear, None));
    assert!(!differs(Head::Linear, Some(0.0)));
    assert!(!differs(layers(), None));
    assert!(differs(layers(), Some(0.5)));
}

#[test]
fn a_row_of_zeros_gives_a_cosine_no_bad_gradient() {
    let device = flex().autodiff();
    for learned in [true, false] {
        let head = Head::Cosine(Cosine { scale: 10.0, learned });
        let classifier = ClassifierConfig::new(4, 3).build(&head, &Builder::new(&device, 0)).unwrap().train();
        let input = Tensor::<2>::zeros([2, 4], &device).require_grad();
        let logits = classifier.forward(input.clone());
        assert_eq!(host(logits.clone()).1, [0.0; 6]);
        let all = (logits + 1.0).sum().backward();
        let found = gradients(&classifier, &all);
        assert_eq!(found.contains_key("scale"), learned);
        assert!(found.values().all(|(_, values)| values.iter().all(|x| x.is_finite())), "{found:?}");
        assert!(host(input.grad(&all).unwrap()).1.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn descriptions_are_short_and_read_back() {
    let general = Head::Layers(HeadLayers {
        pool: Pool::Flatten([8, 8]),
        layers: vec![HeadLayer::BatchNorm, HeadLayer::Linear(128), HeadLayer::Relu, HeadLayer::Dropout(0.5)],
        output: Output::Linear,
        style: Some(LayerStyle::Keras),
    });
    let cases = [
        (r#""linear""#, Head::Linear),
        (r#""fastai""#, Head::Fastai),
        (r#"{"mlp":{"widths":[1024,512]}}"#, Head::Mlp(Mlp { widths: vec![1024, 512], ..Mlp::default() })),
        (r#"{"cosine":{}}"#, Head::Cosine(Cosine::default())),
        (r#"{"layers":{"pool":{"flatten":[8,8]},"layers":["batch_norm",{"linear":128},"relu",{"dropout":0.5}],"style":"keras"}}"#, general),
        (r#"{"layers":{"pool":"max"}}"#, Head::Layers(HeadLayers { pool: Pool::Max, ..HeadLayers::default() })),
    ];
    for (text, expected) in cases {
        let found: Head = serde_json::from_str(text).expect(text);
        assert_eq!(found, expected, "{text}");
        found.validate().expect(text);
        assert_eq!(serde_json::from_str::<Head>(&serde_json::to_string(&found).unwrap()).unwrap(), expected, "{text}");
    }
    for bad in [
        r#""fastia""#,
        r#"{"mlp":{"width":[3]}}"#,
        r#"{"layers":{"pools":"max"}}"#,
        r#"{"layers":{"pool":"mean"}}"#,
        r#"{"cosine":{"scales":1}}"#,
    ] {
        let error = serde_json::from_str::<Head>(bad).expect_err(bad).to_string();
        assert!(error.contains("unknown"), "{bad}: {error}");
    }
    // What older versions wrote has no head, and a linear one is not written.
    let options: ModelOptions = serde_json::from_str("{}").unwrap();
    assert_eq!(options.head, Head::Linear);
    assert!(!serde_json::to_string(&options).unwrap().contains("head"));
    let options = ModelOptions { head: Head::Fastai, ..options };
    assert_eq!(serde_json::from_str::<ModelOptions>(&serde_json::to_string(&options).unwrap()).unwrap(), options);
}

#[test]
fn values_out_of_range_are_errors() {
    let layers = |layers: Vec<HeadLayer>| Head::Layers(HeadLayers { layers, ..HeadLayers::default() });
    let bad = [
        Head::Mlp(Mlp::default()),
        Head::Mlp(Mlp { widths: vec![8, 0], ..Mlp::default() }),
        Head::Mlp(Mlp { widths: vec![8], dropout: 1.0, batch_norm: false }),
        Head::Mlp(Mlp { widths: vec![8], dropout: f64::NAN, batch_norm: false }),
        Head::Cosine(Cosine { scale: 0.0, learned: true }),
        Head::Cosine(Cosine { scale: f64::NAN, learned: false }),
        layers(vec![HeadLayer::Linear(usize::MAX)]),
        layers(vec![HeadLayer::Dropout(-0.1)]),
        Head::Layers(HeadLayers { pool: Pool::Flatten([0, 1]), ..HeadLayers::default() }),
        Head::Layers(HeadLayers { pool: Pool::Flatten([usize::MAX, 2]), ..HeadLayers::default() }),
    ];
    for head in bad {
        assert!(matches!(head.validate(), Err(Error::Argument { name: "head", .. })), "{head:?}");
        let options = ModelOptions { head: head.clone(), ..ModelOptions::classes(3) };
        assert!(create("resnet20", &options, &flex()).is_err(), "{head:?}");
        let model = create("resnet20", &ModelOptions::classes(3), &flex()).unwrap();
        assert!(model.reset_head(&head, 3, 0, &flex()).is_err(), "{head:?}");
    }
}

#[test]
fn one_output_fits_two_classes() {
    assert!(outputs_fit(3, 3) && outputs_fit(1, 2) && outputs_fit(1, 1) && outputs_fit(2, 2));
    assert!(!outputs_fit(2, 1) && !outputs_fit(1, 3) && !outputs_fit(3, 2));
}
