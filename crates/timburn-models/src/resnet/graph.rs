//! What a ResNet computes.

use super::{ResNet, StemConvolution};
use crate::blocks::Activation;
use crate::graph::{Describe, HeadGraph, ModelGraph, Op, Value};

impl Describe for ResNet {
    fn describe(&self) -> ModelGraph {
        let (mut graph, relu) = (ModelGraph::of(self), Activation::Relu);
        let mut value = match &self.conv1 {
            StemConvolution::Single(conv) => graph.conv(Value::IMAGES, conv, &self.bn1, relu),
            StemConvolution::Deep(stem) => {
                let first = graph.conv(Value::IMAGES, &stem._0, &stem._1, relu);
                let second = graph.conv(first, &stem._3, &stem._4, relu);
                graph.conv(second, &stem._6, &self.bn1, relu)
            }
        };
        if self.pool {
            value = graph.op(value, Op::MaxPool { kernel: 3, stride: 2, padding: 1 });
        }
        for block in self.layers().into_iter().flatten() {
            value = block.describe(&mut graph, value);
        }
        graph.head = Some(HeadGraph::of(&self.fc));
        graph
    }
}
