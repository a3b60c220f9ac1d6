//! Loader threads that fail in the middle of a run.

use std::sync::mpsc;
use std::time::Duration;

use timburn_core::error::{DataError, ImageError, ImageFault};
use timburn_core::{Error, Result};
use timburn_data::{Rgb8Image, Splits};

use super::patterns::Patterns;
use super::tiny::{Tiny, White};
use super::watch::Watch;
use super::{alone, fit, recipe};

const TEXT: &str = "epochs = 2\nbatch_size = 4\n[loader]\nworkers = 2\n";

/// Fails the test instead of hanging it.
fn run(text: &str, splits: Splits) -> (Option<Error>, Watch) {
    let recipe = recipe(16, text);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _alone = alone();
        let mut watch = Watch::default();
        let error = fit(&recipe, Tiny::new(3, White::Harmless), &splits, None, &mut watch).err();
        let _ = sender.send((error, watch));
    });
    receiver.recv_timeout(Duration::from_secs(300)).expect("it hangs, or it panicked")
}

fn panics_at(wrong: usize) -> impl Fn(usize, Rgb8Image) -> Result<Rgb8Image> + Send + Sync {
    move |index, image| if index == wrong { panic!("no such luck") } else { Ok(image) }
}

#[test]
fn a_panic_ends_the_run_with_the_sample_s_name_whatever_the_policy() {
    for policy in ["skip_bad = 0.0", "skip_bad = 1.0"] {
        let splits = Patterns::new(3, 24, 16, 1).changed(panics_at(13)).with(Patterns::new(3, 6, 16, 2));
        let (error, watch) = run(&format!("{TEXT}{policy}"), splits);
        let Some(Error::Data(DataError::Worker { name, reason })) = error else { panic!("{policy}: {error:?}") };
        assert_eq!(name, "pattern-13");
        assert!(reason.contains("no such luck"), "{reason}");
        assert!(watch.steps.len() < 6 && watch.epochs.is_empty() && watch.ending.is_none(), "{policy}: a short epoch");
        assert!(watch.steps.iter().all(|step| step.samples == 4));
    }
}

#[test]
fn a_panic_while_scoring_ends_the_run() {
    let splits = Patterns::new(3, 24, 16, 1).with(Patterns::new(3, 6, 16, 2).changed(panics_at(2)));
    let (error, watch) = run(TEXT, splits);
    assert!(matches!(&error, Some(Error::Data(DataError::Worker { name, .. })) if name == "pattern-2"), "{error:?}");
    assert!(watch.steps.len() == 6 && watch.evaluations.is_empty() && watch.epochs.is_empty());
}

#[test]
fn unreadable_samples_are_counted_in_every_epoch_or_end_the_run() {
    let unreadable = |index, image| {
        let error = || ImageError { name: format!("pattern-{index}"), fault: ImageFault::Empty };
        if [5, 7].contains(&index) { Err(error().into()) } else { Ok(image) }
    };
    let splits = Patterns::new(3, 24, 16, 1).changed(unreadable).with(Patterns::new(3, 6, 16, 2));
    let (error, watch) = run(&format!("{TEXT}skip_bad = 0.1"), splits.clone());
    assert!(error.is_none(), "{error:?}");
    for epoch in 0..2 {
        let steps: Vec<_> = watch.steps.iter().filter(|step| step.epoch == epoch).collect();
        let mut bad: Vec<&str> = steps.iter().flat_map(|step| &step.bad).map(|bad| bad.name.as_str()).collect();
        bad.sort_unstable();
        assert_eq!(bad, ["pattern-5", "pattern-7"]);
        assert_eq!(steps.iter().map(|step| step.samples + step.bad.len()).collect::<Vec<_>>(), [4; 6]);
        assert_eq!(watch.epochs[epoch as usize].samples, 22);
    }
    // One of 24 is the cap of 0.1 % (rounded up to one sample).
    let (error, _) = run(TEXT, splits.clone());
    assert!(matches!(error, Some(Error::Data(DataError::TooManyBadFiles { bad: 2, allowed: 1, .. }))), "{error:?}");
    let (error, watch) = run(&format!("{TEXT}skip_bad = 0.0"), splits);
    assert!(matches!(&error, Some(Error::Image(found)) if ["pattern-5", "pattern-7"].contains(&found.name.as_str())), "{error:?}");
    assert!(watch.epochs.is_empty());
}
