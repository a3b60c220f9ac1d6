//! Ranges of activations, from pictures.

use timburn_core::{Result, WeightsError};
use timburn_kernels::infer::Map;
use timburn_models::graph::{Describe, ModelGraph, Op};
use timburn_weights::ActivationRanges;

use super::compile;
use super::histogram::Histogram;
use super::network::Network;
use super::{Program, Wanted, argument, run};

/// What [`ActivationRanges`] call the images, and the means of the last stage's channels.
pub(super) const IMAGES: &str = "images";
pub(super) const POOLED: &str = "pooled";

/// Finds the ranges of a network's activations that [`Graph::quantized`](super::Graph::quantized) needs, by computing pictures in f32.
///
/// A hundred pictures like those that are to be predicted, of all classes or many, are enough; their labels do not matter. For each
/// activation the range is, of those down to a quarter of the extremes, the one whose bytes differ least, squared, from the values seen. The result depends on the set of pictures, not
/// on their order or on the number of threads.
#[derive(Debug)]
pub struct Calibrator {
    program: Program<f32>,
    /// By value: the images, then each layer's output; the pooled features last. Pools have their input's range.
    histograms: Vec<Option<(String, Histogram)>>,
    seen: usize,
}

impl Calibrator {
    /// For the model as it is now.
    ///
    /// # Errors
    /// As [`Graph::compile`](super::Graph::compile).
    pub fn new(model: &impl Describe) -> Result<Self> {
        Self::of(model.describe())
    }

    /// For a described model, which is taken apart as [`Graph::of`](super::Graph::of) does.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(graph: ModelGraph) -> Result<Self> {
        let named = names(&graph).into_iter().map(|name| name.map(|name| (name, Histogram::new()))).collect();
        let program = compile::compile(graph, true)?;
        Ok(Self { program, histograms: named, seen: 0 })
    }

    /// Looks at `images` `[n, channels, height, width]`, normalised as the weights ask.
    ///
    /// # Errors
    /// [`Error::Argument`](timburn_core::Error::Argument) when the images do not have this shape or are too small for the network;
    /// [`WeightsError::Ranges`] when what a layer computes is not finite.
    pub fn observe(&mut self, images: &[f32], shape: [usize; 4]) -> Result<()> {
        let image = self.program.check(images.len(), shape)?;
        let plan = self.program.plan([shape[2], shape[3]])?;
        let (program, histograms) = (&self.program, &mut self.histograms);
        let mut slots: Vec<_> = plan.slots.iter().map(|slot| timburn_kernels::infer::Buffer::zeros(slot.len(1))).collect();
        let mut look = |value: usize, values: &[f32]| {
            let Some(Some((name, histogram))) = histograms.get_mut(value) else { return Ok(()) };
            if histogram.add(values) {
                return Ok(());
            }
            Err(WeightsError::Ranges { layer: name.clone(), reason: "its values are not finite".into() })
        };
        for image in images.chunks_exact(image.max(1)) {
            look(0, image)?;
            let place = |value: usize| -> (&Map, usize) { (&plan.maps[value], plan.places[value]) };
            let (map, first) = place(0);
            program.load(map, 1, image, &mut slots[first]);
            for (index, step) in program.steps().iter().enumerate() {
                run::together(|| run::compute(program, step, &plan, &mut slots, 1, index + 1, 0));
                let (map, at) = place(index + 1);
                look(index + 1, &map.to_nchw(1, &slots[at]))?;
            }
            look(program.steps().len() + 1, &program.end(&plan, &slots, 1, Wanted::Features))?;
        }
        self.seen += shape[0];
        Ok(())
    }

    /// The ranges.
    ///
    /// # Errors
    /// [`Error::Argument`](timburn_core::Error::Argument) when no image was looked at.
    pub fn finish(&self) -> Result<ActivationRanges> {
        if self.seen == 0 {
            return Err(argument("images to calibrate with", "none", "a hundred, or at least one"));
        }
        let found = self.histograms.iter().flatten().map(|(name, histogram)| (name.clone(), histogram.range()));
        Ok(ActivationRanges(found.collect()))
    }
}

/// The same range for all of a network's activations. No time depends on ranges: for measurements of networks with random weights.
pub fn even_ranges(graph: &ModelGraph, range: [f32; 2]) -> ActivationRanges {
    ActivationRanges(names(graph).into_iter().flatten().map(|name| (name, range)).collect())
}

/// What the range of each value is called: of the images, of each layer's output, of the pooled features. None where it is the input's.
pub(super) fn names(graph: &ModelGraph) -> Vec<Option<String>> {
    let layers = graph.layers.iter().map(|layer| match &layer.op {
        Op::Convolution { conv, .. } => graph.names.get(&conv.weight.id).cloned(),
        Op::SqueezeExcite(layer) => graph.names.get(&layer.layers()[0].weight.id).cloned(),
        Op::MaxPool { .. } | Op::AveragePool { .. } | Op::Subsample { .. } => None,
    });
    [Some(IMAGES.to_owned())].into_iter().chain(layers).chain([Some(POOLED.to_owned())]).collect()
}
