//! A batch of pictures on the host.

use timburn_core::preprocessing::{ChannelOrder, Preprocessing};

use super::bad::BadFile;

/// The arithmetic between 8-bit pixels and a model's input: `(x / 255 - mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Channel means, full scale = 1, in the tensor's channel order.
    pub mean: [f32; 3],
    /// Channel standard deviations, same units and order.
    pub std: [f32; 3],
    /// Channel order of the tensor.
    pub channels: ChannelOrder,
}

impl From<&Preprocessing> for Normalization {
    fn from(spec: &Preprocessing) -> Self {
        Self { mean: spec.mean, std: spec.std, channels: spec.channels }
    }
}

/// Samples that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[n, height, width, 3]`, red first.
    pub pixels: Vec<u8>,
    /// Rows of each picture; 0 in an empty batch.
    pub height: usize,
    /// Columns of each picture; 0 in an empty batch.
    pub width: usize,
    /// Class index of each picture.
    pub labels: Vec<usize>,
    /// Index in the data set of each picture.
    pub indices: Vec<usize>,
    /// Samples that belong here and could not be used, in order: the batch is that much smaller.
    pub bad: Vec<BadFile>,
}

impl Batch {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether no picture is left: all of the batch's samples were bad. A trainer has to pass over it.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Keeps the first `count` pictures.
    pub fn truncate(&mut self, count: usize) {
        self.labels.truncate(count);
        self.indices.truncate(count);
        self.pixels.truncate(count * self.height * self.width * 3);
    }
}
