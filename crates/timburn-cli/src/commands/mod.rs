//! One file per verb.

pub(crate) mod data;
pub(crate) mod find_lr;
pub(crate) mod finetune;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod train;
