use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use timburn_core::error::{KeyMismatch, ShapeMismatch};
use timburn_core::suggest::nearest;
use timburn_core::{Error, Result, WeightsError};

use super::{KeyPath, ParameterInfo, StateDict, parameters};

/// Returns `model` with the tensors of `dict`, cast to the model's element type (which is logged). All or nothing: `model` itself is not
/// touched.
///
/// Strict: every tensor of the model must be in `dict` with its shape, and nothing else may be in it but PyTorch's
/// `num_batches_tracked`, which inference and training with a fixed momentum do not need.
///
/// # Errors
/// [`WeightsError::Mismatch`] with all missing, unexpected and mis-shaped keys; [`WeightsError::Corrupt`] when a tensor cannot be read.
pub fn load_state_dict<M: Module>(model: &M, dict: &StateDict) -> Result<M> {
    check(model, dict)?;
    let mut load = Load { path: KeyPath::default(), dict, failure: None };
    let loaded = model.clone().map(&mut load);
    match load.failure {
        Some(reason) => Err(Error::Weights(WeightsError::Corrupt { name: dict.name.clone(), reason })),
        None => Ok(loaded),
    }
}

/// Whether `dict` has all of the model's tensors and no others, without reading any.
///
/// # Errors
/// [`WeightsError::Mismatch`].
pub(super) fn check<M: Module>(model: &M, dict: &StateDict) -> Result<()> {
    let mismatch = compare(&parameters(model), dict);
    if !mismatch.is_empty() {
        return Err(WeightsError::Mismatch(Box::new(mismatch)).into());
    }
    for dtype in dict.cast_from() {
        log::info!("{}: {dtype:?} weights are cast to the model's type", dict.name);
    }
    Ok(())
}

fn compare(expected: &[ParameterInfo], dict: &StateDict) -> KeyMismatch {
    let is_expected = |key: &str| expected.iter().any(|info| info.key == key);
    let missing: Vec<&str> = expected.iter().map(|info| info.key.as_str()).filter(|key| !dict.tensors.contains_key(*key)).collect();
    let unexpected: Vec<&str> =
        dict.tensors.keys().map(String::as_str).filter(|key| !key.ends_with("num_batches_tracked") && !is_expected(key)).collect();
    let shapes = expected.iter().filter_map(|info| {
        let found = &dict.tensors.get(&info.key)?.shape;
        (*found != info.shape).then(|| ShapeMismatch { key: info.key.clone(), expected: info.shape.clone(), found: found.clone() })
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

struct Load<'a> {
    path: KeyPath,
    dict: &'a StateDict,
    failure: Option<String>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = self.path.key();
        let Some(tensor) = self.dict.tensors.get(&key).filter(|_| self.failure.is_none()) else { return param };
        match tensor.values() {
            Ok(values) => {
                // Created on the parameter's own device, in the device's float type; an uninitialised parameter is never initialised.
                let data = TensorData::new(values, tensor.shape.clone());
                let value = Tensor::from_data(data, &param.lazy_device());
                let id = param.id;
                param.transform_for_load(value, id)
            }
            Err(reason) => {
                self.failure = Some(format!("tensor `{key}`: {reason}"));
                param
            }
        }
    }
}
