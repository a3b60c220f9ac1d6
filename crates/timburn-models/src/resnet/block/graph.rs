//! What a block computes.

use super::{Block, Downsample};
use crate::blocks::Activation;
use crate::graph::{Layer, ModelGraph, Op, Value};

impl Block {
    /// Appends the block's layers.
    pub(in crate::resnet) fn describe(&self, graph: &mut ModelGraph, input: Value) -> Value {
        let relu = Activation::Relu;
        let (last_conv, last_norm) = match (&self.conv3, &self.bn3) {
            (Some(conv), Some(norm)) => (conv, norm),
            _ => (&self.conv2, &self.bn2),
        };
        let channels = last_conv.weight.lazy_shape()[0];
        // The shortcut first: the input need not be kept while the branch is computed.
        let shortcut = match &self.downsample {
            Some(Downsample::Convolution(shortcut)) => graph.conv(input, &shortcut._0, &shortcut._1, Activation::Identity),
            Some(Downsample::AveragePool(shortcut)) => {
                let pool = Op::AveragePool { kernel: 2, stride: shortcut.stride };
                let pooled = if shortcut.stride == 1 { input } else { graph.op(input, pool) };
                graph.conv(pooled, &shortcut._1, &shortcut._2, Activation::Identity)
            }
            None if self.subsample != 0 => graph.op(input, Op::Subsample { stride: self.subsample, channels }),
            None => input,
        };
        let mut branch = graph.conv(input, &self.conv1, &self.bn1, relu);
        if self.conv3.is_some() {
            branch = graph.conv(branch, &self.conv2, &self.bn2, relu);
        }
        match &self.se {
            Some(se) => {
                branch = graph.conv(branch, last_conv, last_norm, Activation::Identity);
                graph.push(Layer { input: branch, op: Op::SqueezeExcite(se.clone()), residual: Some(shortcut), activation: relu })
            }
            None => graph.conv_add(branch, last_conv, last_norm, Some(shortcut), relu),
        }
    }
}
