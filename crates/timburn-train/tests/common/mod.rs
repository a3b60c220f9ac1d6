//! Goldens and the formula of `parity/formula.py`.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use serde_json::Value;
use timburn_models::state_dict::KeyPath;
use timburn_models::{StateDict, WeightTensor, parameters};

pub(crate) fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("goldens are JSON")
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

pub(crate) fn usizes(value: &Value) -> Vec<usize> {
    value.as_array().expect("an array").iter().map(|x| x.as_u64().expect("a number") as usize).collect()
}

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

/// The value of the parameter or buffer `key` by the formula.
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
pub(crate) fn formula_weights<M: Module>(model: &M, bias_offset: f32) -> StateDict {
    let mut dict = StateDict::new("formula");
    for info in parameters(model) {
        let values = tensor(&info.key, &info.shape, bias_offset);
        dict.tensors.insert(info.key, WeightTensor::from_f32(info.shape, values));
    }
    dict
}

/// Largest difference over the largest expected value.
pub(crate) fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0f64, |scale, x| scale.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0f64, |worst, (a, b)| if (a - b).is_nan() { f64::NAN } else { worst.max((a - b).abs()) });
    if worst == 0.0 { 0.0 } else { worst / scale }
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("f32")
}

/// All tensors of a model under their keys, as bits.
pub(crate) fn bits<M: Module>(model: &M) -> Vec<(String, Vec<u32>)> {
    struct Collect {
        path: KeyPath,
        found: Vec<(String, Vec<u32>)>,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.path.key(), host(param.val()).into_iter().map(f32::to_bits).collect()));
        }
    }
    let mut collect = Collect { path: KeyPath::default(), found: Vec::new() };
    model.visit(&mut collect);
    collect.found
}

pub(crate) fn autodiff() -> Device {
    timburn_core::open_device("flex").expect("flex").autodiff()
}
