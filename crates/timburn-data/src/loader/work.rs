//! The worker threads of an epoch, and the window of batches they share with the consumer.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use timburn_core::error::DataError;
use timburn_core::panic::panic_message;
use timburn_core::{Error, Result};

use super::assembly::{Assembly, Failure};
use super::cache::Cache;
use super::options::LoaderOptions;
use super::plan::{self, Place};
use super::prepare::Prepare;
use crate::dataset::{Content, DynDataset};
use crate::image::Rgb8Image;

/// Samples a worker takes at a time, at most: enough to make the lock cheap for 32×32 pictures.
const LARGEST_CLAIM: usize = 32;

/// Everything a loader keeps over its epochs.
pub(super) struct Source {
    pub(super) dataset: DynDataset,
    pub(super) prepare: Arc<dyn Prepare>,
    pub(super) options: LoaderOptions,
    pub(super) cache: Cache,
    /// Bad samples of all epochs.
    pub(super) bad: AtomicUsize,
}

/// What the threads of one epoch share.
pub(super) struct Work {
    source: Arc<Source>,
    epoch: u64,
    /// The rank's samples, whole batches but for the last.
    places: Vec<Place>,
    state: Mutex<State>,
    /// Signals workers: the window moved on.
    room: Condvar,
    /// Signals the consumer: a batch is complete, or a worker died.
    ready: Condvar,
    stop: AtomicBool,
}

struct State {
    /// Next position of `places` to hand out.
    next: usize,
    /// Batch at the front of `window`; those before it belong to the consumer.
    front: usize,
    window: VecDeque<Slot>,
    /// The first batch that a dead worker left incomplete, and the sample it had in hand.
    dead: Option<(usize, String)>,
}

struct Slot {
    assembly: Arc<Mutex<Assembly>>,
    complete: bool,
}

/// Some samples of one batch, for one worker.
struct Claim {
    batch: usize,
    positions: Range<usize>,
    assembly: Arc<Mutex<Assembly>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked is accounted for elsewhere; what the lock guards is consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work {
    pub(super) fn new(source: Arc<Source>, epoch: u64, places: Vec<Place>, first_batch: usize) -> Self {
        let next = first_batch.saturating_mul(source.options.batch_size).min(places.len());
        let state = Mutex::new(State { next, front: first_batch, window: VecDeque::new(), dead: None });
        Self { source, epoch, places, state, room: Condvar::new(), ready: Condvar::new(), stop: AtomicBool::new(false) }
    }

    /// Takes the next batch of the epoch, waiting for it.
    ///
    /// # Errors
    /// [`DataError::Worker`] when a thread died over one of its samples; else as [`Assembly::finish`].
    pub(super) fn take(&self) -> Result<Assembly> {
        let mut state = lock(&self.state);
        loop {
            if state.window.front().is_some_and(|slot| slot.complete) {
                break;
            }
            // Batches before the dead worker's come from the living; its own will never be complete.
            let front = state.front;
            if let Some((_, name)) = state.dead.take_if(|(batch, _)| *batch <= front) {
                return Err(DataError::Worker { name, reason: "its worker thread died".into() }.into());
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let slot = state.window.pop_front();
        state.front += 1;
        drop(state);
        self.room.notify_all();
        // Taken out of its lock: the worker that was last but one may not have let go of it yet.
        Ok(slot.map(|slot| std::mem::take(&mut *lock(&slot.assembly))).unwrap_or_default())
    }

    /// Makes workers leave as soon as they have finished the sample in hand.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // Under the lock, or a worker between its check and its wait would sleep through it.
        drop(lock(&self.state));
        self.room.notify_all();
    }

    /// What a worker thread does.
    pub(super) fn run(&self) {
        while let Some(claim) = self.claim() {
            self.serve(claim);
        }
    }

    /// The next samples to prepare, waiting for room in the window; `None` at the end of the epoch.
    fn claim(&self) -> Option<Claim> {
        let LoaderOptions { batch_size, workers, prefetch, .. } = self.source.options;
        // The batches made ahead, and those that the workers are at: every worker has something to do even if a batch is a single sample.
        let window = prefetch.saturating_add(workers.div_ceil(batch_size));
        let share = (batch_size / workers.saturating_mul(4)).clamp(1, LARGEST_CLAIM);
        let mut state = lock(&self.state);
        loop {
            if self.stop.load(Ordering::Relaxed) || state.next >= self.places.len() {
                return None;
            }
            let batch = state.next / batch_size;
            let slot = batch - state.front;
            if slot < window {
                let begin = batch * batch_size;
                let end = begin.saturating_add(batch_size).min(self.places.len());
                if slot == state.window.len() {
                    let places = self.places.get(begin..end).unwrap_or_default();
                    state.window.push_back(Slot { assembly: Arc::new(Mutex::new(Assembly::new(places))), complete: false });
                }
                let positions = state.next..(state.next + share).min(end);
                state.next = positions.end;
                let assembly = state.window.get(slot)?.assembly.clone();
                return Some(Claim { batch, positions, assembly });
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self, claim: Claim) {
        let Claim { batch, positions, assembly } = claim;
        let mut complete = false;
        for position in positions {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(&place) = self.places.get(position) else { return };
            let watch = Watch { work: self, batch, index: place.index };
            let outcome = self.prepare(place);
            complete = lock(&assembly).put(position % self.source.options.batch_size, outcome);
            std::mem::forget(watch);
        }
        if complete {
            let mut state = lock(&self.state);
            let slot = batch - state.front;
            if let Some(slot) = state.window.get_mut(slot) {
                slot.complete = true;
            }
            drop(state);
            self.ready.notify_one();
        }
    }

    /// A sample's label and picture, or its name and error; a panic is an error too.
    fn prepare(&self, place: Place) -> Result<(usize, Rgb8Image), Box<Failure>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let name = self.source.dataset.name(place.index);
            match self.picture(place, &name) {
                Ok(image) => Ok((self.source.dataset.label(place.index), image)),
                Err(error) => Err(Box::new(Failure { name, error })),
            }
        }));
        outcome.unwrap_or_else(|panic| {
            let name = self.name(place.index);
            let error = DataError::Worker { name: name.clone(), reason: panic_message(panic.as_ref()) }.into();
            Err(Box::new(Failure { name, error }))
        })
    }

    fn picture(&self, place: Place, name: &str) -> Result<Rgb8Image> {
        let Source { dataset, prepare, options, cache, .. } = &*self.source;
        let content = if let Some(image) = cache.get(place.index) {
            Content::Pixels(Rgb8Image::clone(&image))
        } else {
            match dataset.read(place.index)? {
                // Pixels that need no decoding are not worth the memory.
                content @ Content::Encoded(_) if cache.is_on() => {
                    let image = content.decode(name, &options.decode)?;
                    cache.offer(place.index, &image);
                    Content::Pixels(image)
                }
                content => content,
            }
        };
        let image = prepare.prepare(content, name, &options.decode, &mut plan::draws(options.seed, self.epoch, place))?;
        let expected = image.width.checked_mul(image.height).and_then(|area| area.checked_mul(3));
        if expected != Some(image.pixels.len()) || image.pixels.is_empty() {
            let value = format!("{}×{} pixels in {} bytes for {name}", image.width, image.height, image.pixels.len());
            return Err(Error::Argument { name: "prepared picture", value, expected: "width * height * 3 bytes, not 0".into() });
        }
        Ok(image)
    }

    /// A sample's name from a data set that may be broken.
    fn name(&self, index: usize) -> String {
        catch_unwind(AssertUnwindSafe(|| self.source.dataset.name(index))).unwrap_or_else(|_| format!("number {index}"))
    }
}

/// Notices that its thread dies: whatever gets past `catch_unwind` (a panic's payload that panics when it is dropped) must not leave the
/// consumer waiting for ever.
struct Watch<'a> {
    work: &'a Work,
    batch: usize,
    index: usize,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let name = self.work.name(self.index);
        let mut state = lock(&self.work.state);
        if state.dead.as_ref().is_none_or(|(batch, _)| self.batch < *batch) {
            state.dead = Some((self.batch, name));
        }
        drop(state);
        self.work.ready.notify_all();
    }
}
