//! A request to stop, from a signal handler or another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared between the trainer and whoever may want it to end early. A trainer that is asked to stop finishes its step, writes a checkpoint
/// and returns.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks for the stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for signal handlers, which may only set it.
    pub fn inner(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}
