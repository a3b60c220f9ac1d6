//! A data set of one's own, trained on like any other: `cargo run --release --example own_data`
//!
//! The data set is `rotations/mod.rs`, the recipe beside it.

mod rotations;

use rotations::Rotations;
use timburn::train::trainer::EpochEvent;
use timburn::{Dataset, ModelOptions, Recipe, TrainData, Trainer, create, open_device};

/// What is told while it trains; every method has an empty default.
struct Log;

impl timburn::train::Observer for Log {
    fn epoch(&mut self, event: &EpochEvent) -> timburn::Result<()> {
        let accuracy = event.evaluation.as_ref().and_then(|report| report.top(1)).unwrap_or_default();
        println!("epoch {}  loss {:.3}  right way up {:.1} %", event.epoch + 1, event.loss, 100.0 * accuracy);
        Ok(())
    }
}

fn main() -> timburn::Result<()> {
    let device = open_device("auto")?;
    let recipe = Recipe::from_toml(include_str!("rotations/recipe.toml"))?;
    let data = TrainData::new(&recipe, Rotations::new(640)?.split(0.8, 0)?)?;
    let model = create("resnet20", &ModelOptions::classes(4), &device)?;
    Trainer::new(recipe, model, data, &device)?.fit(&mut Log)?;
    Ok(())
}
