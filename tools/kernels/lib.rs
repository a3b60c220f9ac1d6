//! The modules of timburn-kernels that know nothing of Burn, with the few types that they share with those that do.
#![allow(dead_code, unreachable_pub, reason = "who calls them is not here")]

#[path = "../../crates/timburn-kernels/src/cpu/mod.rs"]
mod cpu;
#[path = "../../crates/timburn-kernels/src/infer/mod.rs"]
pub mod infer;
#[path = "../../crates/timburn-kernels/src/level.rs"]
mod level;

/// As timburn-kernels'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Identity,
    Relu,
    Relu6,
}

/// As timburn-kernels'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
}

/// As timburn-kernels'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    pub lr: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub penalty: f64,
    pub decay: f64,
    pub correction: [f64; 2],
}
