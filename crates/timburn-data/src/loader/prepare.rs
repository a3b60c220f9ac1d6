//! From a sample's content to the picture that goes into a batch.

use timburn_core::seed::Draws;
use timburn_core::{Preprocessing, Result};

use crate::dataset::Content;
use crate::decode::DecodeOptions;
use crate::image::Rgb8Image;

/// What the workers do with each sample: decoding, if need be, and transforms.
///
/// All pictures of a batch must come out in one size. With a cache ([`LoaderOptions::cache_bytes`](super::LoaderOptions::cache_bytes)) the
/// content of a cached sample is [`Content::Pixels`]: the whole decoded picture.
///
/// Closures `Fn(Rgb8Image, &mut Draws) -> Result<Rgb8Image>` are such, and [`Preprocessing`], which is evaluation: resize and centre crop.
pub trait Prepare: Send + Sync {
    /// Makes the picture. It must depend on the arguments alone, and take all randomness from `draws`: then it is the same for any number of
    /// workers. `name` is what errors call the sample.
    ///
    /// # Errors
    /// An [`Error`](timburn_core::Error) that names the sample.
    fn prepare(&self, content: Content, name: &str, decode: &DecodeOptions, draws: &mut Draws) -> Result<Rgb8Image>;
}

impl Prepare for Preprocessing {
    fn prepare(&self, content: Content, name: &str, decode: &DecodeOptions, _: &mut Draws) -> Result<Rgb8Image> {
        Ok(crate::preprocess::prepare(&content.decode(name, decode)?, self))
    }
}

impl<F: Fn(Rgb8Image, &mut Draws) -> Result<Rgb8Image> + Send + Sync> Prepare for F {
    fn prepare(&self, content: Content, name: &str, decode: &DecodeOptions, draws: &mut Draws) -> Result<Rgb8Image> {
        self(content.decode(name, decode)?, draws)
    }
}
