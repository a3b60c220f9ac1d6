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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_kept_and_used() {
        let picture = |index: usize| Rgb8Image { width: 1 + index % 3, height: 1, pixels: vec![index as u8; 3 * (1 + index % 3)] };
        for budget in [0, 1, 3, 50, 599, 600, 10_000] {
            let cache = Cache::new(100, budget);
            assert_eq!(cache.is_on(), budget > 0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..100).for_each(|index| cache.offer(index, &picture(index))));
                }
            });
            let kept: usize = (0..100).filter_map(|index| cache.get(index)).map(|image| image.pixels.len()).sum();
            // Several threads with one picture may each have asked for room, and given it back.
            let whole = 597;
            assert!(kept <= budget && (budget < whole || kept > whole - 40 || budget >= 4 * whole), "{kept} of {budget}");
            if budget > 4 * whole {
                assert_eq!(kept, whole);
            }
            assert_eq!(cache.left.load(Ordering::Relaxed), budget - kept);
            for index in 0..100 {
                assert!(cache.get(index).is_none_or(|image| *image == picture(index)));
            }
            assert!(cache.get(100).is_none());
        }
    }

    #[test]
    fn room_asked_for_twice_is_given_back() {
        // Large enough that both threads are copying when the first one is through, in some of the rounds.
        let image = Rgb8Image { width: 1024, height: 1024, pixels: vec![7; 3 << 20] };
        for _ in 0..20 {
            let cache = Cache::new(1, 10 << 20);
            let barrier = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        barrier.wait();
                        cache.offer(0, &image);
                    });
                }
            });
            assert_eq!(cache.left.load(Ordering::Relaxed), 7 << 20);
        }
    }
}
