use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use timburn_core::device::panic_message;
use timburn_core::error::{DeviceError, ModelError};
use timburn_core::{Classes, Error, Preprocessing, Result, WeightsError};
use timburn_data::{DecodeOptions, Rgb8Image, decode_bytes, decode_file, prepare, to_tensor};
#[cfg(feature = "flex")]
use timburn_models::graph::{Describe, ModelGraph};
#[cfg(feature = "flex")]
use timburn_models::state_dict::StoredModel;
use timburn_models::state_dict::input_key;
use timburn_models::{ImageModel, Model, StateDict, create, load_state_dict, outputs_fit, parameters};
use timburn_weights::{ActivationRanges, Bundle};

use crate::Precision;
use crate::prediction::Prediction;
#[cfg(feature = "flex")]
use crate::{Calibrator, Graph, GraphOptions};

/// Pictures that are in memory at a time while ranges are measured.
#[cfg(feature = "flex")]
const CALIBRATED: usize = 16;

/// A model with everything that turns a photograph into labels: weights, class names and preprocessing.
///
/// On the CPU it holds the parameters of a bundle's file once, packed for the processor: they are read layer by layer, and the model itself is
/// [read again](Self::model) for who asks for it. The file stays open for that; it may be replaced, but not written in place. Of a bundle in
/// memory the tensors stay there, too.
#[derive(Debug)]
pub struct Predictor {
    /// Without values: they are in `weights`.
    architecture: Model,
    weights: StateDict,
    body: Body,
    classes: Arc<Classes>,
    preprocessing: Preprocessing,
    device: Device,
    ranges: Option<ActivationRanges>,
    /// How pictures are decoded. By default as a viewer shows them: EXIF orientation applied.
    pub decode: DecodeOptions,
}

/// What computes.
#[derive(Debug)]
enum Body {
    /// The whole model.
    Modules(Model),
    /// All of it.
    #[cfg(feature = "flex")]
    Graph(Graph),
    /// All but the head, of which the model was read.
    #[cfg(feature = "flex")]
    GraphAndHead(Graph, Model),
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
        let device = device.clone().without_autodiff();
        precision.check(&device)?;
        bundle.preprocessing.validate()?;
        let architecture = create(&bundle.model.architecture, &bundle.model.options, &device)?;
        let key = input_key(&architecture);
        let channels = parameters(&architecture).into_iter().find(|info| Some(&info.key) == key.as_ref()).map_or(3, |info| info.shape[1]);
        if channels != 3 {
            let expected = "3: pictures are decoded to RGB".into();
            return Err(Error::Argument { name: "in_channels", value: channels.to_string(), expected });
        }
        if !outputs_fit(architecture.num_classes(), bundle.classes.len()) {
            return Err(ModelError::ClassCount { model: architecture.num_classes(), classes: bundle.classes.len() }.into());
        }
        let (weights, ranges) = (bundle.weights.clone(), bundle.ranges.clone());
        let body = compute(&architecture, &weights, &device, precision, ranges.as_ref())?;
        Ok(Self {
            architecture,
            weights,
            body,
            classes: Arc::new(bundle.classes.clone()),
            preprocessing: bundle.preprocessing.clone(),
            device,
            ranges,
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

    /// Runs the model's own forward pass on the CPU too, not the inference [`Graph`](crate::graph::Graph) compiled from it, which is several
    /// times as fast and agrees to 1e-4 of the logits.
    ///
    /// # Errors
    /// As [`model`](Self::model).
    pub fn without_graph(self) -> Result<Self> {
        let body = Body::Modules(self.model()?);
        Ok(Self { body, ..self })
    }

    /// Computes in another precision, on the CPU: see [`Precision`] for what that gains and costs. Where the processor cannot, a warning is
    /// logged and f32 stays; [`precision`](Self::precision) tells.
    ///
    /// # Errors
    /// [`Error::Argument`] for a reduced precision on another device, and for int8 where the bundle has no ranges of activations (else as
    /// [`quantized`](Self::quantized)); as [`model`](Self::model).
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        precision.check(&self.device)?;
        let body = compute(&self.architecture, &self.weights, &self.device, precision, self.ranges.as_ref())?;
        Ok(Self { body, ..self })
    }

    /// Computes in eight bits, on the CPU, for activations of these ranges, which [`calibrate`](Self::calibrate) finds.
    ///
    /// # Errors
    /// [`Error::Argument`] on another device; [`WeightsError::Ranges`](timburn_core::WeightsError::Ranges) for ranges of another network or such
    /// as no bytes cover; as [`model`](Self::model).
    pub fn quantized(self, ranges: &ActivationRanges) -> Result<Self> {
        Precision::Int8.check(&self.device)?;
        let body = compute(&self.architecture, &self.weights, &self.device, Precision::Int8, Some(ranges))?;
        Ok(Self { body, ..self })
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
        let mut calibrator = self.calibrator()?;
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
        let mut calibrator = self.calibrator()?;
        for images in images.chunks(CALIBRATED) {
            self.observe(&mut calibrator, images)?;
        }
        calibrator.finish()
    }

    #[cfg(feature = "flex")]
    fn calibrator(&self) -> Result<Calibrator> {
        StoredModel::new(&self.architecture, &self.weights)?.read(|model| Calibrator::of(taken(model)))
    }

    #[cfg(feature = "flex")]
    fn observe(&self, calibrator: &mut Calibrator, images: &[Rgb8Image]) -> Result<()> {
        let images = to_tensor(images, &self.preprocessing, &Device::flex())?;
        let shape = images.dims();
        let values = images.into_data().try_to_vec::<f32>();
        let failed = |error| DeviceError::Failed { name: format!("{:?}", self.device), reason: format!("{error:?}") };
        calibrator.observe(&values.map_err(failed)?, shape)
    }

    /// What is computed in.
    pub fn precision(&self) -> Precision {
        match &self.body {
            Body::Modules(_) => Precision::F32,
            #[cfg(feature = "flex")]
            Body::Graph(graph) | Body::GraphAndHead(graph, _) => graph.precision(),
        }
    }

    /// The model: where a graph computes, read once more from where the bundle's weights are, which takes as long and as much memory as it
    /// does at first. Who needs it often keeps it.
    ///
    /// # Errors
    /// [`WeightsError::Corrupt`](timburn_core::WeightsError::Corrupt) when the bundle's file cannot be read any more.
    pub fn model(&self) -> Result<Model> {
        match &self.body {
            Body::Modules(model) => Ok(model.clone()),
            #[cfg(feature = "flex")]
            Body::Graph(_) | Body::GraphAndHead(..) => load_state_dict(&self.architecture, &self.weights),
        }
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
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(WeightsError::NonFinite { name: self.weights.name.clone(), of: None }.into());
        }
        Ok(logits.chunks_exact(self.architecture.num_classes().max(1)).map(|row| Prediction::new(row, Arc::clone(&self.classes))).collect())
    }

    /// `[n, 3, h, w]` → logits, row by row.
    fn logits(&self, images: Tensor<4>) -> Result<Vec<f32>> {
        let values = |data: TensorData| {
            let failed = |error| DeviceError::Failed { name: format!("{:?}", self.device), reason: format!("{error:?}") };
            data.convert::<f32>().try_to_vec::<f32>().map_err(|error| Error::from(failed(error)))
        };
        #[cfg(feature = "flex")]
        let shape = images.dims();
        match &self.body {
            Body::Modules(model) => values(model.forward(images).into_data()),
            #[cfg(feature = "flex")]
            Body::Graph(graph) => graph.run(&values(images.into_data())?, shape),
            #[cfg(feature = "flex")]
            Body::GraphAndHead(graph, model) => {
                let (features, shape) = graph.feature_map(&values(images.into_data())?, shape)?;
                let features = Tensor::from_data(TensorData::new(features, shape), &self.device);
                values(model.forward_head(features).into_data())
            }
        }
    }
}

/// What computes `architecture` with `weights` on `device`: on the CPU a graph, elsewhere the modules.
fn compute(
    architecture: &Model,
    weights: &StateDict,
    device: &Device,
    precision: Precision,
    ranges: Option<&ActivationRanges>,
) -> Result<Body> {
    #[cfg(feature = "flex")]
    if *device == Device::flex() {
        let stored = || StoredModel::new(architecture, weights);
        let graph = stored()?.read(|model| match precision {
            Precision::Int8 => Graph::quantized_of(taken(model), ranges.ok_or_else(Precision::without_ranges)?),
            Precision::F32 | Precision::Bf16 => Graph::of(taken(model), GraphOptions { precision }),
        })?;
        if graph.has_head() {
            return Ok(Body::Graph(graph));
        }
        // The head reads its parameters when it runs.
        let model = stored()?.read(|model| {
            let features = Tensor::zeros([1, model.num_features(), 1, 1], device);
            model.forward_head(features);
            Ok(model)
        })?;
        return Ok(Body::GraphAndHead(graph, model));
    }
    let _ = (precision, ranges);
    Ok(Body::Modules(load_state_dict(architecture, weights)?))
}

/// The description of a model that is not needed beside it: as a graph is packed, the layers are freed.
#[cfg(feature = "flex")]
fn taken(model: Model) -> ModelGraph {
    model.describe()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use timburn_models::{Head, ModelOptions, WeightTensor, state_dict};
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

    fn bundle(architecture: &str, options: ModelOptions, weights: StateDict) -> Bundle {
        let model = ModelSpec { architecture: architecture.into(), options };
        let classes = Classes::cifar10();
        Bundle { model, classes, preprocessing: Preprocessing::cifar10(), card: Card::default(), ranges: None, weights }
    }

    /// The same tensors, with a count of how often each was read, and a switch that breaks the store.
    fn watched(weights: StateDict) -> (StateDict, Arc<[AtomicUsize]>, Arc<AtomicBool>) {
        let counts: Arc<[AtomicUsize]> = weights.tensors.values().map(|_| AtomicUsize::new(0)).collect();
        let broken = Arc::new(AtomicBool::new(false));
        let mut dict = StateDict::new("a watched file");
        for (index, (key, tensor)) in weights.tensors.into_iter().enumerate() {
            let (counts, broken, shape, dtype) = (Arc::clone(&counts), Arc::clone(&broken), tensor.shape.clone(), tensor.dtype);
            let read = move || {
                counts[index].fetch_add(1, Relaxed);
                if broken.load(Relaxed) { Err("the file became shorter".into()) } else { tensor.bytes() }
            };
            dict.tensors.insert(key, WeightTensor::new(shape, dtype, Arc::new(read)));
        }
        (dict, counts, broken)
    }

    #[test]
    fn an_answer_that_is_no_number_is_an_error() {
        let device = timburn_core::open_device("flex").expect("flex");
        let mut weights = state_dict(&create("resnet20", &ModelOptions::default(), &device).expect("resnet20"));
        weights.name = "damaged.safetensors".into();
        weights.tensors.insert("fc.bias".into(), WeightTensor::from_f32(vec![10], vec![f32::NAN; 10]));
        let bundle = bundle("resnet20", ModelOptions::default(), weights);
        for predictor in [Predictor::new(&bundle, &device), Predictor::new(&bundle, &device).and_then(Predictor::without_graph)] {
            let answer = predictor.expect("a predictor").classify_bytes(timburn_data::sample_photograph(), "sample");
            let Err(Error::Weights(error @ WeightsError::NonFinite { .. })) = answer else { panic!("{answer:?}") };
            assert!(error.to_string().contains("damaged.safetensors answers with numbers that are not finite"), "{error}");
        }
    }

    #[test]
    fn parameters_are_read_once_and_again_only_for_who_asks_for_the_model() {
        let device = timburn_core::open_device("flex").expect("flex");
        for head in [Head::Linear, Head::Fastai] {
            let options = ModelOptions { head: head.clone(), ..ModelOptions::classes(10) };
            let model = create("resnet20", &options, &device).expect("resnet20");
            let (weights, counts, broken) = watched(state_dict(&model));
            let read = || counts.iter().map(|count| count.load(Relaxed)).collect::<Vec<_>>();
            let bundle = bundle("resnet20", options, weights);
            let predictor = Predictor::new(&bundle, &device).expect("a predictor");
            // Running statistics are read with the architecture, which the head is of, too.
            let at_first = read();
            assert!(at_first.iter().all(|&count| count >= 1), "{head:?}: {at_first:?}");
            let parameters = bundle.weights.tensors.keys().zip(&at_first).filter(|(key, _)| !key.contains("running_"));
            assert!(parameters.clone().all(|(_, &count)| count == 1), "{head:?}: {:?}", parameters.collect::<Vec<_>>());

            let gray = Rgb8Image { width: 32, height: 32, pixels: vec![128; 32 * 32 * 3] };
            let graph = predictor.classify_prepared(std::slice::from_ref(&gray)).expect("an answer");
            assert_eq!(read(), at_first, "{head:?}: predictions read nothing");
            let again = state_dict(&predictor.model().expect("a model"));
            for ((key, left), right) in state_dict(&model).tensors.iter().zip(again.tensors.values()) {
                assert_eq!(left.bytes(), right.bytes(), "{head:?}: {key}");
            }
            let plain = predictor.without_graph().expect("a model");
            let modules = plain.classify_prepared(std::slice::from_ref(&gray)).expect("an answer");
            let close = graph[0].probabilities.iter().zip(&modules[0].probabilities).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{head:?}: {:?} {:?}", graph[0].probabilities, modules[0].probabilities);

            broken.store(true, Relaxed);
            let corrupt = |result: Result<()>| match result {
                Err(Error::Weights(WeightsError::Corrupt { name, reason })) => {
                    name == "a watched file" && reason.contains("became shorter")
                }
                _ => false,
            };
            assert!(corrupt(Predictor::new(&bundle, &device).map(|_| ())), "{head:?}: a graph of what was not read");
            assert!(corrupt(plain.with_precision(Precision::F32).map(|_| ())), "{head:?}: another graph of it");
        }
    }

    #[test]
    fn a_model_for_gray_pictures_is_refused() {
        let device = timburn_core::open_device("flex").expect("flex");
        let options = ModelOptions { in_channels: 1, ..ModelOptions::default() };
        let weights = state_dict(&create("resnet20", &options, &device).expect("resnet20"));
        let bundle = bundle("resnet20", options, weights);
        assert!(matches!(Predictor::new(&bundle, &device), Err(Error::Argument { name: "in_channels", .. })));
    }
}
