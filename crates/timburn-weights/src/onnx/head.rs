//! A head as nodes.

use std::collections::HashMap;

use burn::module::ParamId;
use timburn_core::Result;
use timburn_models::blocks::{CosineLinear, HeadStep, Pool};
use timburn_models::graph::{FoldedLinear, FoldedNorm, HeadGraph};

use super::body::Map;
use super::nodes::Nodes;
use super::proto::Attribute::{Int, Ints};

/// A value `[n, features]` of the graph.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) value: String,
    pub(super) features: usize,
}

/// Appends the head's nodes, and returns the logits.
pub(super) fn head(nodes: &mut Nodes, head: &HeadGraph, names: &HashMap<ParamId, String>, features: &Map) -> Result<Row> {
    let mut row = Row { value: pool(nodes, head.pool, features), features: head.pool.features(features.channels) };
    for (index, step) in head.steps.iter().enumerate() {
        let name = |id: ParamId| match names.get(&id) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("head.{index}"),
        };
        match step {
            HeadStep::Linear(linear) => row = gemm(nodes, &name(linear.weight.id), FoldedLinear::new(linear)?, row)?,
            HeadStep::Cosine(layer) => {
                let name = name(layer.weight.id);
                row.value = normalized(nodes, &name, &row.value);
                row = gemm(nodes, &name, FoldedLinear::cosine(layer)?, row)?;
            }
            HeadStep::BatchNorm(norm) => {
                let (name, norm) = (name(norm.weight.id), FoldedNorm::new(norm)?);
                let scale = nodes.constant(&format!("{name}.scale"), vec![norm.scale.len()], norm.scale);
                let shift = nodes.constant(&format!("{name}.shift"), vec![norm.shift.len()], norm.shift);
                let scaled = nodes.node("Mul", &format!("{name}/scaled"), &[&row.value, &scale], vec![]);
                row.value = nodes.node("Add", &name, &[&scaled, &shift], vec![]);
            }
            HeadStep::Activation(activation) => row.value = nodes.activation(row.value, *activation),
        }
    }
    Ok(row)
}

/// Appends the softmax of logits; of one logit for two classes, the softmax over it and 0.
pub(super) fn probabilities(nodes: &mut Nodes, logits: Row, classes: usize) -> Row {
    let (mut value, mut features) = (logits.value, logits.features);
    if (features, classes) == (1, 2) {
        let columns = nodes.constant("two_classes", vec![1, 2], vec![0.0, 1.0]);
        value = nodes.node("Mul", "two_logits", &[&value, &columns], vec![]);
        features = 2;
    }
    Row { value: nodes.node("Softmax", "softmax", &[&value], vec![Int("axis", 1)]), features }
}

fn pool(nodes: &mut Nodes, pool: Pool, features: &Map) -> String {
    let mut global = |op: &'static str, name: &str| {
        let pooled = nodes.node(op, name, &[&features.value], vec![]);
        nodes.node("Flatten", &format!("{name}/flat"), &[&pooled], vec![Int("axis", 1)])
    };
    match pool {
        Pool::Average => global("GlobalAveragePool", "average"),
        Pool::Max => global("GlobalMaxPool", "maximum"),
        Pool::AverageMax => {
            let both = [global("GlobalMaxPool", "maximum"), global("GlobalAveragePool", "average")];
            nodes.node("Concat", "maximum_average", &[&both[0], &both[1]], vec![Int("axis", 1)])
        }
        Pool::Flatten(grid) => {
            let mut value = features.value.clone();
            if grid != features.size {
                // `AdaptiveAvgPool2d` has no operator: windows of different sizes are a matrix for each axis.
                let rows = nodes.constant("grid/rows", vec![grid[0], features.size[0]], averages(features.size[0], grid[0], false));
                let columns = nodes.constant("grid/columns", vec![features.size[1], grid[1]], averages(features.size[1], grid[1], true));
                let narrowed = nodes.node("MatMul", "grid/width", &[&value, &columns], vec![]);
                value = nodes.node("MatMul", "grid", &[&rows, &narrowed], vec![]);
            }
            nodes.node("Flatten", "flatten", &[&value], vec![Int("axis", 1)])
        }
    }
}

/// The matrix `[cells, size]` that averages an axis into cells, or its transpose: cell i covers `floor(i size / cells)` to
/// `ceil((i + 1) size / cells)`.
fn averages(size: usize, cells: usize, transposed: bool) -> Vec<f32> {
    let share = |cell: usize, position: usize| {
        let (from, to) = (cell * size / cells, ((cell + 1) * size).div_ceil(cells));
        if (from..to).contains(&position) { 1.0 / (to - from) as f32 } else { 0.0 }
    };
    if transposed {
        (0..size).flat_map(|position| (0..cells).map(move |cell| share(cell, position))).collect()
    } else {
        (0..cells).flat_map(|cell| (0..size).map(move |position| share(cell, position))).collect()
    }
}

/// Rows divided by their lengths.
fn normalized(nodes: &mut Nodes, name: &str, value: &str) -> String {
    let shortest = nodes.shared("shortest", CosineLinear::SHORTEST as f32);
    let lengths = nodes.node("ReduceL2", &format!("{name}/length"), &[value], vec![Ints("axes", vec![1]), Int("keepdims", 1)]);
    let lengths = nodes.node("Max", &format!("{lengths}/bounded"), &[&lengths, &shortest], vec![]);
    nodes.node("Div", &format!("{name}/direction"), &[value, &lengths], vec![])
}

fn gemm(nodes: &mut Nodes, name: &str, linear: FoldedLinear, input: Row) -> Result<Row> {
    let FoldedLinear { inputs, outputs, weight, bias } = linear;
    let weight = nodes.weight(&format!("{name}.weight"), vec![outputs, inputs], weight)?;
    let bias = nodes.constant(&format!("{name}.bias"), vec![outputs], bias);
    let value = nodes.node("Gemm", name, &[&input.value, &weight, &bias], vec![Int("transB", 1)]);
    Ok(Row { value, features: outputs })
}
