use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};

use super::{KeyPath, StateDict, WeightDtype, WeightTensor};

/// Key and shape of one tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// PyTorch's key.
    pub key: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl ParameterInfo {
    /// Whether the optimizer may change it; a running statistic it may not.
    pub fn is_trainable(&self) -> bool {
        !(self.key.ends_with("running_mean") || self.key.ends_with("running_var"))
    }
}

/// Keys and shapes of all tensors of a model, running statistics included, in the model's order. Nothing is initialised.
pub fn parameters<M: Module>(model: &M) -> Vec<ParameterInfo> {
    #[derive(Default)]
    struct Collect {
        path: KeyPath,
        found: Vec<ParameterInfo>,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(ParameterInfo { key: self.path.key(), shape: param.lazy_shape().to_vec() });
        }
    }
    let mut collect = Collect::default();
    model.visit(&mut collect);
    collect.found
}

/// Number of trainable scalars, as PyTorch counts parameters: without running statistics.
pub fn trainable_parameters<M: Module>(model: &M) -> usize {
    let all = parameters(model);
    all.iter().filter(|info| info.is_trainable()).map(|info| info.shape.iter().product::<usize>()).sum()
}

/// A copy of a model's tensors under PyTorch's keys, on the host, in their own element type.
pub fn state_dict<M: Module>(model: &M) -> StateDict {
    struct Collect {
        path: KeyPath,
        dict: StateDict,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            let dtype = match data.dtype() {
                DType::F64 => WeightDtype::F64,
                DType::F16 => WeightDtype::F16,
                DType::BF16 => WeightDtype::BF16,
                _ => WeightDtype::F32,
            };
            let data = if dtype == WeightDtype::F32 { data.convert::<f32>() } else { data };
            let shape = data.shape().to_vec();
            let tensor = WeightTensor::new(shape, dtype, Arc::new(move || Ok(data.bytes().to_vec())));
            self.dict.tensors.insert(self.path.key(), tensor);
        }
    }
    let mut collect = Collect { path: KeyPath::default(), dict: StateDict::new("the model") };
    model.visit(&mut collect);
    collect.dict
}
