//! Transfer learning through whole runs: what is frozen stays to the bit, what thaws learns, and all of it resumes; learning rates by layer
//! group; balanced classes; one logit for two classes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{autodiff, host};
use timburn_core::error::ModelError;
use timburn_core::{Classes, Error};
use timburn_data::{Content, Dataset, Rgb8Image, Splits};
use timburn_models::{ImageModel, LayerGroup, Model, ModelOptions, StateDict, create, state_dict};
use timburn_train::recipe::Document;
use timburn_train::trainer::StepEvent;
use timburn_train::{
    Checkpoint, CheckpointStore, Learner, Loss, LossConfig, Observer, Recipe, Reduction, StopFlag, Targets, TrainData, Trainer, find_lr,
};

/// Pictures of 8 × 8 pixels whose brightness tells their class.
struct Shades {
    labels: Vec<usize>,
    classes: Classes,
}

impl Shades {
    fn new(counts: &[usize]) -> Arc<Self> {
        let classes = Classes::new((0..counts.len()).map(|class| format!("shade {class}")).collect());
        let labels = counts.iter().enumerate().flat_map(|(class, &count)| vec![class; count]).collect();
        Arc::new(Self { labels, classes })
    }

    fn splits(counts: &[usize]) -> Splits {
        Splits { train: Self::new(counts), validation: Some(Self::new(&vec![1; counts.len()])), test: None }
    }
}

impl Dataset for Shades {
    fn classes(&self) -> &Classes {
        &self.classes
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }
    fn name(&self, index: usize) -> String {
        format!("shade:{index}")
    }
    fn read(&self, index: usize) -> timburn_core::Result<Content> {
        let base = 200 * self.label(index) / (self.classes.len() - 1);
        let pixels = (0..8 * 8 * 3).map(|at| (base + (at * 31 + index * 17) % 50) as u8).collect();
        Ok(Content::Pixels(Rgb8Image::new(8, 8, pixels).expect("192 bytes")))
    }
}

/// Dropout draws from a generator that the whole process shares: what is compared to the bit trains alone.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const RECIPE: &str = r#"
[train]
epochs = 3
batch_size = 4
lr = 0.05
seed = 3
[model]
name = "resnet20"
pretrained = true
[augment]
train = [{ op = "resize", size = 8 }, { op = "center_crop", size = 8 }, "horizontal_flip"]
evaluation = [{ op = "resize", size = 8 }, { op = "center_crop", size = 8 }, "normalize"]
[loader]
workers = 1
[optimizer]
name = "sgd"
momentum = 0.9
weight_decay = 0.01
[checkpoints]
keep_last = 100
"#;

fn recipe(settings: &[&str]) -> Recipe {
    let document = settings.iter().fold(Document::new("recipe", RECIPE), |document, setting| document.set(setting).unwrap());
    Recipe::from_document(&document).unwrap_or_else(|error| panic!("{settings:?}: {error}"))
}

const GRADUAL: &str = r#"model.freeze=[{ epoch = 0, until = "body" }, { epoch = 1, until = "layer2" }, { epoch = 2, until = "none" }]"#;

/// A small network whose statistics and weights are those of another life, so that nothing is at its start.
fn pretrained(classes: usize) -> Model {
    let model = create("resnet20", &ModelOptions { dropout: Some(0.2), ..ModelOptions::classes(classes) }, &autodiff()).unwrap();
    let weights = common::formula_weights(&model, 0.0);
    timburn_models::load_state_dict(&model, &weights).unwrap()
}

fn trainer(recipe: &Recipe, counts: &[usize], model: Model) -> timburn_core::Result<Trainer<Model>> {
    Trainer::new(recipe.clone(), model, TrainData::new(recipe, Shades::splits(counts))?, &autodiff())
}

fn store(folder: &Path) -> CheckpointStore {
    CheckpointStore::open(folder, 100).unwrap()
}

type Bits = BTreeMap<String, Vec<u8>>;

fn bits(dict: &StateDict) -> Bits {
    dict.tensors.iter().map(|(key, tensor)| (key.clone(), tensor.bytes().unwrap())).collect()
}

/// Every tensor of a checkpoint, by group and key.
fn all_bits(checkpoint: &Checkpoint) -> BTreeMap<String, Bits> {
    checkpoint.groups.iter().map(|(name, dict)| (name.clone(), bits(dict))).collect()
}

/// Names of the layer groups in which every tensor changed; a group must have changed whole or not at all.
fn changed(groups: &[LayerGroup], before: &Bits, after: &Bits) -> Vec<String> {
    let mut changed = Vec::new();
    for group in groups {
        let keys: Vec<&String> = before.keys().filter(|key| group.contains(key)).collect();
        let moved = keys.iter().filter(|key| before[**key] != after[**key]).count();
        assert!(moved == 0 || moved == keys.len(), "{}: {moved} of {} tensors changed", group.name, keys.len());
        if moved > 0 {
            changed.push(group.name.clone());
        }
    }
    changed
}

#[test]
fn gradual_unfreezing_changes_exactly_what_is_thawed() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = pretrained(3);
    let groups = model.layer_groups();
    let mut before = bits(&state_dict(&model));
    let mut before_average = before.clone();
    let recipe = recipe(&[GRADUAL, "ema.decay=0.5"]);
    let outcome = trainer(&recipe, &[4, 4, 4], model).unwrap().with_checkpoints(store(folder.path())).unwrap().fit(&mut ()).unwrap();
    assert_eq!(outcome.step, 9);
    let checkpoints = store(folder.path()).list().unwrap();
    assert_eq!(checkpoints.len(), 3);
    let expected = [vec!["head"], vec!["layer3", "head"], vec!["stem", "layer1", "layer2", "layer3", "head"]];
    let steps = |dict: &StateDict, key: &str| dict.tensors.get(&format!("{key}.step")).map(|step| step.values().unwrap()[0]);
    for ((epoch, entry), expected) in checkpoints.iter().enumerate().zip(expected) {
        let checkpoint = Checkpoint::load(&entry.path).unwrap();
        let (after, average) = (bits(&checkpoint.groups["model"]), bits(&checkpoint.groups["ema"]));
        assert_eq!(changed(&groups, &before, &after), expected, "epoch {epoch}: the model");
        // The average of parameters that never moved is those parameters; of ones that did, it goes on moving.
        assert_eq!(changed(&groups, &before_average, &average), expected, "epoch {epoch}: the average");
        // Who thaws starts with an optimizer state of nothing, and who is frozen has none.
        let optimizer = &checkpoint.groups["optimizer"];
        assert_eq!(steps(optimizer, "fc.weight"), Some(3.0 * (epoch + 1) as f32));
        assert_eq!(steps(optimizer, "layer3.0.conv1.weight"), [None, Some(3.0), Some(6.0)][epoch]);
        assert_eq!(steps(optimizer, "conv1.weight"), [None, None, Some(3.0)][epoch]);
        (before, before_average) = (after, average);
    }
}

#[test]
fn one_stage_for_a_whole_run_is_frozen_to_the_end() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = pretrained(3);
    let (groups, before) = (model.layer_groups(), bits(&state_dict(&model)));
    let recipe = recipe(&["model.freeze=layer1"]);
    trainer(&recipe, &[4, 4, 4], model).unwrap().with_checkpoints(store(folder.path())).unwrap().fit(&mut ()).unwrap();
    let (_, last) = store(folder.path()).latest().unwrap().unwrap();
    assert_eq!(changed(&groups, &before, &bits(&last.groups["model"])), ["layer2", "layer3", "head"]);
}

/// Asks for the end after so many steps.
struct After(u64, StopFlag);

impl Observer for After {
    fn step(&mut self, event: &StepEvent) -> timburn_core::Result<()> {
        if event.step == self.0 {
            self.1.request();
        }
        Ok(())
    }
}

#[test]
fn a_plan_resumes_at_every_step_to_the_bit() {
    let _alone = alone();
    // Freezing again in the last epoch: optimizer state comes and goes.
    let again = r#"model.freeze=[{ epoch = 0, until = "layer2" }, { epoch = 1, until = "none" }, { epoch = 2, until = "layer1" }]"#;
    for plan in [GRADUAL, again] {
        let recipe = recipe(&[plan, "ema.decay=0.5", "checkpoints.every_steps=2", "evaluation.every_epochs=3"]);
        let whole = tempfile::tempdir().unwrap();
        trainer(&recipe, &[4, 4, 4], pretrained(3)).unwrap().with_checkpoints(store(whole.path())).unwrap().fit(&mut ()).unwrap();
        let expected = all_bits(&store(whole.path()).latest().unwrap().unwrap().1);
        for at in 1..9 {
            let parts = tempfile::tempdir().unwrap();
            let stop = StopFlag::default();
            let first = trainer(&recipe, &[4, 4, 4], pretrained(3)).unwrap().with_checkpoints(store(parts.path())).unwrap();
            let outcome = first.with_stop(stop.clone()).fit(&mut After(at, stop)).unwrap();
            assert_eq!(outcome.step, at);
            let second = trainer(&recipe, &[4, 4, 4], pretrained(3)).unwrap().with_checkpoints(store(parts.path())).unwrap();
            assert_eq!(second.step(), at);
            assert_eq!(second.fit(&mut ()).unwrap().step, 9);
            let found = all_bits(&store(parts.path()).latest().unwrap().unwrap().1);
            assert!(found == expected, "{plan}: stopped after step {at}");
        }
        // The checkpoint between two epochs is written before the next one thaws.
        let parts = tempfile::tempdir().unwrap();
        let checkpoints = store(whole.path()).list().unwrap();
        let checkpoints = checkpoints.iter().map(|entry| Checkpoint::load(&entry.path).unwrap());
        let end_of_epoch = checkpoints.into_iter().find(|checkpoint| checkpoint.step == 3).unwrap();
        store(parts.path()).save(&end_of_epoch).unwrap();
        let resumed = trainer(&recipe, &[4, 4, 4], pretrained(3)).unwrap().with_checkpoints(store(parts.path())).unwrap();
        assert_eq!(resumed.step(), 3);
        resumed.fit(&mut ()).unwrap();
        assert!(all_bits(&store(parts.path()).latest().unwrap().unwrap().1) == expected, "{plan}: from the end of an epoch");
    }
}

#[test]
fn recomputed_activations_change_no_bit_of_a_pretrained_model() {
    let _alone = alone();
    let run = |setting: &str| {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(&[GRADUAL, setting]);
        let stop = StopFlag::default();
        let new = || trainer(&recipe, &[4, 4, 4], pretrained(3)).unwrap().with_checkpoints(store(folder.path())).unwrap();
        new().with_stop(stop.clone()).fit(&mut After(4, stop)).unwrap();
        assert_eq!(new().fit(&mut ()).unwrap().step, 9);
        all_bits(&store(folder.path()).latest().unwrap().unwrap().1)
    };
    assert!(run("train.gradient_checkpointing=true") == run("train.gradient_checkpointing=false"));
}

#[test]
fn impossible_plans_are_errors_with_their_place() {
    let fault = |settings: &[&str]| {
        let document = settings.iter().fold(Document::new("r.toml", RECIPE), |document, setting| document.set(setting).unwrap());
        Recipe::from_document(&document).expect_err("a fault").to_string()
    };
    assert!(fault(&["model.freeze=[]"]).starts_with("--set model.freeze=[]: model.freeze = []: expected at least one"));
    let backwards = r#"model.freeze=[{ epoch = 2, until = "body" }, { epoch = 1, until = "none" }]"#;
    assert!(fault(&[backwards]).contains("epochs in ascending order"), "{}", fault(&[backwards]));
    assert!(fault(&["model.freeze=3"]).contains("a stage's name, or a list"), "{}", fault(&["model.freeze=3"]));
    let slip = r#"model.freeze=[{ epoch = 2, unti = "body" }]"#;
    assert!(fault(&[slip]).contains("did you mean `until`"), "{}", fault(&[slip]));
    assert!(fault(&["model.pretrained=false", GRADUAL]).contains("pretrained weights"));
    assert!(fault(&["model.options.head=fastia"]).contains("did you mean `fastai`"), "{}", fault(&["model.options.head=fastia"]));
    let empty = fault(&["model.options.head={ mlp = { widths = [8, 0] } }"]);
    assert!(empty.starts_with("--set model.options.head=") && empty.contains("width 0"), "{empty}");
    // A later step's stage is missed at the start, not in the middle of the run.
    let unknown = recipe(&[r#"model.freeze=[{ epoch = 0, until = "body" }, { epoch = 2, until = "layer9" }]"#]);
    let error = trainer(&unknown, &[4, 4, 4], pretrained(3)).err().expect("an unknown stage");
    assert!(matches!(error, Error::Model(ModelError::UnknownStage { ref name, .. }) if name == "layer9"), "{error}");
    // A resolved recipe says the same again.
    for plan in [GRADUAL, "model.freeze=layer1"] {
        let resolved =
            recipe(&[plan, "train.lr_groups={ stem = 0.1, layer2 = 0.5 }", "loss.class_weights=balanced", "loss.name=cross_entropy"]);
        assert_eq!(Recipe::from_toml(&resolved.to_toml().unwrap()).unwrap(), resolved);
    }
}

#[test]
fn learning_rates_go_by_layer_group() {
    let groups = pretrained(3).layer_groups();
    assert_eq!(groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["stem", "layer1", "layer2", "layer3", "head"]);
    let scales = |setting: &str| recipe(&[setting]).train.lr_scales(&groups).unwrap();
    let close = |found: Vec<f64>, expected: [f64; 5]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{found:?} instead of {expected:?}");
    };
    close(scales("train.layer_decay=0.75"), [0.31640625, 0.421875, 0.5625, 0.75, 1.0]);
    // fastai.basics.even_mults(0.01, 1, 5).
    close(scales("train.lr_slice=100"), [0.01, 0.031622776601683784, 0.1, 0.3162277660168379, 1.0]);
    close(scales("train.lr_groups={ stem = 0.01, layer1 = 0.03 }"), [0.01, 0.03, 1.0, 1.0, 1.0]);
    close(scales("train.seed=1"), [1.0; 5]);
    let unknown = recipe(&["train.lr_groups={ layer7 = 0.1 }"]);
    assert!(matches!(unknown.train.lr_scales(&groups), Err(Error::Model(ModelError::UnknownStage { .. }))));
    assert!(Learner::new(&unknown, pretrained(3), &autodiff(), 3).is_err());
    let fault = |settings: &[&str]| {
        let document = settings.iter().fold(Document::new("r.toml", RECIPE), |document, setting| document.set(setting).unwrap());
        Recipe::from_document(&document).expect_err("a fault").to_string()
    };
    let two = fault(&["train.layer_decay=0.5", "train.lr_slice=10"]);
    assert!(two.contains("train.lr_slice = beside train.layer_decay"), "{two}");
    assert!(fault(&["train.lr_groups={ stem = 0.1 }", "train.lr_slice=10"]).contains("beside"));
    for bad in [
        "train.layer_decay=0",
        "train.layer_decay=1.5",
        "train.lr_slice=0.5",
        "train.lr_slice=inf",
        "train.lr_groups={ stem = -1.0 }",
        "train.layer_decay=nan",
    ] {
        assert!(fault(&[bad]).starts_with(&format!("--set {bad}: ")), "{}", fault(&[bad]));
    }
}

/// The change that one step of plain SGD makes to each tensor.
fn step_of(settings: &[&str]) -> BTreeMap<String, Vec<f32>> {
    let all = [
        &[
            "optimizer.momentum=0.0",
            "optimizer.weight_decay=0.0",
            // Long steps, so that rounding next to the weights does not show.
            "train.lr=50.0",
            "schedule.chain=[{ curve = { name = \"constant\" } }]",
        ],
        settings,
    ]
    .concat();
    let recipe = recipe(&all);
    let model = pretrained(3);
    let before = state_dict(&model);
    let mut learner = Learner::new(&recipe, model, &autodiff(), 3).unwrap();
    let images = {
        let values: Vec<f32> = common::unit("images", 4 * 3 * 64).map(|u| 4.0 * u - 2.0).collect();
        burn::tensor::Tensor::<4>::from_data(burn::tensor::TensorData::new(values, [4, 3, 8, 8]), learner.device())
    };
    let device = learner.device().clone();
    let Targets::Classes(labels) = Targets::classes(&[0, 1, 2, 1], 3, &device).unwrap() else { panic!("classes") };
    learner.backward(images, Targets::Classes(labels.clone()), labels).unwrap();
    let (learner, update) = learner.update().unwrap();
    assert_eq!(update.unwrap().lr, 50.0);
    let after = state_dict(learner.model());
    let difference = |(key, tensor): (&String, &timburn_models::WeightTensor)| {
        let (before, after) = (before.tensors[key].values().unwrap(), tensor.values().unwrap());
        (key.clone(), before.iter().zip(after).map(|(a, b)| b - a).collect())
    };
    after.tensors.iter().map(difference).collect()
}

#[test]
fn a_step_is_as_long_as_its_groups_rate() {
    let _alone = alone();
    let plain = step_of(&[]);
    let sliced = step_of(&["train.lr_slice=100"]);
    let norm = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    for (key, scale) in
        [("conv1.weight", 0.01), ("layer2.1.conv1.weight", 0.1), ("layer3.0.bn1.bias", 0.3162277660168379), ("fc.weight", 1.0)]
    {
        let ratio = norm(&sliced[key]) / norm(&plain[key]);
        assert!(norm(&plain[key]) > 0.0 && (ratio / scale - 1.0).abs() < 0.005, "{key}: {ratio} instead of {scale}");
    }
    // With a factor of 0 nothing moves, though gradients are there.
    let still = step_of(&["train.lr_groups={ layer1 = 0.0 }"]);
    assert!(still["layer1.0.conv1.weight"].iter().all(|&x| x == 0.0) && still["conv1.weight"].iter().any(|&x| x != 0.0));
}

#[test]
fn balanced_weights_are_scikit_learns_of_the_training_set() {
    let _alone = alone();
    // sklearn.utils.class_weight.compute_class_weight("balanced", …) for 2, 4 and 6 samples: 12 / (3 · n).
    let balanced: LossConfig = serde_json::from_str(r#"{"name":"cross_entropy","class_weights":"balanced"}"#).unwrap();
    let resolved = balanced.clone().for_counts(&[2, 4, 6]).unwrap();
    assert_eq!(serde_json::to_value(&resolved).unwrap()["class_weights"], serde_json::json!([2.0, 1.0, 0.6666667f32]));
    assert_eq!(serde_json::from_value::<LossConfig>(serde_json::to_value(&balanced).unwrap()).unwrap(), balanced);
    assert_eq!(resolved.clone().for_counts(&[1, 1, 1]).unwrap(), resolved, "given weights stay");
    assert!(matches!(Loss::new(balanced.clone(), 3), Err(Error::Argument { name: "loss.class_weights", .. })));
    let error = balanced.for_counts(&[2, 0, 6]).unwrap_err().to_string();
    assert!(error.contains("class 1 has none"), "{error}");
    let slip = serde_json::from_str::<LossConfig>(r#"{"name":"cross_entropy","class_weights":"balance"}"#).unwrap_err().to_string();
    assert!(slip.contains("or \"balanced\""), "{slip}");

    // A run counts its own training set; the finder does too.
    let run = |weights: &str| {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(&["train.epochs=1", "loss.name=cross_entropy", weights]);
        let trainer = trainer(&recipe, &[2, 4, 6], pretrained(3)).unwrap().with_checkpoints(store(folder.path())).unwrap();
        trainer.fit(&mut ()).unwrap();
        all_bits(&store(folder.path()).latest().unwrap().unwrap().1)
    };
    let (automatic, explicit, plain) =
        (run("loss.class_weights=balanced"), run("loss.class_weights=[2.0, 1.0, 0.6666667]"), run("loss.label_smoothing=0.0"));
    assert!(automatic == explicit && automatic != plain);
    let recipe = recipe(&["loss.name=cross_entropy", "loss.class_weights=balanced"]);
    let data = TrainData::new(&recipe, Shades::splits(&[2, 4, 6])).unwrap();
    let finder = timburn_train::LrFinder { num_it: 5, ..Default::default() };
    assert!(
        !find_lr(&recipe, pretrained(3), &data, &autodiff(), finder, &mut |_| std::ops::ControlFlow::Continue(()))
            .unwrap()
            .points
            .is_empty()
    );
}

#[test]
fn one_logit_takes_a_weight_for_each_of_its_classes() {
    let config = |weights: &str| serde_json::from_str(&format!(r#"{{"name":"binary_cross_entropy","class_weights":{weights}}}"#)).unwrap();
    let logits = || burn::tensor::Tensor::<2>::from_floats([[0.3], [-1.2], [2.0]], &autodiff());
    let targets = Targets::classes(&[0, 1, 1], 2, &autodiff()).unwrap();
    let loss = Loss::new(config("[0.5, 3.0]"), 1).unwrap();
    // torch: F.binary_cross_entropy_with_logits(x, y, weight=[0.5, 3, 3], reduction="none").
    let found = host(loss.forward(logits(), targets.clone(), Reduction::None).unwrap());
    let expected = [0.427_177_6, 4.389_847, 0.380_784];
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-5), "{found:?}");
    assert!(Loss::new(config("[1.0]"), 1).is_err() && Loss::new(config("[1.0, 1.0, 1.0]"), 1).is_err());
}

/// The training accuracy of each step.
#[derive(Default)]
struct Accuracy(Vec<f64>);

impl Observer for Accuracy {
    fn step(&mut self, event: &StepEvent) -> timburn_core::Result<()> {
        self.0.push(event.top1);
        Ok(())
    }
}

#[test]
fn one_logit_learns_two_classes() {
    let _alone = alone();
    let settings = ["train.epochs=8", "loss.name=binary_cross_entropy", "model.options.classes=1", "loss.class_weights=balanced"];
    let recipe = recipe(&settings);
    let section = recipe.model.as_ref().unwrap();
    assert_eq!((section.outputs(2), section.outputs(3)), (1, 3));
    let fit = |recipe: &Recipe| {
        let mut seen = Accuracy::default();
        let outcome = trainer(recipe, &[8, 4], pretrained(1)).unwrap().fit(&mut seen).unwrap();
        (seen.0, outcome.report.unwrap().top(1).unwrap())
    };
    let (training, validation) = fit(&recipe);
    let last: f64 = training[training.len() - 6..].iter().sum::<f64>() / 6.0;
    assert!(last > 0.95 && validation == 1.0, "{training:?}, {validation}");
    // Mixed targets have one column too.
    let mixed = Recipe { mixing: Some(serde_json::from_str(r#"{"mixup":{"alpha":0.2}}"#).unwrap()), ..recipe };
    let (training, _) = fit(&mixed);
    assert_eq!(training.len(), 24);
    // One logit does not tell three classes apart.
    assert!(trainer(&mixed, &[2, 2, 2], pretrained(1)).is_err());
}

#[test]
fn the_recipes_of_the_reference_projects_build_their_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    // Parameters of ResNet-50's body, and of each head.
    let body = 23_508_032;
    let s1 = 2048 * 1024 + 1024 + 1024 * 512 + 512 + 512 * 10 + 10;
    let flat = 2048 * 64;
    let s2 = 2 * flat + flat * 128 + 128 + 128 * 64 + 64 + 2 * 64 + 64 * 10 + 10;
    for (name, classes, head) in [("s1-cifar10", 10, s1), ("s2-cifar10", 10, s2), ("s3-cats-and-dogs", 2, 2048 + 1)] {
        for name in [name.to_owned(), format!("{name}-corrected")] {
            let recipe = Recipe::read(folder.join(format!("{name}.toml")), &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Recipe::from_toml(&recipe.to_toml().unwrap()).unwrap(), recipe, "{name}");
            // What a bundle can say of its pictures.
            timburn_data::Pipeline::new(recipe.augment.evaluation.clone()).unwrap().preprocessing().expect(&name);
            let section = recipe.model.clone().unwrap();
            let options = ModelOptions { classes: Some(section.outputs(classes)), ..section.options };
            let device = timburn_core::open_device("flex").unwrap();
            let model = create(&section.name, &options, &device).expect(&name);
            assert_eq!(timburn_models::trainable_parameters(&model), body + head, "{name}");
            recipe.train.lr_scales(&model.layer_groups()).expect(&name);
            if let Some(plan) = section.freeze {
                timburn_train::freeze_until(model, plan.until(0)).expect(&name);
            }
        }
    }
}
