//! Every recipe of the program through real steps: its model, optimizer, schedule, augmentation, loss, precision, on tiny pictures.

use std::path::{Path, PathBuf};

use timburn_models::{ModelOptions, create};
use timburn_train::Recipe;
use timburn_train::recipe::Document;
use timburn_train::trainer::Ending;

use super::patterns::Patterns;
use super::watch::Watch;
use super::{alone, device, fit};

const NAMES: [&str; 21] = [
    "cats-and-dogs",
    "cifar10-resnet18",
    "cifar10-resnet20",
    "cifar10-resnet20-onecycle",
    "cifar10-resnet50-transfer",
    "imagenet-resnet50-ffcv16",
    "imagenet-resnet50-ffcv18",
    "imagenet-resnet50-onecycle",
    "imagenet-resnet50-rsb-a1",
    "imagenet-resnet50-rsb-a2",
    "imagenet-resnet50-rsb-a3",
    "imagenet-resnet50-tv1",
    "imagenet-resnet50-tv2",
    "s1-cifar10",
    "s1-cifar10-corrected",
    "s1-cifar10-lite0",
    "s2-cifar10",
    "s2-cifar10-corrected",
    "s3-cats-and-dogs",
    "s3-cats-and-dogs-corrected",
    "s4-cifar10",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
}

#[test]
fn these_are_all() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, NAMES);
}

/// Pictures of 48 pixels instead of 224, none below 34, four to a batch: the last batch norms of a ResNet-50 see 16 values, with two their
/// gradients explode. Random weights, none frozen. Epochs, and with them warm-ups and curves, are the recipe's own.
fn scaled_down(name: &str) -> Recipe {
    let text = std::fs::read_to_string(folder().join(format!("{name}.toml"))).unwrap();
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    shrink(&mut table["augment"]);
    table["model"].as_table_mut().expect("a section").remove("freeze");
    let settings =
        ["train.batch_size=4", "evaluation.batch_size=2", "evaluation.every_steps=1", "loader.workers=1", "model.pretrained=false"];
    let document = Document::new(name, toml::to_string(&table).unwrap());
    let document = settings.iter().try_fold(document, |document, setting| document.set(setting)).unwrap();
    Recipe::from_document(&document).unwrap_or_else(|error| panic!("{error}"))
}

fn shrink(value: &mut toml::Value) {
    match value {
        toml::Value::Array(items) => items.iter_mut().for_each(shrink),
        toml::Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                match value {
                    toml::Value::Integer(size) if ["size", "padding"].contains(&key.as_str()) && *size > 32 => {
                        *size = (*size * 3 / 14).max(34);
                    }
                    other => shrink(other),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_recipe_trains() {
    let _alone = alone();
    let splits = Patterns::new(3, 12, 40, 1).with(Patterns::new(3, 2, 40, 2));
    for name in NAMES {
        let recipe = scaled_down(name);
        let section = recipe.model.clone().expect("a model");
        let architecture = section.name.split('.').next().unwrap();
        let options = ModelOptions { classes: Some(3), ..section.options.clone() };
        let model = create(architecture, &options, &device().autodiff()).unwrap();
        let mut watch = Watch::stopping_after(2);
        let outcome = fit(&recipe, model, &splits, None, &mut watch).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((outcome.ending, outcome.step), (Ending::Interrupted, 2), "{name}");
        // After the first step; the second one ends the run before its score.
        assert!(watch.evaluations.len() == 1 && watch.evaluations[0].report.loss.is_some_and(f64::is_finite), "{name}");
        assert!(watch.steps.iter().all(|step| step.loss.is_finite() && step.loss > 0.0 && step.lr >= 0.0 && step.samples == 4), "{name}");
    }
}
