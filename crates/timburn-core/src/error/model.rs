use crate::suggest::did_you_mean;

/// A model, stage or class list that does not exist or does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// No architecture of that name.
    #[error("unknown model `{name}`{}; `timburn models` lists them all", did_you_mean(nearest))]
    UnknownArchitecture {
        /// The name as given.
        name: String,
        /// Names that look like it.
        nearest: Vec<String>,
    },
    /// No stage of that name in the model.
    #[error("no stage `{name}`; this model has {}", stages.join(", "))]
    UnknownStage {
        /// The name as given.
        name: String,
        /// Stages of the model, in order.
        stages: Vec<String>,
    },
    /// An option that this architecture does not have.
    #[error("{architecture} cannot have {option} = {value}: {reason}")]
    UnsupportedOption {
        /// The architecture.
        architecture: String,
        /// Name of the option.
        option: &'static str,
        /// The value asked for.
        value: String,
        /// Why not, or what is possible.
        reason: String,
    },
    /// A class list and a model disagree.
    #[error("the model has {model} classes, the class list {classes}")]
    ClassCount {
        /// Outputs of the model.
        model: usize,
        /// Names in the list.
        classes: usize,
    },
}
