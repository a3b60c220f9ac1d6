//! From a sample's content to the picture that goes into a batch.

use timburn_core::seed::Draws;
use timburn_core::{Preprocessing, Result};

use crate::dataset::Content;
use crate::decode::{DecodeOptions, decode_region, recycle};
use crate::image::{Region, Rgb8Image};
use crate::transform::Pipeline;

/// What the workers do with each sample: decoding, if need be, and transforms.
///
/// All pictures of a batch must come out in one size. With a cache ([`LoaderOptions::cache_bytes`](super::LoaderOptions::cache_bytes)) the
/// content of a cached sample is [`Content::Pixels`]: the whole decoded picture.
///
/// [`Pipeline`] is one, and so are closures `Fn(Rgb8Image, &mut Draws) -> Result<Rgb8Image>` and [`Preprocessing`], which is evaluation:
/// resize and centre crop.
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

/// Training's or evaluation's transforms. Of an encoded picture only what the first crop needs is decoded.
impl Prepare for Pipeline {
    fn prepare(&self, content: Content, name: &str, decode: &DecodeOptions, draws: &mut Draws) -> Result<Rgb8Image> {
        let bytes = match content {
            Content::Encoded(bytes) => bytes,
            Content::Pixels(image) => return Ok(self.apply(image, draws)),
        };
        let mut crop = None;
        let decoded = decode_region(&bytes, name, decode, |width, height| {
            crop = self.first_crop(width, height, draws);
            crop.map_or(Region { left: 0, top: 0, width, height }, |crop| crop.region)
        })?;
        let Some(crop) = crop else { return Ok(self.apply(decoded.image, draws)) };
        let made = self.apply_cropped(&decoded.image, crop, draws);
        recycle(decoded.image);
        Ok(made)
    }
}
