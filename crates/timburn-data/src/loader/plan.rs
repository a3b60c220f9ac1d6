//! The samples of an epoch, in order: a pure function of the options, the epoch and the number (and classes) of the samples.

use timburn_core::seed::Draws;

use super::options::{LoaderOptions, Sampling, Shard};
use crate::dataset::Dataset;

/// First coordinate of the draws that order an epoch.
const ORDER: u64 = 1;
/// First coordinate of a sample's draws.
const SAMPLE: u64 = 2;
/// timm cuts the epochs of repeated augmentation to a multiple of this where the data set is that large.
const ROUND: usize = 256;

/// One place of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index in the data set.
    pub(super) index: usize,
    /// How often the index came before in this epoch, on any rank.
    pub(super) repeat: usize,
}

/// The random draws of one sample.
pub(super) fn draws(seed: u64, epoch: u64, place: Place) -> Draws {
    Draws::new(seed, &[SAMPLE, epoch, place.index as u64, place.repeat as u64])
}

/// How many samples each rank sees of a data set of `len`.
pub(super) fn samples_of_rank(options: &LoaderOptions, len: usize) -> usize {
    let ranks = options.shard.count;
    if options.repeats > 1 {
        let selected = if len >= ROUND { len / ROUND * ROUND / ranks } else { len.div_ceil(ranks) };
        return selected.min(len.saturating_mul(options.repeats).div_ceil(ranks));
    }
    if options.drop_last { len / ranks } else { len.div_ceil(ranks) }
}

/// This rank's places in epoch `epoch`.
pub(super) fn places(options: &LoaderOptions, dataset: &dyn Dataset, epoch: u64) -> Vec<Place> {
    let len = dataset.len();
    let order = order(options, dataset, epoch);
    let Shard { rank, count } = options.shard;
    let share = samples_of_rank(options, len);
    let mut seen = vec![0usize; len];
    let mut places = Vec::with_capacity(share);
    // Places beyond the end, where the ranks do not divide the epoch, begin it again.
    for position in 0..share * count {
        let Some(&index) = order.get(position / options.repeats % len) else { break };
        let Some(repeat) = seen.get_mut(index) else { break };
        if position % count == rank {
            places.push(Place { index, repeat: *repeat });
        }
        *repeat += 1;
    }
    places
}

/// `len` indices, before repeats and shards.
fn order(options: &LoaderOptions, dataset: &dyn Dataset, epoch: u64) -> Vec<usize> {
    let len = dataset.len();
    let mut draws = Draws::new(options.seed, &[ORDER, epoch]);
    match &options.sampling {
        Sampling::Sequential => (0..len).collect(),
        Sampling::Shuffled => {
            let mut order: Vec<usize> = (0..len).collect();
            draws.shuffle(&mut order);
            order
        }
        Sampling::Weighted(weights) => weighted(weights, &mut draws),
        Sampling::ClassBalanced => balanced(dataset, &mut draws),
    }
}

fn weighted(weights: &[f64], draws: &mut Draws) -> Vec<usize> {
    let mut sum = 0.0;
    let upto: Vec<f64> = weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    // Rounding may carry a draw to the sum itself; the last sample with any weight owns it.
    let last = weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
    let draw = |_| {
        let x = draws.unit() * sum;
        upto.partition_point(|upto| *upto <= x).min(last)
    };
    (0..weights.len()).map(draw).collect()
}

fn balanced(dataset: &dyn Dataset, draws: &mut Draws) -> Vec<usize> {
    let len = dataset.len();
    let mut classes: Vec<Vec<usize>> = vec![Vec::new(); dataset.classes().len()];
    for index in 0..len {
        if let Some(class) = classes.get_mut(dataset.label(index)) {
            class.push(index);
        }
    }
    // What is left of each class's round, taken from the back.
    let mut decks: Vec<(Vec<usize>, usize)> = classes.into_iter().filter(|class| !class.is_empty()).map(|class| (class, 0)).collect();
    let mut turn: Vec<usize> = (0..decks.len()).collect();
    let mut order = Vec::with_capacity(len);
    while order.len() < len && !turn.is_empty() {
        draws.shuffle(&mut turn);
        for &class in turn.iter().take(len - order.len()) {
            let Some((members, left)) = decks.get_mut(class) else { continue };
            if *left == 0 {
                draws.shuffle(members);
                *left = members.len();
            }
            *left -= 1;
            order.extend(members.get(*left));
        }
    }
    order
}
