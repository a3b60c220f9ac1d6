//! A batch while it is put together.

use timburn_core::error::DataError;
use timburn_core::{Error, Result};

use super::bad::BadFile;
use super::batch::Batch;
use super::options::{BadFiles, argument};
use super::plan::Place;
use crate::image::Rgb8Image;

/// The pictures of a batch, as workers hand them in. The first one decides the size of the buffer; each is copied to its place at once, so
/// that a batch under construction takes the memory of the batch and no more.
#[derive(Default)]
pub(super) struct Assembly {
    entries: Vec<Entry>,
    missing: usize,
    size: (usize, usize),
    pixels: Vec<u8>,
}

struct Entry {
    place: Place,
    label: usize,
    outcome: Outcome,
}

enum Outcome {
    Missing,
    /// Width and height of a picture, which is in the buffer if they are the buffer's.
    Picture((usize, usize)),
    /// A batch of pictures of so many bytes cannot be had.
    TooLarge(usize),
    Failed(Box<Failure>),
}

/// A sample that could not be used.
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) error: Error,
}

impl Assembly {
    pub(super) fn new(places: &[Place]) -> Self {
        let entries = places.iter().map(|&place| Entry { place, label: 0, outcome: Outcome::Missing }).collect();
        Self { entries, missing: places.len(), size: (0, 0), pixels: Vec::new() }
    }

    /// Takes a sample's label and picture, or its name and error. True when nothing is missing any more.
    pub(super) fn put(&mut self, offset: usize, outcome: Result<(usize, Rgb8Image), Box<Failure>>) -> bool {
        let count = self.entries.len();
        let Some(entry) = self.entries.get_mut(offset) else { return false };
        entry.outcome = match outcome {
            Err(failure) => Outcome::Failed(failure),
            Ok((label, image)) => {
                entry.label = label;
                let size = (image.width, image.height);
                let bytes = image.pixels.len();
                if self.pixels.is_empty() && fits(count.saturating_mul(bytes)) {
                    self.pixels = vec![0; count * bytes];
                    self.size = size;
                }
                if size == self.size
                    && let Some(to) = self.pixels.chunks_exact_mut(bytes.max(1)).nth(offset)
                {
                    to.copy_from_slice(&image.pixels);
                }
                if self.pixels.is_empty() { Outcome::TooLarge(bytes) } else { Outcome::Picture(size) }
            }
        };
        self.missing -= 1;
        self.missing == 0
    }

    /// The finished batch.
    ///
    /// # Errors
    /// That of the first sample, in the batch's order, which the policy does not let pass: the same for any number of workers.
    pub(super) fn finish(mut self, policy: BadFiles) -> Result<Batch> {
        let mut bad = Vec::new();
        let (mut labels, mut indices) = (Vec::with_capacity(self.entries.len()), Vec::with_capacity(self.entries.len()));
        let mut first = None;
        let (width, height) = self.size;
        let bytes = width * height * 3;
        let count = self.entries.len();
        for (offset, entry) in self.entries.into_iter().enumerate() {
            let index = entry.place.index;
            match entry.outcome {
                Outcome::Picture(size) => {
                    let first = *first.get_or_insert(size);
                    if size != first {
                        let value = format!("{}×{} pixels for sample {index}", size.0, size.1);
                        return Err(argument("prepared picture", value, format!("{}×{} like the first of its batch", first.0, first.1)));
                    }
                    // Pictures close the gaps that bad ones left.
                    if labels.len() < offset {
                        self.pixels.copy_within(offset * bytes..(offset + 1) * bytes, labels.len() * bytes);
                    }
                    labels.push(entry.label);
                    indices.push(index);
                }
                Outcome::Failed(failure) => {
                    let Failure { name, error } = *failure;
                    if !(matches!(policy, BadFiles::Skip { .. }) && is_about_data(&error)) {
                        return Err(error);
                    }
                    bad.push(BadFile { index, name, reason: error.to_string() });
                }
                Outcome::TooLarge(bytes) => {
                    return Err(argument("batch_size", count, format!("fewer: there is no memory for so many pictures of {bytes} bytes")));
                }
                // A sample is never forgotten; were it, this is an error and not a shorter batch.
                Outcome::Missing => return Err(DataError::Worker { name: format!("number {index}"), reason: "it was lost".into() }.into()),
            }
        }
        self.pixels.truncate(labels.len() * bytes);
        Ok(Batch { pixels: self.pixels, height, width, labels, indices, bad })
    }
}

/// Whether the system would give so much memory: asking it first makes an error of what would abort the process.
fn fits(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

/// Errors that a policy may let pass: they are one sample's, while the others would fail again and again.
fn is_about_data(error: &Error) -> bool {
    match error {
        Error::Image(_) | Error::Io { .. } => true,
        Error::Data(error) => !matches!(error, DataError::Worker { .. }),
        _ => false,
    }
}
