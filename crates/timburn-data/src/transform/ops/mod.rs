//! The pixel operations with explicit parameters, pure functions of the picture. What they are compared with stands at each.
//!
//! What maps every pixel by itself works in place; what moves pixels returns a new picture. None panics, whatever the size.

mod color;
mod filter;
mod geometry;
mod interpolate;
mod keras;
mod warp;

pub use color::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, autocontrast, equalize, grayscale, invert, posterize, solarize,
    solarize_add,
};
pub use filter::{adjust_sharpness, gaussian_blur};
pub use geometry::{Padding, center_crop, crop_padded, erase, horizontal_flip, vertical_flip};
pub use keras::{FillMode, KerasAffine, keras_affine};
pub(crate) use warp::warp_to;
pub use warp::{Sampling, affine, affine_matrix, rotate, warp};
