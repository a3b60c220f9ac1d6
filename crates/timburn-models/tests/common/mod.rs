//! Weights and images by the formula of `parity/formula.py`, so that no large golden is stored.
#![allow(clippy::expect_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "each test binary uses its part")]

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use timburn_models::{Model, StateDict, WeightTensor, parameters};

/// Element `i` of the unit stream called `name`, in `[0, 1)`.
pub(crate) fn unit(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..count as u64).map(move |i| {
        let mut z = hash.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 * 2f32.powi(-24)
    })
}

/// The value of the parameter or buffer `key`.
pub(crate) fn tensor(key: &str, shape: &[usize], bias_offset: f32) -> Vec<f32> {
    let u = unit(key, shape.iter().product());
    if key.ends_with("running_mean") {
        u.map(|u| 0.2 * (u - 0.5)).collect()
    } else if key.ends_with("running_var") {
        u.map(|u| 0.5 + u).collect()
    } else if shape.len() >= 2 {
        let bound = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
        u.map(|u| (2.0 * u - 1.0) * bound).collect()
    } else if key.ends_with(".weight") {
        u.map(|u| 0.5 + u).collect()
    } else {
        u.map(|u| 0.2 * (u - 0.5) + bias_offset).collect()
    }
}

/// All tensors of `model` by the formula.
pub(crate) fn formula_weights(model: &Model, bias_offset: f32) -> StateDict {
    let mut dict = StateDict::new("formula");
    for info in parameters(model) {
        let values = tensor(&info.key, &info.shape, bias_offset);
        dict.tensors.insert(info.key, WeightTensor::from_f32(info.shape, values));
    }
    dict
}

/// A batch in `[-2, 2)`.
pub(crate) fn images(name: &str, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let values: Vec<f32> = unit(name, shape.iter().product()).map(|u| 4.0 * u - 2.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Labels of a batch.
pub(crate) fn labels(count: usize, classes: usize) -> Vec<usize> {
    (0..count).map(|i| (7 * i + 3) % classes).collect()
}

/// One step of plain gradient descent, as a mapper over a module.
pub(crate) struct Sgd {
    pub(crate) gradients: Gradients,
    pub(crate) rate: f64,
}

impl ModuleMapper for Sgd {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = param.val().grad(&self.gradients) else { return param };
        param.map(|value| Tensor::from_inner(value.inner() - gradient * self.rate).require_grad())
    }
}

/// Says aloud that a test was skipped: past the harness, which swallows what a passing test prints.
pub(crate) fn skipped(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}
