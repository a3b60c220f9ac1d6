//! How often which values occur, and the range of bytes that represents them best.

use timburn_kernels::infer::int8::Quantization;

/// Bins on each side of zero.
const BINS: usize = 2048;
/// Parts of the range that are tried as its ends.
const STEPS: usize = 64;

/// Counts of values in bins of equal width, a power of two that grows with the values: the same whatever their order.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    /// Binary logarithm of a bin's width.
    exponent: i32,
    /// Bins from the most negative to the most positive.
    counts: Vec<u64>,
    low: f32,
    high: f32,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { exponent: -126, counts: vec![0; 2 * BINS], low: 0.0, high: 0.0 }
    }

    /// Counts values; whether all were finite. Zeros are not counted: their byte is exact.
    pub(super) fn add(&mut self, values: &[f32]) -> bool {
        let (low, high) = values.iter().fold((0f32, 0f32), |(low, high), &value| (low.min(value), high.max(value)));
        let largest = low.abs().max(high);
        if !largest.is_finite() || values.iter().any(|value| value.is_nan()) {
            return false;
        }
        (self.low, self.high) = (self.low.min(low), self.high.max(high));
        while f64::from(largest) >= self.width() * BINS as f64 {
            self.widen();
        }
        // A power of two: exact, but for values that are next to nothing.
        let scale = (1.0 / self.width()) as f32;
        for &value in values.iter().filter(|&&value| value != 0.0) {
            let bin = (value * scale).floor() as isize + BINS as isize;
            if let Some(count) = usize::try_from(bin).ok().and_then(|bin| self.counts.get_mut(bin)) {
                *count += 1;
            }
        }
        true
    }

    fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    /// Joins neighbouring bins. Those on both sides of zero stay apart.
    fn widen(&mut self) {
        let mut counts = vec![0; 2 * BINS];
        for (pair, sum) in self.counts.chunks_exact(2).zip(counts.iter_mut().skip(BINS / 2)) {
            *sum = pair.iter().sum();
        }
        (self.counts, self.exponent) = (counts, self.exponent + 1);
    }

    /// The ends for which the mean squared difference between values and their bytes is the least: a few values far away, clamped, may cost less
    /// than coarser steps for all the others.
    pub(super) fn range(&self) -> [f32; 2] {
        let mut range = [self.low, self.high];
        // Each end by itself, given the other.
        for end in [1, 0, 1] {
            let full = [self.low, self.high][end];
            let tried = (STEPS / 4..=STEPS).rev().map(|step| full * (step as f32 / STEPS as f32));
            let candidates = tried.map(|value| if end == 0 { [value, range[1]] } else { [range[0], value] });
            let costs = candidates.map(|candidate| (self.cost(candidate), candidate));
            // Of equals the first: the widest.
            if let Some((_, best)) = costs.min_by(|a, b| a.0.total_cmp(&b.0)) {
                range = best;
            }
        }
        range
    }

    /// Sum of squared differences.
    fn cost(&self, [low, high]: [f32; 2]) -> f64 {
        let Some(quantization) = Quantization::covering(low, high) else { return f64::INFINITY };
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let costs = counted.map(|(bin, &count)| {
            let value = (bin as f64 - BINS as f64 + 0.5) * self.width();
            let error = value - f64::from(quantization.value(quantization.byte(value as f32)));
            count as f64 * error * error
        });
        costs.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_do_not_depend_on_the_order() {
        let values: Vec<f32> = (0..1000).map(|index| ((index * 7919) % 1000) as f32 / 100.0 - 3.0).collect();
        let (mut there, mut back) = (Histogram::new(), Histogram::new());
        assert!(values.chunks(100).all(|values| there.add(values)));
        assert!(values.chunks(100).rev().all(|values| back.add(values)));
        assert_eq!((there.exponent, &there.counts), (back.exponent, &back.counts));
        assert_eq!((there.low, there.high), (-3.0, 6.99));
        assert_eq!(there.counts.iter().sum::<u64>(), 999);
        assert_eq!(there.range(), back.range());
    }

    #[test]
    fn an_outlier_is_cut_off_and_an_even_spread_is_not() {
        let even: Vec<f32> = (0..1_000_000).map(|index| index as f32 / 100_000.0).collect();
        let mut histogram = Histogram::new();
        assert!(histogram.add(&even));
        let [low, high] = histogram.range();
        assert_eq!(low, 0.0);
        assert!((9.8..=10.0).contains(&high), "{high}");
        assert!(histogram.add(&[16.0]));
        assert!(histogram.range()[1] < 12.0, "{:?}", histogram.range());
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!Histogram::new().add(&[1.0, bad, 2.0]));
        }
        let mut histogram = Histogram::new();
        assert!(histogram.add(&[]) && histogram.add(&[0.0, f32::MAX, f32::MIN_POSITIVE / 8.0]));
        let [_, high] = histogram.range();
        assert!(high > 0.9 * f32::MAX && high.is_finite(), "{high}");
        assert_eq!(Histogram::new().range(), [0.0, 0.0]);
    }
}
