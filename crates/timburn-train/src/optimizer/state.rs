//! Optimizer state as named tensors, and the strict way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::error::{KeyMismatch, ShapeMismatch};
use timburn_core::suggest::nearest;
use timburn_core::{Error, Result, WeightsError};
use timburn_models::state_dict::KeyPath;
use timburn_models::{StateDict, WeightDtype, WeightTensor};

use super::Groups;
use super::rule::{Rule, Slots};
use crate::tensors::host;

/// A parameter that the optimizer may change.
struct Trainable {
    key: String,
    shape: Vec<usize>,
    device: Device,
}

fn trainable<M: Module>(model: &M, groups: &Groups) -> Vec<Trainable> {
    struct Collect<'a> {
        path: KeyPath,
        groups: &'a Groups,
        found: Vec<Trainable>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let key = self.path.key();
            let value = param.val();
            if value.is_require_grad() && !self.groups.get(&key).frozen {
                self.found.push(Trainable { key, shape: value.dims().to_vec(), device: value.without_autodiff().device() });
            }
        }
    }
    let mut collect = Collect { path: KeyPath::default(), groups, found: Vec::new() };
    model.visit(&mut collect);
    collect.found
}

const STEP: &str = "step";

pub(super) fn export<M: Module>(rule: &dyn Rule, groups: &Groups, states: &BTreeMap<String, Slots>, model: &M) -> Result<StateDict> {
    let mut dict = StateDict::new("the optimizer");
    for Trainable { key, shape, .. } in trainable(model, groups) {
        let slots = states.get(&key);
        for name in rule.slots(&shape) {
            let values = match slots.and_then(|slots| slots.tensors.get(name)) {
                Some(tensor) => host(tensor.clone())?,
                None => vec![rule.initial() as f32; shape.iter().product()],
            };
            dict.tensors.insert(format!("{key}.{name}"), WeightTensor::from_f32(shape.clone(), values));
        }
        let step = slots.map_or(0, |slots| slots.step as i64);
        let read = Arc::new(move || Ok(step.to_le_bytes().to_vec()));
        dict.tensors.insert(format!("{key}.{STEP}"), WeightTensor::new(Vec::new(), WeightDtype::I64, read));
    }
    Ok(dict)
}

pub(super) fn import<M: Module>(rule: &dyn Rule, groups: &Groups, model: &M, dict: &StateDict) -> Result<BTreeMap<String, Slots>> {
    let trainable = trainable(model, groups);
    let mut expected = BTreeMap::new();
    for Trainable { key, shape, .. } in &trainable {
        expected.insert(format!("{key}.{STEP}"), Vec::new());
        expected.extend(rule.slots(shape).iter().map(|name| (format!("{key}.{name}"), shape.clone())));
    }
    let mismatch = compare(&expected, dict);
    if !mismatch.is_empty() {
        return Err(WeightsError::Mismatch(Box::new(mismatch)).into());
    }
    let corrupt = |key: &str, reason: &str| {
        Error::from(WeightsError::Corrupt { name: dict.name.clone(), reason: format!("tensor `{key}`: {reason}") })
    };
    let mut states = BTreeMap::new();
    for Trainable { key, shape, device } in trainable {
        let name = format!("{key}.{STEP}");
        let step =
            dict.tensors.get(&name).map_or(Err("missing".to_owned()), WeightTensor::bytes).map_err(|reason| corrupt(&name, &reason))?;
        let step = <[u8; 8]>::try_from(step).map(i64::from_le_bytes).ok().and_then(|step| u64::try_from(step).ok());
        let mut slots = Slots { step: step.ok_or_else(|| corrupt(&name, "not a number of steps"))?, ..Slots::default() };
        for slot in rule.slots(&shape) {
            let name = format!("{key}.{slot}");
            let values = dict.tensors.get(&name).map_or(Err("missing".to_owned()), WeightTensor::values);
            let values = values.map_err(|reason| corrupt(&name, &reason))?;
            let count = values.len();
            slots.tensors.insert(slot, Tensor::from_data(TensorData::new(values, [count]), &device));
        }
        states.insert(key, slots);
    }
    Ok(states)
}

fn compare(expected: &BTreeMap<String, Vec<usize>>, dict: &StateDict) -> KeyMismatch {
    let missing: Vec<&str> = expected.keys().map(String::as_str).filter(|key| !dict.tensors.contains_key(*key)).collect();
    let unexpected: Vec<&str> = dict.tensors.keys().map(String::as_str).filter(|key| !expected.contains_key(*key)).collect();
    let shapes = expected.iter().filter_map(|(key, shape)| {
        let found = &dict.tensors.get(key)?.shape;
        (found != shape).then(|| ShapeMismatch { key: key.clone(), expected: shape.clone(), found: found.clone() })
    });
    let with_nearest = |keys: &[&str], others: &[&str]| {
        keys.iter().map(|key| ((*key).to_owned(), nearest(key, others.iter().copied()).into_iter().take(1).collect())).collect()
    };
    KeyMismatch {
        name: dict.name.clone(),
        missing: with_nearest(&missing, &unexpected),
        unexpected: with_nearest(&unexpected, &missing),
        shapes: shapes.collect(),
    }
}
