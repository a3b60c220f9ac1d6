//! Parts of a model that training leaves as they are, all the time or for the first epochs.

use std::fmt;

use burn::module::{Flag, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use timburn_core::error::ModelError;
use timburn_core::{Error, Result};
use timburn_models::state_dict::KeyPath;
use timburn_models::{ImageModel, LayerGroup};

/// Which part of a model is frozen, by epoch. In a recipe a stage's name, or a list: gradual unfreezing.
///
/// ```toml
/// freeze = "layer3"
/// freeze = [{ epoch = 0, until = "body" }, { epoch = 1, until = "layer3" }, { epoch = 2, until = "none" }]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FreezePlan {
    /// Everything up to and including this stage, always.
    Until(String),
    /// From an epoch on up to another stage. Before the first one nothing is frozen.
    ByEpoch(Vec<FreezeStep>),
}

/// From an epoch on, another part is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeStep {
    /// First epoch, counted from 0.
    pub epoch: u64,
    /// Last stage that is frozen; `body` for all of them, `none` for none.
    pub until: String,
}

/// Nothing is frozen.
const NONE: &str = "none";
/// All stages are, the head is not.
const BODY: &str = "body";

impl FreezePlan {
    /// The last stage that is frozen in epoch `epoch` (from 0): a stage's name, `body` or `none`.
    pub fn until(&self, epoch: u64) -> &str {
        match self {
            Self::Until(stage) => stage,
            Self::ByEpoch(steps) => steps.iter().rev().find(|step| step.epoch <= epoch).map_or(NONE, |step| &step.until),
        }
    }

    /// Refuses an empty list and epochs that do not ascend.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        let argument = |value: String, expected: &str| Err(Error::Argument { name: "model.freeze", value, expected: expected.into() });
        match self {
            Self::ByEpoch(steps) if steps.is_empty() => argument("[]".into(), "at least one { epoch, until }, or no model.freeze"),
            Self::ByEpoch(steps) if !steps.is_sorted_by(|a, b| a.epoch < b.epoch) => {
                argument(format!("{:?}", steps.iter().map(|step| step.epoch).collect::<Vec<_>>()), "epochs in ascending order")
            }
            _ => Ok(()),
        }
    }

    /// Freezes `model` up to `until`, one of the plan's own, and thaws the rest of what the plan ever freezes. What the caller froze elsewhere
    /// stays frozen.
    ///
    /// # Errors
    /// [`ModelError::UnknownStage`] for any of the plan's stages that the model does not have.
    pub(crate) fn apply<M: ImageModel>(&self, model: M, until: &str) -> Result<M> {
        let stages: Vec<&str> = match self {
            Self::Until(stage) => vec![stage],
            Self::ByEpoch(steps) => steps.iter().map(|step| step.until.as_str()).collect(),
        };
        let counts = stages.into_iter().map(|stage| frozen_stages(&model, stage)).collect::<Result<Vec<usize>>>()?;
        let most = counts.into_iter().max().unwrap_or(0);
        let count = frozen_stages(&model, until)?;
        let groups = model.layer_groups();
        let (frozen, rest) = groups.split_at(count.min(groups.len()));
        let thawed = ids(&model, rest.get(..most.saturating_sub(count)).unwrap_or_default());
        let frozen = ids(&model, frozen);
        Ok(model.unfreeze_group(ParamGroup::from_ids(thawed)).freeze_group(ParamGroup::from_ids(frozen)))
    }
}

impl<'de> Deserialize<'de> for FreezePlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = FreezePlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stage's name, or a list of { epoch = 0, until = \"body\" }")
            }

            fn visit_str<E: de::Error>(self, stage: &str) -> Result<FreezePlan, E> {
                Ok(FreezePlan::Until(stage.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, steps: A) -> Result<FreezePlan, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(steps)).map(FreezePlan::ByEpoch)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Freezes everything up to and including the stage `last` (`stem`, `layer3`; `body` for all stages, `none` for none): parameters get no
/// gradient and stay bit for bit, batch norms normalise with their running statistics and keep them, dropout and stochastic depth are off
/// there.
///
/// # Errors
/// [`ModelError::UnknownStage`] listing the stages.
pub fn freeze_until<M: ImageModel>(model: M, last: &str) -> Result<M> {
    let count = frozen_stages(&model, last)?;
    let groups = model.layer_groups();
    let frozen = ids(&model, groups.get(..count).unwrap_or_default());
    Ok(model.freeze_group(ParamGroup::from_ids(frozen)))
}

/// Has the batch norms of all stages normalise with their running statistics and keep them, and dropout and stochastic depth there be off; every
/// parameter is trained still. For few pictures or small batches, whose own statistics are far from those that the features, and a head
/// fitted to them, rest on.
#[must_use]
pub fn freeze_statistics<M: ImageModel>(model: M) -> M {
    let groups = model.layer_groups();
    let body = groups.split_last().map_or(&[][..], |(_, body)| body);
    let mut flags = Flags { path: KeyPath::default(), groups: body, ids: Vec::new() };
    model.visit(&mut flags);
    model.freeze_group(ParamGroup::from_ids(flags.ids))
}

/// Training flags of the groups.
struct Flags<'a> {
    path: KeyPath,
    groups: &'a [LayerGroup],
    ids: Vec<ParamId>,
}

impl ModuleVisitor for Flags<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let key = self.path.key();
        if self.groups.iter().any(|group| group.contains(&key)) {
            self.ids.push(flag.id);
        }
    }
}

/// Number of stages from the first to the one called `last`.
fn frozen_stages<M: ImageModel>(model: &M, last: &str) -> Result<usize> {
    let stages = model.stages();
    match stages.iter().position(|stage| stage.name == last) {
        Some(position) => Ok(position + 1),
        None if last == BODY => Ok(stages.len()),
        None if last == NONE => Ok(0),
        None => {
            let names = stages.into_iter().map(|stage| stage.name).chain([BODY.into(), NONE.into()]).collect();
            Err(ModelError::UnknownStage { name: last.into(), stages: names }.into())
        }
    }
}

/// Parameters, statistics and training flags of the groups. By their ids: Burn's own paths name the variants of enums too.
fn ids<M: ImageModel>(model: &M, groups: &[LayerGroup]) -> Vec<ParamId> {
    let mut collect = Collect { path: KeyPath::default(), groups, ids: Vec::new() };
    model.visit(&mut collect);
    collect.ids
}

struct Collect<'a> {
    path: KeyPath,
    groups: &'a [LayerGroup],
    ids: Vec<ParamId>,
}

impl Collect<'_> {
    fn add(&mut self, id: ParamId) {
        let key = self.path.key();
        if self.groups.iter().any(|group| group.contains(&key)) {
            self.ids.push(id);
        }
    }
}

impl ModuleVisitor for Collect<'_> {
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
