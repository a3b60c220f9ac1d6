//! One pass over the data.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use timburn_core::error::DataError;
use timburn_core::{Error, Result};

use super::batch::Batch;
use super::work::{Source, Work};

/// The batches of one epoch, in order; made by [`Loader::epoch`](super::Loader::epoch).
///
/// It yields every batch of the epoch, or those before an error, the error, and then nothing. Dropping it stops the workers after the sample
/// each has in hand, and waits for them.
pub struct Epoch {
    source: Arc<Source>,
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
    /// What keeps the epoch from beginning.
    failure: Option<Error>,
    next: usize,
    end: usize,
    allowed: usize,
    bad: usize,
    seen: usize,
    first_bad: Option<String>,
    waited: Duration,
}

impl Epoch {
    pub(super) fn start(source: Arc<Source>, work: Work, batches: std::ops::Range<usize>, samples: usize) -> Self {
        let work = Arc::new(work);
        let mut threads = Vec::new();
        let mut failure = None;
        if !batches.is_empty() {
            for number in 0..source.options.workers {
                let work = work.clone();
                match std::thread::Builder::new().name(format!("loader-{number}")).spawn(move || work.run()) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        log::warn!("{number} of {} loader threads started: {error}", source.options.workers);
                        if number == 0 {
                            failure = Some(Error::io("start", "a loader thread")(error));
                        }
                        break;
                    }
                }
            }
        }
        let allowed = source.options.bad_files.allowed(samples);
        let (next, end) = (batches.start, batches.end);
        Self { source, work, threads, failure, next, end, allowed, bad: 0, seen: 0, first_bad: None, waited: Duration::ZERO }
    }

    /// How long [`next`](Iterator::next) has waited for batches so far: the share of the wall clock by which the data holds up its consumer.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Bad samples so far, all of which were in some [`Batch::bad`].
    pub fn bad(&self) -> usize {
        self.bad
    }

    fn take(&mut self) -> Result<Batch> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let start = Instant::now();
        let assembly = self.work.take();
        self.waited += start.elapsed();
        let batch = assembly?.finish(self.source.options.bad_files)?;
        self.seen += batch.len() + batch.bad.len();
        self.bad += batch.bad.len();
        self.source.bad.fetch_add(batch.bad.len(), Ordering::Relaxed);
        if let (None, Some(bad)) = (&self.first_bad, batch.bad.first()) {
            self.first_bad = Some(bad.reason.clone());
        }
        if self.bad > self.allowed {
            let first = self.first_bad.clone().unwrap_or_default();
            return Err(DataError::TooManyBadFiles { bad: self.bad, seen: self.seen, allowed: self.allowed, first }.into());
        }
        Ok(batch)
    }

    fn stop(&mut self) {
        self.work.stop();
        for thread in self.threads.drain(..) {
            // Why a thread died was reported through the batch it left behind.
            let _ = thread.join();
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.next >= self.end {
            return None;
        }
        let outcome = self.take();
        self.next = if outcome.is_ok() { self.next + 1 } else { self.end };
        if self.next == self.end {
            self.stop();
        }
        Some(outcome)
    }
}

impl std::iter::FusedIterator for Epoch {}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoch").field("next", &self.next).field("end", &self.end).field("bad", &self.bad).finish_non_exhaustive()
    }
}
