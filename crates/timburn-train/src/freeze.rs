//! Parts of a model that training leaves as they are.

use burn::module::{Flag, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;
use timburn_core::Result;
use timburn_core::error::ModelError;
use timburn_models::state_dict::KeyPath;
use timburn_models::{ImageModel, LayerGroup};

/// Freezes everything up to and including the stage `last` (`stem`, `layer3`; `body` for all stages): parameters get no gradient and stay bit
/// for bit, batch norms normalise with their running statistics and keep them, dropout and stochastic depth are off there.
///
/// # Errors
/// [`ModelError::UnknownStage`] listing the stages.
pub fn freeze_until<M: ImageModel>(model: M, last: &str) -> Result<M> {
    let stages = model.stages();
    let count = match stages.iter().position(|stage| stage.name == last) {
        Some(position) => position + 1,
        None if last == "body" => stages.len(),
        None => {
            let names = stages.into_iter().map(|stage| stage.name).chain(["body".into()]).collect();
            return Err(ModelError::UnknownStage { name: last.into(), stages: names }.into());
        }
    };
    let frozen: Vec<LayerGroup> = model.layer_groups().into_iter().take(count).collect();
    let mut collect = Collect { path: KeyPath::default(), frozen, ids: Vec::new() };
    model.visit(&mut collect);
    Ok(model.freeze_group(ParamGroup::from_ids(collect.ids)))
}

/// Parameters, statistics and training flags of the frozen part. By their ids: Burn's own paths name the variants of enums too.
struct Collect {
    path: KeyPath,
    frozen: Vec<LayerGroup>,
    ids: Vec<ParamId>,
}

impl Collect {
    fn add(&mut self, id: ParamId) {
        let key = self.path.key();
        if self.frozen.iter().any(|group| group.contains(&key)) {
            self.ids.push(id);
        }
    }
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.id);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.add(flag.id);
    }
}
