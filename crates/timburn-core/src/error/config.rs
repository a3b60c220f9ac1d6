use crate::suggest::did_you_mean;

/// A configuration that says something impossible, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}{}", did_you_mean(nearest))]
pub struct ConfigError {
    /// File, line and column (`recipe.toml:12:3`), or the argument that says it (`--set train.epochs=-1`).
    pub place: String,
    /// What is wrong: key, found, expected.
    pub message: String,
    /// The nearest valid names, for an unknown one.
    pub nearest: Vec<String>,
}
