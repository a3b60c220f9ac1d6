//! The report of EfficientNet-Lite0 on 250 photographs of ImageNet: a thousand classes, a photograph each. Slow, so only when asked for:
//! `cargo test --release --workspace --test imagenet_report -- --ignored`; `TIMBURN_PICTURES=DIR` keeps the report for a look.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use timburn::data::loader::{Normalization, Sampling};
use timburn::data::{FolderOptions, Rgb8Image};
use timburn::infer::GradCam;
use timburn::train::recipe::TestTime;
use timburn::train::report::{Evidence, ModelCard, environment_facts};
use timburn::train::run::Environment;
use timburn::train::{Evaluator, Loss, LossConfig, Precision};
use timburn::{Classes, Dataset, ImageFolder, Loader, LoaderOptions};

#[test]
#[ignore = "half a minute"]
fn a_thousand_classes_make_a_readable_report() {
    let Some(photographs) = common::imagenet_sample() else { return };
    let data = scratch();
    // Every second one: the archive is sorted by class.
    for (name, bytes) in photographs.iter().step_by(2) {
        let folder = data.join(name.split_once('_').expect("synset_name").0);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("written");
    }
    let device = timburn::open_device("flex").expect("flex");
    let bundle = timburn::weights::embedded().expect("embedded");
    let model = bundle.load(&device).expect("loads");
    let imagenet = Classes::new(bundle.classes.ids.clone());
    let options = FolderOptions { classes: Some(imagenet), allow_empty: true, ..FolderOptions::default() };
    let folder = Arc::new(ImageFolder::open_with(&data, &options).expect("class folders"));
    let options = LoaderOptions { batch_size: 25, sampling: Sampling::Sequential, ..LoaderOptions::default() };
    let loader = Loader::new(folder.clone(), Arc::new(bundle.preprocessing.clone()), options).expect("a loader");
    let loss = Loss::new(LossConfig::default(), 1000).expect("a loss");
    let evaluator = Evaluator {
        loader: &loader,
        normalization: Normalization::from(&bundle.preprocessing),
        loss: Some(&loss),
        test_time: TestTime::None,
        top: &[1, 5],
        precision: Precision::F32,
    };
    let found = evaluator.examine(&model, &device, 1000, &mut |_| ()).expect("an examination");
    assert_eq!((found.report.samples, found.predictions.len(), folder.len()), (250, 250, 250));
    assert!(found.report.top(1).expect("top-1") > 0.8, "{:?}", found.report.top);

    let grad_cam = GradCam::new(&model, &bundle.preprocessing, None, &device).expect("the last stage");
    let explain = |image: &Rgb8Image, class: usize| grad_cam.overlay(image, Some(class));
    let mut report = Evidence::new("EfficientNet-Lite0 on photographs of ImageNet", &bundle.classes, &found);
    report.grad_cam = Some(&explain);
    report.facts = environment_facts(&Environment::collect("flex"));
    report.card = Some(ModelCard {
        name: "efficientnet_lite0".into(),
        architecture: "efficientnet_lite0".into(),
        preprocessing: Some(bundle.preprocessing.clone()),
        evaluated_on: "250 photographs of ImageNet, one a class".into(),
        ..ModelCard::default()
    });
    let out = std::env::var_os("TIMBURN_PICTURES").map_or_else(|| data.join("out"), |folder| PathBuf::from(folder).join("imagenet"));
    let page = report.write(&out).expect("written");
    let size = fs::metadata(&page).expect("a page").len();
    println!("{}: {} KB, top-1 {:?}", page.display(), size / 1000, found.report.top(1));
    assert!(size < 3_000_000, "{size} bytes");
    fs::remove_dir_all(&data).expect("removed");
}

fn scratch() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("timburn-imagenet-report-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}
