//! One file per verb.

pub(crate) mod models;
pub(crate) mod predict;
