//! What is where for images of one size.

use timburn_kernels::infer::{Border, Map};

/// What a plan has to know of a step. Values are counted: 0 is the images, 1 the first step's output.
pub(super) trait Planned {
    /// Bytes of an activation's value.
    const BYTES: usize;

    /// The value that it reads.
    fn input(&self) -> usize;

    /// The value that it adds.
    fn residual(&self) -> Option<usize>;

    /// Bytes of its packed parameters.
    fn bytes(&self) -> usize;

    /// What becomes of `channels` channels of this size; `None` when a kernel is larger than what it sees.
    fn shape(&self, channels: usize, size: [usize; 2]) -> Option<Shape>;

    /// A blocked layout.
    fn map(channels: usize, size: [usize; 2], border: Border) -> Map;

    /// What it does, and how many multiplications and additions that is for an image, between these maps.
    fn work(&self, input: &Map, output: &Map) -> (String, usize);
}

/// A step's output, and what its input has to be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
    pub(super) border: Border,
    pub(super) planar: bool,
}

impl Shape {
    /// Of a step that needs no border.
    pub(super) fn plain(channels: usize, size: [usize; 2]) -> Self {
        Self { channels, size, border: Border::default(), planar: false }
    }

    /// Of a maximum pool.
    pub(super) fn max_pool(channels: usize, size: [usize; 2], [kernel, stride, padding]: [usize; 3]) -> Option<Self> {
        let axis = |size: usize| Some((size + 2 * padding).checked_sub(kernel)? / stride + 1);
        Some(Self::plain(channels, [axis(size[0])?, axis(size[1])?]))
    }

    /// Of an average pool.
    pub(super) fn average_pool(channels: usize, size: [usize; 2], [kernel, stride]: [usize; 2]) -> Self {
        Self::plain(channels, size.map(|size| size.saturating_sub(kernel).div_ceil(stride) + 1))
    }
}

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
        let len = self.len.saturating_mul(images);
        if self.single { len.min(self.len) } else { len }
    }
}

impl Plan {
    /// `None` when a kernel is larger than what it sees.
    pub(super) fn new<S: Planned>(steps: &[S], channels: usize, features: usize, size: [usize; 2]) -> Option<Self> {
        let mut shapes = vec![(channels, size)];
        let mut borders = vec![Border::default(); steps.len() + 1];
        let mut planar = false;
        for step in steps {
            let &(channels, size) = shapes.get(step.input())?;
            let shape = step.shape(channels, size)?;
            let border = borders.get_mut(step.input())?;
            *border = border.max(shape.border);
            planar |= step.input() == 0 && shape.planar;
            shapes.push((shape.channels, shape.size));
        }
        let map = |(index, &(channels, size)): (usize, &(usize, [usize; 2]))| {
            if index == 0 && planar { Map::planar(channels, size, borders[index]) } else { S::map(channels, size, borders[index]) }
        };
        let maps: Vec<Map> = shapes.iter().enumerate().map(map).collect();
        let cut = cut(steps, &maps);
        let (places, slots) = place(steps, &maps, features, cut)?;
        Some(Self { maps, places, slots, cut })
    }
}

/// Where to change from single images to the batch, so that the least has to be read from beyond the cache.
fn cut<S: Planned>(steps: &[S], maps: &[Map]) -> usize {
    let reads = |step: &S| [Some(step.input()), step.residual()].into_iter().flatten();
    let activations = |(index, step): (usize, &S)| {
        let values = reads(step).fold(maps[index + 1].len(1), |sum, value| sum.saturating_add(maps[value].len(1)));
        values.saturating_mul(S::BYTES)
    };
    // The oldest value that a step from here on reads.
    let mut oldest = steps.len();
    let mut cost: usize = steps.iter().map(S::bytes).sum();
    let (mut best, mut least) = (steps.len(), cost);
    for (index, step) in steps.iter().enumerate().rev() {
        oldest = reads(step).fold(oldest, usize::min);
        cost = (cost - step.bytes()).saturating_add(activations((index, step)));
        if oldest >= index && cost < least {
            (best, least) = (index, cost);
        }
    }
    best
}

/// Gives each value a buffer that no value alive at the same time has.
fn place<S: Planned>(steps: &[S], maps: &[Map], features: usize, cut: usize) -> Option<(Vec<usize>, Vec<Slot>)> {
    // The step after which a value is not needed any more.
    let mut last: Vec<usize> = (0..maps.len()).map(|value| value.saturating_sub(1)).collect();
    for (index, step) in steps.iter().enumerate() {
        for value in [Some(step.input()), step.residual()].into_iter().flatten() {
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
