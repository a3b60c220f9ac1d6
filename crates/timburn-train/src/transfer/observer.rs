//! What is told of a fine-tuning as it goes.

use std::time::Duration;

use timburn_core::Result;

use super::head::HeadEpoch;
use crate::metrics::Report;
use crate::trainer::Observer;

/// A part of the work.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Features of so many pictures and views.
    Features {
        /// Forward passes: pictures times views.
        passes: usize,
    },
    /// Nearest neighbours and logistic regression.
    Baselines,
    /// The head on features.
    Head,
    /// The body, for so many epochs of so many steps.
    Body {
        /// Epochs.
        epochs: u64,
        /// Steps of each.
        steps: u64,
        /// What one of them takes with the scoring after it, where that was measured.
        epoch: Option<Duration>,
    },
    /// The body is not trained, and why.
    NoBody {
        /// For people.
        reason: String,
    },
    /// The chosen model on the test set.
    Test,
}

/// What features alone can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Baselines {
    /// Accuracy of the 20 nearest neighbours on the validation set, in `[0, 1]`.
    pub knn: f64,
    /// Accuracy of the logistic regression on it.
    pub probe: f64,
}

/// What a phase gave, on the validation set.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseReport {
    /// `head` or `body`.
    pub name: &'static str,
    /// Whole epochs trained.
    pub epochs: u64,
    /// How long it took.
    pub time: Duration,
    /// The score.
    pub report: Report,
}

/// Is told how it goes. The methods of [`Observer`] are called while the body trains.
pub trait TransferObserver: Observer {
    /// A phase begins.
    ///
    /// # Errors
    /// The observer's own.
    fn phase(&mut self, _phase: &Phase) -> Result<()> {
        Ok(())
    }

    /// So many more pictures went through the body.
    fn extracted(&mut self, _passes: usize) {}

    /// The baselines are known.
    fn baselines(&mut self, _baselines: &Baselines) {}

    /// An epoch of the head is over.
    fn head_epoch(&mut self, _epoch: &HeadEpoch) {}
}

impl TransferObserver for () {}

/// One that sees the training of the body, and one that sees everything.
impl<A: Observer, B: TransferObserver> TransferObserver for (A, B) {
    fn phase(&mut self, phase: &Phase) -> Result<()> {
        self.1.phase(phase)
    }

    fn extracted(&mut self, passes: usize) {
        self.1.extracted(passes);
    }

    fn baselines(&mut self, baselines: &Baselines) {
        self.1.baselines(baselines);
    }

    fn head_epoch(&mut self, epoch: &HeadEpoch) {
        self.1.head_epoch(epoch);
    }
}
