//! What a run computes.

use std::hint::black_box;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use timburn_core::error::DeviceError;
use timburn_core::{Error, Result, seed};
#[cfg(feature = "flex")]
use timburn_infer::Graph;
#[cfg(feature = "flex")]
use timburn_models::graph::{Describe, ModelGraph};
use timburn_models::{ImageModel, Model, ModelOptions, autocast, create};
use timburn_train::optimizer::{OptimizerConfig, Sgd};
use timburn_train::recipe::OptimizerSection;
use timburn_train::{Learner, Rates, Recipe, Targets};

use super::cell::{Cell, Kind, Precision};
#[cfg(feature = "flex")]
use super::turns::Layer;
use super::turns::Layers;

/// Small enough that a network with random weights stays finite however often it steps.
const RATES: Rates = Rates { lr: 1e-3, momentum: None };

/// A cell, ready to run again and again.
pub(super) enum Work {
    /// The inference graph: from values in main memory to logits.
    #[cfg(feature = "flex")]
    Graph { graph: Graph, images: Vec<f32>, shape: [usize; 4] },
    /// Burn's modules: from images on the device to logits in main memory.
    Modules { model: Model, images: Tensor<4>, dtype: Option<FloatDType> },
    /// A step of the training loop's own, on images on the device: forward, cross-entropy, backward, plain SGD.
    Training { learner: Option<Box<Learner<Model>>>, images: Tensor<4>, targets: Targets, labels: Tensor<1, Int> },
}

impl Work {
    /// Builds the model with random weights, and images from normal draws.
    ///
    /// # Errors
    /// What `create`, the graph and the learner refuse.
    pub(super) fn new(cell: &Cell, device: &Device) -> Result<Self> {
        let shape = [cell.batch, 3, cell.size, cell.size];
        let values = seed::normal(0, shape.iter().product(), 1.0);
        let tensor = |values: Vec<f32>, device: &Device| Tensor::<4>::from_data(TensorData::new(values, shape), device);
        let options = ModelOptions { stem: cell.stem, ..ModelOptions::default() };
        if cell.work == Kind::Training {
            let training = device.clone().autodiff();
            let model = create(cell.model, &options, &training)?;
            let classes = model.num_classes();
            let mut recipe = Recipe { optimizer: OptimizerSection(OptimizerConfig::Sgd(Sgd::default())), ..Recipe::default() };
            recipe.train.precision = cell.precision.of_modules()?;
            let learner = Learner::new(&recipe, model, device, 1)?;
            let device = learner.device().clone();
            let labels: Vec<usize> = (0..cell.batch).map(|index| index % classes).collect();
            let targets = Targets::classes(&labels, classes, &device)?;
            let labels: Vec<i64> = labels.into_iter().map(|label| label as i64).collect();
            let labels = Tensor::from_data(TensorData::new(labels, [cell.batch]), &device);
            return Ok(Self::Training { learner: Some(Box::new(learner)), images: tensor(values, &device), targets, labels });
        }
        if cell.precision != Precision::Int8 {
            cell.precision.of_modules()?.check(device)?;
        }
        // Its parameters are drawn when they are read.
        let model = create(cell.model, &options, device)?;
        #[cfg(feature = "flex")]
        if let Some(precision) = graph_precision(cell, device) {
            let description = model.describe();
            // A head with layers of its own is the modules' to run.
            if description.head.as_ref().is_some_and(|head| head.as_linear().is_some()) {
                drop(model);
                return Ok(Self::Graph { graph: graph(description, precision)?, images: values, shape });
            }
        }
        Ok(Self::Modules { model, images: tensor(values, device), dtype: cell.precision.of_modules()?.dtype() })
    }

    /// One run, to its end on the device.
    ///
    /// # Errors
    /// [`DeviceError::Failed`]; what the graph and the learner refuse.
    pub(super) fn run(&mut self, device: &Device) -> Result<()> {
        let failed = |reason: String| Error::from(DeviceError::Failed { name: format!("{device:?}"), reason });
        match self {
            #[cfg(feature = "flex")]
            Self::Graph { graph, images, shape } => drop(black_box(graph.run(images, *shape)?)),
            Self::Modules { model, images, dtype } => {
                let logits = autocast(*dtype, || model.forward(images.clone()));
                black_box(logits.try_into_data().map_err(|error| failed(error.to_string()))?);
            }
            Self::Training { learner, images, targets, labels } => {
                let mut current = learner.take().ok_or_else(|| failed("an earlier step failed".into()))?;
                current.backward(images.clone(), targets.clone(), labels.clone())?;
                let (next, update) = current.update_at(RATES)?;
                black_box(update);
                // The loss is read while the device still updates.
                next.device().sync().map_err(|error| failed(error.to_string()))?;
                *learner = Some(Box::new(next));
            }
        }
        Ok(())
    }

    /// What computes it.
    pub(super) fn way(&self) -> &'static str {
        match self {
            #[cfg(feature = "flex")]
            Self::Graph { .. } => "graph",
            Self::Modules { .. } | Self::Training { .. } => "modules",
        }
    }

    /// The time of each layer, least of `runs`, or of each class of work in the fastest of `runs` steps; none where neither a graph nor the
    /// kernels run.
    ///
    /// # Errors
    /// As the graph's profile and the learner's.
    #[cfg(feature = "flex")]
    pub(super) fn layers(&mut self, runs: usize) -> Result<Layers> {
        match self {
            Self::Graph { graph, shape, .. } => {
                let layers = graph.profile(*shape, runs)?.into_iter();
                let layers = layers.map(|layer| Layer::new(layer.name, layer.time, layer.operations as u64, None)).collect();
                Ok(Layers { layers, peak_gflops: None })
            }
            Self::Modules { .. } => Ok(Layers::default()),
            Self::Training { learner, images, targets, labels } => {
                let mut fastest = None;
                for _ in 0..runs.max(1) {
                    let Some(current) = learner.take() else { break };
                    let (next, parts) = current.profile(images.clone(), targets.clone(), labels.clone(), RATES)?;
                    *learner = Some(Box::new(next));
                    let time: std::time::Duration = parts.iter().map(|part| part.time).sum();
                    if fastest.as_ref().is_none_or(|(least, _)| time < *least) {
                        fastest = Some((time, parts));
                    }
                }
                let parts = fastest.map(|(_, parts)| parts).unwrap_or_default();
                let peak_gflops = (!parts.is_empty()).then(|| timburn_train::profile::peak() / 1e9);
                let layer = |part: timburn_train::profile::PartTime| Layer::new(part.name, part.time, part.operations, Some(part.bytes));
                Ok(Layers { layers: parts.into_iter().map(layer).collect(), peak_gflops })
            }
        }
    }

    /// None: this build has no kernels of its own.
    #[cfg(not(feature = "flex"))]
    pub(super) fn layers(&mut self, _runs: usize) -> Result<Layers> {
        Ok(Layers::default())
    }
}

/// What the inference graph computes in, where there is one for the cell on this device.
#[cfg(feature = "flex")]
fn graph_precision(cell: &Cell, device: &Device) -> Option<timburn_infer::Precision> {
    let precision = match cell.precision {
        Precision::F32 => timburn_infer::Precision::F32,
        // A processor without the instructions would compute in f32, which is not what was asked for.
        Precision::Bf16 if timburn_infer::Precision::Bf16.is_supported() => timburn_infer::Precision::Bf16,
        Precision::Int8 => timburn_infer::Precision::Int8,
        _ => return None,
    };
    (!cell.modules && *device == Device::flex()).then_some(precision)
}

#[cfg(feature = "flex")]
fn graph(model: ModelGraph, precision: timburn_infer::Precision) -> Result<Graph> {
    if precision == timburn_infer::Precision::Int8 {
        let ranges = timburn_infer::even_ranges(&model, [-4.0, 4.0]);
        return Graph::quantized_of(model, &ranges);
    }
    Graph::of(model, timburn_infer::GraphOptions { precision })
}
