//! Memory that is used again: what a training step frees, the next one needs.
//!
//! The system's allocator gives large blocks back to the system, which clears every page of them when they are wanted again: a quarter of a
//! small network's step. Here freed blocks wait for the next owner of their size instead, for a while.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Bound, Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::element::Element;

/// Values of a cache line; blocks start at one.
const LINE: usize = 16;
/// Fewest values of a block that is kept: smaller ones cost the system's allocator little.
const SMALLEST: usize = 1 << 12;
/// Blocks that nobody asked for while this many were handed out go back to the system: several steps of a deep network.
const PATIENCE: u64 = 4096;
/// How often that is looked at.
const INSPECTION: u64 = 512;

/// Values of any content, initialised or not, until their owner says so.
pub(crate) struct Block<T = f32> {
    start: NonNull<f32>,
    /// f32 values there is room for: a class of [`class`].
    capacity: usize,
    /// Values that count.
    len: usize,
    of: PhantomData<T>,
}

// SAFETY: owned memory, as a `Vec<T>`.
unsafe impl<T: Element> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Block<T> {}

/// Sizes come in eight classes to each power of two: at most an eighth of a block is not used.
fn class(len: usize) -> usize {
    let step = (len.max(LINE).next_power_of_two() / 16).max(LINE);
    len.max(1).next_multiple_of(step)
}

fn layout(capacity: usize) -> Layout {
    // `Block::new` refuses what would overflow here.
    let size = capacity.saturating_mul(size_of::<f32>()).min(isize::MAX as usize - LINE * size_of::<f32>());
    Layout::from_size_align(size, LINE * size_of::<f32>()).unwrap_or(Layout::new::<[f32; LINE]>())
}

struct Idle {
    start: NonNull<f32>,
    since: u64,
}

// SAFETY: owned memory.
unsafe impl Send for Idle {}

struct Pool {
    /// By capacity, the newest last.
    idle: BTreeMap<usize, Vec<Idle>>,
    /// Blocks handed out so far.
    clock: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { idle: BTreeMap::new(), clock: 0 });

impl Pool {
    fn lock() -> MutexGuard<'static, Self> {
        // Nothing that holds the lock can panic half way.
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of this class, or of one that is larger by a quarter at most: the one freed last, which may still be in a cache.
    fn take(&mut self, capacity: usize) -> Option<(NonNull<f32>, usize)> {
        self.clock += 1;
        let range = (Bound::Included(capacity), Bound::Included(capacity + capacity / 4));
        let (&capacity, blocks) = self.idle.range_mut(range).find(|(_, blocks)| !blocks.is_empty())?;
        blocks.pop().map(|idle| (idle.start, capacity))
    }

    /// Takes out what was idle since before `since`.
    fn expired(&mut self, since: u64) -> Vec<(NonNull<f32>, usize)> {
        let mut expired = Vec::new();
        self.idle.retain(|&capacity, blocks| {
            expired.extend(blocks.extract_if(.., |idle| idle.since < since).map(|idle| (idle.start, capacity)));
            !blocks.is_empty()
        });
        expired
    }
}

fn free(blocks: Vec<(NonNull<f32>, usize)>) {
    for (start, capacity) in blocks {
        // SAFETY: allocated with this layout, and nobody's any more.
        unsafe { dealloc(start.as_ptr().cast(), layout(capacity)) };
    }
}

/// Returns the memory that waits for reuse to the system.
pub(crate) fn release() {
    let idle = Pool::lock().expired(u64::MAX);
    free(idle);
}

impl<T: Element> Block<T> {
    /// Room for `len` values, of any content.
    pub(crate) fn new(len: usize) -> Self {
        const { assert!(size_of::<T>() <= size_of::<f32>()) };
        let of = PhantomData;
        // Far from where the arithmetic of sizes would wrap and give less room than asked for.
        assert!(len <= isize::MAX as usize / 16, "{len} values: more than any memory holds");
        let capacity = class(len.div_ceil(size_of::<f32>() / size_of::<T>()));
        if capacity >= SMALLEST
            && let Some((start, capacity)) = Pool::lock().take(capacity)
        {
            return Self { start, capacity, len, of };
        }
        let layout = layout(capacity);
        // SAFETY: never of size 0: a class has at least one value.
        let start = unsafe { alloc(layout) }.cast::<f32>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, capacity, len, of }
    }

    /// The first value's address.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr().cast()
    }
}

impl<T> Block<T> {
    /// Bytes there is room for.
    pub(crate) fn bytes(&self) -> usize {
        self.capacity * size_of::<f32>()
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        let (start, capacity) = (self.start, self.capacity);
        if capacity < SMALLEST {
            free(vec![(start, capacity)]);
            return;
        }
        let mut pool = Pool::lock();
        let since = pool.clock;
        pool.idle.entry(capacity).or_default().push(Idle { start, since });
        let expired = if since.is_multiple_of(INSPECTION) { pool.expired(since.saturating_sub(PATIENCE)) } else { Vec::new() };
        drop(pool);
        free(expired);
    }
}

impl<T: Element> Deref for Block<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: that many values, initialised: whoever hands out a block has written them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }
}

impl<T: Element> DerefMut for Block<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len) }
    }
}

impl From<Vec<f32>> for Block {
    fn from(values: Vec<f32>) -> Self {
        let mut block = Self::new(values.len());
        // SAFETY: room for as many values.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), block.as_mut_ptr(), values.len()) };
        block
    }
}

impl<T> std::fmt::Debug for Block<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} of {})", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn classes_hold_what_they_are_for_and_waste_an_eighth_at_most() {
        for len in (0..5000).chain([1 << 20, (1 << 20) + 1, 6_422_528, 25_690_112]) {
            let capacity = class(len);
            assert!(capacity >= len.max(1), "{len}: {capacity}");
            assert!(capacity - len <= (len / 8).max(LINE), "{len}: {capacity}");
            assert_eq!(class(capacity), capacity, "{len}");
        }
    }

    #[test]
    fn a_freed_block_is_used_again_and_release_gives_it_back() {
        // A size that no other test comes near.
        let len = 3_333_333;
        let first = Block::<f32>::new(len).as_mut_ptr();
        let mut second = Block::<f32>::new(len);
        assert_eq!(second.as_mut_ptr(), first);
        let mut other = Block::<f32>::new(len);
        let third = other.as_mut_ptr();
        assert_ne!(third, first);
        assert!(first.is_aligned() && first.addr().is_multiple_of(64));
        drop((second, other));
        // Half as large values, twice as many.
        let half = Block::<bf16>::new(2 * len - 1).as_mut_ptr().cast::<f32>();
        assert!(half == first || half == third);
        release();
        assert!(Pool::lock().idle.get(&class(len)).is_none_or(Vec::is_empty));
    }

    #[test]
    fn values_survive_the_way_from_a_vector() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32).collect();
        assert_eq!(Block::from(values.clone())[..], values[..]);
        assert!(Block::from(Vec::new()).is_empty());
    }
}
