//! Grad-CAM: where a model looked. Selvaraju et al. 2017, <https://arxiv.org/abs/1610.02391>.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Tensor};
use timburn_core::device::panic_message;
use timburn_core::error::{DeviceError, ModelError};
use timburn_core::{Error, Preprocessing, Result};
use timburn_data::picture::overlay_heat;
use timburn_data::{Rgb8Image, prepare, to_tensor};
use timburn_models::ImageModel;

/// Share of the heat map's colour in an overlay: the picture stays recognisable.
const OPACITY: f32 = 0.5;

/// Explains a model's answers by what its body saw: any family, any stage, any class.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> timburn_core::Result<()> {
/// use timburn_data::{DecodeOptions, decode_bytes};
/// use timburn_infer::{GradCam, Predictor};
///
/// let device = timburn_core::open_device("auto")?;
/// let predictor = Predictor::embedded(&device)?;
/// let photograph = decode_bytes(timburn_data::sample_photograph(), "sample", &DecodeOptions::default())?;
/// let grad_cam = GradCam::new(&predictor.model()?, predictor.preprocessing(), None, &device)?;
/// let map = grad_cam.map(&photograph, None)?;
/// println!("{}: {:.1} %", predictor.classes().names[map.class], 100.0 * map.probability);
/// let overlay = map.overlay(&grad_cam.prepared(&photograph));
/// # assert_eq!((map.width, map.height, overlay.width), (7, 7, 224));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct GradCam<M> {
    /// On a device with autodiff, in evaluation mode, without gradients of its own.
    model: M,
    preprocessing: Preprocessing,
    stage: usize,
    stage_name: String,
    device: Device,
}

/// What spoke for a class, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `ReLU(Σ_c w_c a_c)`, row-major: `a` the stage's output, `w_c` the mean over its positions of the class logit's gradient by `a_c`.
    /// 0 everywhere when nothing in the picture speaks for the class.
    pub values: Vec<f32>,
    /// The class explained.
    pub class: usize,
    /// The probability the model gave it, in `[0, 1]`.
    pub probability: f32,
    /// The stage explained at.
    pub stage: String,
}

impl<M: ImageModel> GradCam<M> {
    /// Explains `model`, which takes pictures as `preprocessing` says, at the stage of this name (the last one by default; earlier ones
    /// are finer and mean less). The model is copied to `device` with autodiff, in evaluation mode; `model` stays as it is.
    ///
    /// # Errors
    /// [`ModelError::UnknownStage`]; [`Error::Argument`] for preprocessing out of range.
    pub fn new(model: &M, preprocessing: &Preprocessing, stage: Option<&str>, device: &Device) -> Result<Self> {
        preprocessing.validate()?;
        let stages: Vec<String> = model.stages().into_iter().map(|stage| stage.name).collect();
        let unknown = |name: &str| ModelError::UnknownStage { name: name.to_owned(), stages: stages.clone() };
        let index = match stage {
            Some(name) => stages.iter().position(|stage| stage == name).ok_or_else(|| unknown(name))?,
            None => stages.len().checked_sub(1).ok_or_else(|| unknown("the last"))?,
        };
        let device = device.clone().without_autodiff().autodiff();
        Ok(Self {
            model: model.valid().to_device(&device).no_grad(),
            preprocessing: preprocessing.clone(),
            stage: index,
            stage_name: stages.into_iter().nth(index).unwrap_or_default(),
            device,
        })
    }

    /// The part of the picture that the model sees, at its input's size: what a map lies over.
    pub fn prepared(&self, image: &Rgb8Image) -> Rgb8Image {
        prepare(image, &self.preprocessing)
    }

    /// The map of one picture for `class`, or for the most probable one.
    ///
    /// # Errors
    /// [`Error::Argument`] for a class that the model does not have; [`Error::Device`] when the device fails.
    pub fn map(&self, image: &Rgb8Image, class: Option<usize>) -> Result<HeatMap> {
        let images = to_tensor(&[self.prepared(image)], &self.preprocessing, &self.device)?;
        self.map_tensor(images, class)
    }

    /// The picture as the model sees it, with the map for `class`, or for the most probable one, laid over.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn overlay(&self, image: &Rgb8Image, class: Option<usize>) -> Result<Rgb8Image> {
        Ok(self.map(image, class)?.overlay(&self.prepared(image)))
    }

    /// The map of one picture that is a tensor already, `[1, channels, height, width]`, normalised.
    ///
    /// # Errors
    /// As [`map`](Self::map); [`Error::Argument`] for another number of pictures than one.
    pub fn map_tensor(&self, images: Tensor<4>, class: Option<usize>) -> Result<HeatMap> {
        if images.dims()[0] != 1 {
            return Err(Error::Argument { name: "images", value: format!("{:?}", images.dims()), expected: "one picture".into() });
        }
        let outputs = self.model.num_classes();
        if let Some(class) = class.filter(|&class| class >= outputs.max(2)) {
            let expected = format!("a class below {}", outputs.max(2));
            return Err(Error::Argument { name: "class", value: class.to_string(), expected });
        }
        // Moving a plain tensor to a device with autodiff does not lift it into autodiff.
        let lifted = || Tensor::from_inner(images.without_autodiff().to_device(&self.device.clone().without_autodiff()));
        // Burn reports a device that is out of memory or gone by panicking.
        match catch_unwind(AssertUnwindSafe(|| self.explain(lifted(), class))) {
            Ok(map) => map,
            Err(panic) => Err(self.failed(panic_message(panic.as_ref()))),
        }
    }

    fn explain(&self, images: Tensor<4>, class: Option<usize>) -> Result<HeatMap> {
        let stages = self.model.stages().len();
        // The graph begins at the stage's output: what lies before needs no gradient.
        let activation = (0..=self.stage).fold(images, |features, stage| self.model.forward_stage(stage, features)).detach().require_grad();
        let features = (self.stage + 1..stages).fold(activation.clone(), |features, stage| self.model.forward_stage(stage, features));
        let logits = self.model.forward_head(features);
        let values = self.host(logits.clone())?;
        let class = class.unwrap_or_else(|| best(&values));
        let score = match values.as_slice() {
            // One logit speaks for class 1 and, negated, for class 0.
            [_] if class == 0 => -logits,
            [_] => logits,
            _ => logits.narrow(1, class, 1),
        };
        let gradients = score.sum().backward();
        let gradient = activation.grad(&gradients).ok_or_else(|| self.failed("it gave no gradient".into()))?;
        let activation = activation.inner();
        let weights = gradient.mean_dim(2).mean_dim(3);
        let map = (activation * weights).sum_dim(1).clamp_min(0.0);
        let [_, _, height, width] = map.dims();
        let values_of_map = self.host(map)?;
        if !values_of_map.iter().all(|value| value.is_finite()) {
            return Err(self.failed("the map is not finite".into()));
        }
        let probability = probability(&values, class);
        Ok(HeatMap { width, height, values: values_of_map, class, probability, stage: self.stage_name.clone() })
    }

    fn host<const D: usize>(&self, tensor: Tensor<D>) -> Result<Vec<f32>> {
        tensor.into_data().convert::<f32>().try_to_vec().map_err(|error| self.failed(format!("{error:?}")))
    }

    fn failed(&self, reason: String) -> Error {
        DeviceError::Failed { name: format!("{:?}", self.device), reason }.into()
    }
}

impl HeatMap {
    /// The values divided by the largest, in `[0, 1]`; all 0 where nothing speaks for the class.
    pub fn normalised(&self) -> Vec<f32> {
        let largest = self.values.iter().copied().fold(0.0, f32::max);
        self.values.iter().map(|value| if largest > 0.0 { value / largest } else { 0.0 }).collect()
    }

    /// The map over the picture that the model saw ([`GradCam::prepared`]): bilinearly enlarged, in the colours of
    /// [`heat_color`](timburn_data::picture::heat_color), half transparent.
    pub fn overlay(&self, prepared: &Rgb8Image) -> Rgb8Image {
        overlay_heat(prepared, &self.normalised(), (self.width, self.height), OPACITY)
    }
}

/// The class with the largest logit, of equals the first; with one logit, class 1 above zero.
fn best(logits: &[f32]) -> usize {
    match logits {
        [logit] => usize::from(*logit > 0.0),
        logits => logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, &x)| if x > best.1 { (class, x) } else { best }).0,
    }
}

fn probability(logits: &[f32], class: usize) -> f32 {
    let wide;
    let logits = match logits {
        [logit] => {
            wide = [0.0, *logit];
            &wide[..]
        }
        logits => logits,
    };
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    logits.get(class).map_or(0.0, |&logit| (f64::from(logit - largest).exp() / sum) as f32)
}
