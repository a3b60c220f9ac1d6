//! From a description to steps with packed parameters.

use std::sync::Mutex;

use rayon::prelude::*;
use timburn_core::Result;
use timburn_kernels::Activation;
use timburn_kernels::infer::{Border, Conv, ConvSpec, Element, Map, Padding, expands};
use timburn_models::blocks;
use timburn_models::graph::{FoldedConv, FoldedLinear, HeadGraph, Layer, ModelGraph, Op, Value};

use super::Program;
use super::plan::{Planned, Shape};

/// A layer, ready to run. Values are counted: 0 is the images, 1 the first step's output.
#[derive(Debug)]
pub(super) struct Step<T: Element> {
    pub(super) input: usize,
    pub(super) op: StepOp<T>,
    pub(super) residual: Option<usize>,
    pub(super) activation: Activation,
}

#[derive(Debug)]
pub(super) enum StepOp<T: Element> {
    Conv(Conv<T>),
    /// A pointwise convolution, its activation, and a depthwise convolution.
    Expand([Conv<T>; 2], Activation),
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
    SqueezeExcite([Conv; 2]),
}

impl<T: Element> Step<T> {
    /// The step's first convolution.
    fn first(&self) -> Option<&Conv<T>> {
        match &self.op {
            StepOp::Conv(conv) | StepOp::Expand([conv, _], _) => Some(conv),
            _ => None,
        }
    }
}

impl<T: Element> Planned for Step<T> {
    const BYTES: usize = size_of::<T>();

    fn input(&self) -> usize {
        self.input
    }

    fn residual(&self) -> Option<usize> {
        self.residual
    }

    fn bytes(&self) -> usize {
        match &self.op {
            StepOp::Conv(conv) => conv.bytes(),
            StepOp::Expand(convs, _) => convs.iter().map(Conv::bytes).sum(),
            StepOp::SqueezeExcite(convs) => convs.iter().map(Conv::bytes).sum(),
            _ => 0,
        }
    }

    fn shape(&self, channels: usize, size: [usize; 2]) -> Option<Shape> {
        Some(match &self.op {
            StepOp::Conv(conv) => {
                let (size, border) = conv.plan(size)?;
                Shape { channels: conv.spec().outputs, size, border, planar: conv.planar() }
            }
            StepOp::Expand([_, depthwise], _) => Shape::plain(depthwise.spec().outputs, depthwise.plan(size)?.0),
            &StepOp::MaxPool { kernel, stride, padding } => Shape::max_pool(channels, size, [kernel, stride, padding])?,
            &StepOp::AveragePool { kernel, stride } => Shape::average_pool(channels, size, [kernel, stride]),
            &StepOp::Subsample { stride, channels } => Shape::plain(channels, size.map(|size| size.div_ceil(stride))),
            StepOp::SqueezeExcite(_) => Shape::plain(channels, size),
        })
    }

    fn map(channels: usize, size: [usize; 2], border: Border) -> Map {
        Map::new(channels, size, border)
    }

    fn work(&self, input: &Map, output: &Map) -> (String, usize) {
        match &self.op {
            StepOp::Conv(conv) => convolution(conv.spec(), output),
            StepOp::Expand([expand, depthwise], _) => {
                let pixels = [input.height * input.width, output.height * output.width];
                let works = [expand, depthwise].map(|conv| conv.spec().multiplications());
                let [height, width] = depthwise.spec().kernel;
                let channels = expand.spec().outputs;
                let what = format!("expansion to {channels} and depthwise {height}x{width} stride {}", depthwise.spec().stride);
                (what, 2 * (pixels[0] * works[0] + pixels[1] * works[1]))
            }
            StepOp::MaxPool { .. } => ("maximum pool".into(), 0),
            StepOp::AveragePool { .. } => ("average pool".into(), 0),
            StepOp::Subsample { .. } => ("subsample".into(), 0),
            StepOp::SqueezeExcite(_) => ("squeeze and excite".into(), 0),
        }
    }
}

/// What a convolution is called, and its multiplications and additions.
pub(super) fn convolution(spec: &ConvSpec, output: &Map) -> (String, usize) {
    let [height, width] = spec.kernel;
    let groups = if spec.groups == 1 { String::new() } else { format!(" groups {}", spec.groups) };
    let operations = 2 * output.height * output.width * spec.multiplications();
    (format!("convolution {height}x{width} stride {}{groups}", spec.stride), operations)
}

/// Folds and packs. Each layer is dropped once it is packed: a model that nobody else holds goes layer by layer. Layers are joined, or else
/// each is a step, for `whole` values.
pub(super) fn compile<T: Element>(graph: ModelGraph, whole: bool) -> Result<Program<T>> {
    let ModelGraph { layers, features, head, .. } = graph;
    let packed: Result<Vec<Packed<T>>> = layers.into_par_iter().map(Packed::new).collect();
    let (steps, features) = fuse(packed?, features, whole);
    let head = head.as_ref().and_then(HeadGraph::as_linear).map(FoldedLinear::new).transpose()?.map(|linear| {
        let spec = pointwise(linear.inputs, linear.outputs);
        Conv::new(spec, &linear.weight, &linear.bias)
    });
    let stem = steps.iter().find(|step| step.input == 0).and_then(Step::first);
    let channels = stem.map_or(3, |conv| conv.spec().inputs);
    Ok(Program { steps, channels, features, head, scratch: Mutex::new(Vec::new()) })
}

/// A layer of the description, packed.
struct Packed<T: Element> {
    input: Value,
    op: StepOp<T>,
    residual: Option<Value>,
    activation: Activation,
}

impl<T: Element> Packed<T> {
    fn new(layer: Layer) -> Result<Self> {
        let Layer { input, op, residual, activation } = layer;
        Ok(Self { input, op: step_op(&op)?, residual, activation })
    }
}

/// The steps, a depthwise convolution joined with the pointwise one before it, and the value that is the features.
fn fuse<T: Element>(layers: Vec<Packed<T>>, features: Value, whole: bool) -> (Vec<Step<T>>, usize) {
    let mut readers = vec![0usize; layers.len() + 1];
    for read in layers.iter().flat_map(|layer| [Some(layer.input), layer.residual]).flatten() {
        if let Some(count) = readers.get_mut(read.index()) {
            *count += 1;
        }
    }
    let mut steps: Vec<Step<T>> = Vec::new();
    // Which value each of the description's is.
    let mut values = vec![0];
    for (index, layer) in layers.into_iter().enumerate() {
        let value = |read: Value| values.get(read.index()).copied().unwrap_or(0);
        // The value before this layer's is its input, and nobody else's.
        let alone = layer.input.index() == index && readers[index] == 1 && layer.residual.is_none() && features.index() != index;
        match (steps.pop(), layer.op) {
            (Some(Step { input, op: StepOp::Conv(expand), residual: None, activation }), StepOp::Conv(conv))
                if alone && !whole && expands(&expand, &conv) =>
            {
                steps.push(Step { input, op: StepOp::Expand([expand, conv], activation), residual: None, activation: layer.activation });
            }
            (before, op) => {
                steps.extend(before);
                steps.push(Step { input: value(layer.input), op, residual: layer.residual.map(value), activation: layer.activation });
            }
        }
        values.push(steps.len());
    }
    let features = values.get(features.index()).copied().unwrap_or(0);
    (steps, features)
}

fn step_op<T: Element>(op: &Op) -> Result<StepOp<T>> {
    Ok(match op {
        Op::Convolution { conv, norm } => StepOp::Conv(packed(&FoldedConv::new(conv, norm.as_ref())?)),
        &Op::MaxPool { kernel, stride, padding } => StepOp::MaxPool { kernel, stride, padding },
        &Op::AveragePool { kernel, stride } => StepOp::AveragePool { kernel, stride },
        &Op::Subsample { stride, channels } => StepOp::Subsample { stride, channels },
        Op::SqueezeExcite(layer) => {
            let [reduce, expand] = layer.layers();
            StepOp::SqueezeExcite([packed(&FoldedConv::new(reduce, None)?), packed(&FoldedConv::new(expand, None)?)])
        }
    })
}

pub(super) fn packed<T: Element>(conv: &FoldedConv) -> Conv<T> {
    Conv::new(spec(conv), &conv.weight, &conv.bias)
}

/// The kernels' words for a convolution.
pub(super) fn spec(conv: &FoldedConv) -> ConvSpec {
    let [outputs, channels, height, width] = conv.shape;
    let padding = match conv.padding {
        blocks::Padding::Symmetric(zeros) => Padding::Zeros(zeros),
        blocks::Padding::Same => Padding::Same,
    };
    ConvSpec {
        inputs: channels * conv.groups,
        outputs,
        kernel: [height, width],
        stride: conv.stride,
        dilation: conv.dilation,
        groups: conv.groups,
        padding,
    }
}

/// A fully connected layer.
pub(super) fn pointwise(inputs: usize, outputs: usize) -> ConvSpec {
    ConvSpec { inputs, outputs, kernel: [1, 1], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) }
}
