//! Bundles by name: embedded, from a file, from the cache, or downloaded.

use std::path::Path;

use burn::tensor::Device;
use timburn_core::{Classes, Error, Preprocessing, Result, WeightsError};
use timburn_models::{Architecture, Model, ModelOptions, StateDict};

use crate::bundle::{Bundle, Card, ModelSpec};
use crate::catalogue::find;
use crate::hub::{self, HubOptions, Progress};
use crate::layout::Layout;
use crate::read::read_contents;

/// Weights that are part of the program, by `arch.tag`.
#[cfg(feature = "embedded")]
const EMBEDDED: [(&str, &[u8]); 2] = [
    ("efficientnet_lite0.in1k", include_bytes!("../assets/efficientnet_lite0.timburn")),
    ("resnet20.cifar10", include_bytes!("../assets/resnet20_cifar10.timburn")),
];

/// EfficientNet-Lite0 with ImageNet's classes, from the program itself (`efficientnet_lite0.in1k`, kernels as f16).
///
/// # Errors
/// None that a test would not have met first.
#[cfg(feature = "embedded")]
pub fn embedded() -> Result<Bundle> {
    let [(name, bytes), _] = EMBEDDED;
    Bundle::from_static(bytes, name)
}

/// A model with published weights by `arch.tag`, or by architecture for its default: embedded, from the cache, or downloaded without a word.
/// For other classes or channels see [`Bundle::load_with`].
///
/// # Errors
/// As [`pretrained_bundle`] and [`Bundle::load`].
pub fn pretrained(name: &str, device: &Device) -> Result<Model> {
    pretrained_bundle(name)?.load(device)
}

/// Published weights with their classes and preprocessing, by name as in [`pretrained`].
///
/// # Errors
/// [`WeightsError::Unknown`], [`WeightsError::Offline`], [`WeightsError::Download`], [`WeightsError::Hash`], and those of reading.
pub fn pretrained_bundle(name: &str) -> Result<Bundle> {
    resolve(Some(name), None, &HubOptions::from_env(), &())
}

/// The weights that a command line asks for: `weights` if it names a file, else the published ones called `model`, else the embedded ones.
///
/// # Errors
/// As [`from_file`] and [`pretrained_bundle`].
pub fn resolve(model: Option<&str>, weights: Option<&Path>, options: &HubOptions, progress: &dyn Progress) -> Result<Bundle> {
    if let Some(path) = weights {
        return from_file(path, model);
    }
    #[cfg(feature = "embedded")]
    if model.is_none() {
        return embedded();
    }
    let row = find(model.unwrap_or("efficientnet_lite0"))?;
    #[cfg(feature = "embedded")]
    if let Some((name, bytes)) = EMBEDDED.iter().find(|(name, _)| *name == row.name()) {
        return Bundle::from_static(bytes, name);
    }
    if row.url.is_empty() {
        let expected = "a build with the feature `embedded`, which has these weights in the program".into();
        return Err(Error::Argument { name: "model", value: row.name(), expected });
    }
    let path = hub::fetch_published(row, options, progress)?;
    let card = Card {
        name: Some(row.name()),
        licence: row.licence.map(Into::into),
        source: Some(row.url.into()),
        published: row.published,
        ..Card::default()
    };
    bundle(read_contents(path)?.weights, row.architecture, row.preprocessing.clone(), card)
}

/// A weight file as a bundle. A timburn bundle knows everything itself; any other file needs its architecture, as `arch` or `arch.tag`.
///
/// Preprocessing is that of the named row, or of the architecture's default one. Classes and input channels are the file's; the names are
/// ImageNet's for 1000, CIFAR-10's for a CIFAR network with 10, and numbers otherwise.
///
/// # Errors
/// [`Error::Io`] and [`WeightsError`] of reading; [`WeightsError::NotABundle`] without an architecture;
/// [`timburn_core::error::ModelError`] for an unknown one; [`Error::Argument`] for a bundle of another one.
pub fn from_file(path: impl AsRef<Path>, model: Option<&str>) -> Result<Bundle> {
    let contents = read_contents(path)?;
    if Bundle::is_bundle(&contents) {
        let bundle = Bundle::from_contents(contents)?;
        return match model {
            Some(name) if Architecture::find(architecture_of(name))?.name != bundle.model.architecture => {
                let expected = format!("{}, the architecture of {}", bundle.model.architecture, bundle.weights.name);
                Err(Error::Argument { name: "model", value: name.into(), expected })
            }
            _ => Ok(bundle),
        };
    }
    let Some(name) = model else {
        let reason = "it holds weights without their architecture".into();
        return Err(WeightsError::NotABundle { name: contents.weights.name, reason }.into());
    };
    let architecture = Architecture::find(architecture_of(name))?;
    let preprocessing = match find(name) {
        Ok(row) => row.preprocessing.clone(),
        // A tag that is not known is a slip: another row's crop and filter would be used without a word.
        Err(unknown) if name.contains('.') => return Err(unknown.into()),
        Err(_) if architecture.input == 32 => Preprocessing::cifar10(),
        Err(_) => Preprocessing::torchvision(224, 256),
    };
    // Whose weights these are only their owner knows: nothing published is claimed for them.
    let card = Card { source: Some(contents.weights.name.clone()), ..Card::default() };
    bundle(contents.weights, architecture.name, preprocessing, card)
}

/// `arch` of `arch.tag`.
fn architecture_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(architecture, _)| architecture)
}

fn bundle(weights: StateDict, architecture: &str, preprocessing: Preprocessing, card: Card) -> Result<Bundle> {
    // The file's own keys decide: people rename and convert files.
    let layout = Layout::detect(&weights);
    let weights = layout.canonical(weights)?;
    let default = Architecture::find(architecture)?.classes;
    // A shape with a zero takes no bytes and may claim anything beside it; any other is bounded by the size of the file.
    let shape = |key: &str| weights.tensors.get(key).map(|tensor| &tensor.shape).filter(|shape| !shape.contains(&0));
    let extent = |keys: &[&str], axis: usize| keys.iter().find_map(|key| shape(key)?.get(axis).copied());
    let count = extent(&["fc.weight", "classifier.weight", "classifier.1.weight"], 0).unwrap_or(default);
    let in_channels = extent(&["conv1.weight", "conv1.0.weight", "conv_stem.weight", "features.0.0.weight"], 1).unwrap_or(3);
    let classes = match count {
        1000 => Classes::imagenet(),
        10 if preprocessing.input == 32 => Classes::cifar10(),
        _ => Classes::numbered(count),
    };
    let options = ModelOptions { in_channels, ..ModelOptions::classes(classes.len()) };
    Ok(Bundle { model: ModelSpec { architecture: architecture.to_owned(), options }, classes, preprocessing, card, ranges: None, weights })
}
