use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::state_dict::KeyPath;

/// What [`ModelGraph::names`](super::ModelGraph::names) holds.
pub(super) fn layer_names<M: Module>(model: &M) -> HashMap<ParamId, String> {
    #[derive(Default)]
    struct Collect {
        path: KeyPath,
        found: HashMap<ParamId, String>,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let key = self.path.key();
            let layer = key.rsplit_once('.').map_or("", |(layer, _)| layer);
            self.found.insert(param.id, layer.to_owned());
        }
    }
    let mut collect = Collect::default();
    model.visit(&mut collect);
    collect.found
}
