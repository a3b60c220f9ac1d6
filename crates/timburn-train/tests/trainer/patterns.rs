//! Pictures that can be told apart, made on the spot, with faults where a test wants them.

use std::sync::{Arc, Mutex};

use timburn_core::seed::Draws;
use timburn_core::{Classes, Result};
use timburn_data::{Content, Dataset, Rgb8Image, Splits};

type Change = Arc<dyn Fn(usize, Rgb8Image) -> Result<Rgb8Image> + Send + Sync>;

/// Class k is a bright spot in another place and another colour each; the rest is noise.
#[derive(Clone)]
pub(crate) struct Patterns {
    classes: Classes,
    labels: Vec<usize>,
    side: usize,
    seed: u64,
    change: Change,
    /// Samples in the order they were read.
    pub(crate) read: Arc<Mutex<Vec<usize>>>,
}

impl Patterns {
    /// The classes in turn.
    pub(crate) fn new(classes: usize, count: usize, side: usize, seed: u64) -> Self {
        Self::labelled(classes, (0..count).map(|index| index % classes).collect(), side, seed)
    }

    pub(crate) fn labelled(classes: usize, labels: Vec<usize>, side: usize, seed: u64) -> Self {
        let change: Change = Arc::new(|_, image| Ok(image));
        Self { classes: Classes::numbered(classes), labels, side, seed, change, read: Arc::default() }
    }

    /// With `change` made to every picture that is read.
    pub(crate) fn changed(self, change: impl Fn(usize, Rgb8Image) -> Result<Rgb8Image> + Send + Sync + 'static) -> Self {
        Self { change: Arc::new(change), ..self }
    }

    /// With this set for validation.
    pub(crate) fn with(self, validation: Self) -> Splits {
        Splits { train: Arc::new(self), validation: Some(Arc::new(validation)), test: None }
    }

    fn picture(&self, index: usize) -> Rgb8Image {
        let (label, side) = (self.labels[index], self.side);
        let mut draws = Draws::new(self.seed, &[index as u64]);
        let mut pixels: Vec<u8> = (0..side * side * 3).map(|_| draws.below(100) as u8).collect();
        let (top, left) = ((label * 5) % (side / 2), (label * 3) % (side / 2));
        for y in top..top + side / 2 {
            for x in left..left + side / 2 {
                pixels[(y * side + x) * 3 + label % 3] += 150;
            }
        }
        Rgb8Image::new(side, side, pixels).expect("as many pixels")
    }
}

impl Dataset for Patterns {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }

    fn name(&self, index: usize) -> String {
        format!("pattern-{index}")
    }

    fn read(&self, index: usize) -> Result<Content> {
        self.read.lock().expect("no reader panics while it holds it").push(index);
        (self.change)(index, self.picture(index)).map(Content::Pixels)
    }
}
