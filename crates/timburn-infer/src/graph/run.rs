//! Runs the steps on a batch.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use timburn_kernels::Activation;
use timburn_kernels::infer::{
    Border, Buffer, Conv, ConvSpec, Element, Epilogue, Map, View, ViewMut, average_pool, expand_depthwise, global_average_pool, max_pool,
    scale, subsample,
};

use super::compile::{Step, StepOp};
use super::network::Network;
use super::plan::Plan;
use super::{Program, Wanted};

/// Does `work` on one of rayon's threads: from outside of them each step would be handed over to them, and waited for, by itself.
pub(super) fn together<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Computes what is wanted of `n` images. `spent` hears how long each part took: the images' conversion, the steps, what follows them.
pub(super) fn run<N: Network>(
    network: &N,
    plan: &Plan,
    images: &[f32],
    n: usize,
    slots: &mut Vec<Buffer<N::Value>>,
    wanted: Wanted,
    mut spent: impl FnMut(usize, Duration),
) -> Vec<f32> {
    let mut start = Instant::now();
    let mut spent = |part: usize| {
        let end = Instant::now();
        spent(part, end - start);
        start = end;
    };
    slots.resize_with(slots.len().max(plan.slots.len()), Buffer::default);
    for (buffer, slot) in slots.iter_mut().zip(&plan.slots) {
        buffer.reserve(slot.len(n));
    }
    let (first, later) = network.steps().split_at(plan.cut);
    let (map, place) = (&plan.maps[0], plan.places[0]);
    if first.is_empty() {
        network.load(map, n, images, &mut slots[place]);
        spent(0);
    }
    for (image, pixels) in images.chunks_exact((images.len() / n.max(1)).max(1)).enumerate().filter(|_| !first.is_empty()) {
        network.load(map, 1, pixels, &mut slots[place]);
        spent(0);
        for (index, step) in first.iter().enumerate() {
            // The last of these steps puts the image where the batch is.
            compute(network, step, plan, slots, 1, index + 1, if index + 1 == plan.cut { image } else { 0 });
            spent(index + 1);
        }
    }
    for (index, step) in later.iter().enumerate() {
        compute(network, step, plan, slots, n, plan.cut + index + 1, 0);
        spent(plan.cut + index + 1);
    }
    let results = network.end(plan, slots, n, wanted);
    spent(network.steps().len() + 1);
    results
}

/// Computes `n` images of value `target`, from its image `first` on.
pub(super) fn compute<N: Network>(
    network: &N,
    step: &N::Step,
    plan: &Plan,
    slots: &mut [Buffer<N::Value>],
    n: usize,
    target: usize,
    first: usize,
) {
    let (map, place) = (&plan.maps[target], plan.places[target]);
    // Out of the others' way while it is written; no other value that is needed lives there.
    let mut buffer = std::mem::take(&mut slots[place]);
    let values = &mut buffer[map.len(first)..];
    network.clear(target, map, n, values);
    network.compute(step, plan, slots, n, target, ViewMut { map, values });
    slots[place] = buffer;
}

impl<T: Element> Network for Program<T> {
    type Value = T;
    type Step = Step<T>;

    fn steps(&self) -> &[Step<T>] {
        &self.steps
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn features(&self) -> usize {
        self.features
    }

    fn head(&self) -> Option<&ConvSpec> {
        self.head.as_ref().map(Conv::spec)
    }

    fn head_bytes(&self) -> usize {
        self.head.as_ref().map_or(0, Conv::bytes)
    }

    fn scratch(&self) -> &Mutex<Vec<Vec<Buffer<T>>>> {
        &self.scratch
    }

    fn load(&self, map: &Map, n: usize, images: &[f32], target: &mut [T]) {
        map.from_nchw(n, images, target);
    }

    fn clear(&self, _: usize, map: &Map, n: usize, values: &mut [T]) {
        map.clear_border(n, values);
    }

    fn compute(&self, step: &Step<T>, plan: &Plan, slots: &[Buffer<T>], n: usize, _: usize, output: ViewMut<'_, T>) {
        step.compute(plan, slots, n, output);
    }

    fn feature_map(&self, plan: &Plan, slots: &[Buffer<T>], n: usize) -> Vec<f32> {
        plan.maps[self.features].to_nchw(n, &slots[plan.places[self.features]])
    }

    fn pool(&self, plan: &Plan, slots: &[Buffer<T>], n: usize) -> Vec<f32> {
        let features = View { map: &plan.maps[self.features], values: &slots[plan.places[self.features]] };
        let (map, pooled) = pool(features, n);
        per_image(&map, &pooled)
    }

    fn classify(&self, pooled: &[f32], n: usize) -> Option<Vec<f32>> {
        let head = self.head.as_ref()?;
        let map = Map::new(head.spec().inputs, [1, n], Border::default());
        let mut columns = Buffer::<T>::zeros(map.len(1));
        map.from_nchw(1, &transposed(pooled, n), &mut columns);
        let (map, logits) = pointwise(head, View { map: &map, values: &columns }, Activation::Identity);
        Some(per_image(&map, &logits))
    }
}

impl<T: Element> Step<T> {
    fn compute(&self, plan: &Plan, slots: &[Buffer<T>], n: usize, output: ViewMut<'_, T>) {
        let view = |value: usize| View { map: &plan.maps[value], values: &slots[plan.places[value]] };
        let input = view(self.input);
        let epilogue = Epilogue { residual: self.residual.map(view), activation: self.activation };
        match &self.op {
            StepOp::Conv(conv) => conv.run(n, input, output, epilogue),
            StepOp::Expand([expand, depthwise], between) => {
                expand_depthwise(n, [expand, depthwise], [*between, self.activation], input, output);
            }
            &StepOp::MaxPool { kernel, stride, padding } => max_pool(n, [kernel, stride, padding], input, output),
            &StepOp::AveragePool { kernel, stride } => average_pool(n, [kernel, stride], input, output),
            &StepOp::Subsample { stride, channels } => subsample(n, stride, (channels - input.map.channels) / 2, input, output),
            StepOp::SqueezeExcite([reduce, expand]) => {
                let (map, means) = pool(input, n);
                let (map, hidden) = pointwise(reduce, View { map: &map, values: &means }, Activation::Relu);
                let (map, mut gates) = pointwise(expand, View { map: &map, values: &hidden }, Activation::Identity);
                gates.iter_mut().for_each(|gate| *gate = 1.0 / (1.0 + (-*gate).exp()));
                scale(n, input, View { map: &map, values: &gates }, epilogue, output);
            }
        }
    }
}

/// Means of the channels; one column per image.
fn pool<T: Element>(input: View<'_, T>, n: usize) -> (Map, Buffer) {
    let map = Map::new(input.map.channels, [1, n], Border::default());
    let mut means = Buffer::zeros(map.len(1));
    global_average_pool(n, input, ViewMut { map: &map, values: &mut means });
    (map, means)
}

/// A fully connected layer on a column per image; its sums are not rounded.
pub(super) fn pointwise<T: Element>(conv: &Conv<T>, input: View<'_, T>, activation: Activation) -> (Map, Buffer) {
    let map = Map::new(conv.spec().outputs, [1, input.map.width], Border::default());
    let mut output = Buffer::zeros(map.len(1));
    conv.run(1, input, ViewMut { map: &map, values: &mut output }, activation.into());
    (map, output)
}

/// `[rows, columns]` as `[columns, rows]`.
pub(super) fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// A column per image as a row per image.
pub(super) fn per_image(map: &Map, values: &[f32]) -> Vec<f32> {
    transposed(&map.to_nchw(1, values), map.channels)
}
