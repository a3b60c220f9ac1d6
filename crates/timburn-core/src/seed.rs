//! Randomness that is a function of its name: the same on every device, in every order, after every resume.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// Mixes a seed with the coordinates of a draw (epoch and index of a sample, number of a parameter, …) into a new seed.
///
/// SplitMix64's finaliser over each coordinate in turn; equal inputs give equal seeds for ever.
pub fn derive(seed: u64, coordinates: &[u64]) -> u64 {
    coordinates.iter().fold(mix(seed), |state, &part| mix(state ^ mix(part.wrapping_add(0x9E37_79B9_7F4A_7C15))))
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A ChaCha8 stream: its output is fixed by the seed alone, across platforms and versions.
pub fn stream(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The random draws of one sample, one batch or one shuffle: a function of the seed and its coordinates alone.
#[derive(Debug)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// The draws that belong to these coordinates, see [`derive`](fn@derive).
    pub fn new(seed: u64, coordinates: &[u64]) -> Self {
        Self(stream(derive(seed, coordinates)))
    }

    /// Uniform in `[0, 1)`, 53 random bits.
    pub fn unit(&mut self) -> f64 {
        unit(&mut self.0)
    }

    /// Uniform in `[low, high)`; `low` when the range is empty.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low).max(0.0) * self.unit()
    }

    /// Uniform in `0..count`, without bias (Lemire's method); 0 for an empty range.
    pub fn below(&mut self, count: usize) -> usize {
        let count = count as u64;
        let threshold = count.wrapping_neg().checked_rem(count).unwrap_or(0);
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(count);
            if product as u64 >= threshold {
                return (product >> 64) as usize;
            }
        }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Box–Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// From the gamma distribution with the given shape and scale 1 (Marsaglia and Tsang, 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Boosted: G(a) = G(a + 1) · U^(1/a).
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// From the beta distribution; the mixing factor of Mixup and CutMix.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        // Both underflow for tiny parameters, where the distribution is a coin.
        if x + y > 0.0 { x / (x + y) } else { f64::from(u8::from(self.chance(a / (a + b)))) }
    }

    /// Puts the items in random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// `count` draws from the uniform distribution on `[low, high)`.
pub fn uniform(seed: u64, count: usize, low: f64, high: f64) -> Vec<f32> {
    let mut rng = stream(seed);
    (0..count).map(|_| (low + (high - low) * unit(&mut rng)) as f32).collect()
}

/// `count` draws from the normal distribution with mean 0 and the given standard deviation (Box–Muller).
pub fn normal(seed: u64, count: usize, std: f64) -> Vec<f32> {
    let mut rng = stream(seed);
    let mut draws = Vec::with_capacity(count + 1);
    while draws.len() < count {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = std * (-2.0 * (1.0 - unit(&mut rng)).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * unit(&mut rng)).sin_cos();
        draws.push((radius * cos) as f32);
        draws.push((radius * sin) as f32);
    }
    draws.truncate(count);
    draws
}

/// A uniform draw in `[0, 1)` with 53 random bits.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned() {
        // A change of these values would change every model a user ever initialised from a seed.
        assert_eq!(derive(0, &[1, 2]), derive(0, &[1, 2]));
        assert_ne!(derive(0, &[1, 2]), derive(0, &[2, 1]));
        assert_ne!(derive(0, &[]), derive(1, &[]));
    }

    #[test]
    fn draws_have_their_distributions() {
        let mut draws = Draws::new(3, &[1, 2, 3]);
        let n = 100_000_i32;
        let moments = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / f64::from(n);
            (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n))
        };
        let near = |(mean, var): (f64, f64), (m, v): (f64, f64)| assert!((mean - m).abs() < 0.02 && (var - v).abs() < 0.04, "{mean} {var}");
        near(moments((0..n).map(|_| draws.normal()).collect()), (0.0, 1.0));
        near(moments((0..n).map(|_| draws.gamma(0.5)).collect()), (0.5, 0.5));
        near(moments((0..n).map(|_| draws.gamma(3.0)).collect()), (3.0, 3.0));
        near(moments((0..n).map(|_| draws.beta(0.2, 0.2)).collect()), (0.5, 0.25 / 1.4));
        near(moments((0..n).map(|_| draws.beta(1.0, 1e-300)).collect()), (1.0, 0.0));
        let mut counts = [0; 3];
        (0..n).for_each(|_| counts[draws.below(3)] += 1);
        assert!(counts.iter().all(|count| (count - n / 3).abs() < 1000), "{counts:?}");
        assert_eq!(draws.below(0), 0);
        let mut order: Vec<usize> = (0..50).collect();
        draws.shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn moments() {
        let draws = normal(7, 200_001, 2.0);
        let mean = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / draws.len() as f64;
        let var = draws.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((var - 4.0).abs() < 0.05, "{var}");
        let draws = uniform(7, 100_000, -0.5, 1.5);
        assert!(draws.iter().all(|x| (-0.5..1.5).contains(x)));
        assert!((draws.iter().sum::<f32>() / 100_000.0 - 0.5).abs() < 0.01);
    }
}
