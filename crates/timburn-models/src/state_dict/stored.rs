use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::{Result, WeightsError};

use super::apply::check;
use super::{KeyPath, StateDict};

/// A model whose parameters stay where they are stored, each until it is first needed: a network that is rewritten layer by layer, or of which
/// only the head runs, is never in memory as a whole. Running statistics, which are small, are read at once. For
/// evaluation: what was frozen of the model is not any more.
#[derive(Debug)]
pub struct StoredModel<M> {
    model: M,
    name: String,
    failure: Failure,
}

/// Why a parameter could not be read: the first of them.
type Failure = Arc<Mutex<Option<String>>>;

fn note(failure: &Failure, key: &str, reason: &str) {
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| format!("tensor `{key}`: {reason}"));
}

impl<M: Module> StoredModel<M> {
    /// `model` with the tensors of `dict`, as [`load_state_dict`](super::load_state_dict) loads them, but later.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with all missing, unexpected and mis-shaped keys.
    pub fn new(model: &M, dict: &StateDict) -> Result<Self> {
        check(model, dict)?;
        let failure = Failure::default();
        let model = model.clone().map(&mut Defer { path: KeyPath::default(), dict, failure: Arc::clone(&failure) });
        Ok(Self { model, name: dict.name.clone(), failure })
    }

    /// What `with` makes of the model, if all that it needed could be read. What is made must have read what it will need.
    ///
    /// # Errors
    /// [`WeightsError::Corrupt`] when a tensor cannot be read; those of `with`.
    pub fn read<T>(self, with: impl FnOnce(M) -> Result<T>) -> Result<T> {
        let made = with(self.model);
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(reason) => Err(WeightsError::Corrupt { name: self.name, reason }.into()),
            None => made,
        }
    }
}

struct Defer<'a> {
    path: KeyPath,
    dict: &'a StateDict,
    failure: Failure,
}

impl ModuleMapper for Defer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = self.path.key();
        let Some(tensor) = self.dict.tensors.get(&key).cloned() else { return param };
        let (id, device, shape) = (param.id, param.lazy_device(), param.lazy_shape());
        let failure = Arc::clone(&self.failure);
        let read = move |device: &Device, tracked: bool| {
            // An initialiser cannot fail: who reads learns of it afterwards.
            let values = tensor.values().unwrap_or_else(|reason| {
                note(&failure, &key, &reason);
                vec![0.0; tensor.shape.iter().product()]
            });
            Tensor::from_data(TensorData::new(values, tensor.shape.clone()), device).set_require_grad(tracked)
        };
        // A running statistic takes its value out at once.
        Param::uninitialized(id, read, device, true, shape)
    }
}
