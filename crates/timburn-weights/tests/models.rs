//! Models through files: safetensors, bundles, burnpack, Keras' names, adapted channels and heads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../timburn-models/tests/common/mod.rs"]
mod formula;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use timburn_core::{Classes, Error, Preprocessing, WeightsError, open_device};
use timburn_models::blocks::{Head, HeadLayers, Pool};
use timburn_models::{
    ARCHITECTURES, ImageModel, Model, ModelOptions, StateDict, WeightTensor, create, load_state_dict, parameters, state_dict,
};
use timburn_weights::{Bundle, Card, ModelSpec, Precision, from_file, read_weights, write_safetensors};

fn flex() -> Device {
    open_device("flex").unwrap()
}

fn model(name: &str) -> Model {
    let model = create(name, &ModelOptions::default(), &flex()).unwrap();
    let weights = formula::formula_weights(&model, 0.0);
    load_state_dict(&model, &weights).unwrap()
}

fn logits(model: &Model, channels: usize) -> Vec<f32> {
    let logits: Tensor<2> = model.forward(formula::images("input", [1, channels, 32, 32], &flex()));
    logits.into_data().convert::<f32>().try_to_vec().unwrap()
}

fn assert_equal(found: &StateDict, expected: &StateDict, what: &str) {
    assert!(found.tensors.keys().eq(expected.tensors.keys()), "{what}");
    for (key, tensor) in &expected.tensors {
        assert_eq!(found.tensors[key].shape, tensor.shape, "{what}: {key}");
        assert_eq!(found.tensors[key].values(), tensor.values(), "{what}: {key}");
    }
}

fn bundle(name: &str) -> Bundle {
    let weights = state_dict(&model(name));
    let classes = Classes::imagenet();
    let model = ModelSpec { architecture: name.into(), options: ModelOptions::default() };
    Bundle { model, classes, preprocessing: Preprocessing::torchvision(224, 256), card: Card::default(), ranges: None, weights }
}

#[test]
fn every_family_survives_safetensors_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for row in ARCHITECTURES.iter().filter(|row| row.parameters < 12_000_000) {
        let dict = state_dict(&model(row.name));
        let path = folder.path().join("m.safetensors");
        write_safetensors(&dict, &path, Precision::F32, &Default::default()).unwrap();
        assert_equal(&read_weights(&path).unwrap(), &dict, row.name);
        // The reference implementation reads it too.
        let bytes = std::fs::read(&path).unwrap();
        let independent = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(independent.len(), dict.tensors.len(), "{}", row.name);
    }
}

#[test]
fn a_bundle_is_all_that_a_model_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.timburn");
    let saved = bundle("mobilenet_v2");
    saved.save(&path, Precision::F32).unwrap();
    let opened = Bundle::open(&path).unwrap();
    assert_eq!(
        (&opened.model, &opened.classes, &opened.preprocessing, &opened.card),
        (&saved.model, &saved.classes, &saved.preprocessing, &saved.card)
    );
    assert_eq!(logits(&opened.load(&flex()).unwrap(), 3), logits(&model("mobilenet_v2"), 3));
    // Half precision stays within half's rounding.
    saved.save(&path, Precision::F16).unwrap();
    let (half, full) = (logits(&Bundle::open(&path).unwrap().load(&flex()).unwrap(), 3), logits(&model("mobilenet_v2"), 3));
    let scale = full.iter().fold(0f32, |scale, x| scale.max(x.abs()));
    assert!(half.iter().zip(&full).all(|(a, b)| (a - b).abs() < 0.01 * scale));
    // Weights alone are no bundle.
    write_safetensors(&saved.weights, &path, Precision::F32, &Default::default()).unwrap();
    assert!(matches!(Bundle::open(&path), Err(Error::Weights(WeightsError::NotABundle { .. }))));
    assert!(matches!(from_file(&path, None), Err(Error::Weights(WeightsError::NotABundle { .. }))));
    assert_eq!(from_file(&path, Some("mobilenet_v2")).unwrap().classes, Classes::imagenet());
}

#[test]
fn a_wrong_architecture_is_one_error_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r18.safetensors");
    write_safetensors(&state_dict(&model("resnet18")), &path, Precision::F32, &Default::default()).unwrap();
    let loaded = from_file(&path, Some("resnet34")).unwrap().load(&flex());
    let Err(Error::Weights(WeightsError::Mismatch(mismatch))) = loaded else { panic!("{loaded:?}") };
    assert_eq!((mismatch.missing.len(), mismatch.unexpected.len(), mismatch.shapes.len()), (80, 0, 0));
    assert!(mismatch.to_string().contains("r18.safetensors"));
}

#[test]
fn channels_are_adapted_and_heads_replaced_only_when_asked() {
    let bundle = bundle("resnet18");
    let gray = bundle.load_with(&ModelOptions { in_channels: 1, ..ModelOptions::default() }, &flex()).unwrap();
    // A gray picture gives a one-channel network what its three copies give the original.
    let one = formula::images("input", [1, 1, 32, 32], &flex());
    let three = Tensor::cat(vec![one.clone(), one.clone(), one.clone()], 1);
    let host = |tensor: Tensor<2>| -> Vec<f32> { tensor.into_data().convert::<f32>().try_to_vec().unwrap() };
    let (found, expected) = (host(gray.forward(one)), host(model("resnet18").forward(three)));
    let scale = expected.iter().fold(0f32, |scale, x| scale.max(x.abs()));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4 * scale));

    // A file may say anything.
    for shape in [[64, 3, 0, 7], [0, 3, 7, 7], [64, 3, 7, 0]] {
        let mut bundle = bundle.clone();
        bundle.weights.tensors.insert("conv1.weight".into(), WeightTensor::from_f32(shape.to_vec(), Vec::new()));
        let gray = bundle.load_with(&ModelOptions { in_channels: 1, ..ModelOptions::default() }, &flex());
        assert!(matches!(gray, Err(Error::Weights(WeightsError::Corrupt { .. }))), "{gray:?}");
    }

    let seven = bundle.load_with(&ModelOptions::classes(7), &flex()).unwrap();
    assert_eq!(seven.num_classes(), 7);
    let (new, old) = (state_dict(&seven), state_dict(&model("resnet18")));
    for (key, tensor) in new.tensors.iter().filter(|(key, _)| !key.starts_with("fc.")) {
        assert_eq!(tensor.values(), old.tensors[key].values(), "{key}");
    }
}

#[test]
fn a_flipped_bit_in_a_bundle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r20.timburn");
    for precision in [Precision::F32, Precision::F16] {
        bundle("resnet20").save(&path, precision).unwrap();
        assert!(Bundle::open(&path).unwrap().load(&flex()).is_ok());
        let whole = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for place in [header, (header + whole.len()) / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let loaded = Bundle::open(&path).unwrap().load(&flex());
            let Err(Error::Weights(error @ WeightsError::Corrupt { .. })) = &loaded else { panic!("{place}: {loaded:?}") };
            assert!(error.to_string().contains("checksum") && error.to_string().contains("r20.timburn"), "{error}");
        }
    }
}

#[test]
fn another_head_comes_with_the_same_body() {
    let bundle = bundle("resnet18");
    let body = |model: &Model| {
        let mut dict = state_dict(model);
        dict.tensors.retain(|key, _| !key.starts_with("fc."));
        dict
    };
    let old = body(&model("resnet18"));
    // Classes not asked for: as many as before.
    let fastai = ModelOptions { head: Head::Fastai, seed: 5, ..ModelOptions::default() };
    let loaded = bundle.load_with(&fastai, &flex()).unwrap();
    assert_eq!(loaded.num_classes(), 1000);
    assert_equal(&body(&loaded), &old, "fastai");
    // One logit for two classes, gray pictures and another head at once.
    let max = Head::Layers(HeadLayers { pool: Pool::Max, ..HeadLayers::default() });
    let options = ModelOptions { classes: Some(1), in_channels: 1, head: max, seed: 5, ..ModelOptions::default() };
    let loaded = bundle.load_with(&options, &flex()).unwrap();
    let (mut new, mut expected) = (body(&loaded), old);
    assert_eq!(new.tensors.remove("conv1.weight").unwrap().shape, [64, 1, 7, 7]);
    expected.tensors.remove("conv1.weight");
    assert_equal(&new, &expected, "one logit");
    assert_eq!(logits(&loaded, 1).len(), 1);

    // Saved with its head, it comes back with it, and its head can be replaced again.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.timburn");
    let weights = state_dict(&loaded);
    let classes = Classes::new(vec!["cat".into(), "dog".into()]);
    let spec = ModelSpec { architecture: "resnet18".into(), options: options.clone() };
    let saved = Bundle { model: spec, classes, preprocessing: bundle.preprocessing.clone(), card: Card::default(), ranges: None, weights };
    saved.save(&path, Precision::F32).unwrap();
    let opened = Bundle::open(&path).unwrap();
    assert_eq!(opened.model.options, options);
    assert_eq!(logits(&opened.load(&flex()).unwrap(), 1), logits(&loaded, 1));
    let same = ModelOptions { seed: 99, dropout: Some(0.3), ..options.clone() };
    assert_eq!(logits(&opened.load_with(&same, &flex()).unwrap(), 1), logits(&loaded, 1), "nothing asked for that would replace it");
    let again = ModelOptions { classes: Some(4), head: Head::Fastai, dropout: Some(0.3), in_channels: 1, ..ModelOptions::default() };
    let again = opened.load_with(&again, &flex()).unwrap();
    assert_eq!(logits(&again, 1).len(), 4);
    assert_equal(&body(&again), &body(&loaded), "again");
    // One logit does not tell three classes apart.
    let three = Bundle { classes: Classes::new(vec!["a".into(), "b".into(), "c".into()]), ..saved };
    three.save(&path, Precision::F32).unwrap();
    assert!(matches!(Bundle::open(&path), Err(Error::Model(timburn_core::error::ModelError::ClassCount { model: 1, classes: 3 }))));
}

#[test]
fn a_file_of_ones_own_claims_nothing_published() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.safetensors");
    write_safetensors(&state_dict(&model("resnet18")), &path, Precision::F32, &Default::default()).unwrap();
    let bundle = from_file(&path, Some("resnet18")).unwrap();
    assert_eq!((bundle.card.name, bundle.card.licence, bundle.card.published), (None, None, timburn_weights::Accuracy::default()));
    assert!(matches!(from_file(&path, Some("resnet18.tv_in1K")), Err(Error::Weights(WeightsError::Unknown { .. }))), "a slip in the tag");
}

#[test]
fn shapes_and_preprocessing_of_hostile_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.safetensors");
    let header = r#"{"fc.weight":{"dtype":"F32","shape":[1152921504606846976,0],"data_offsets":[0,0]}}"#;
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    // 2^60 classes times nothing: an error, not 2^60 names.
    assert!(from_file(&path, Some("resnet50")).and_then(|bundle| bundle.load(&flex())).is_err());

    let mut bad = bundle("resnet20");
    bad.classes = Classes::cifar10();
    bad.model.options = ModelOptions::classes(10);
    bad.preprocessing.std = [0.0; 3];
    let path = folder.path().join("bad.timburn");
    bad.save(&path, Precision::F32).unwrap();
    assert!(matches!(Bundle::open(&path), Err(Error::Argument { name: "preprocessing.std", .. })));
}

#[test]
fn a_dilated_bundle_stays_dilated() {
    let options = ModelOptions { output_stride: 8, ..ModelOptions::default() };
    let dilated = create("resnet50", &options, &flex()).unwrap();
    let dilated = load_state_dict(&dilated, &formula::formula_weights(&dilated, 0.0)).unwrap();
    let bundle =
        Bundle { model: ModelSpec { architecture: "resnet50".into(), options }, weights: state_dict(&dilated), ..bundle("resnet18") };
    let loaded = bundle.load_with(&ModelOptions::classes(3), &flex()).unwrap();
    assert_eq!(loaded.stages().last().unwrap().reduction, 8);
}

#[test]
fn burns_own_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["resnet18d", "mobilenet_v2", "efficientnet_lite0", "resnet20"] {
        let model = model(name);
        let path = folder.path().join(name);
        model.clone().save_file(&path).unwrap();
        let written = [path.clone(), path.with_extension("bpk")].into_iter().find(|path| path.is_file()).expect("a file");
        assert_equal(&read_weights(&written).unwrap(), &state_dict(&model), name);
    }
}

#[test]
fn keras_names_and_axes_are_mapped() {
    let listing = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/keras_resnet50.tsv")).unwrap();
    let mut dict = StateDict::new("keras");
    for line in listing.lines() {
        let (name, shape) = line.split_once('\t').unwrap();
        let shape: Vec<usize> = shape.trim_matches(['[', ']']).split(", ").map(|x| x.parse().unwrap()).collect();
        let count = shape.iter().product();
        dict.tensors.insert(name.into(), WeightTensor::from_f32(shape, vec![0.5; count]));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keras.safetensors");
    write_safetensors(&dict, &path, Precision::F16, &Default::default()).unwrap();
    let bundle = from_file(&path, Some("keras_resnet50")).unwrap();
    let model = bundle.load(&flex()).unwrap();
    assert_eq!(parameters(&model).len(), listing.lines().count());
    assert_eq!(bundle.preprocessing, Preprocessing::keras_caffe(224));
}

#[test]
fn a_save_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dict = state_dict(&model("resnet20"));
    let missing = folder.path().join("no/such/folder/m.safetensors");
    assert!(matches!(write_safetensors(&dict, &missing, Precision::F32, &Default::default()), Err(Error::Io { .. })));
    // A tensor that cannot be read half way through: the old file stays, no temporary is left.
    let path = folder.path().join("m.safetensors");
    std::fs::write(&path, b"old").unwrap();
    let mut broken = dict.clone();
    broken
        .tensors
        .insert("zz".into(), WeightTensor::new(vec![4], timburn_models::WeightDtype::F32, std::sync::Arc::new(|| Err("gone".into()))));
    let error = write_safetensors(&broken, &path, Precision::F32, &Default::default()).unwrap_err();
    assert!(error.to_string().contains("zz"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
