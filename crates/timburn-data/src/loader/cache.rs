//! Decoded pictures kept in memory under a budget of bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::image::Rgb8Image;

/// The pictures that came first, until the budget is spent. Nothing is evicted: an epoch visits every sample once, and a cache that drops
/// the oldest picture would drop each one just before it is wanted again.
pub(super) struct Cache {
    pictures: Vec<OnceLock<Arc<Rgb8Image>>>,
    left: AtomicUsize,
}

impl Cache {
    /// Room for pictures of `len` samples in `bytes`; none at all if that is 0.
    pub(super) fn new(len: usize, bytes: usize) -> Self {
        let slots = if bytes == 0 { 0 } else { len };
        Self { pictures: (0..slots).map(|_| OnceLock::new()).collect(), left: AtomicUsize::new(bytes) }
    }

    /// Whether pictures are kept at all.
    pub(super) fn is_on(&self) -> bool {
        !self.pictures.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<Arc<Rgb8Image>> {
        self.pictures.get(index)?.get().cloned()
    }

    /// Keeps a picture if there is room.
    pub(super) fn offer(&self, index: usize, image: &Rgb8Image) {
        let Some(slot) = self.pictures.get(index) else { return };
        let size = image.pixels.len();
        if slot.get().is_some() || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size)).is_err() {
            return;
        }
        if slot.set(Arc::new(image.clone())).is_err() {
            // Another worker had the same sample (repeats) and was first.
            self.left.fetch_add(size, Ordering::Relaxed);
        }
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.pictures.iter().filter_map(|slot| slot.get()).map(|image| image.pixels.len()).sum()
    }
}
