//! A pointwise convolution and the depthwise one after it, block by block: what is between them never leaves the cache.

use rayon::prelude::*;

use super::buffer::Shared;
use super::conv::{Conv, Job, Method, Padding, panic_on_maps, taps};
use super::dense::{Dense, SPAN, rows_of_spans};
use super::depthwise::{Depthwise, Rows};
use super::map::{Border, Map, Part};
use super::{Element, View, ViewMut, vector_lanes};
use crate::Activation;
use crate::cpu::buffer::Scratch;
use crate::level::AutoArch;

/// Bytes of what is between, for one or two blocks: a part of a core's second-level cache.
const BETWEEN: usize = 256 << 10;

fn methods<'a, T: Element>(expand: &'a Conv<T>, depthwise: &'a Conv<T>) -> Option<(&'a Dense<T>, &'a Depthwise)> {
    let (first, second) = (expand.spec(), depthwise.spec());
    // Windows that lie wholly in the padding would see rows that are not there.
    let inside = match second.padding {
        Padding::Zeros(zeros) => (0..2).all(|axis| zeros < second.reach(axis)),
        Padding::Same => true,
    };
    let fits = first.kernel == [1, 1] && first.stride == 1 && matches!(first.padding, Padding::Zeros(0) | Padding::Same);
    match (&expand.method, &depthwise.method) {
        (Method::Dense(dense), Method::Depthwise(depthwise))
            if fits && inside && !expand.planar() && first.groups == 1 && first.outputs == second.inputs =>
        {
            Some((dense, depthwise))
        }
        _ => None,
    }
}

/// Whether [`expand_depthwise`] can compute these two, one after the other.
pub fn expands<T: Element>(expand: &Conv<T>, depthwise: &Conv<T>) -> bool {
    methods(expand, depthwise).is_some()
}

/// `depthwise(activation(expand(input)))`, each followed by its activation. What is between them is f32.
///
/// # Panics
/// When the two are not [such convolutions](expands), or the maps do not fit them.
pub fn expand_depthwise<T: Element>(
    images: usize,
    [expand, depthwise]: [&Conv<T>; 2],
    activations: [Activation; 2],
    input: View<'_, T>,
    output: ViewMut<'_, T>,
) {
    let size = [input.map.height, input.map.width];
    let (Some((dense, layer)), Some((result, border))) = (methods(expand, depthwise), depthwise.plan(size)) else {
        panic_on_maps(expand.spec(), input.map)
    };
    let fits = |map: &Map, channels: usize, size: [usize; 2], len: usize| {
        map.channels == channels && [map.height, map.width] == size && len >= map.len(images) && map.lanes == vector_lanes()
    };
    if !fits(input.map, expand.spec().inputs, size, input.values.len())
        || !fits(output.map, depthwise.spec().outputs, result, output.values.len())
    {
        panic_on_maps(expand.spec(), input.map);
    }
    let (spec, stride, reach) = (depthwise.spec(), depthwise.spec().stride, depthwise.spec().reach(0));
    let line = (border.left + size[1] + border.right) * 2 * vector_lanes() * size_of::<f32>();
    let band = ((BETWEEN / line).saturating_sub(reach) / stride + 1).max(1);
    let (bands, panels) = (result[0].div_ceil(band), dense.panels().len());
    let pointer = Shared::from_slice(output.values);
    (0..images * bands * panels).into_par_iter().with_max_len(1).for_each(|task| {
        let (image, band, panel) = (task / panels / bands, task / panels % bands, &dense.panels()[task % panels]);
        let rows = band * result[0] / bands..(band + 1) * result[0] / bands;
        // The rows that these see, and what of the border.
        let (start, end) = (rows.start * stride, (rows.end.max(1) - 1) * stride + reach);
        let seen = start.saturating_sub(border.top)..end.saturating_sub(border.top).min(size[0]);
        let margin =
            Border { top: border.top.saturating_sub(start), bottom: end.saturating_sub(border.top).saturating_sub(size[0]), ..border };
        let between = Map::new(panel.blocks * vector_lanes(), [seen.len(), size[1]], margin);
        let mut scratch = Scratch::new(between.len(1));
        let values = scratch.values();
        between.clear_border(1, values);
        let part = Part { map: &between, first: [image, panel.first, seen.start] };
        let spans = rows_of_spans(seen, size[1], 1, false, SPAN);
        let job = Job { spec: expand.spec(), images, border: Border::default(), input, output: &between, epilogue: activations[0].into() };
        let values = Shared::<f32>::from_slice(values);
        dense.panel(&job, panel, &spans, image * spans.len()..(image + 1) * spans.len(), &[0], part, values);
        let job =
            Job { spec, images, border, input: View { map: &between, values: &[] }, output: output.map, epilogue: activations[1].into() };
        let taps = taps(spec, &between, 1);
        for block in panel.first..panel.first + panel.blocks {
            // SAFETY: the start of the scratch.
            let values = unsafe { values.at(0) };
            let rows = rows.clone();
            AutoArch::new().dispatch(Rows { layer, job: &job, taps: &taps, input: part, values, image, block, rows, output: pointer });
        }
    });
}
