//! From pictures on disk to batches of tensors: `cargo run --release --example load_data -- [DATA]`
//!
//! DATA is a data set in any layout; without one, two folders of crops from the embedded photograph are made and read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn::core::seed::Draws;
use timburn::data::loader::Normalization;
use timburn::data::picture::write_png;
use timburn::data::transform::{Transform, presets};
use timburn::data::{DecodeOptions, decode_bytes};
use timburn::{Dataset, Loader, LoaderOptions, Pipeline, Preprocessing};

fn main() -> timburn::Result<()> {
    let made = std::env::temp_dir().join(format!("timburn-example-{}", std::process::id()));
    let path = match std::env::args().nth(1) {
        Some(path) => PathBuf::from(path),
        None => make(&made)?,
    };
    let splits = timburn::data::open(&path)?;
    let splits = if splits.validation.is_some() { splits } else { splits.train.split(0.8, 0)? };
    println!("{} training pictures of {} classes", splits.train.len(), splits.classes().len());

    let transforms: Vec<Transform> = presets::imagenet_train(64);
    let options = LoaderOptions { batch_size: 8, seed: 1, ..LoaderOptions::default() };
    let loader = Loader::new(splits.train, Arc::new(Pipeline::new(transforms)?), options)?;
    let (device, normalization) = (timburn::open_device("auto")?, Normalization::from(&Preprocessing::torchvision(64, 64)));
    for (number, batch) in loader.epoch(0).take(3).enumerate() {
        let batch = batch?;
        println!("batch {number}: images {:?}, labels {:?}", batch.images(&normalization, &device)?.dims(), batch.labels);
    }
    std::fs::remove_dir_all(&made).ok();
    Ok(())
}

/// Two classes: crops of the photograph as they are, and in gray.
fn make(folder: &Path) -> timburn::Result<PathBuf> {
    let photograph = decode_bytes(timburn::sample_photograph(), "sample photograph", &DecodeOptions::default())?;
    let crops = Pipeline::new(presets::imagenet_train(96))?;
    for number in 0..20 {
        let mut image = crops.apply(photograph.clone(), &mut Draws::new(number, &[]));
        let class = if number % 2 == 0 { "color" } else { "gray" };
        if class == "gray" {
            timburn::data::transform::ops::grayscale(&mut image);
        }
        std::fs::create_dir_all(folder.join(class)).map_err(timburn::Error::io("create", folder))?;
        write_png(&image, folder.join(class).join(format!("{number}.png")))?;
    }
    Ok(folder.to_owned())
}
