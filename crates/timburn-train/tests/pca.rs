//! Principal components against NumPy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{floats, golden, relative_error, unit};
use timburn_train::FeatureSample;

#[test]
fn components_are_numpys() {
    for (name, case) in golden("pca.json").as_object().expect("cases") {
        let number = |key: &str| case[key].as_u64().expect("a number") as usize;
        let (samples, width) = (number("samples"), number("features"));
        let unit: Vec<f32> = unit(&format!("pca.{name}"), samples * width).collect();
        let mut features = FeatureSample::new(width);
        for (sample, row) in unit.chunks(width).enumerate() {
            let spread = |(at, u): (usize, &f32)| (f64::from(*u) * (1.0 / (at + 1) as f64) + at as f64 * 0.25) as f32;
            let row: Vec<f32> = row.iter().enumerate().map(spread).collect();
            features.add(sample, 0, &row).expect("finite");
        }
        let found = features.principal_components();
        let points: Vec<f64> = found.points.iter().flatten().copied().collect();
        let error = relative_error(&points, &floats(&case["points"]));
        assert!(error < 1e-6, "{name}: {error:.1e}");
        assert!(relative_error(&found.explained, &floats(&case["explained"])) < 1e-9, "{name}: {:?}", found.explained);
        assert_eq!(found, features.principal_components(), "{name}: the same every time");
    }
}
