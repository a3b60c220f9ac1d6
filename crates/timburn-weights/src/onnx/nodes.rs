//! A graph being put together.

use std::collections::HashSet;

use half::f16;
use timburn_core::{Result, WeightsError};
use timburn_models::blocks::Activation;

use super::proto::{Attribute, ElementType, Initializer, Node, Values};

/// Nodes and tensors so far. A node and the value it makes have the same name.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<Initializer>,
    names: HashSet<String>,
    /// Kernels and matrices are stored as halves.
    half: bool,
}

impl Nodes {
    /// None yet; `reserved` names are not given to any.
    pub(super) fn new(half: bool, reserved: &[&str]) -> Self {
        let names = reserved.iter().map(|&name| name.to_owned()).collect();
        Self { nodes: Vec::new(), initializers: Vec::new(), names, half }
    }

    /// Appends a node and returns its value.
    pub(super) fn node(&mut self, op: &'static str, name: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let name = self.unique(name);
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.nodes.push(Node { op, name: name.clone(), inputs, output: name.clone(), attributes });
        name
    }

    /// Renames the value of the last node.
    pub(super) fn finish(&mut self, output: &str) {
        if let Some(last) = self.nodes.last_mut() {
            output.clone_into(&mut last.output);
        }
    }

    /// Appends an activation of `value`, whose name its own begins with.
    pub(super) fn activation(&mut self, value: String, activation: Activation) -> String {
        match activation {
            Activation::Identity => value,
            Activation::Relu => self.node("Relu", &format!("{value}/relu"), &[&value], vec![]),
            Activation::Relu6 => {
                let bounds = [("relu6/low", 0.0), ("relu6/high", 6.0)].map(|(name, bound)| self.shared(name, bound));
                self.node("Clip", &format!("{value}/relu6"), &[&value, &bounds[0], &bounds[1]], vec![])
            }
        }
    }

    /// A tensor of parameters: with two axes or more in halves where those are wanted, and a node that widens them.
    ///
    /// # Errors
    /// [`WeightsError::Corrupt`] for a finite value beyond the range of a half.
    pub(super) fn weight(&mut self, name: &str, dims: Vec<usize>, values: Vec<f32>) -> Result<String> {
        if !self.half || dims.len() < 2 {
            return Ok(self.constant(name, dims, values));
        }
        let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
        if let Some((value, _)) = values.iter().zip(&halves).find(|(value, half)| value.is_finite() && !half.is_finite()) {
            let reason = format!("{value} is beyond the range of F16, once batch norm is folded in; nothing was written");
            return Err(WeightsError::Corrupt { name: format!("tensor `{name}`"), reason }.into());
        }
        let stored = self.initializer(name, dims, Values::F16(halves));
        Ok(self.node("Cast", &format!("{name}/f32"), &[&stored], vec![Attribute::Int("to", ElementType::F32 as i64)]))
    }

    /// A tensor of numbers, in 32 bits.
    pub(super) fn constant(&mut self, name: &str, dims: Vec<usize>, values: Vec<f32>) -> String {
        self.initializer(name, dims, Values::F32(values))
    }

    /// A vector of integers.
    pub(super) fn integers(&mut self, name: &str, values: Vec<i64>) -> String {
        self.initializer(name, vec![values.len()], Values::I64(values))
    }

    /// A scalar that several nodes read.
    pub(super) fn shared(&mut self, name: &str, value: f32) -> String {
        if self.initializers.iter().any(|tensor| tensor.name == name) { name.to_owned() } else { self.constant(name, vec![], vec![value]) }
    }

    fn initializer(&mut self, name: &str, dims: Vec<usize>, values: Values) -> String {
        let name = self.unique(name);
        self.initializers.push(Initializer { name: name.clone(), dims, values });
        name
    }

    fn unique(&mut self, name: &str) -> String {
        let mut found = name.to_owned();
        let mut count = 1;
        while !self.names.insert(found.clone()) {
            count += 1;
            found = format!("{name}_{count}");
        }
        found
    }
}
