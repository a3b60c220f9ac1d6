use std::cell::Cell;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::seed;

/// Distribution of a parameter's initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Normal, mean 0, with this standard deviation.
    Normal(f64),
    /// Uniform on ±this bound.
    Uniform(f64),
}

/// Makes parameters on one device from one seed.
///
/// The n-th parameter of a model draws from its own stream, so initial weights are a function of (architecture, seed) alone: the same
/// on every backend and whatever is initialised first. Values are drawn when they are first needed; loading weights draws none.
#[derive(Debug)]
pub struct Builder<'a> {
    /// Where the parameters will be.
    pub device: &'a Device,
    seed: u64,
    made: Cell<u64>,
}

impl<'a> Builder<'a> {
    /// Parameters on `device` from `seed`.
    pub fn new(device: &'a Device, seed: u64) -> Self {
        Self { device, seed, made: Cell::new(0) }
    }

    /// The next parameter.
    pub fn parameter<const D: usize>(&self, shape: [usize; D], init: Init) -> Param<Tensor<D>> {
        let number = self.made.replace(self.made.get() + 1);
        let stream = seed::derive(self.seed, &[number]);
        let make = move |device: &Device, require_grad: bool| {
            let count = shape.iter().product();
            let values = match init {
                Init::Constant(value) => vec![value; count],
                Init::Normal(std) => seed::normal(stream, count, std),
                Init::Uniform(bound) => seed::uniform(stream, count, -bound, bound),
            };
            let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), device);
            if require_grad { tensor.require_grad() } else { tensor }
        };
        Param::uninitialized(ParamId::new(), make, self.device.clone(), true, shape.into())
    }
}
