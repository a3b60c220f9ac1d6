//! A report of a model of one's own: `cargo run --release --example report -- [DIR] [OUT]`
//!
//! DIR has two folders of pictures, the first of cats; 100 of each are looked at. Without DIR, crops of the embedded photograph are the cats
//! and patterns the others. The model is ImageNet's, its thousand answers summed up to two: cat or not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn::core::seed::Draws;
use timburn::data::loader::{Normalization, Sampling};
use timburn::data::picture::write_png;
use timburn::data::transform::presets;
use timburn::data::{DecodeOptions, Rgb8Image, decode_bytes};
use timburn::infer::{Compiled, GradCam};
use timburn::train::recipe::TestTime;
use timburn::train::report::{Evidence, environment_facts};
use timburn::train::run::Environment;
use timburn::train::{Evaluator, Grouped, Loss, LossConfig, Precision};
use timburn::{Dataset, ImageFolder, Loader, LoaderOptions, Pipeline};

/// ImageNet's cats: tabby, tiger cat, Persian, Siamese, Egyptian.
const CATS: std::ops::Range<usize> = 281..286;

fn main() -> timburn::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let made = std::env::temp_dir().join(format!("timburn-report-{}", std::process::id()));
    let folder = arguments.next().map_or_else(|| make(&made), |path| Ok(PathBuf::from(path)))?;
    let out = arguments.next().map_or_else(|| std::env::temp_dir().join("timburn-report"), PathBuf::from);

    let device = timburn::open_device("auto")?;
    let bundle = timburn::weights::embedded()?;
    let other = (0..1000).filter(|class| !CATS.contains(class)).collect();
    let model = Grouped::new(Compiled::new(bundle.load(&device)?, &device)?, vec![CATS.collect(), other])?;
    let data = Arc::new(ImageFolder::open(&folder)?.per_class(100, 0));
    let options = LoaderOptions { batch_size: 20, sampling: Sampling::Sequential, ..LoaderOptions::default() };
    let loader = Loader::new(data.clone(), Arc::new(bundle.preprocessing.clone()), options)?;
    let loss = Loss::new(LossConfig::default(), 2)?;
    let evaluator = Evaluator {
        loader: &loader,
        normalization: Normalization::from(&bundle.preprocessing),
        loss: Some(&loss),
        test_time: TestTime::None,
        top: &[1],
        precision: Precision::F32,
    };
    let found = evaluator.examine(&model, &device, 1000, &mut |_| eprint!("."))?;

    let grad_cam = GradCam::new(&model, &bundle.preprocessing, None, &device)?;
    let explain = |image: &Rgb8Image, class: usize| grad_cam.overlay(image, Some(class));
    let mut report = Evidence::new("Cat or not, by ImageNet's answers", data.classes(), &found);
    report.lead = "EfficientNet-Lite0, its thousand classes summed up to two; nothing was trained.".into();
    report.grad_cam = Some(&explain);
    report.facts = environment_facts(&Environment::collect("auto"));
    println!("{}", report.write(out)?.display());
    std::fs::remove_dir_all(&made).ok();
    Ok(())
}

/// Crops of the photograph, and patterns.
fn make(folder: &Path) -> timburn::Result<PathBuf> {
    let photograph = decode_bytes(timburn::sample_photograph(), "sample photograph", &DecodeOptions::default())?;
    let crops = Pipeline::new(presets::imagenet_train(160))?;
    for number in 0..20u64 {
        let cat = number % 2 == 0;
        let pattern = |at: usize| (((at / 3 % 160) ^ (at / 480)) as u64 * (number + 1) + 80 * (at % 3) as u64) as u8;
        let image = match cat {
            true => crops.apply(photograph.clone(), &mut Draws::new(number, &[])),
            false => Rgb8Image { width: 160, height: 160, pixels: (0..160 * 160 * 3).map(pattern).collect() },
        };
        let class = folder.join(if cat { "cat" } else { "other" });
        std::fs::create_dir_all(&class).map_err(timburn::Error::io("create", &class))?;
        write_png(&image, class.join(format!("{number}.png")))?;
    }
    Ok(folder.to_owned())
}
