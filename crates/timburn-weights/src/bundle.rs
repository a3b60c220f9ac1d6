//! The one-file bundle: weights, architecture, classes, preprocessing and card. All that a prediction needs, in a safetensors file whose
//! metadata holds the rest as JSON, so that every safetensors reader opens it. `timburn.crc32` holds a CRC-32 of each tensor's bytes: who changes
//! tensors with another program leaves that entry out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use timburn_core::error::ModelError;
use timburn_core::{Classes, Preprocessing, Result, WeightsError};
use timburn_models::state_dict::{adapt_input_channels, input_key};
use timburn_models::{Model, ModelOptions, StateDict, WeightTensor, create, load_state_dict, outputs_fit};

use crate::read::{Contents, from_bytes, from_static, read_contents};
use crate::write::{Precision, checksums, write_safetensors};

/// Version of the metadata, the value of `timburn.format`.
pub const FORMAT: &str = "1";
/// Prefix of the metadata's keys.
pub(crate) const PREFIX: &str = "timburn.";

/// What to build before the weights can be loaded: `timburn_models::create(&architecture, &options, device)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name in the registry of models.
    pub architecture: String,
    /// What differs from its row.
    #[serde(default)]
    pub options: ModelOptions,
}

/// Accuracies in percent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Accuracy {
    /// The class with the highest score is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// One of the five highest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
}

impl Accuracy {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the weights come from and how good they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Card {
    /// `arch.tag`, or the name its maker gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// File, URL or data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of the source, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// As its authors state.
    #[serde(default, skip_serializing_if = "Accuracy::is_empty")]
    pub published: Accuracy,
    /// As measured by the run that wrote the bundle.
    #[serde(default, skip_serializing_if = "Accuracy::is_empty")]
    pub measured: Accuracy,
    /// The training recipe, resolved.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub recipe: serde_json::Value,
    /// Anything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// Ranges of a network's activations, `[lowest, highest]` by the name of the layer that computes them, as measured on pictures: what bytes
/// are to cover when the network computes in eight bits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActivationRanges(pub BTreeMap<String, [f32; 2]>);

impl ActivationRanges {
    /// Whether these are ranges at all; `name` is the file's.
    fn check(&self, name: &str) -> Result<(), WeightsError> {
        let odd = self.0.iter().find(|(_, [low, high])| !(low.is_finite() && high.is_finite() && low <= high));
        let Some((layer, [low, high])) = odd else { return Ok(()) };
        let reason = format!("range of activations of `{layer}`: expected two finite numbers, the lower one first, found {low} and {high}");
        Err(WeightsError::Corrupt { name: name.to_owned(), reason })
    }
}

/// A model at rest.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What to build.
    pub model: ModelSpec,
    /// Meaning of its outputs.
    pub classes: Classes,
    /// What its images need.
    pub preprocessing: Preprocessing,
    /// Origin and quality.
    pub card: Card,
    /// Ranges of the activations, for predictions in eight bits, where they were measured.
    pub ranges: Option<ActivationRanges>,
    /// The tensors under the architecture's own keys, read when they are asked for.
    pub weights: StateDict,
}

impl Bundle {
    /// Opens a bundle. Its tensors are read later, through the handle that is opened now.
    ///
    /// # Errors
    /// Those of [`read_weights`](crate::read_weights); [`WeightsError::NotABundle`] for a weight file without the metadata.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_contents(read_contents(path)?)
    }

    /// A bundle in memory; `name` is for messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<std::sync::Arc<[u8]>>, name: &str) -> Result<Self> {
        Self::from_contents(from_bytes(bytes, name)?)
    }

    /// A bundle in the program itself; `name` is for messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_static(bytes: &'static [u8], name: &str) -> Result<Self> {
        Self::from_contents(from_static(bytes, name)?)
    }

    /// Whether these are the contents of a bundle.
    pub fn is_bundle(contents: &Contents) -> bool {
        contents.metadata.contains_key("timburn.format")
    }

    /// A bundle that was read already.
    ///
    /// # Errors
    /// [`WeightsError::NotABundle`]; [`ModelError::ClassCount`] when the class list is not the model's.
    pub fn from_contents(contents: Contents) -> Result<Self> {
        let Contents { weights, metadata } = contents;
        let name = weights.name.clone();
        match metadata.get("timburn.format").map(String::as_str) {
            Some(FORMAT) => {}
            Some(other) => {
                let reason = format!("format {other}, this version reads {FORMAT}");
                return Err(WeightsError::NotABundle { name, reason }.into());
            }
            None => return Err(WeightsError::NotABundle { name, reason: "its metadata has no `timburn.format`".into() }.into()),
        }
        let model: ModelSpec = entry(&metadata, "model", &name)?;
        let classes: Classes = entry(&metadata, "classes", &name)?;
        if let Some(count) = model.options.classes.filter(|&count| !outputs_fit(count, classes.len())) {
            return Err(ModelError::ClassCount { model: count, classes: classes.len() }.into());
        }
        let preprocessing: Preprocessing = entry(&metadata, "preprocessing", &name)?;
        preprocessing.validate()?;
        let card = entry(&metadata, "card", &name)?;
        let ranges: Option<ActivationRanges> =
            if metadata.contains_key(&format!("{PREFIX}ranges")) { Some(entry(&metadata, "ranges", &name)?) } else { None };
        ranges.iter().try_for_each(|ranges| ranges.check(&name))?;
        // Bundles of earlier versions have none.
        let checksums = if metadata.contains_key(&format!("{PREFIX}crc32")) { entry(&metadata, "crc32", &name)? } else { BTreeMap::new() };
        Ok(Self { model, classes, preprocessing, card, ranges, weights: checked(weights, &checksums) })
    }

    /// The model with its weights, on `device`.
    ///
    /// # Errors
    /// [`ModelError`] when the architecture or its options do not exist, [`WeightsError`] when the tensors do not fit them.
    pub fn load(&self, device: &Device) -> Result<Model> {
        load_state_dict(&create(&self.model.architecture, &self.model.options, device)?, &self.weights)
    }

    /// The model with its weights and other options: for images of other channels the first convolution is adapted as timm and fastai do,
    /// for another number of classes or another head the head is a fresh one drawn from `options.seed`. Stem and output stride stay the
    /// bundle's; so does the number of outputs where `options` gives none.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(&self, options: &ModelOptions, device: &Device) -> Result<Model> {
        // The weights were made for this stem and stride: other ones would fit by shape and compute something else.
        let own = &self.model.options;
        let outputs = own.classes.unwrap_or(self.classes.len());
        let wanted = ModelOptions {
            classes: Some(outputs),
            head: own.head.clone(),
            stem: own.stem,
            output_stride: own.output_stride,
            ..options.clone()
        };
        let model = create(&self.model.architecture, &wanted, device)?;
        let mut weights = self.weights.clone();
        if options.in_channels != own.in_channels
            && let Some(key) = input_key(&model)
        {
            adapt_input_channels(&mut weights, &key, options.in_channels)?;
        }
        let model = load_state_dict(&model, &weights)?;
        let classes = options.classes.unwrap_or(outputs);
        if classes == outputs && options.head == own.head {
            return Ok(model);
        }
        model.reset_head(&options.head, classes, options.seed, device)
    }

    /// Writes the bundle to `path`, whole or not at all.
    ///
    /// # Errors
    /// Those of [`write_safetensors`].
    pub fn save(&self, path: impl AsRef<Path>, precision: Precision) -> Result<()> {
        let name = path.as_ref().display().to_string();
        let mut metadata = BTreeMap::from([(format!("{PREFIX}format"), FORMAT.to_owned())]);
        metadata.insert(format!("{PREFIX}model"), json(&self.model, &name)?);
        metadata.insert(format!("{PREFIX}classes"), json(&self.classes, &name)?);
        metadata.insert(format!("{PREFIX}preprocessing"), json(&self.preprocessing, &name)?);
        metadata.insert(format!("{PREFIX}card"), json(&self.card, &name)?);
        if let Some(ranges) = &self.ranges {
            ranges.check(&name)?;
            metadata.insert(format!("{PREFIX}ranges"), json(ranges, &name)?);
        }
        metadata.insert(format!("{PREFIX}crc32"), json(&checksums(&self.weights, path.as_ref(), precision)?, &name)?);
        write_safetensors(&self.weights, path, precision, &metadata)
    }
}

/// The same tensors, each compared with its checksum whenever it is read: a flipped bit changes answers, and nothing else would tell.
fn checked(weights: StateDict, checksums: &BTreeMap<String, u32>) -> StateDict {
    let StateDict { name, tensors } = weights;
    let check = |(key, tensor): (String, WeightTensor)| {
        let Some(&expected) = checksums.get(&key) else { return (key, tensor) };
        let (shape, dtype) = (tensor.shape.clone(), tensor.dtype);
        let read = move || {
            let bytes = tensor.bytes()?;
            match crc32fast::hash(&bytes) {
                found if found == expected => Ok(bytes),
                found => Err(format!(
                    "its checksum is {found:08x}, expected {expected:08x}: the file was changed or damaged after it was written"
                )),
            }
        };
        (key, WeightTensor::new(shape, dtype, Arc::new(read)))
    };
    StateDict { name, tensors: tensors.into_iter().map(check).collect() }
}

fn entry<T: DeserializeOwned>(metadata: &BTreeMap<String, String>, key: &str, name: &str) -> Result<T, WeightsError> {
    let broken = |reason| WeightsError::NotABundle { name: name.to_owned(), reason };
    let text = metadata.get(&format!("{PREFIX}{key}")).ok_or_else(|| broken(format!("its metadata has no `{PREFIX}{key}`")))?;
    serde_json::from_str(text).map_err(|error| broken(format!("`{PREFIX}{key}`: {error}")))
}

pub(crate) fn json(value: &impl Serialize, name: &str) -> Result<String, WeightsError> {
    serde_json::to_string(value).map_err(|error| WeightsError::NotABundle { name: name.to_owned(), reason: error.to_string() })
}
