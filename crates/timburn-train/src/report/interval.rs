//! How far a share is known.

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a share of which `hits` of `samples` were seen (Wilson 1927, without continuity correction), `(low, high)` in
/// `[0, 1]`. Over no samples it is `(0, 1)`.
pub fn wilson(hits: u64, samples: u64) -> (f64, f64) {
    if samples == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (samples as f64, hits.min(samples) as f64 / samples as f64);
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(hits, n, method="wilson")
        for (hits, samples, low, high) in WILSON {
            let found = wilson(hits, samples);
            assert!((found.0 - low).abs() < 1e-12 && (found.1 - high).abs() < 1e-12, "{hits} of {samples}: {found:?}");
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert_eq!(wilson(9, 5).1, 1.0, "more hits than samples are all");
    }

    const WILSON: [(u64, u64, f64, f64); 4] = [
        (442, 500, 0.8529581630365658, 0.9091863434889621),
        (0, 7, 2.7755575615628914e-17, 0.3543304350666875),
        (3, 3, 0.43850296824495444, 1.0),
        (9871, 10000, 0.9846937960235127, 0.989132112763774),
    ];
}
