//! A body's layers as nodes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use burn::module::ParamId;
use timburn_core::{Error, Result};
use timburn_models::blocks::{Activation, Conv2d, Padding, SqueezeExcite};
use timburn_models::graph::{FoldedConv, Layer, ModelGraph, Op, Value};

use super::nodes::Nodes;
use super::proto::Attribute::{Int, Ints};

/// A value `[n, channels, height, width]` of the graph.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) value: String,
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
}

/// Channels of the images that a body reads.
pub(super) fn channels(graph: &ModelGraph) -> usize {
    let reads = |layer: &&Layer| layer.input == Value::IMAGES;
    let conv = graph.layers.iter().filter(reads).find_map(|layer| match &layer.op {
        Op::Convolution { conv, .. } => Some(conv),
        _ => None,
    });
    conv.map_or(3, |conv| conv.weight.lazy_shape()[1] * conv.groups)
}

/// Appends the body's nodes, and returns the features.
pub(super) fn body(nodes: &mut Nodes, graph: &ModelGraph, images: Map) -> Result<Map> {
    let mut maps = vec![images];
    // Values of which several layers read every n-th pixel: those pixels, found once.
    let mut pixels: HashMap<(Value, usize), Map> = HashMap::new();
    for (index, layer) in graph.layers.iter().enumerate() {
        let input = value(&maps, layer.input)?;
        let mut body = Body { nodes, names: &graph.names, index: index + 1 };
        let mut map = match (strided(layer), &layer.op) {
            (Some(stride), Op::Convolution { conv, norm }) if readers(graph, layer.input, stride) > 1 => {
                let input = match pixels.entry((layer.input, stride)) {
                    Entry::Occupied(found) => found.into_mut(),
                    Entry::Vacant(place) => place.insert(body.every(stride, input)?),
                };
                let name = body.name(conv);
                body.conv(&name, FoldedConv { stride: 1, ..FoldedConv::new(conv, norm.as_ref())? }, input)?
            }
            _ => body.op(&layer.op, input)?,
        };
        if let Some(residual) = layer.residual {
            map.value = nodes.node("Add", &format!("{}/add", map.value), &[&map.value, &value(&maps, residual)?.value], vec![]);
        }
        map.value = nodes.activation(map.value, layer.activation);
        maps.push(map);
    }
    value(&maps, graph.features).cloned()
}

/// The stride, above 1, of a pointwise convolution: it reads every so many-th pixel and no other.
fn strided(layer: &Layer) -> Option<usize> {
    match &layer.op {
        Op::Convolution { conv, .. } if conv.weight.lazy_shape()[2] == 1 && conv.stride > 1 => {
            matches!(conv.padding, Padding::Symmetric(0) | Padding::Same).then_some(conv.stride)
        }
        _ => None,
    }
}

/// Pointwise convolutions of this stride that read a value.
fn readers(graph: &ModelGraph, value: Value, stride: usize) -> usize {
    graph.layers.iter().filter(|layer| layer.input == value && strided(layer) == Some(stride)).count()
}

fn value(maps: &[Map], value: Value) -> Result<&Map> {
    maps.get(value.index()).ok_or_else(|| {
        let expected = "a graph whose layers read images and outputs of layers before them".into();
        Error::Argument { name: "value", value: value.index().to_string(), expected }
    })
}

struct Body<'a> {
    nodes: &'a mut Nodes,
    names: &'a HashMap<ParamId, String>,
    /// Of the layer's value.
    index: usize,
}

impl Body<'_> {
    fn op(mut self, op: &Op, input: &Map) -> Result<Map> {
        let [height, width] = input.size;
        match op {
            Op::Convolution { conv, norm } => {
                let name = self.name(conv);
                self.conv(&name, FoldedConv::new(conv, norm.as_ref())?, input)
            }
            &Op::MaxPool { kernel, stride, padding } => {
                let zeros = [(padding, padding); 2];
                let size = [window(height, kernel, stride, zeros[0])?, window(width, kernel, stride, zeros[1])?];
                let attributes = windows(kernel, stride, zeros);
                let value = self.nodes.node("MaxPool", &format!("max_pool.{}", self.index), &[&input.value], attributes);
                Ok(Map { value, size, ..*input })
            }
            &Op::AveragePool { kernel, stride } => {
                // Windows that stick out at the end average what is there: zeros that are not counted, which runtimes agree on better than
                // on rounding up.
                let size = input.size.map(|size| size.saturating_sub(kernel).div_ceil(stride) + 1);
                let after = |axis: usize| ((size[axis] - 1) * stride + kernel).saturating_sub(input.size[axis]);
                let mut attributes = windows(kernel, stride, [(0, after(0)), (0, after(1))]);
                attributes.push(Int("count_include_pad", 0));
                let value = self.nodes.node("AveragePool", &format!("average_pool.{}", self.index), &[&input.value], attributes);
                Ok(Map { value, size, ..*input })
            }
            &Op::Subsample { stride, channels } => Ok(self.subsample(stride, channels, input)),
            Op::SqueezeExcite(layer) => self.squeeze_excite(layer, input),
        }
    }

    /// Every `stride`-th pixel: the maximum over a single one. tract 0.23 fails on strides that it moves before a pointwise convolution, as
    /// it does with those of two convolutions that read the same value.
    fn every(&mut self, stride: usize, input: &Map) -> Result<Map> {
        let size = [window(input.size[0], 1, stride, (0, 0))?, window(input.size[1], 1, stride, (0, 0))?];
        let value = self.nodes.node("MaxPool", &format!("stride.{}", self.index), &[&input.value], windows(1, stride, [(0, 0); 2]));
        Ok(Map { value, size, ..*input })
    }

    fn name(&self, conv: &Conv2d) -> String {
        let name = self.names.get(&conv.weight.id).filter(|name| !name.is_empty());
        name.cloned().unwrap_or_else(|| format!("conv.{}", self.index))
    }

    fn conv(&mut self, name: &str, conv: FoldedConv, input: &Map) -> Result<Map> {
        let [outputs, _, kernel, _] = conv.shape;
        let reach = kernel.saturating_sub(1) * conv.dilation + 1;
        let zeros = input.size.map(|size| match conv.padding {
            Padding::Symmetric(zeros) => (zeros, zeros),
            Padding::Same => {
                let zeros = ((size.div_ceil(conv.stride) - 1) * conv.stride + reach).saturating_sub(size);
                (zeros / 2, zeros - zeros / 2)
            }
        });
        let size = [window(input.size[0], reach, conv.stride, zeros[0])?, window(input.size[1], reach, conv.stride, zeros[1])?];
        let weight = self.nodes.weight(&format!("{name}.weight"), conv.shape.to_vec(), conv.weight)?;
        let bias = self.nodes.constant(&format!("{name}.bias"), vec![outputs], conv.bias);
        let mut attributes = windows(kernel, conv.stride, zeros);
        attributes.push(Ints("dilations", vec![conv.dilation as i64; 2]));
        attributes.push(Int("group", conv.groups as i64));
        let value = self.nodes.node("Conv", name, &[&input.value, &weight, &bias], attributes);
        Ok(Map { value, channels: outputs, size })
    }

    fn subsample(&mut self, stride: usize, channels: usize, input: &Map) -> Map {
        let name = format!("subsample.{}", self.index);
        let step = stride as i64;
        let mut value = input.value.clone();
        if stride > 1 {
            let mut integers = |what: &str, values: [i64; 2]| self.nodes.integers(&format!("{name}/{what}"), values.to_vec());
            let bounds =
                [integers("starts", [0; 2]), integers("ends", [i64::MAX; 2]), integers("axes", [2, 3]), integers("steps", [step; 2])];
            let [starts, ends, axes, steps] = bounds;
            value = self.nodes.node("Slice", &name, &[&value, &starts, &ends, &axes, &steps], vec![]);
        }
        if channels > input.channels {
            let missing = channels - input.channels;
            let (before, after) = ((missing / 2) as i64, (missing - missing / 2) as i64);
            let pads = self.nodes.integers(&format!("{name}/pads"), vec![0, before, 0, 0, 0, after, 0, 0]);
            value = self.nodes.node("Pad", &format!("{name}/channels"), &[&value, &pads], vec![]);
        }
        Map { value, channels, size: input.size.map(|size| size.div_ceil(stride)) }
    }

    fn squeeze_excite(&mut self, layer: &SqueezeExcite, input: &Map) -> Result<Map> {
        let [reduce, expand] = layer.layers();
        let (first, second) = (self.name(reduce), self.name(expand));
        let value = self.nodes.node("GlobalAveragePool", &format!("{first}/mean"), &[&input.value], vec![]);
        let mut hidden = self.conv(&first, FoldedConv::new(reduce, None)?, &Map { value, size: [1, 1], ..*input })?;
        hidden.value = self.nodes.activation(hidden.value, Activation::Relu);
        let gates = self.conv(&second, FoldedConv::new(expand, None)?, &hidden)?.value;
        let gates = self.nodes.node("Sigmoid", &format!("{gates}/sigmoid"), &[&gates], vec![]);
        let value = self.nodes.node("Mul", &format!("{gates}/scaled"), &[&input.value, &gates], vec![]);
        Ok(Map { value, ..*input })
    }
}

/// The attributes that convolutions and pools share; `zeros` before and after, by axis.
fn windows(kernel: usize, stride: usize, zeros: [(usize, usize); 2]) -> Vec<super::proto::Attribute> {
    let [(top, bottom), (left, right)] = zeros;
    let pads = [top, left, bottom, right].map(|zeros| zeros as i64);
    vec![Ints("kernel_shape", vec![kernel as i64; 2]), Ints("strides", vec![stride as i64; 2]), Ints("pads", pads.to_vec())]
}

/// Positions of a window along an axis.
fn window(size: usize, reach: usize, stride: usize, (before, after): (usize, usize)) -> Result<usize> {
    let free = (size + before + after).checked_sub(reach).ok_or_else(|| {
        let expected = "an image that the network's kernels fit in".into();
        Error::Argument { name: "size", value: format!("{size} pixels at a kernel of {reach}"), expected }
    })?;
    Ok(free / stride.max(1) + 1)
}
