//! How long work takes: many runs, their median and their spread.

use std::time::Instant;

use timburn_core::Result;

/// Times of equal runs, in milliseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timing {
    /// Ascending.
    milliseconds: Vec<f64>,
}

impl Timing {
    /// The times of runs, in milliseconds, in any order.
    pub fn new(mut milliseconds: Vec<f64>) -> Self {
        milliseconds.sort_by(f64::total_cmp);
        Self { milliseconds }
    }

    /// Runs `work` once unheard, then at least `least` times and until `seconds` have passed. What `work` starts on a device it must wait for.
    ///
    /// # Errors
    /// The first error of `work`.
    pub fn measure(seconds: f64, least: usize, mut work: impl FnMut() -> Result<()>) -> Result<Self> {
        work()?;
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < least.max(1) || begin.elapsed().as_secs_f64() < seconds {
            times.push(one(&mut work)?);
        }
        Ok(Self::new(times))
    }

    /// The runs' times in milliseconds, ascending.
    pub fn milliseconds(&self) -> &[f64] {
        &self.milliseconds
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.milliseconds.len()
    }

    /// The middle run, or the mean of the two in the middle; NaN without runs.
    pub fn median(&self) -> f64 {
        let n = self.runs();
        let at = |index: usize| self.milliseconds.get(index).copied().unwrap_or(f64::NAN);
        (at(n.saturating_sub(1) / 2) + at(n / 2)) / 2.0
    }

    /// The fastest run; NaN without runs.
    pub fn min(&self) -> f64 {
        self.milliseconds.first().copied().unwrap_or(f64::NAN)
    }

    /// The slowest run; NaN without runs.
    pub fn max(&self) -> f64 {
        self.milliseconds.last().copied().unwrap_or(f64::NAN)
    }

    /// Items a second at the median, `items` in a run.
    pub fn rate(&self, items: usize) -> f64 {
        items as f64 * 1e3 / self.median()
    }
}

/// What came before the first run that counts: compilation of kernels, their choice by trial, caches and pools that fill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmUp {
    /// Milliseconds of the first run.
    pub first: f64,
    /// Milliseconds of all these runs.
    pub total: f64,
    /// Their number.
    pub runs: usize,
}

/// Runs `work` until a run takes about as long as the one before: two times at least, ten at most.
///
/// # Errors
/// The first error of `work`.
pub fn warm_up(mut work: impl FnMut() -> Result<()>) -> Result<WarmUp> {
    let first = one(&mut work)?;
    let (mut total, mut last, mut runs) = (first, first, 1);
    loop {
        let time = one(&mut work)?;
        (total, runs) = (total + time, runs + 1);
        if runs == 10 || time > last / 1.25 {
            return Ok(WarmUp { first, total, runs });
        }
        last = time;
    }
}

fn one(work: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The most main memory this process has held so far, in bytes; `None` where the system does not say (it does on Linux).
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// Main memory that this process holds, in bytes; `None` where the system does not say (it does on Linux).
pub fn resident_memory() -> Option<u64> {
    status("VmRSS:")
}

fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_extremes() {
        let timing = Timing::new(vec![9.0, 1.0, 3.0, 2.0]);
        assert_eq!((timing.runs(), timing.median(), timing.min(), timing.max()), (4, 2.5, 1.0, 9.0));
        assert_eq!(Timing::new(vec![4.0, 8.0, 5.0]).median(), 5.0);
        assert_eq!(timing.rate(5), 2000.0);
        assert!(Timing::default().median().is_nan() && Timing::default().rate(1).is_nan());
    }

    #[test]
    fn as_many_runs_as_are_asked_for_and_one_unheard() {
        let mut runs = 0;
        let timing = Timing::measure(0.0, 5, || {
            runs += 1;
            Ok(())
        });
        assert_eq!((timing.expect("no error").runs(), runs), (5, 6));
    }

    #[test]
    fn warming_up_ends_when_the_times_do_not_fall_any_more() {
        let mut times = [40, 20, 5, 5, 5].into_iter();
        let warm = warm_up(|| {
            std::thread::sleep(std::time::Duration::from_millis(times.next().unwrap_or(0)));
            Ok(())
        });
        let warm = warm.expect("no error");
        assert!(warm.runs >= 4 && warm.first >= 40.0 && warm.total >= 70.0, "{warm:?}");
    }
}
