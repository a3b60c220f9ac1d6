//! The arithmetic of the learning rate finder: which rates to try, when to stop, what the curve suggests. fastai's, without its model.

use serde::{Deserialize, Serialize};

use crate::schedule::positive;
use timburn_core::{Error, Result};

/// A sweep of learning rates. Defaults are fastai's `lr_find`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LrFinder {
    /// First learning rate.
    pub start_lr: f64,
    /// Learning rate after the last step.
    pub end_lr: f64,
    /// Steps.
    pub num_it: usize,
    /// Weight of the past in the smoothed loss, in `[0, 1)`.
    pub beta: f64,
    /// The sweep ends early when the smoothed loss exceeds this multiple of its best.
    pub stop_factor: f64,
}

impl Default for LrFinder {
    fn default() -> Self {
        Self { start_lr: 1e-7, end_lr: 10.0, num_it: 100, beta: 0.98, stop_factor: 4.0 }
    }
}

impl LrFinder {
    /// The learning rate of step `step`: `start (end / start)^(step / num_it)`.
    pub fn lr(&self, step: usize) -> f64 {
        self.start_lr * (self.end_lr / self.start_lr).powf(step as f64 / self.num_it as f64)
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        positive("lr_finder.start_lr", self.start_lr)?;
        positive("lr_finder.end_lr", self.end_lr)?;
        positive("lr_finder.num_it", self.num_it as f64)?;
        positive("lr_finder.stop_factor", self.stop_factor)?;
        if (0.0..1.0).contains(&self.beta) {
            return Ok(());
        }
        Err(Error::Argument { name: "lr_finder.beta", value: self.beta.to_string(), expected: "a number in [0, 1)".into() })
    }
}

/// One step of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Learning rate of the step.
    pub lr: f64,
    /// Smoothed loss after it.
    pub loss: f64,
    /// Its own loss.
    pub raw: f64,
}

/// A sweep as it goes.
#[derive(Debug, Clone)]
pub struct Sweep {
    finder: LrFinder,
    average: f64,
    best: f64,
    points: Vec<Point>,
}

impl Sweep {
    /// Before the first step.
    pub fn new(finder: LrFinder) -> Self {
        Self { finder, average: 0.0, best: f64::INFINITY, points: Vec::new() }
    }

    /// The learning rate of the next step; `None` when the sweep is over.
    pub fn next_lr(&self) -> Option<f64> {
        let bearable = self.points.last().is_none_or(|point| point.loss <= self.finder.stop_factor * self.best);
        (bearable && self.points.len() < self.finder.num_it).then(|| self.finder.lr(self.points.len()))
    }

    /// Takes in the loss of the step at [`next_lr`](Self::next_lr). The smoothed loss is the exponential average, corrected for its start
    /// from zero: `a ← β a + (1 - β) loss`, `a / (1 - βⁿ)`. A loss that is not a number ends the sweep.
    pub fn record(&mut self, loss: f64) {
        let beta = self.finder.beta;
        self.average = beta * self.average + (1.0 - beta) * loss;
        let count = self.points.len() + 1;
        let smoothed = self.average / (1.0 - beta.powi(count as i32));
        self.best = self.best.min(smoothed);
        self.points.push(Point { lr: self.finder.lr(count - 1), loss: smoothed, raw: loss });
    }

    /// The steps so far.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// What fastai looks at for its suggestions: without the first tenth of the planned steps and the last five, up to the first loss that
    /// is not a number.
    pub fn settled(&self) -> Vec<Point> {
        let end = self.points.len().saturating_sub(5);
        let part = self.points.get(self.finder.num_it / 10..end).unwrap_or_default();
        part.iter().copied().take_while(|point| !point.loss.is_nan()).collect()
    }
}

/// The learning rate where the loss falls most steeply over the logarithm of the rate: fastai's `steep`. `None` below two points.
pub fn steepest(points: &[Point]) -> Option<f64> {
    let slopes = points.windows(2).filter_map(|pair| {
        let [a, b] = pair else { return None };
        Some(((b.loss - a.loss) / (b.lr.ln() - a.lr.ln()), a.lr))
    });
    // The first of equals, as `argmin`.
    slopes
        .fold(None, |best: Option<(f64, f64)>, slope| match best {
            Some(best) if best.0 <= slope.0 => Some(best),
            _ => Some(slope),
        })
        .map(|(_, lr)| lr)
}

/// The learning rate half-way through the middle third of the longest valley of the losses: fastai's `valley`. `None` without points.
pub fn valley(points: &[Point]) -> Option<f64> {
    // Length of the longest decreasing subsequence that ends at each point, and where the longest of all ends.
    let mut lengths = vec![1usize; points.len()];
    let (mut start, mut end) = (0i64, 0usize);
    for i in 1..points.len() {
        for j in 0..i {
            if points[i].loss < points[j].loss && lengths[i] < lengths[j] + 1 {
                lengths[i] = lengths[j] + 1;
            }
            if lengths[end] < lengths[i] {
                // As fastai: the subsequence is taken for a contiguous one, and its length for what it is the moment it leads.
                end = i;
                start = i as i64 - lengths[i] as i64;
            }
        }
    }
    let sections = (end as i64 - start) as f64 / 3.0;
    let index = start + sections as i64 + (sections / 2.0) as i64;
    points.get(index.max(0) as usize).map(|point| point.lr)
}
