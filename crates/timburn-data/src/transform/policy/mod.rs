//! Policies over a common set of operations: RandAugment, AutoAugment, TrivialAugment, AugMix.
//!
//! A [`Kind`] and a magnitude become an [`Action`] with explicit parameters, by torchvision's tables or timm's; the action is a pure
//! function of the picture.

mod action;
mod auto;
mod mix;
mod rand;
pub mod timm;
pub mod torchvision;

pub use action::{Action, Kind};
pub use auto::{AutoAugment, AutoPolicy, Step};
pub use mix::{AugMix, Chain};
pub use rand::{RandAugment, Set, TrivialAugmentWide};
