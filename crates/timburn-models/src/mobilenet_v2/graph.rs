//! What a MobileNetV2 computes.

use super::{Branch, Feature, MobileNetV2};
use crate::blocks::Activation;
use crate::graph::{Describe, HeadGraph, ModelGraph, Value};

impl Describe for MobileNetV2 {
    fn describe(&self) -> ModelGraph {
        let (mut graph, relu6) = (ModelGraph::of(self), Activation::Relu6);
        let mut value = Value::IMAGES;
        for feature in &self.features {
            value = match feature {
                Feature::Convolution(layer) => graph.conv(value, &layer._0, &layer._1, relu6),
                Feature::Inverted(block) => {
                    let shortcut = block.skip.then_some(value);
                    let (depthwise, project, norm) = match &block.conv {
                        Branch::Separable(branch) => (&branch._0, &branch._1, &branch._2),
                        Branch::Expanded(branch) => {
                            value = graph.conv(value, &branch._0._0, &branch._0._1, relu6);
                            (&branch._1, &branch._2, &branch._3)
                        }
                    };
                    let features = graph.conv(value, &depthwise._0, &depthwise._1, relu6);
                    graph.conv_add(features, project, norm, shortcut, Activation::Identity)
                }
            };
        }
        graph.head = Some(HeadGraph::of(&self.classifier._1));
        graph
    }
}
