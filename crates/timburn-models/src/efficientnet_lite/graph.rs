//! What an EfficientNet-Lite computes.

use super::{EfficientNetLite, LiteBlock};
use crate::blocks::Activation;
use crate::graph::{Describe, HeadGraph, ModelGraph, Value};

impl Describe for EfficientNetLite {
    fn describe(&self) -> ModelGraph {
        let (mut graph, relu6) = (ModelGraph::of(self), Activation::Relu6);
        let mut value = graph.conv(Value::IMAGES, &self.conv_stem, &self.bn1, relu6);
        for block in self.blocks.iter().flatten() {
            value = match block {
                LiteBlock::Separable(block) => {
                    let features = graph.conv(value, &block.conv_dw, &block.bn1, relu6);
                    graph.conv(features, &block.conv_pw, &block.bn2, Activation::Identity)
                }
                LiteBlock::Inverted(block) => {
                    let features = graph.conv(value, &block.conv_pw, &block.bn1, relu6);
                    let features = graph.conv(features, &block.conv_dw, &block.bn2, relu6);
                    let shortcut = block.skip.then_some(value);
                    graph.conv_add(features, &block.conv_pwl, &block.bn3, shortcut, Activation::Identity)
                }
            };
        }
        graph.conv(value, &self.conv_head, &self.bn2, relu6);
        graph.head = Some(HeadGraph::of(&self.classifier));
        graph
    }
}
