#[cfg(feature = "pretrained")]
mod fetch;
mod inspect;
mod pack;
mod preview;

use std::path::Path;

use clap::{Args, Subcommand};
use timburn_core::{Error, Result};
use timburn_data::{DynDataset, Splits};

/// Look at data sets, check them, pack them.
///
/// DATA is a data set in any of the layouts that training takes: class folders (also below train/, validation/, test/), CIFAR-10/100
/// (binary, Python, .tar.gz), MNIST's IDX files, ImageNet (folders or flat with a label list), CSV or TSV of path and label, tar shards.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data inspect flowers/
  timburn data pack photos/ packed/ --size 256
  timburn data fetch cifar10")]
pub(crate) struct Data {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Inspect(inspect::Inspect),
    Preview(preview::Preview),
    Pack(pack::Pack),
    #[cfg(feature = "pretrained")]
    Fetch(fetch::Fetch),
}

impl Data {
    pub(crate) fn run(&self) -> Result<u8> {
        match &self.verb {
            Verb::Inspect(inspect) => inspect.run(),
            Verb::Preview(preview) => preview.run(),
            Verb::Pack(pack) => pack.run(),
            #[cfg(feature = "pretrained")]
            Verb::Fetch(fetch) => fetch.run(),
        }
    }
}

/// The parts of a data set that are there, by name.
fn parts(splits: &Splits) -> Vec<(&'static str, DynDataset)> {
    let others = [("validation", splits.validation.clone()), ("test", splits.test.clone())];
    let others = others.into_iter().filter_map(|(name, part)| Some((name, part?)));
    [("train", splits.train.clone())].into_iter().chain(others).collect()
}

/// One part of a data set by name, the training set when none is named.
fn part(splits: &Splits, name: Option<&str>) -> Result<DynDataset> {
    let name = name.unwrap_or("train");
    let parts = parts(splits);
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    parts.iter().find(|(known, _)| *known == name).map(|(_, part)| part.clone()).ok_or_else(|| Error::Argument {
        name: "--split",
        value: name.into(),
        expected: format!("one of those the data set has: {}", names.join(", ")),
    })
}

/// A sample's name without the folders that lead to the data set.
fn short_name(name: &str, root: &Path) -> String {
    Path::new(name).strip_prefix(root).map_or_else(|_| name.to_owned(), |rest| rest.display().to_string())
}

/// `count` positions spread evenly over `0..total`.
fn spread(total: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(total);
    (0..count).map(move |position| position * total / count)
}
