//! Two models on the same samples.

use serde::{Deserialize, Serialize};
use timburn_core::seed::Draws;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 10_000;
/// Bound on its draws: larger sets are resampled less often.
const DRAWS: usize = 200_000_000;

/// How two models' answers to the same questions differ: paired, so that what both find hard counts for neither.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Samples both were asked.
    pub samples: u64,
    /// Both right.
    pub both: u64,
    /// Only the first right.
    pub only_first: u64,
    /// Only the second right.
    pub only_second: u64,
    /// Neither right.
    pub neither: u64,
    /// Accuracy of the second minus accuracy of the first.
    pub difference: f64,
    /// 95 % interval of the difference: percentiles of the paired bootstrap.
    pub interval: [f64; 2],
    /// Probability of a split of the samples on which they differ at least as uneven as this one, if both were equally good: the exact
    /// two-sided binomial form of McNemar's test.
    pub p_value: f64,
}

impl Comparison {
    /// Compares answers to the same samples in the same order: whether the first and the second model were right. `seed` decides the
    /// bootstrap's draws.
    pub fn of(answers: impl IntoIterator<Item = (bool, bool)>, seed: u64) -> Self {
        let mut counts = [0u64; 4];
        for (first, second) in answers {
            if let Some(count) = counts.get_mut(usize::from(!first) * 2 + usize::from(!second)) {
                *count += 1;
            }
        }
        let [both, only_first, only_second, neither] = counts;
        let samples = both + only_first + only_second + neither;
        let total = samples.max(1) as f64;
        Self {
            samples,
            both,
            only_first,
            only_second,
            neither,
            difference: (only_second as f64 - only_first as f64) / total,
            interval: bootstrap(samples as usize, only_first as usize, only_second as usize, seed),
            p_value: mcnemar(only_first, only_second),
        }
    }
}

/// The exact two-sided p-value of `b` against `c`.
fn mcnemar(b: u64, c: u64) -> f64 {
    let n = b + c;
    if n == 0 {
        return 1.0;
    }
    // Σ_{i ≤ min} C(n, i) / 2ⁿ, term by term in logarithms.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for i in 0..=b.min(c) {
        sum += term.exp();
        term += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

/// 2.5 % and 97.5 % percentiles of the mean difference over resamples of `n` samples, of which `b` count -1 and `c` count 1.
fn bootstrap(n: usize, b: usize, c: usize, seed: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 0.0];
    }
    let mut draws = Draws::new(seed, &[]);
    let count = RESAMPLES.min((DRAWS / n).max(200));
    let mut differences: Vec<i64> = (0..count)
        .map(|_| {
            let value = |drawn: usize| if drawn < b { -1 } else { i64::from(drawn < b + c) };
            (0..n).map(|_| value(draws.below(n))).sum()
        })
        .collect();
    differences.sort_unstable();
    let at = |share: f64| differences.get((share * (count - 1) as f64).round() as usize).map_or(0.0, |&sum| sum as f64 / n as f64);
    [at(0.025), at(0.975)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_is_scipys_binomtest() {
        // scipy.stats.binomtest(k, n).pvalue
        for (b, c, expected) in [(3, 10, 0.092_285_156_25), (0, 5, 0.0625), (7, 7, 1.0), (120, 180, 0.000_634_220_007), (0, 0, 1.0)] {
            let found = mcnemar(b, c);
            assert!((found - expected).abs() < 1e-6 * expected.max(1e-3), "{b} {c}: {found}");
        }
    }

    #[test]
    fn the_interval_holds_the_difference_and_is_as_wide_as_theory_says() {
        let answers = (0..1000).map(|index| (index % 10 != 0, index % 25 != 0));
        let found = Comparison::of(answers, 1);
        assert_eq!((found.both, found.only_first, found.only_second, found.neither), (880, 20, 80, 20));
        assert!((found.difference - 0.06).abs() < 1e-12);
        let deviation = ((0.1 - 0.06f64.powi(2)) / 1000.0).sqrt();
        for (edge, sign) in found.interval.into_iter().zip([-1.0, 1.0]) {
            assert!((edge - (0.06 + sign * 1.96 * deviation)).abs() < 0.1 * deviation * 1.96, "{:?}", found.interval);
        }
        assert_eq!(found, Comparison::of((0..1000).map(|index| (index % 10 != 0, index % 25 != 0)), 1));
    }
}
