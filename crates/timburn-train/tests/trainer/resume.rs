//! A run stopped at any step and resumed ends bit for bit as the run that was not stopped.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use timburn_data::Splits;
use timburn_models::{Model, ModelOptions, create};
use timburn_train::checkpoint::CheckpointReader;
use timburn_train::trainer::Ending;
use timburn_train::{Checkpoint, Recipe};

use super::common::bits;
use super::patterns::Patterns;
use super::watch::Watch;
use super::{alone, device, fit, recipe};

/// Everything with a state of its own: accumulation with a short last step, augmentation, mixing, stochastic depth, dropout, averaged
/// weights that warm up, a plateau after a cosine, clipping, evaluations within and after epochs, the best checkpoint. 27 pictures in
/// batches of 4 are 7 batches, 4 steps an epoch.
const ALL: &str = r#"
    epochs = 3
    batch_size = 4
    accumulate = 2
    lr = 0.1
    drop_last = false
    clip = { norm = 1.0 }

    [model]
    name = "resnet20"
    options = { drop_path = 0.2, dropout = 0.1 }

    [augment]
    train = [
        { op = "random_crop", size = 16, padding = 2 },
        "horizontal_flip",
        { op = "color_jitter", brightness = 0.3, contrast = 0.3, saturation = 0.3, hue = 0.1 },
    ]
    evaluation = [{ op = "resize", size = 16 }, { op = "center_crop", size = 16 }, "normalize"]

    [mixing]
    mixup = { alpha = 0.4 }
    cutmix = { alpha = 1.0 }

    [loss]
    name = "cross_entropy"
    label_smoothing = 0.1

    [optimizer]
    name = "sgd"
    momentum = 0.9
    nesterov = true
    weight_decay = 1e-3

    [schedule]
    warmup = { epochs = 0.5 }
    chain = [
        { curve = { name = "cosine", eta_min = 0.02 }, epochs = 1.0 },
        { curve = { name = "plateau", mode = "max", patience = 0, factor = 0.5 } },
    ]

    [ema]
    decay = 0.99
    use_warmup = true

    [evaluation]
    every_steps = 3

    [checkpoints]
    best = "loss"

    [early_stopping]
    patience = 100
    metric = "loss"
"#;

fn data() -> Splits {
    Patterns::new(3, 27, 18, 1).with(Patterns::new(3, 7, 18, 2))
}

fn model(recipe: &Recipe) -> Model {
    let section = recipe.model.clone().expect("a model");
    create(&section.name, &ModelOptions { classes: Some(3), ..section.options }, &device().autodiff()).expect("resnet20")
}

/// What is in a checkpoint, the tensors as bytes.
fn content(checkpoint: &Checkpoint) -> (u64, u64, Value, BTreeMap<String, Vec<u8>>) {
    let groups = checkpoint
        .groups
        .iter()
        .flat_map(|(group, dict)| dict.tensors.iter().map(move |(key, tensor)| (format!("{group}:{key}"), tensor.bytes().expect("bytes"))));
    (checkpoint.step, checkpoint.epoch, checkpoint.state.clone(), groups.collect())
}

/// Runs until `stop` (or to the end), appends to the log; the final model's bits.
fn run(recipe: &Recipe, folder: &Path, stop: Option<u64>, log: &mut Vec<String>) -> (Ending, Vec<(String, Vec<u32>)>) {
    let mut watch = Watch { stop_after: stop, ..Watch::default() };
    let outcome = fit(recipe, model(recipe), &data(), Some(folder), &mut watch).unwrap_or_else(|error| panic!("{error}"));
    log.append(&mut watch.log);
    (outcome.ending, bits(&outcome.model))
}

fn same_after_a_stop_at(recipe: &Recipe, stops: impl IntoIterator<Item = u64>, steps: usize) -> Vec<String> {
    let whole = tempfile::tempdir().unwrap();
    let mut expected_log = Vec::new();
    let (ending, expected_bits) = run(recipe, whole.path(), None, &mut expected_log);
    assert_eq!(ending, Ending::Finished);
    assert_eq!(expected_log.iter().filter(|line| line.starts_with("step")).count(), steps);
    let reader = CheckpointReader::new(whole.path());
    let (expected, expected_best) = (reader.latest().unwrap().unwrap().1, reader.best().unwrap().unwrap().1);
    for stop in stops {
        let parts = tempfile::tempdir().unwrap();
        let mut log = Vec::new();
        let (ending, _) = run(recipe, parts.path(), Some(stop), &mut log);
        assert_eq!(ending, Ending::Interrupted, "stop at {stop}");
        assert_eq!(CheckpointReader::new(parts.path()).latest().unwrap().unwrap().1.step, stop);
        let (ending, found_bits) = run(recipe, parts.path(), None, &mut log);
        assert_eq!(ending, Ending::Finished, "stop at {stop}");
        assert_eq!(log, expected_log, "stop at {stop}");
        assert!(found_bits == expected_bits, "stop at {stop}: the model differs");
        let reader = CheckpointReader::new(parts.path());
        for (found, expected) in [(reader.latest(), &expected), (reader.best(), &expected_best)] {
            let (found, expected) = (content(&found.unwrap().unwrap().1), content(expected));
            assert_eq!((found.0, found.1, found.2), (expected.0, expected.1, expected.2), "stop at {stop}");
            assert!(found.3 == expected.3, "stop at {stop}: tensors of a checkpoint differ");
        }
    }
    expected_log
}

#[test]
fn every_step_of_twelve() {
    let _alone = alone();
    let log = same_after_a_stop_at(&recipe(16, ALL), 1..12, 12);
    // Within epochs after steps 3, 6 and 9, and after each epoch.
    assert_eq!(log.iter().filter(|line| line.starts_with("evaluation")).count(), 6);
}

#[test]
fn in_the_middle_of_every_evaluation() {
    let _alone = alone();
    let recipe = recipe(16, &ALL.replace("[evaluation]\n", "[evaluation]\n    batch_size = 5\n"));
    let (whole, mut expected_log) = (tempfile::tempdir().unwrap(), Vec::new());
    let (_, expected) = run(&recipe, whole.path(), None, &mut expected_log);
    for at in 0..6 {
        let parts = tempfile::tempdir().unwrap();
        let mut watch = Watch { stop_in: Some(at), ..Watch::default() };
        let outcome = fit(&recipe, model(&recipe), &data(), Some(parts.path()), &mut watch).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((outcome.ending, watch.evaluations.len()), (Ending::Interrupted, at), "evaluation {at} was not given up");
        let mut log = watch.log;
        let (ending, found) = run(&recipe, parts.path(), None, &mut log);
        assert_eq!(ending, Ending::Finished);
        assert_eq!(log, expected_log, "stopped in evaluation {at}");
        assert!(found == expected, "stopped in evaluation {at}: the model differs");
    }
}

#[test]
fn half_precision_with_its_loss_scale() {
    let _alone = alone();
    let text = ALL
        .replace("epochs = 3\n", "epochs = 2\nprecision = \"f16\"\n")
        .replace("clip = { norm = 1.0 }", "clip = { value = 0.1 }")
        .replace("lr = 0.1\n", "lr = 0.002\n")
        .replace("name = \"sgd\"\n    momentum = 0.9\n    nesterov = true", "name = \"adamw\"");
    same_after_a_stop_at(&recipe(16, &text), [1, 6], 8);
}
