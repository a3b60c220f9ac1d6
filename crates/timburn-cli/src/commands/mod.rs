//! One file per verb.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod completions;
mod contestant;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod doctor;
mod estimate;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod find_lr;
pub(crate) mod finetune;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod predict;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod train;
