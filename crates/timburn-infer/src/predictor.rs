use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, TensorData};
use rayon::prelude::*;
use timburn_core::error::ModelError;
use timburn_core::{Classes, Error, Preprocessing, Result};
use timburn_data::{DecodeOptions, Rgb8Image, decode_bytes, decode_file, prepare, to_tensor};
use timburn_models::{ImageModel, Model};
use timburn_weights::Bundle;

use crate::prediction::Prediction;

/// A model with everything that turns a photograph into labels: weights, class names and preprocessing.
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    classes: Arc<Classes>,
    preprocessing: Preprocessing,
    device: Device,
    /// How pictures are decoded. By default as a viewer shows them: EXIF orientation applied.
    pub decode: DecodeOptions,
}

impl Predictor {
    /// The model of a bundle, on `device`.
    ///
    /// # Errors
    /// [`ModelError`] when the bundle's architecture, options or class list do not fit together,
    /// [`WeightsError`](timburn_core::WeightsError) when its tensors do not fit the architecture.
    pub fn new(bundle: &Bundle, device: &Device) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let model = bundle.load(&device)?;
        if model.num_classes() != bundle.classes.len() {
            return Err(ModelError::ClassCount { model: model.num_classes(), classes: bundle.classes.len() }.into());
        }
        Ok(Self {
            model,
            classes: Arc::new(bundle.classes.clone()),
            preprocessing: bundle.preprocessing.clone(),
            device,
            decode: DecodeOptions::default(),
        })
    }

    /// EfficientNet-Lite0 with ImageNet's classes, from the program itself: no file, no network.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[cfg(feature = "embedded")]
    pub fn embedded(device: &Device) -> Result<Self> {
        Self::new(&timburn_weights::embedded()?, device)
    }

    /// Published weights by name (`resnet50.tv2_in1k`, `resnet50`): embedded, from the cache, or downloaded.
    ///
    /// # Errors
    /// As [`timburn_weights::pretrained_bundle`] and [`new`](Self::new).
    pub fn pretrained(name: &str, device: &Device) -> Result<Self> {
        Self::new(&timburn_weights::pretrained_bundle(name)?, device)
    }

    /// A bundle's file.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::new(&Bundle::open(path)?, device)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Meaning of the model's outputs.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// What is done to a picture before the model sees it.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Classifies the picture in a file.
    ///
    /// # Errors
    /// [`ImageError`](timburn_core::error::ImageError) naming the file; [`Error::Device`] when the device fails.
    pub fn classify(&self, path: impl AsRef<Path>) -> Result<Prediction> {
        self.classify_one(&decode_file(path, &self.decode)?)
    }

    /// Classifies a picture in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`classify`](Self::classify).
    pub fn classify_bytes(&self, bytes: &[u8], name: &str) -> Result<Prediction> {
        self.classify_one(&decode_bytes(bytes, name, &self.decode)?)
    }

    /// Classifies the pictures in files as one batch: decoded on all cores, then one forward pass over those that could be read.
    ///
    /// One outcome per file, in order: a bad file does not keep the others from an answer.
    pub fn classify_files<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<Result<Prediction>> {
        let read = |path: &P| decode_file(path, &self.decode).map(|image| prepare(&image, &self.preprocessing));
        let pictures: Vec<Result<Rgb8Image>> = paths.par_iter().map(read).collect();
        let readable: Vec<Rgb8Image> = pictures.iter().filter_map(|picture| picture.as_ref().ok().cloned()).collect();
        let predictions = if readable.is_empty() { Ok(Vec::new()) } else { self.forward(&readable) };
        match predictions {
            Ok(predictions) => {
                let mut answers = predictions.into_iter();
                pictures.into_iter().filter_map(|picture| picture.map(|_| answers.next()).transpose()).collect()
            }
            // A batch that fails as a whole is tried picture by picture, so that each outcome is its own.
            Err(_) => pictures.into_iter().map(|picture| picture.and_then(|image| self.prepared_one(&image))).collect(),
        }
    }

    fn classify_one(&self, image: &Rgb8Image) -> Result<Prediction> {
        self.prepared_one(&prepare(image, &self.preprocessing))
    }

    fn prepared_one(&self, image: &Rgb8Image) -> Result<Prediction> {
        let mut predictions = self.forward(std::slice::from_ref(image))?;
        predictions.pop().ok_or_else(|| no_logits(0))
    }

    /// Runs the model on prepared pictures: `[n, 3, input, input]` → n predictions.
    fn forward(&self, images: &[Rgb8Image]) -> Result<Vec<Prediction>> {
        let logits = self.model.forward(to_tensor(images, &self.preprocessing, &self.device)?);
        let data: TensorData = logits.into_data();
        let logits: Vec<f32> = data.convert::<f32>().try_to_vec().map_err(|_| no_logits(images.len()))?;
        Ok(logits.chunks_exact(self.classes.len().max(1)).map(|row| Prediction::new(row, Arc::clone(&self.classes))).collect())
    }
}

/// The device gave back something that is not a row of numbers per picture.
fn no_logits(images: usize) -> Error {
    Error::Argument { name: "logits", value: "unreadable".into(), expected: format!("{images} rows of f32 from the device") }
}
