//! A model whose body runs as a graph where that is faster.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::Result;
use timburn_models::{ImageModel, Model, Stage};
use timburn_weights::ActivationRanges;

use crate::Precision;

/// A model that is only asked, never trained: on the CPU its body runs as a [`Graph`](crate::graph::Graph), elsewhere as it is. Logits agree to
/// 1e-4, in a reduced [`Precision`], which the classifier has too, to what that says.
#[derive(Module, Debug)]
pub struct Compiled {
    model: Model,
    #[module(skip)]
    graph: Option<Arc<Body>>,
}

#[cfg(feature = "flex")]
type Body = crate::graph::Graph;
/// Nothing runs as a graph without the CPU backend.
#[cfg(not(feature = "flex"))]
type Body = std::convert::Infallible;

impl Compiled {
    /// Compiles `model` as it is now, as evaluated, for `device`; later changes of the model are not seen.
    ///
    /// # Errors
    /// [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed) when the parameters cannot be read from their device.
    pub fn new(model: Model, device: &Device) -> Result<Self> {
        Self::with_precision(model, device, Precision::F32)
    }

    /// As [`new`](Self::new), the body in another precision.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Argument`](timburn_core::Error::Argument) for a reduced precision on another device than the CPU.
    pub fn with_precision(model: Model, device: &Device, precision: Precision) -> Result<Self> {
        precision.check(device)?;
        #[cfg(feature = "flex")]
        let compile = || Body::compile_with(&model, crate::GraphOptions { precision });
        #[cfg(feature = "flex")]
        let graph = if *device == Device::flex() { Some(Arc::new(compile()?)) } else { None };
        #[cfg(not(feature = "flex"))]
        let graph = None;
        Ok(Self { model, graph })
    }

    /// As [`new`](Self::new), the body in eight bits, for activations of these ranges.
    ///
    /// # Errors
    /// As [`Predictor::quantized`](crate::Predictor::quantized).
    pub fn quantized(model: Model, device: &Device, ranges: &ActivationRanges) -> Result<Self> {
        Precision::Int8.check(device)?;
        #[cfg(feature = "flex")]
        return Ok(Self { graph: Some(Arc::new(Body::quantized(&model, ranges)?)), model });
        #[cfg(not(feature = "flex"))]
        {
            let _ = ranges;
            Ok(Self { model, graph: None })
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the network is computed in.
    pub fn precision(&self) -> Precision {
        #[cfg(feature = "flex")]
        if let Some(graph) = &self.graph {
            return graph.precision();
        }
        Precision::F32
    }

    /// The classifier by the graph, where that computes it in another precision than the model; gradients are the model's to compute.
    #[cfg(feature = "flex")]
    fn compiled_logits(&self, pooled: &Tensor<2>) -> Option<Tensor<2>> {
        // Burn's devices are equal with and without autodiff.
        let here = pooled.device() == Device::flex() && !pooled.is_autodiff();
        let graph = self.graph.as_ref().filter(|graph| here && graph.precision() != Precision::F32)?;
        let [images, _] = pooled.dims();
        let values = pooled.clone().try_into_data().ok()?.convert::<f32>().try_to_vec::<f32>().ok()?;
        let logits = graph.classify(&values, images).ok()??;
        Some(Tensor::from_data(TensorData::new(logits, [images, self.num_classes()]), &pooled.device()))
    }

    /// The body by the graph; `None` where there is none, or the images do not suit it; gradients are the model's to compute.
    fn compiled_features(&self, images: &Tensor<4>) -> Option<Tensor<4>> {
        #[cfg(feature = "flex")]
        {
            let graph = self.graph.as_ref().filter(|_| !images.is_autodiff())?;
            let shape = images.dims();
            let values = images.clone().try_into_data().ok()?.convert::<f32>().try_to_vec::<f32>().ok()?;
            let (features, shape) = graph.feature_map(&values, shape).ok()?;
            Some(Tensor::from_data(TensorData::new(features, shape), &images.device()))
        }
        #[cfg(not(feature = "flex"))]
        {
            let _ = (images, &self.graph, TensorData::new(Vec::<f32>::new(), [0]));
            None
        }
    }
}

impl ImageModel for Compiled {
    fn stages(&self) -> Vec<Stage> {
        self.model.stages()
    }

    fn forward_stage(&self, index: usize, input: Tensor<4>) -> Tensor<4> {
        self.model.forward_stage(index, input)
    }

    fn forward_features(&self, images: Tensor<4>) -> Tensor<4> {
        self.compiled_features(&images).unwrap_or_else(|| self.model.forward_features(images))
    }

    fn pool(&self, features: Tensor<4>) -> Tensor<2> {
        self.model.pool(features)
    }

    fn classify(&self, pooled: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "flex")]
        if let Some(logits) = self.compiled_logits(&pooled) {
            return logits;
        }
        self.model.classify(pooled)
    }

    fn num_features(&self) -> usize {
        self.model.num_features()
    }

    fn num_classes(&self) -> usize {
        self.model.num_classes()
    }

    fn head_keys(&self) -> Vec<String> {
        self.model.head_keys().into_iter().map(|key| format!("model.{key}")).collect()
    }

    /// The graph knows no other weights than those it was compiled from: what this gives runs without it.
    fn reset_classifier(self, classes: usize, seed: u64, device: &Device) -> Self {
        Self { model: self.model.reset_classifier(classes, seed, device), graph: None }
    }
}
