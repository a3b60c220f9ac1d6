//! A data set of one's own: which way is up? Crops of the embedded photograph, turned by 0°, 90°, 180° and 270°.

use timburn::core::seed::Draws;
use timburn::data::transform::presets;
use timburn::data::{Content, DecodeOptions, Rgb8Image, decode_bytes};
use timburn::{Classes, Dataset, Error, Pipeline, Result};

/// Pictures that are made when they are asked for: five methods are all that a data set needs.
pub(crate) struct Rotations {
    photograph: Rgb8Image,
    crops: Pipeline,
    classes: Classes,
    len: usize,
}

impl Rotations {
    /// `len` crops of 32×32 pixels, every fourth of one class.
    pub(crate) fn new(len: usize) -> Result<Self> {
        Ok(Self {
            photograph: decode_bytes(timburn::sample_photograph(), "sample photograph", &DecodeOptions::default())?,
            crops: Pipeline::new(presets::imagenet_train(32))?,
            classes: Classes::new(["up", "right", "down", "left"].map(String::from).to_vec()),
            len,
        })
    }
}

impl Dataset for Rotations {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.len
    }

    fn label(&self, index: usize) -> usize {
        index % 4
    }

    fn name(&self, index: usize) -> String {
        format!("crop {index}")
    }

    fn read(&self, index: usize) -> Result<Content> {
        if index >= self.len {
            return Err(Error::Argument { name: "index", value: index.to_string(), expected: format!("below {}", self.len) });
        }
        let crop = self.crops.apply(self.photograph.clone(), &mut Draws::new(index as u64, &[]));
        Ok(Content::Pixels((0..self.label(index)).fold(crop, |image, _| quarter_turn(&image))))
    }
}

/// Turns a square picture clockwise.
fn quarter_turn(image: &Rgb8Image) -> Rgb8Image {
    let mut turned = image.clone();
    for y in 0..image.height {
        for x in 0..image.width {
            let (from, to) = (3 * (y * image.width + x), 3 * (x * image.width + image.height - 1 - y));
            turned.pixels[to..to + 3].copy_from_slice(&image.pixels[from..from + 3]);
        }
    }
    turned
}
