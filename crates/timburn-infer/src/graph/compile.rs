//! From a description to steps with packed parameters.

use std::sync::Mutex;

use rayon::prelude::*;
use timburn_core::Result;
use timburn_kernels::Activation;
use timburn_kernels::infer::{Conv, ConvSpec, Padding};
use timburn_models::blocks;
use timburn_models::graph::{FoldedConv, FoldedLinear, ModelGraph, Op, Value};

use super::Graph;

/// A layer, ready to run. Values are counted: 0 is the images, 1 the first step's output.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) input: usize,
    pub(super) op: StepOp,
    pub(super) residual: Option<usize>,
    pub(super) activation: Activation,
}

#[derive(Debug)]
pub(super) enum StepOp {
    Conv(Conv),
    MaxPool { kernel: usize, stride: usize, padding: usize },
    AveragePool { kernel: usize, stride: usize },
    Subsample { stride: usize, channels: usize },
    SqueezeExcite([Conv; 2]),
}

impl Step {
    /// The step's packed convolutions.
    pub(super) fn convs(&self) -> &[Conv] {
        match &self.op {
            StepOp::Conv(conv) => std::slice::from_ref(conv),
            StepOp::SqueezeExcite(convs) => convs,
            _ => &[],
        }
    }
}

/// Folds and packs. Each layer's values are dropped once they are packed.
pub(super) fn compile(graph: &ModelGraph<'_>) -> Result<Graph> {
    let ops: Result<Vec<StepOp>> = graph.layers.par_iter().map(|layer| step_op(&layer.op)).collect();
    let steps: Vec<Step> = graph
        .layers
        .iter()
        .zip(ops?)
        .map(|(layer, op)| Step {
            input: layer.input.index(),
            op,
            residual: layer.residual.map(Value::index),
            activation: layer.activation,
        })
        .collect();
    let head = graph.head.map(FoldedLinear::new).transpose()?.map(|linear| {
        let spec = pointwise(linear.inputs, linear.outputs);
        Conv::new(spec, &linear.weight, &linear.bias)
    });
    let stem = steps.iter().find(|step| step.input == 0).and_then(|step| step.convs().first());
    let channels = stem.map_or(3, |conv| conv.spec().inputs);
    Ok(Graph { steps, channels, features: graph.features.index(), head, scratch: Mutex::new(Vec::new()) })
}

fn step_op(op: &Op<'_>) -> Result<StepOp> {
    Ok(match *op {
        Op::Convolution { conv, norm } => StepOp::Conv(packed(&FoldedConv::new(conv, norm)?)),
        Op::MaxPool { kernel, stride, padding } => StepOp::MaxPool { kernel, stride, padding },
        Op::AveragePool { kernel, stride } => StepOp::AveragePool { kernel, stride },
        Op::Subsample { stride, channels } => StepOp::Subsample { stride, channels },
        Op::SqueezeExcite(layer) => {
            let [reduce, expand] = layer.layers();
            StepOp::SqueezeExcite([packed(&FoldedConv::new(reduce, None)?), packed(&FoldedConv::new(expand, None)?)])
        }
    })
}

fn packed(conv: &FoldedConv) -> Conv {
    let [outputs, channels, height, width] = conv.shape;
    let padding = match conv.padding {
        blocks::Padding::Symmetric(zeros) => Padding::Zeros(zeros),
        blocks::Padding::Same => Padding::Same,
    };
    let spec = ConvSpec {
        inputs: channels * conv.groups,
        outputs,
        kernel: [height, width],
        stride: conv.stride,
        dilation: conv.dilation,
        groups: conv.groups,
        padding,
    };
    Conv::new(spec, &conv.weight, &conv.bias)
}

/// A fully connected layer.
fn pointwise(inputs: usize, outputs: usize) -> ConvSpec {
    ConvSpec { inputs, outputs, kernel: [1, 1], stride: 1, dilation: 1, groups: 1, padding: Padding::Zeros(0) }
}
