//! From a recipe's name, settings and data to a model that can be trained.

use std::path::Path;

use timburn_core::device::Device;
use timburn_core::error::ConfigError;
use timburn_core::suggest::nearest;
use timburn_core::{Error, Preprocessing, Result};
use timburn_data::loader::Normalization;
use timburn_models::{Model, ModelOptions, create};
use timburn_train::recipe::Document;
use timburn_train::{Recipe, TrainData};
use timburn_weights::{HubOptions, resolve};

use crate::output::DownloadBar;

/// The recipes that are part of the program, by name.
pub(super) const SHIPPED: [(&str, &str); 21] = [
    ("cats-and-dogs", include_str!("../../../../../recipes/cats-and-dogs.toml")),
    ("cifar10-resnet18", include_str!("../../../../../recipes/cifar10-resnet18.toml")),
    ("cifar10-resnet20", include_str!("../../../../../recipes/cifar10-resnet20.toml")),
    ("cifar10-resnet20-onecycle", include_str!("../../../../../recipes/cifar10-resnet20-onecycle.toml")),
    ("cifar10-resnet50-transfer", include_str!("../../../../../recipes/cifar10-resnet50-transfer.toml")),
    ("imagenet-resnet50-ffcv16", include_str!("../../../../../recipes/imagenet-resnet50-ffcv16.toml")),
    ("imagenet-resnet50-ffcv18", include_str!("../../../../../recipes/imagenet-resnet50-ffcv18.toml")),
    ("imagenet-resnet50-onecycle", include_str!("../../../../../recipes/imagenet-resnet50-onecycle.toml")),
    ("imagenet-resnet50-rsb-a1", include_str!("../../../../../recipes/imagenet-resnet50-rsb-a1.toml")),
    ("imagenet-resnet50-rsb-a2", include_str!("../../../../../recipes/imagenet-resnet50-rsb-a2.toml")),
    ("imagenet-resnet50-rsb-a3", include_str!("../../../../../recipes/imagenet-resnet50-rsb-a3.toml")),
    ("imagenet-resnet50-tv1", include_str!("../../../../../recipes/imagenet-resnet50-tv1.toml")),
    ("imagenet-resnet50-tv2", include_str!("../../../../../recipes/imagenet-resnet50-tv2.toml")),
    ("s1-cifar10", include_str!("../../../../../recipes/s1-cifar10.toml")),
    ("s1-cifar10-corrected", include_str!("../../../../../recipes/s1-cifar10-corrected.toml")),
    ("s1-cifar10-lite0", include_str!("../../../../../recipes/s1-cifar10-lite0.toml")),
    ("s2-cifar10", include_str!("../../../../../recipes/s2-cifar10.toml")),
    ("s2-cifar10-corrected", include_str!("../../../../../recipes/s2-cifar10-corrected.toml")),
    ("s3-cats-and-dogs", include_str!("../../../../../recipes/s3-cats-and-dogs.toml")),
    ("s3-cats-and-dogs-corrected", include_str!("../../../../../recipes/s3-cats-and-dogs-corrected.toml")),
    ("s4-cifar10", include_str!("../../../../../recipes/s4-cifar10.toml")),
];

/// The recipe of that file or name with the command line's values, and its own name.
pub(in crate::commands) fn read_recipe(path: &Path, settings: &[String], data: Option<&Path>) -> Result<(Recipe, String)> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let shipped = SHIPPED.iter().find(|(name, _)| !path.exists() && Path::new(name) == path);
    let document = match shipped {
        Some((name, text)) => Document::new(*name, *text),
        // What is written like a name, and not like a file, is a slip in one.
        None if !path.exists() && path.extension().is_none() && path.components().count() == 1 => {
            return Err(ConfigError {
                place: "RECIPE".into(),
                message: format!("no file and no recipe of the program is called `{stem}` (`timburn train --list` shows them)"),
                nearest: nearest(&stem, SHIPPED.iter().map(|(name, _)| *name)),
            }
            .into());
        }
        None => Document::read(path)?,
    };
    Ok((resolved(document, settings, data)?, stem))
}

/// Settings in their order, `--data` last: what is nearest to the user's hand wins.
pub(super) fn resolved(document: Document, settings: &[String], data: Option<&Path>) -> Result<Recipe> {
    let data = data.map(|path| toml_string(path).map(|path| format!("data.path={path}"))).transpose()?;
    let document = settings.iter().chain(&data).try_fold(document, |document, setting| document.set(setting))?;
    Recipe::from_document(&document)
}

/// The recipe's data set.
pub(in crate::commands) fn read_data(recipe: &Recipe) -> Result<TrainData> {
    let path = recipe.data.path.as_ref().ok_or_else(|| missing("data.path", "none", "a data set: --data PATH"))?;
    TrainData::new(recipe, timburn_data::open(path)?)
}

/// The model of the recipe, with its starting weights.
pub(in crate::commands) fn model(recipe: &Recipe, classes: usize, device: &Device) -> Result<Model> {
    let section = recipe.model.as_ref().ok_or_else(|| missing("model.name", "none", "an architecture, as `timburn models` lists them"))?;
    let options = ModelOptions { classes: Some(section.outputs(classes)), seed: recipe.train.seed, ..section.options.clone() };
    let device = device.clone().autodiff();
    if !section.pretrained && section.weights.is_none() {
        return create(&section.name, &options, &device);
    }
    let progress = DownloadBar::default();
    let bundle = resolve(Some(&section.name), section.weights.as_deref(), &HubOptions::from_env(), &progress)?;
    progress.clear();
    if let Some(warning) = other_normalization(&section.name, &Normalization::from(&bundle.preprocessing), &recipe.augment.normalization())
    {
        log::warn!("{warning}");
    }
    bundle.load_with(&options, &device)
}

/// What to say where pretrained weights get pictures that are normalised in another way than those they learned from: it costs accuracy and
/// fails nowhere.
fn other_normalization(name: &str, learned: &Normalization, given: &Normalization) -> Option<String> {
    let near = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.01);
    if near(learned.mean, given.mean) && near(learned.std, given.std) && learned.channels == given.channels {
        return None;
    }
    let Normalization { mean, std, .. } = learned;
    Some(format!(
        "the weights of {name} learned from pictures of mean {mean:?} and deviation {std:?} ({:?}), and the recipe normalises to mean {:?}, \
         deviation {:?} ({:?}); if that is not on purpose, set `normalize` in augment.evaluation",
        learned.channels, given.mean, given.std, given.channels
    ))
}

/// What the bundle says about its pictures: the recipe's evaluation.
pub(super) fn preprocessing(recipe: &Recipe) -> Result<Preprocessing> {
    timburn_data::Pipeline::new(recipe.augment.evaluation.clone())?.preprocessing()
}

fn toml_string(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| missing("--data", &path.display().to_string(), "a path in UTF-8"))?;
    Ok(serde_json::Value::from(text).to_string())
}

pub(super) fn missing(name: &'static str, value: &str, expected: &str) -> Error {
    Error::Argument { name, value: value.into(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_normalization_is_told() {
        let learned = Normalization::from(&Preprocessing::torchvision(224, 256));
        assert_eq!(other_normalization("resnet50", &learned, &learned), None);
        let rounded = Normalization { mean: learned.mean.map(|mean| mean + 4e-3), ..learned };
        assert_eq!(other_normalization("resnet50", &learned, &rounded), None);
        let scaled = Normalization { mean: [0.0; 3], std: [1.0; 3], ..learned };
        let told = other_normalization("resnet50", &learned, &scaled).unwrap_or_default();
        assert!(told.contains("resnet50") && told.contains("0.485") && told.contains("augment.evaluation"), "{told}");
    }
}
