//! A model compiled for predictions on the CPU.

mod calibrate;
mod compile;
mod histogram;
mod int8;
mod network;
mod plan;
mod profile;
mod run;

use std::sync::Mutex;

use timburn_core::{Error, Result};
use timburn_kernels::infer::int8::is_accelerated;
use timburn_kernels::infer::{Buffer, Conv, Element, bf16};
use timburn_models::graph::{Describe, ModelGraph};
use timburn_weights::ActivationRanges;

pub use self::calibrate::{Calibrator, even_ranges};
use self::compile::Step;
use self::network::Network;
pub use self::profile::LayerTime;
use crate::Precision;

/// Images that are computed together; more are computed in turns. Bounds the memory of a large batch.
const BATCH: usize = 8;

/// A model compiled for predictions on the CPU, apart from Burn: batch norm folded into the convolutions, bias, shortcut and activation
/// fused with them, weights packed for this machine's vectors, few activations alive at a time.
///
/// What it computes agrees with the model's own forward pass, in evaluation, to 1e-4 of the logits, in a reduced [`Precision`] to what that
/// says. It depends neither on the number of threads nor on what else is in the batch. It holds a copy of the parameters as they were when
/// it was compiled.
///
/// A graph can be shared by threads: each call takes working memory from a pool and puts it back ([`memory`](Self::memory)).
#[derive(Debug)]
pub struct Graph {
    body: Body,
}

/// How to compile a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GraphOptions {
    /// How weights and activations are stored and multiplied. Where the processor has no instructions for bf16 the graph is of f32, which is
    /// then as fast or faster, and a warning is logged; [`Graph::precision`] tells. Int8 needs more than this: [`Graph::quantized`].
    pub precision: Precision,
}

#[derive(Debug)]
enum Body {
    F32(Program<f32>),
    Bf16(Program<bf16>),
    Int8(int8::Quantized),
}

/// The same for each kind of body.
macro_rules! each {
    ($body:expr, $program:ident => $value:expr) => {
        match $body {
            Body::F32($program) => $value,
            Body::Bf16($program) => $value,
            Body::Int8($program) => $value,
        }
    };
}
use each;

/// A graph of activations that are stored as `T`.
#[derive(Debug)]
struct Program<T: Element> {
    steps: Vec<Step<T>>,
    /// Channels of the images.
    channels: usize,
    /// Index of the value that is the last stage's output.
    features: usize,
    head: Option<Conv<T>>,
    scratch: Mutex<Vec<Vec<Buffer<T>>>>,
}

/// What is wanted of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    FeatureMap,
    Features,
    Logits,
}

impl Graph {
    /// Compiles the model as it is now, as evaluated: neither dropout nor stochastic depth. In f32.
    ///
    /// # Errors
    /// [`DeviceError::Failed`](timburn_core::error::DeviceError::Failed) when the parameters cannot be read from their device.
    pub fn compile(model: &impl Describe) -> Result<Self> {
        Self::of(model.describe(), GraphOptions::default())
    }

    /// As [`compile`](Self::compile), in another precision.
    ///
    /// # Errors
    /// As [`compile`](Self::compile); [`Error::Argument`] for int8, which needs [ranges](Self::quantized).
    pub fn compile_with(model: &impl Describe, options: GraphOptions) -> Result<Self> {
        Self::of(model.describe(), options)
    }

    /// Compiles a description. Each layer is dropped once it is packed: of a model that nobody else holds, as much is freed.
    ///
    /// # Errors
    /// As [`compile_with`](Self::compile_with).
    pub fn of(graph: ModelGraph, options: GraphOptions) -> Result<Self> {
        let mut precision = options.precision;
        if !precision.is_supported() {
            log::warn!("this processor does not multiply {precision} (AVX512-BF16 is missing{}): computing in f32", named());
            precision = Precision::F32;
        }
        let body = match precision {
            Precision::F32 => Body::F32(compile::compile(graph, false)?),
            Precision::Bf16 => Body::Bf16(compile::compile(graph, false)?),
            Precision::Int8 => return Err(Precision::without_ranges()),
        };
        Ok(Self { body })
    }

    /// Compiles in eight bits: weights rounded to bytes with a scale for each output channel, activations to bytes that cover `ranges`, which a
    /// [`Calibrator`] found. Shortcuts, activations and pools are of bytes too; sums are exact. The same bytes come out on every machine, but for
    /// networks with squeeze-and-excite, whose gates are computed in f32.
    ///
    /// # Errors
    /// [`WeightsError::Ranges`](timburn_core::WeightsError::Ranges) when `ranges` are not those of this network's layers, or a weight is not
    /// finite; as [`compile`](Self::compile).
    pub fn quantized(model: &impl Describe, ranges: &ActivationRanges) -> Result<Self> {
        Self::quantized_of(model.describe(), ranges)
    }

    /// As [`quantized`](Self::quantized), from a description, as [`of`](Self::of).
    ///
    /// # Errors
    /// As [`quantized`](Self::quantized).
    pub fn quantized_of(graph: ModelGraph, ranges: &ActivationRanges) -> Result<Self> {
        if !is_accelerated() {
            let reason = named();
            log::warn!(
                "this processor does not multiply bytes faster than f32 (AVX512-VNNI or AVX-VNNI is missing{reason}): int8 saves memory, not time"
            );
        }
        Ok(Self { body: Body::Int8(int8::quantize(graph, ranges)?) })
    }

    /// What the graph computes in.
    pub fn precision(&self) -> Precision {
        match self.body {
            Body::F32(_) => Precision::F32,
            Body::Bf16(_) => Precision::Bf16,
            Body::Int8(_) => Precision::Int8,
        }
    }

    /// Whether the graph ends in logits. A head that is not global average pooling and one fully connected layer is the caller's to run
    /// on [`feature_map`](Self::feature_map).
    pub fn has_head(&self) -> bool {
        each!(&self.body, program => program.head().is_some())
    }

    /// Logits `[n, classes]` of `images` `[n, channels, height, width]`, normalised as the weights ask.
    ///
    /// # Errors
    /// [`Error::Argument`] when the images do not have this shape, are too small for the network, or the graph
    /// [has no head](Self::has_head).
    pub fn run(&self, images: &[f32], shape: [usize; 4]) -> Result<Vec<f32>> {
        if !self.has_head() {
            return Err(argument("head", "other than one layer", "global average pooling and one fully connected layer"));
        }
        self.compute(images, shape, Wanted::Logits)
    }

    /// Means of the last stage's channels, `[n, features]`, of `images` `[n, channels, height, width]`.
    ///
    /// # Errors
    /// As [`run`](Self::run), but a head is not needed.
    pub fn features(&self, images: &[f32], shape: [usize; 4]) -> Result<Vec<f32>> {
        self.compute(images, shape, Wanted::Features)
    }

    /// Logits `[n, classes]` of [features](Self::features) `[n, features]`: what follows the pool. None where the graph
    /// [has no head](Self::has_head).
    ///
    /// # Errors
    /// [`Error::Argument`] when these are not `n` images' features.
    pub fn classify(&self, features: &[f32], n: usize) -> Result<Option<Vec<f32>>> {
        let Some(inputs) = each!(&self.body, program => program.head().map(|head| head.inputs)) else { return Ok(None) };
        if inputs.checked_mul(n) != Some(features.len()) {
            return Err(argument("features", &format!("{} values", features.len()), &format!("{n} times {inputs}")));
        }
        if n == 0 {
            return Ok(Some(Vec::new()));
        }
        Ok(each!(&self.body, program => program.classify(features, n)))
    }

    /// The last stage's output, and its shape `[n, features, h, w]`, of `images` `[n, channels, height, width]`.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn feature_map(&self, images: &[f32], shape: [usize; 4]) -> Result<(Vec<f32>, [usize; 4])> {
        let size = [shape[2], shape[3]];
        let values = self.compute(images, shape, Wanted::FeatureMap)?;
        let map = each!(&self.body, program => program.plan(size)?.maps[program.features()]);
        Ok((values, [shape[0], map.channels, map.height, map.width]))
    }

    /// Bytes of the packed parameters.
    pub fn parameter_bytes(&self) -> usize {
        each!(&self.body, program => program.parameter_bytes())
    }

    /// Bytes of working memory that one call needs for `images` images of this height and width. Each thread that calls at the same time
    /// needs as much; it is kept for the next call. Besides, each of rayon's threads keeps what its tiles need: some MB at most.
    ///
    /// # Errors
    /// [`Error::Argument`] when images of this size are too small for the network.
    pub fn memory(&self, images: usize, size: [usize; 2]) -> Result<usize> {
        each!(&self.body, program => program.memory(images, size))
    }

    fn compute(&self, images: &[f32], shape: [usize; 4], wanted: Wanted) -> Result<Vec<f32>> {
        each!(&self.body, program => program.results(images, shape, wanted))
    }
}

/// The other reason for a missing instruction.
fn named() -> &'static str {
    if timburn_kernels::cpu_choice().named { ", or kept from the kernels by TIMBURN_CPU" } else { "" }
}

fn argument(name: &'static str, value: &str, expected: &str) -> Error {
    Error::Argument { name, value: value.into(), expected: expected.into() }
}
