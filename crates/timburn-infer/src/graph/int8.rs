//! A graph of bytes.

use std::sync::Mutex;

use rayon::prelude::*;
use timburn_core::{Result, WeightsError};
use timburn_kernels::Activation;
use timburn_kernels::infer::int8::{self, Conv, Quantization, Quantizations};
use timburn_kernels::infer::{self, Border, Buffer, ConvSpec, Map, View, ViewMut};
use timburn_models::graph::{FoldedConv, FoldedLinear, HeadGraph, ModelGraph, Op, Value};
use timburn_weights::ActivationRanges;

use super::calibrate::names;
use super::network::Network;
use super::plan::{Plan, Planned, Shape};
use super::{compile, run};

/// A graph of activations that are stored as bytes. Each layer of the description is a step.
#[derive(Debug)]
pub(super) struct Quantized {
    steps: Vec<Step>,
    /// What the bytes of each value mean, and those of the pooled features.
    quantizations: Vec<Quantization>,
    channels: usize,
    features: usize,
    head: Option<Conv>,
    scratch: Mutex<Vec<Vec<Buffer<u8>>>>,
}

#[derive(Debug)]
pub(super) struct Step {
    input: usize,
    op: StepOp,
    residual: Option<usize>,
    activation: Activation,
}

#[derive(Debug)]
enum StepOp {
    Conv(Conv),
    MaxPool {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    AveragePool {
        kernel: usize,
        stride: usize,
    },
    Subsample {
        stride: usize,
        channels: usize,
    },
    /// In f32: a gate multiplies all of a channel, and costs next to nothing.
    SqueezeExcite([infer::Conv; 2]),
}

/// Folds, quantizes and packs. Each layer is dropped once it is packed.
pub(super) fn quantize(graph: ModelGraph, ranges: &ActivationRanges) -> Result<Quantized> {
    let quantizations = meanings(&names(&graph), &graph.layers.iter().map(|layer| layer.input.index()).collect::<Vec<_>>(), ranges)?;
    let of = |value: usize| quantizations.get(value).copied();
    let ModelGraph { layers, features, head, .. } = graph;
    let steps: Result<Vec<Step>> = layers
        .into_par_iter()
        .enumerate()
        .map(|(index, layer)| {
            let (input, residual) = (layer.input.index(), layer.residual.map(Value::index));
            let op = match &layer.op {
                Op::Convolution { conv, norm } => {
                    let folded = FoldedConv::new(conv, norm.as_ref())?;
                    let Some(read) = of(input) else { return Err(unfit("a layer", "it reads a value that nobody computes")) };
                    let around = Quantizations { input: read, residual: residual.and_then(of), output: of(index + 1) };
                    finite(&folded.weight, &folded.bias)?;
                    let spec = compile::spec(&folded);
                    summable(&spec)?;
                    StepOp::Conv(Conv::new(spec, &folded.weight, &folded.bias, around, layer.activation))
                }
                &Op::MaxPool { kernel, stride, padding } => StepOp::MaxPool { kernel, stride, padding },
                &Op::AveragePool { kernel, stride } => StepOp::AveragePool { kernel, stride },
                &Op::Subsample { stride, channels } => StepOp::Subsample { stride, channels },
                Op::SqueezeExcite(layer) => {
                    let packed = |conv| {
                        let folded = FoldedConv::new(conv, None)?;
                        finite(&folded.weight, &folded.bias)?;
                        Ok::<_, timburn_core::Error>(compile::packed(&folded))
                    };
                    let [reduce, expand] = layer.layers();
                    StepOp::SqueezeExcite([packed(reduce)?, packed(expand)?])
                }
            };
            Ok(Step { input, op, residual, activation: layer.activation })
        })
        .collect();
    let steps = steps?;
    let linear = head.as_ref().and_then(HeadGraph::as_linear).map(FoldedLinear::new).transpose()?;
    let head = linear.zip(quantizations.last()).map(|(linear, &input)| {
        finite(&linear.weight, &linear.bias)?;
        let around = Quantizations { input, residual: None, output: None };
        let spec = compile::pointwise(linear.inputs, linear.outputs);
        summable(&spec)?;
        Ok::<_, timburn_core::Error>(Conv::new(spec, &linear.weight, &linear.bias, around, Activation::Identity))
    });
    let channels = steps.iter().find(|step| step.input == 0).map_or(3, |step| match &step.op {
        StepOp::Conv(conv) => conv.spec().inputs,
        _ => 3,
    });
    Ok(Quantized { steps, quantizations, channels, features: features.index(), head: head.transpose()?, scratch: Mutex::default() })
}

/// What the bytes of each value mean. A value without a name means what its layer's input means.
fn meanings(names: &[Option<String>], inputs: &[usize], ranges: &ActivationRanges) -> Result<Vec<Quantization>> {
    let mut meanings: Vec<Quantization> = Vec::with_capacity(names.len());
    for (value, name) in names.iter().enumerate() {
        let input = value.checked_sub(1).and_then(|layer| inputs.get(layer)).and_then(|&input| meanings.get(input).copied());
        let meaning = match (name, input) {
            (Some(name), _) => {
                let Some(&[low, high]) = ranges.0.get(name) else { return Err(unfit(name, "there is none for this layer")) };
                let found = Quantization::covering(low, high);
                found.ok_or_else(|| unfit(name, &format!("{low} to {high} is not one: both finite, the lower one first")))?
            }
            (None, Some(input)) => input,
            (None, None) => return Err(unfit("a pool", "it reads a value that nobody computes")),
        };
        meanings.push(meaning);
    }
    let known = |layer: &&String| names.iter().flatten().any(|name| name == *layer);
    match ranges.0.keys().find(|layer| !known(layer)) {
        Some(layer) => Err(unfit(layer, "this network has no such layer")),
        None => Ok(meanings),
    }
}

fn unfit(layer: &str, reason: &str) -> timburn_core::Error {
    let reason = format!("{reason}; `timburn export MODEL --int8 --calibrate FOLDER` measures them anew");
    WeightsError::Ranges { layer: layer.to_owned(), reason }.into()
}

/// Whether 32 bits hold the sum of an output's products of a byte and a signed byte.
fn summable(spec: &ConvSpec) -> Result<()> {
    const MOST: usize = i32::MAX as usize / (255 * 128);
    let products = spec.multiplications() / spec.outputs.max(1);
    if products <= MOST {
        return Ok(());
    }
    let reason = format!("{products} products of bytes are summed for each output, and 32 bits hold the sum of {MOST}");
    Err(WeightsError::Ranges { layer: format!("a layer of {} outputs", spec.outputs), reason }.into())
}

fn finite(weight: &[f32], bias: &[f32]) -> Result<()> {
    if weight.iter().chain(bias).all(|value| value.is_finite()) {
        return Ok(());
    }
    let reason = "weights that are not finite, batch norm folded in, have no bytes".into();
    Err(WeightsError::Ranges { layer: format!("a convolution of {} weights", weight.len()), reason }.into())
}

impl Planned for Step {
    const BYTES: usize = 1;

    fn input(&self) -> usize {
        self.input
    }

    fn residual(&self) -> Option<usize> {
        self.residual
    }

    fn bytes(&self) -> usize {
        match &self.op {
            StepOp::Conv(conv) => conv.bytes(),
            StepOp::SqueezeExcite(convs) => convs.iter().map(infer::Conv::bytes).sum(),
            _ => 0,
        }
    }

    fn shape(&self, channels: usize, size: [usize; 2]) -> Option<Shape> {
        Some(match &self.op {
            StepOp::Conv(conv) => {
                let (size, border) = conv.plan(size)?;
                Shape { channels: conv.spec().outputs, size, border, planar: conv.planar() }
            }
            &StepOp::MaxPool { kernel, stride, padding } => Shape::max_pool(channels, size, [kernel, stride, padding])?,
            &StepOp::AveragePool { kernel, stride } => Shape::average_pool(channels, size, [kernel, stride]),
            &StepOp::Subsample { stride, channels } => Shape::plain(channels, size.map(|size| size.div_ceil(stride))),
            StepOp::SqueezeExcite(_) => Shape::plain(channels, size),
        })
    }

    fn map(channels: usize, size: [usize; 2], border: Border) -> Map {
        Map::bytes(channels, size, border)
    }

    fn work(&self, _: &Map, output: &Map) -> (String, usize) {
        match &self.op {
            StepOp::Conv(conv) => compile::convolution(conv.spec(), output),
            StepOp::MaxPool { .. } => ("maximum pool".into(), 0),
            StepOp::AveragePool { .. } => ("average pool".into(), 0),
            StepOp::Subsample { .. } => ("subsample".into(), 0),
            StepOp::SqueezeExcite(_) => ("squeeze and excite".into(), 0),
        }
    }
}

impl Network for Quantized {
    type Value = u8;
    type Step = Step;

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn features(&self) -> usize {
        self.features
    }

    fn head(&self) -> Option<&ConvSpec> {
        self.head.as_ref().map(Conv::spec)
    }

    fn head_bytes(&self) -> usize {
        self.head.as_ref().map_or(0, Conv::bytes)
    }

    fn scratch(&self) -> &Mutex<Vec<Vec<Buffer<u8>>>> {
        &self.scratch
    }

    fn load(&self, map: &Map, n: usize, images: &[f32], target: &mut [u8]) {
        int8::from_nchw(map, n, images, self.quantizations[0], target);
    }

    fn clear(&self, value: usize, map: &Map, n: usize, values: &mut [u8]) {
        map.fill_border(n, values, self.quantizations[value].zero_point());
    }

    fn compute(&self, step: &Step, plan: &Plan, slots: &[Buffer<u8>], n: usize, target: usize, output: ViewMut<'_, u8>) {
        let view = |value: usize| View { map: &plan.maps[value], values: &slots[plan.places[value]] };
        let (input, meaning) = (view(step.input), self.quantizations[step.input]);
        match &step.op {
            StepOp::Conv(conv) => conv.run(n, input, step.residual.map(view), output),
            &StepOp::MaxPool { kernel, stride, padding } => int8::max_pool(n, [kernel, stride, padding], input, output),
            &StepOp::AveragePool { kernel, stride } => int8::average_pool(n, [kernel, stride], input, output),
            &StepOp::Subsample { stride, channels } => {
                int8::subsample(n, stride, (channels - input.map.channels) / 2, meaning.zero_point(), input, output);
            }
            StepOp::SqueezeExcite([reduce, expand]) => {
                let means = int8::global_average_pool(n, input, meaning);
                let map = Map::new(input.map.channels, [1, n], Border::default());
                let mut columns = Buffer::zeros(map.len(1));
                map.from_nchw(1, &run::transposed(&means, n), &mut columns);
                let (map, hidden) = run::pointwise(reduce, View { map: &map, values: &columns }, Activation::Relu);
                let (map, gates) = run::pointwise(expand, View { map: &map, values: &hidden }, Activation::Identity);
                let mut gates = run::per_image(&map, &gates);
                gates.iter_mut().for_each(|gate| *gate = 1.0 / (1.0 + (-*gate).exp()));
                let residual = step.residual.map(|value| (view(value), self.quantizations[value]));
                int8::scale(n, (input, meaning), &gates, residual, step.activation, (output, self.quantizations[target]));
            }
        }
    }

    fn feature_map(&self, plan: &Plan, slots: &[Buffer<u8>], n: usize) -> Vec<f32> {
        int8::to_nchw(&plan.maps[self.features], n, &slots[plan.places[self.features]], self.quantizations[self.features])
    }

    fn pool(&self, plan: &Plan, slots: &[Buffer<u8>], n: usize) -> Vec<f32> {
        let features = View { map: &plan.maps[self.features], values: &slots[plan.places[self.features]] };
        int8::global_average_pool(n, features, self.quantizations[self.features])
    }

    fn classify(&self, pooled: &[f32], n: usize) -> Option<Vec<f32>> {
        let (head, &meaning) = self.head.as_ref().zip(self.quantizations.last())?;
        // A column per image.
        let map = Map::bytes(head.spec().inputs, [1, n], Border::default());
        let mut bytes = Buffer::zeros(map.len(1));
        int8::from_nchw(&map, 1, &run::transposed(pooled, n), meaning, &mut bytes);
        let output = Map::bytes(head.spec().outputs, [1, n], Border::default());
        let mut logits = Buffer::<f32>::zeros(output.len(1));
        head.run_wide(1, View { map: &map, values: &bytes }, None, ViewMut { map: &output, values: &mut logits });
        Some(run::per_image(&output, &logits))
    }
}
