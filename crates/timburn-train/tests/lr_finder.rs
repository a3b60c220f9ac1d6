//! The learning rate finder's arithmetic against fastai's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{floats, golden};
use timburn_train::LrFinder;
use timburn_train::lr_finder::{Sweep, steepest, valley};

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9 * expected.abs()
}

#[test]
fn sweep_smoothing_stop_and_suggestions_equal_fastai() {
    for (name, case) in golden("lr_finder.json").as_object().expect("cases") {
        let finder: LrFinder = serde_json::from_value(case["finder"].clone()).expect(name);
        finder.validate().expect(name);
        let (lrs, losses) = (floats(&case["lrs"]), floats(&case["losses"]));
        let mut sweep = Sweep::new(finder);
        for (step, raw) in floats(&case["raw"]).into_iter().enumerate() {
            let lr = sweep.next_lr().unwrap_or_else(|| panic!("{name}: over after {step} steps, fastai makes {}", lrs.len()));
            assert!(close(lr, lrs[step]), "{name}: rate {step}");
            sweep.record(raw);
            assert!(close(sweep.points()[step].loss, losses[step]), "{name}: smoothed loss {step}");
        }
        assert_eq!(sweep.next_lr(), None, "{name}: fastai stops here");
        let settled = sweep.settled();
        let found = valley(&settled).expect(name);
        assert!(close(found, case["valley"].as_f64().expect("a rate")), "{name}: valley {found} for {}", case["valley"]);
        let found = steepest(&settled).expect(name);
        assert!(close(found, case["steep"].as_f64().expect("a rate")), "{name}: steep {found} for {}", case["steep"]);
    }
}

#[test]
fn a_nan_ends_the_sweep_and_is_not_suggested() {
    let mut sweep = Sweep::new(LrFinder::default());
    for step in 0..40 {
        sweep.record(3.0 - f64::from(step) / 20.0);
    }
    sweep.record(f64::NAN);
    assert_eq!(sweep.next_lr(), None);
    assert!(sweep.settled().iter().all(|point| point.loss.is_finite()));
    assert_eq!(sweep.settled().len(), 26);
    let mut at_once = Sweep::new(LrFinder::default());
    at_once.record(f64::NAN);
    assert_eq!(at_once.next_lr(), None);
    assert_eq!((valley(&at_once.settled()), steepest(&at_once.settled())), (None, None));
}
