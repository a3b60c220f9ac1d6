//! Transfer learning on features that a body gave once: their extraction and cache, what is fitted to them, and the whole of it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;
mod compiled;
mod extraction;
mod fine_tune;
mod head;
mod probe;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use timburn_core::preprocessing::Preprocessing;
use timburn_core::{Classes, Result};
use timburn_data::loader::Normalization;
use timburn_data::transform::presets;
use timburn_data::{Content, Dataset, DynDataset, Pipeline, Rgb8Image};
use timburn_models::{Model, ModelOptions, StateDict, create, load_state_dict, state_dict};
use timburn_train::transfer::{Extraction, Features};

/// Dropout draws from a generator that the whole process shares: what is compared to the bit trains alone.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device() -> Device {
    timburn_core::open_device("flex").expect("flex")
}

/// Pictures of 8 × 8 pixels whose brightness tells their shade, which mostly is their class.
#[derive(Clone)]
struct Shades {
    shades: Vec<usize>,
    labels: Vec<usize>,
    classes: Classes,
    /// Those that cannot be decoded.
    broken: Vec<usize>,
    folder: &'static str,
}

impl Shades {
    fn new(counts: &[usize]) -> Self {
        let classes = Classes::new((0..counts.len()).map(|class| format!("shade {class}")).collect());
        // Classes take turns, so that no order can be mistaken for another.
        let mut shades: Vec<(usize, usize)> =
            counts.iter().enumerate().flat_map(|(class, &count)| (0..count).map(move |at| (at, class))).collect();
        shades.sort_unstable();
        let shades: Vec<usize> = shades.into_iter().map(|(_, class)| class).collect();
        Self { labels: shades.clone(), shades, classes, broken: Vec::new(), folder: "shade" }
    }

    fn set(counts: &[usize]) -> DynDataset {
        Arc::new(Self::new(counts))
    }
}

impl Dataset for Shades {
    fn classes(&self) -> &Classes {
        &self.classes
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }
    fn name(&self, index: usize) -> String {
        format!("{}:{index}", self.folder)
    }
    fn read(&self, index: usize) -> Result<Content> {
        if self.broken.contains(&index) {
            return Ok(Content::Encoded(b"no picture".to_vec()));
        }
        let base = 200 * self.shades[index] / (self.classes.len() - 1).max(1);
        let pixels = (0..8 * 8 * 3).map(|at| (base + (at * 31 + index * 17) % 50) as u8).collect();
        Ok(Content::Pixels(Rgb8Image::new(8, 8, pixels).expect("192 bytes")))
    }
    fn content_len(&self, index: usize) -> Option<u64> {
        Some(100 + index as u64)
    }
}

fn preprocessing() -> Preprocessing {
    Preprocessing { input: 8, resize: 8, ..Preprocessing::cifar10() }
}

/// A small network whose statistics and weights are those of another life, so that nothing is at its start.
fn pretrained(options: &ModelOptions) -> Model {
    let model = create("resnet20", options, &device()).unwrap();
    load_state_dict(&model, &common::formula_weights(&model, 0.0)).unwrap()
}

fn extraction(dataset: DynDataset, views: usize) -> Extraction {
    let train = vec![
        timburn_data::Transform::RandomResizedCrop(timburn_data::transform::RandomResizedCrop::new(8)),
        timburn_data::Transform::HorizontalFlip(Default::default()),
    ];
    Extraction {
        dataset,
        plain: Pipeline::new(presets::imagenet_eval(&preprocessing())).unwrap(),
        augmented: Pipeline::new(train).unwrap(),
        views,
        normalization: Normalization::from(&preprocessing()),
        batch_size: 4,
        seed: 5,
        workers: 1,
        skip_bad: 0.0,
    }
}

/// Features with these rows, view after view, and labels.
fn features(rows: &[f32], labels: &[usize], views: usize) -> Features {
    let classes = labels.iter().max().map_or(1, |last| last + 1).max(2);
    let mut set = Shades::new(&vec![0; classes]);
    (set.shades, set.labels) = (labels.to_vec(), labels.to_vec());
    let width = rows.len() / labels.len() / views;
    let next = Cell::new(0);
    let body = |images: Tensor<4>| -> Result<Tensor<2>> {
        let (from, count) = (next.get(), images.dims()[0]);
        next.set(from + count);
        let values = rows[from * width..(from + count) * width].to_vec();
        Ok(Tensor::from_data(TensorData::new(values, [count, width]), &device()))
    };
    extraction(Arc::new(set), views).run(&body, &device(), None, &mut |_| {}).unwrap().0
}

/// Features of width `width` in which class c stands out in every feature f with f mod classes = c.
fn clouds(name: &str, width: usize, labels: &[usize], views: usize) -> Features {
    let classes = labels.iter().max().unwrap() + 1;
    let noise: Vec<f32> = common::unit(name, labels.len() * views * width).collect();
    let rows: Vec<f32> = noise
        .iter()
        .enumerate()
        .map(|(at, noise)| {
            let (label, feature) = (labels[at / width % labels.len()], at % width);
            2.0 * noise + if feature % classes == label { 1.0 } else { 0.0 }
        })
        .collect();
    features(&rows, labels, views)
}

fn all(features: &Features, view: usize) -> Vec<u32> {
    features.rows(view, 0..features.len()).unwrap().into_iter().map(f32::to_bits).collect()
}

type Bits = BTreeMap<String, Vec<u8>>;

fn bits(dict: &StateDict) -> Bits {
    dict.tensors.iter().map(|(key, tensor)| (key.clone(), tensor.bytes().unwrap())).collect()
}

fn model_bits(model: &Model) -> Bits {
    bits(&state_dict(model))
}

/// Those that do not belong to the head.
fn body(bits: &Bits) -> Bits {
    bits.iter().filter(|(key, _)| !key.starts_with("fc.")).map(|(key, bytes)| (key.clone(), bytes.clone())).collect()
}
