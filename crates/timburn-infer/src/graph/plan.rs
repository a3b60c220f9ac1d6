//! What is where for images of one size.

use timburn_kernels::infer::{Border, Element, Map};

use super::compile::{Step, StepOp};

/// Layouts and places of all values.
#[derive(Debug)]
pub(super) struct Plan {
    /// Layout of each value.
    pub(super) maps: Vec<Map>,
    /// Buffer of each value.
    pub(super) places: Vec<usize>,
    /// The buffers.
    pub(super) slots: Vec<Slot>,
    /// Steps before this one are run image by image, the others on the whole batch.
    ///
    /// Early layers have large activations and few weights: an image by itself stays in the cache. Late ones have more weights than
    /// activations: read once for all images.
    pub(super) cut: usize,
}

/// A buffer.
#[derive(Debug)]
pub(super) struct Slot {
    /// Values for an image.
    len: usize,
    /// Whether it holds one image at a time.
    single: bool,
}

impl Slot {
    /// Values of the buffer for a batch of `images`.
    pub(super) fn len(&self, images: usize) -> usize {
        if self.single { self.len.min(self.len * images) } else { self.len * images }
    }
}

impl Plan {
    /// `None` when a kernel is larger than what it sees.
    pub(super) fn new<T: Element>(steps: &[Step<T>], channels: usize, features: usize, size: [usize; 2]) -> Option<Self> {
        let mut shapes = vec![(channels, size)];
        let mut borders = vec![Border::default(); steps.len() + 1];
        let mut planar = false;
        for step in steps {
            let &(channels, size) = shapes.get(step.input)?;
            shapes.push(match &step.op {
                StepOp::Conv(conv) => {
                    let (size, border) = conv.plan(size)?;
                    borders[step.input] = borders[step.input].max(border);
                    planar |= step.input == 0 && conv.planar();
                    (conv.spec().outputs, size)
                }
                StepOp::Expand([_, depthwise], _) => (depthwise.spec().outputs, depthwise.plan(size)?.0),
                &StepOp::MaxPool { kernel, stride, padding } => {
                    let axis = |size: usize| Some((size + 2 * padding).checked_sub(kernel)? / stride + 1);
                    (channels, [axis(size[0])?, axis(size[1])?])
                }
                &StepOp::AveragePool { kernel, stride } => {
                    let axis = |size: usize| size.saturating_sub(kernel).div_ceil(stride) + 1;
                    (channels, size.map(axis))
                }
                &StepOp::Subsample { stride, channels } => (channels, size.map(|size| size.div_ceil(stride))),
                StepOp::SqueezeExcite(_) => (channels, size),
            });
        }
        let map = |(index, &(channels, size)): (usize, &(usize, [usize; 2]))| {
            if index == 0 && planar { Map::planar(channels, size, borders[index]) } else { Map::new(channels, size, borders[index]) }
        };
        let maps: Vec<Map> = shapes.iter().enumerate().map(map).collect();
        let cut = cut(steps, &maps);
        let (places, slots) = place(steps, &maps, features, cut)?;
        Some(Self { maps, places, slots, cut })
    }
}

/// Where to change from single images to the batch, so that the least has to be read from beyond the cache.
fn cut<T: Element>(steps: &[Step<T>], maps: &[Map]) -> usize {
    let reads = |step: &Step<T>| [Some(step.input), step.residual].into_iter().flatten();
    let activations = |(index, step): (usize, &Step<T>)| {
        let values = maps[index + 1].len(1) + reads(step).map(|value| maps[value].len(1)).sum::<usize>();
        values * size_of::<T>()
    };
    // The oldest value that a step from here on reads.
    let mut oldest = steps.len();
    let mut cost: usize = steps.iter().map(Step::bytes).sum();
    let (mut best, mut least) = (steps.len(), cost);
    for (index, step) in steps.iter().enumerate().rev() {
        oldest = reads(step).fold(oldest, usize::min);
        cost = cost - step.bytes() + activations((index, step));
        if oldest >= index && cost < least {
            (best, least) = (index, cost);
        }
    }
    best
}

/// Gives each value a buffer that no value alive at the same time has.
fn place<T: Element>(steps: &[Step<T>], maps: &[Map], features: usize, cut: usize) -> Option<(Vec<usize>, Vec<Slot>)> {
    // The step after which a value is not needed any more.
    let mut last: Vec<usize> = (0..maps.len()).map(|value| value.saturating_sub(1)).collect();
    for (index, step) in steps.iter().enumerate() {
        for value in [Some(step.input), step.residual].into_iter().flatten() {
            *last.get_mut(value)? = index;
        }
    }
    *last.get_mut(features)? = steps.len();
    let mut slots: Vec<Slot> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut places: Vec<usize> = Vec::new();
    for (value, map) in maps.iter().enumerate() {
        let len = map.len(1);
        if value == cut {
            // What the single images used is too small for the batch.
            free.clear();
        }
        // The buffer that has to grow least, and of those that need not the smallest.
        let best = (0..free.len()).min_by_key(|&index| (len.saturating_sub(slots[free[index]].len), slots[free[index]].len));
        let place = match best {
            Some(index) => free.swap_remove(index),
            None => {
                slots.push(Slot { len: 0, single: value < cut });
                slots.len() - 1
            }
        };
        slots[place].len = slots[place].len.max(len);
        places.push(place);
        // Value `value` is written by step `value - 1`; what that step was the last to read is free for the next.
        if let Some(step) = value.checked_sub(1) {
            let alike = |old: &usize| (*old < cut) == (value < cut);
            free.extend((0..=value).filter(alike).filter(|&old| last[old] == step).map(|old| places[old]));
        }
    }
    Some((places, slots))
}
