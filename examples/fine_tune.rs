//! A classifier of one's own pictures: `cargo run --release --example fine_tune -- flowers/ flowers.timburn`
//!
//! Without arguments it learns which way up a photograph is (`rotations/mod.rs`). The network that ImageNet taught looks at each picture once, a
//! head is found on what it says; `FineTune::new(3)` would train the network itself for three epochs more.

mod rotations;

use rotations::Rotations;
use timburn::{Dataset, FineTune, Predictor, open_device, sample_photograph};

fn main() -> timburn::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = match arguments.next() {
        Some(folder) => timburn::data::open(folder)?,
        None => Rotations::new(320)?.split(0.8, 0)?,
    };
    let device = open_device("auto")?;
    let run = FineTune::new(0).fit(&timburn::pretrained_bundle("efficientnet_lite0.in1k")?, data, &device)?;
    println!("{:.1} % of the validation set", 100.0 * run.validation.top(1).unwrap_or_default());

    let Some(file) = arguments.next() else {
        let prediction = Predictor::new(&run.bundle, &device)?.classify_bytes(sample_photograph(), "sample photograph")?;
        println!("the sample photograph: {}", prediction.top(1)[0].label);
        return Ok(());
    };
    run.save(&file)?;
    println!("now: timburn predict PICTURE --weights {file}");
    Ok(())
}
