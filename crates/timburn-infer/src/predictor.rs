use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use timburn_core::device::panic_message;
use timburn_core::error::{DeviceError, ModelError};
use timburn_core::{Classes, Error, Preprocessing, Result};
use timburn_data::{DecodeOptions, Rgb8Image, decode_bytes, decode_file, prepare, to_tensor};
use timburn_models::state_dict::input_key;
use timburn_models::{ImageModel, Model, outputs_fit, parameters};
use timburn_weights::{ActivationRanges, Bundle};

use crate::Precision;
use crate::prediction::Prediction;

/// Pictures that are in memory at a time while ranges are measured.
#[cfg(feature = "flex")]
const CALIBRATED: usize = 16;

/// A model with everything that turns a photograph into labels: weights, class names and preprocessing.
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    classes: Arc<Classes>,
    preprocessing: Preprocessing,
    device: Device,
    ranges: Option<ActivationRanges>,
    #[cfg(feature = "flex")]
    graph: Option<crate::Graph>,
    /// How pictures are decoded. By default as a viewer shows them: EXIF orientation applied.
    pub decode: DecodeOptions,
}

impl Predictor {
    /// The model of a bundle, on `device`.
    ///
    /// # Errors
    /// [`ModelError`] when the bundle's architecture, options or class list do not fit together, [`Error::Argument`] for preprocessing out of
    /// range or a model for other than colour pictures,
    /// [`WeightsError`](timburn_core::WeightsError) when its tensors do not fit the architecture.
    pub fn new(bundle: &Bundle, device: &Device) -> Result<Self> {
        Self::with(bundle, device, Precision::F32)
    }

    /// As [`new`](Self::new), in this precision from the start: see [`with_precision`](Self::with_precision).
    ///
    /// # Errors
    /// As these.
    pub fn with(bundle: &Bundle, device: &Device, precision: Precision) -> Result<Self> {
        precision.check(&device.clone().without_autodiff())?;
        Self::load(bundle, device)?.with_precision(precision)
    }

    /// The model without a graph.
    fn load(bundle: &Bundle, device: &Device) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let model = bundle.load(&device)?;
        bundle.preprocessing.validate()?;
        let key = input_key(&model);
        let channels = parameters(&model).into_iter().find(|info| Some(&info.key) == key.as_ref()).map_or(3, |info| info.shape[1]);
        if channels != 3 {
            let expected = "3: pictures are decoded to RGB".into();
            return Err(Error::Argument { name: "in_channels", value: channels.to_string(), expected });
        }
        if !outputs_fit(model.num_classes(), bundle.classes.len()) {
            return Err(ModelError::ClassCount { model: model.num_classes(), classes: bundle.classes.len() }.into());
        }
        Ok(Self {
            #[cfg(feature = "flex")]
            graph: None,
            model,
            classes: Arc::new(bundle.classes.clone()),
            preprocessing: bundle.preprocessing.clone(),
            device,
            ranges: bundle.ranges.clone(),
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

    /// Runs the model's own forward pass on the CPU too, not the inference [`Graph`](crate::graph::Graph) compiled from it.
    ///
    /// The graph is several times as fast and agrees to 1e-4 of the logits, at the price of a second copy of the parameters.
    #[must_use]
    pub fn without_graph(self) -> Self {
        Self {
            #[cfg(feature = "flex")]
            graph: None,
            ..self
        }
    }

    /// Computes in another precision, on the CPU: see [`Precision`] for what that gains and costs. Where the processor cannot, a warning is
    /// logged and f32 stays; [`precision`](Self::precision) tells.
    ///
    /// # Errors
    /// [`Error::Argument`] for a reduced precision on another device, and for int8 where the bundle has no ranges of activations (else as
    /// [`quantized`](Self::quantized)); as [`new`](Self::new) when the parameters cannot be read again.
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        precision.check(&self.device)?;
        if precision == Precision::Int8 {
            let ranges = self.ranges.clone().ok_or_else(Precision::without_ranges)?;
            return self.quantized(&ranges);
        }
        // The old graph goes first: both would be in memory else.
        let plain = self.without_graph();
        #[cfg(feature = "flex")]
        if plain.device == Device::flex() {
            let graph = Some(crate::Graph::compile_with(&plain.model, crate::GraphOptions { precision })?);
            return Ok(Self { graph, ..plain });
        }
        Ok(plain)
    }

    /// Computes in eight bits, on the CPU, for activations of these ranges, which [`calibrate`](Self::calibrate) finds.
    ///
    /// # Errors
    /// [`Error::Argument`] on another device; [`WeightsError::Ranges`](timburn_core::WeightsError::Ranges) for ranges of another network or such
    /// as no bytes cover.
    pub fn quantized(self, ranges: &ActivationRanges) -> Result<Self> {
        Precision::Int8.check(&self.device)?;
        let plain = self.without_graph();
        #[cfg(feature = "flex")]
        return Ok(Self { graph: Some(crate::Graph::quantized(&plain.model, ranges)?), ..plain });
        #[cfg(not(feature = "flex"))]
        {
            let _ = ranges;
            Ok(plain)
        }
    }

    /// The ranges of the network's activations on these pictures, computed in f32: what [`quantized`](Self::quantized) needs. A hundred
    /// pictures of the kind that is to be predicted are enough. The same pictures give the same ranges, in whatever order. `outcome` hears of
    /// each picture; those that cannot be read are left out.
    ///
    /// # Errors
    /// [`Error::Argument`] without a picture that can be read; [`Error::Device`] when the device fails;
    /// [`WeightsError::Ranges`](timburn_core::WeightsError::Ranges) when a layer's values are not finite.
    #[cfg(feature = "flex")]
    pub fn calibrate<P: AsRef<Path> + Sync>(&self, paths: &[P], mut outcome: impl FnMut(Result<()>)) -> Result<ActivationRanges> {
        let mut calibrator = crate::Calibrator::new(&self.model)?;
        for paths in paths.chunks(CALIBRATED) {
            let read = |path: &P| decode_file(path, &self.decode).map(|image| prepare(&image, &self.preprocessing));
            let read: Vec<Result<Rgb8Image>> = paths.par_iter().map(read).collect();
            let mut pictures = Vec::new();
            for picture in read {
                outcome(picture.map(|picture| pictures.push(picture)));
            }
            if !pictures.is_empty() {
                self.observe(&mut calibrator, &pictures)?;
            }
        }
        calibrator.finish()
    }

    /// As [`calibrate`](Self::calibrate), on pictures that [`prepare`](Self::prepare) made.
    ///
    /// # Errors
    /// As [`calibrate`](Self::calibrate).
    #[cfg(feature = "flex")]
    pub fn calibrate_prepared(&self, images: &[Rgb8Image]) -> Result<ActivationRanges> {
        let mut calibrator = crate::Calibrator::new(&self.model)?;
        for images in images.chunks(CALIBRATED) {
            self.observe(&mut calibrator, images)?;
        }
        calibrator.finish()
    }

    #[cfg(feature = "flex")]
    fn observe(&self, calibrator: &mut crate::Calibrator, images: &[Rgb8Image]) -> Result<()> {
        let images = to_tensor(images, &self.preprocessing, &Device::flex())?;
        let shape = images.dims();
        let values = images.into_data().try_to_vec::<f32>();
        let failed = |error| DeviceError::Failed { name: format!("{:?}", self.device), reason: format!("{error:?}") };
        calibrator.observe(&values.map_err(failed)?, shape)
    }

    /// What is computed in.
    pub fn precision(&self) -> Precision {
        #[cfg(feature = "flex")]
        if let Some(graph) = &self.graph {
            return graph.precision();
        }
        Precision::F32
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

    /// A picture as the model takes it: resized and cropped to `preprocessing().input` pixels, for [`classify_prepared`](Self::classify_prepared).
    pub fn prepare(&self, image: &Rgb8Image) -> Rgb8Image {
        prepare(image, &self.preprocessing)
    }

    /// Classifies pictures that [`prepare`](Self::prepare) made, as one batch: one prediction each, in order. For those who decode on other
    /// threads than they compute on.
    ///
    /// # Errors
    /// [`Error::Argument`] for a picture of another size than the model's input; [`Error::Device`] when the device fails.
    pub fn classify_prepared(&self, images: &[Rgb8Image]) -> Result<Vec<Prediction>> {
        let side = self.preprocessing.input;
        if let Some(odd) = images.iter().find(|image| (image.width, image.height) != (side, side)) {
            let expected = format!("{side}×{side} pixels, the model's input");
            return Err(Error::Argument { name: "images", value: format!("{}×{} pixels", odd.width, odd.height), expected });
        }
        if images.is_empty() { Ok(Vec::new()) } else { self.forward(images) }
    }

    fn classify_one(&self, image: &Rgb8Image) -> Result<Prediction> {
        self.prepared_one(&prepare(image, &self.preprocessing))
    }

    fn prepared_one(&self, image: &Rgb8Image) -> Result<Prediction> {
        let mut predictions = self.forward(std::slice::from_ref(image))?;
        predictions
            .pop()
            .ok_or_else(|| DeviceError::Failed { name: format!("{:?}", self.device), reason: "it gave no logits".into() }.into())
    }

    /// Runs the model on prepared pictures: `[n, 3, input, input]` → n predictions.
    fn forward(&self, images: &[Rgb8Image]) -> Result<Vec<Prediction>> {
        let failed = |reason| Error::from(DeviceError::Failed { name: format!("{:?}", self.device), reason });
        let images = to_tensor(images, &self.preprocessing, &self.device)?;
        // Burn reports a device that is out of memory or gone by panicking.
        let run = || self.logits(images);
        let logits = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| failed(panic_message(panic.as_ref())))??;
        Ok(logits.chunks_exact(self.model.num_classes().max(1)).map(|row| Prediction::new(row, Arc::clone(&self.classes))).collect())
    }

    /// `[n, 3, h, w]` → logits, row by row.
    fn logits(&self, images: Tensor<4>) -> Result<Vec<f32>> {
        let values = |data: TensorData| {
            let failed = |error| DeviceError::Failed { name: format!("{:?}", self.device), reason: format!("{error:?}") };
            data.convert::<f32>().try_to_vec::<f32>().map_err(|error| Error::from(failed(error)))
        };
        #[cfg(feature = "flex")]
        if let Some(graph) = &self.graph {
            let shape = images.dims();
            let images = values(images.into_data())?;
            if graph.has_head() {
                return graph.run(&images, shape);
            }
            let (features, shape) = graph.feature_map(&images, shape)?;
            let features = Tensor::from_data(TensorData::new(features, shape), &self.device);
            return values(self.model.forward_head(features).into_data());
        }
        values(self.model.forward(images).into_data())
    }
}

#[cfg(test)]
mod tests {
    use timburn_models::{ModelOptions, create, state_dict};
    use timburn_weights::{Card, ModelSpec};

    use super::*;

    #[test]
    #[cfg(feature = "embedded")]
    fn prepared_pictures_get_the_answers_of_whole_ones() {
        let device = timburn_core::open_device("flex").expect("flex");
        let predictor = Predictor::embedded(&device).expect("embedded");
        let photograph = decode_bytes(timburn_data::sample_photograph(), "sample", &predictor.decode).expect("a picture");
        let prepared = predictor.prepare(&photograph);
        let answers = predictor.classify_prepared(&[prepared.clone(), prepared]).expect("answers");
        assert_eq!(answers.len(), 2);
        let whole = predictor.classify_bytes(timburn_data::sample_photograph(), "sample").expect("an answer");
        assert_eq!(answers[1].top(1)[0].label, whole.top(1)[0].label);
        assert!(answers[1].probabilities.iter().zip(&whole.probabilities).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(predictor.classify_prepared(&[]).expect("none").is_empty());
        assert!(matches!(predictor.classify_prepared(&[photograph]), Err(Error::Argument { name: "images", .. })));
    }

    #[test]
    fn a_model_for_gray_pictures_is_refused() {
        let device = timburn_core::open_device("flex").expect("flex");
        let options = ModelOptions { in_channels: 1, ..ModelOptions::default() };
        let weights = state_dict(&create("resnet20", &options, &device).expect("resnet20"));
        let model = ModelSpec { architecture: "resnet20".into(), options };
        let bundle = Bundle {
            model,
            classes: Classes::cifar10(),
            preprocessing: Preprocessing::cifar10(),
            card: Card::default(),
            ranges: None,
            weights,
        };
        assert!(matches!(Predictor::new(&bundle, &device), Err(Error::Argument { name: "in_channels", .. })));
    }
}
