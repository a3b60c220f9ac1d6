//! The photograph that timburn carries with it.

/// A photograph of a cat as JPEG, 451×300 pixels: "Chelsea" by Stéfan van der Walt, CC0, see `assets/README.md`.
pub fn sample_photograph() -> &'static [u8] {
    include_bytes!("../assets/chelsea.jpg")
}
