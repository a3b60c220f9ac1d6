use super::super::buffer::{Buffer, Shared};
use super::super::conv::panic_on_maps;
use super::super::map::{Border, Map};
use super::super::{ConvSpec, View, ViewMut};
use super::dense::Dense;
use super::depthwise::Depthwise;
use super::{GROUP, Isa, LANES, Quantization};
use crate::Activation;

/// What the bytes around a convolution mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantizations {
    /// Of the input.
    pub input: Quantization,
    /// Of the shortcut that is added, if there is one.
    pub residual: Option<Quantization>,
    /// Of the output; without, it is f32.
    pub output: Option<Quantization>,
}

/// A convolution with packed weights of eight bits, all that follows included.
#[derive(Debug)]
pub struct Conv {
    spec: ConvSpec,
    planar: bool,
    adds: bool,
    wide: bool,
    method: Method,
    finish: Finish,
}

#[derive(Debug)]
enum Method {
    Dense(Dense),
    Depthwise(Depthwise),
}

/// What becomes of sums: `clamp(sum * multiplier + offset + byte of the residual * residual)`, rounded to a byte.
#[derive(Debug)]
pub(super) struct Finish {
    /// What the sums start from, `[output blocks][LANES]`: the share of the input's zero point.
    pub(super) start: Buffer<i32>,
    /// Likewise.
    pub(super) multiplier: Buffer<f32>,
    /// Likewise.
    pub(super) offset: Buffer<f32>,
    /// Clamps to these.
    pub(super) bounds: [f32; 2],
    pub(super) residual: f32,
}

/// Fewest input channels that are worth blocks; with fewer, the input is planar.
const BLOCKED: usize = 5;

/// A convolution whose maps were checked.
pub(super) struct Job<'a> {
    pub(super) spec: &'a ConvSpec,
    pub(super) finish: &'a Finish,
    pub(super) images: usize,
    /// What the convolution sees around its input; the map's own border may be wider.
    pub(super) border: Border,
    pub(super) input: View<'a, u8>,
    pub(super) residual: Option<View<'a, u8>>,
    pub(super) output: &'a Map,
    /// Bytes, or of a wide output f32, whose bytes these are.
    pub(super) values: Shared<u8>,
    pub(super) wide: bool,
}

impl Conv {
    /// Quantizes and packs `weight` `[outputs, inputs / groups, kernel height, kernel width]`; `bias` is `[outputs]`. Sums are exact up to
    /// 65 000 products.
    ///
    /// # Panics
    /// When a length or number of groups does not fit, or an extent, the stride or the dilation is zero.
    pub fn new(spec: ConvSpec, weight: &[f32], bias: &[f32], around: Quantizations, activation: Activation) -> Self {
        Self::with_isa(Isa::detect(), spec, weight, bias, around, activation)
    }

    /// As [`new`](Self::new), with instructions of the caller's choice: for tests.
    ///
    /// # Panics
    /// As [`new`](Self::new), and when the machine does not have the instructions.
    pub(super) fn with_isa(isa: Isa, spec: ConvSpec, weight: &[f32], bias: &[f32], around: Quantizations, activation: Activation) -> Self {
        let divides = spec.groups > 0 && spec.inputs.is_multiple_of(spec.groups) && spec.outputs.is_multiple_of(spec.groups);
        let some = [spec.inputs, spec.outputs, spec.kernel[0], spec.kernel[1], spec.stride, spec.dilation].iter().all(|&extent| extent > 0);
        assert!(divides && some, "a convolution that cannot be: {spec:?}");
        assert!(weight.len() == spec.weights() && bias.len() == spec.outputs, "parameters of another shape: {spec:?}");
        assert!(isa.is_supported(), "instructions that this processor does not have: {isa:?}");
        // In a planar map the taps that an instruction multiplies together are neighbours.
        let planar = spec.groups == 1 && spec.inputs < BLOCKED && spec.stride <= 2 && spec.dilation == 1;
        let (weight, scales) = quantize(&spec, weight);
        let method = if spec.groups == spec.inputs && spec.groups == spec.outputs && !planar {
            Method::Depthwise(Depthwise::new(isa, &spec, &weight))
        } else {
            Method::Dense(Dense::new(isa, &spec, planar, &weight))
        };
        let finish = Finish::new(&spec, &weight, &scales, bias, around, activation);
        Self { spec, planar, adds: around.residual.is_some(), wide: around.output.is_none(), method, finish }
    }

    /// The shape.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Whether the input is to be [planar](Map::planar).
    pub fn planar(&self) -> bool {
        self.planar
    }

    /// Bytes of the packed parameters.
    pub fn bytes(&self) -> usize {
        let weights = match &self.method {
            Method::Dense(dense) => dense.bytes(),
            Method::Depthwise(depthwise) => depthwise.bytes(),
        };
        weights + 3 * size_of_val(&*self.finish.start)
    }

    /// As [`ConvSpec::plan`], with the border that this way of computing the convolution needs: at least as wide.
    pub fn plan(&self, size: [usize; 2]) -> Option<([usize; 2], Border)> {
        let (size, border) = self.spec.plan(size)?;
        let taps = self.spec.kernel[1];
        // The last taps of an incomplete group have weights of zero, but are read.
        let grouped = match &self.method {
            Method::Dense(_) => self.planar,
            Method::Depthwise(depthwise) => depthwise.groups_taps(),
        };
        let right = if grouped { taps.next_multiple_of(GROUP) - taps } else { 0 };
        Some((size, Border { right: border.right + right, ..border }))
    }

    /// Computes `images` images of bytes. The input's border is at least what [`plan`](Self::plan) says, of the input's zero point; the
    /// residual is there if the convolution was made with one.
    ///
    /// # Panics
    /// When maps or lengths do not fit the convolution, or it was made for an output of f32.
    pub fn run(&self, images: usize, input: View<'_, u8>, residual: Option<View<'_, u8>>, output: ViewMut<'_, u8>) {
        assert!(!self.wide && output.values.len() >= output.map.len(images), "an output of another type or length: {:?}", output.map);
        self.compute(images, input, residual, output.map, Shared::from_slice(output.values));
    }

    /// As [`run`](Self::run), of a convolution without quantization of its output.
    ///
    /// # Panics
    /// As [`run`](Self::run), or when it was made for an output of bytes.
    pub fn run_wide(&self, images: usize, input: View<'_, u8>, residual: Option<View<'_, u8>>, output: ViewMut<'_, f32>) {
        assert!(self.wide && output.values.len() >= output.map.len(images), "an output of another type or length: {:?}", output.map);
        self.compute(images, input, residual, output.map, Shared::from_slice(output.values).cast());
    }

    fn compute(&self, images: usize, input: View<'_, u8>, residual: Option<View<'_, u8>>, output: &Map, values: Shared<u8>) {
        let spec = &self.spec;
        let Some((size, border)) = self.plan([input.map.height, input.map.width]) else { panic_on_maps(spec, input.map) };
        let fits = |map: &Map| map.channels == spec.outputs && [map.height, map.width] == size && map.lanes == LANES;
        let input_fits = input.map.channels == spec.inputs
            && input.values.len() >= input.map.len(images)
            && input.map.border.max(border) == input.map.border
            && input.map.lanes == if self.planar { 1 } else { LANES };
        let residual_fits = residual.is_some() == self.adds
            && residual.is_none_or(|residual| fits(residual.map) && residual.values.len() >= residual.map.len(images));
        if !(input_fits && fits(output) && residual_fits) {
            panic_on_maps(spec, input.map);
        }
        // The border on the right is wider than what the taps see: only what is before them is looked at.
        let job = Job { spec, finish: &self.finish, images, border, input, residual, output, values, wide: self.wide };
        match &self.method {
            Method::Dense(dense) => dense.run(&job),
            Method::Depthwise(depthwise) => depthwise.run(&job),
        }
    }
}

impl Job<'_> {
    /// Row and column of output pixel `(row, column)`'s first tap.
    pub(super) fn first(&self, row: usize, column: usize) -> (isize, isize) {
        let at = |place: usize, before: usize| (place * self.spec.stride) as isize - before as isize;
        (at(row, self.border.top), at(column, self.border.left))
    }

    /// Bytes of an output's value.
    pub(super) fn size(&self) -> usize {
        if self.wide { size_of::<f32>() } else { 1 }
    }
}

/// Weights of each output channel, divided by the scale that makes the largest 127 and rounded; and the scales.
fn quantize(spec: &ConvSpec, weight: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let mut bytes = Vec::with_capacity(weight.len());
    let mut scales = Vec::with_capacity(spec.outputs);
    for kernel in weight.chunks_exact(weight.len() / spec.outputs) {
        let most = kernel.iter().fold(0f32, |most, x| most.max(x.abs()));
        let scale = if most > 0.0 { f64::from(most) / 127.0 } else { 1.0 };
        bytes.extend(kernel.iter().map(|&weight| (f64::from(weight) / scale).round_ties_even() as i8));
        scales.push(scale as f32);
    }
    (bytes, scales)
}

impl Finish {
    fn new(spec: &ConvSpec, weight: &[i8], scales: &[f32], bias: &[f32], around: Quantizations, activation: Activation) -> Self {
        let len = spec.outputs.next_multiple_of(LANES);
        let (mut start, mut multiplier, mut offset) = (Buffer::zeros(len), Buffer::zeros(len), Buffer::zeros(len));
        // Without quantization the output's unit is 1, and its zero 0.
        let (unit, zero) = around.output.map_or((1.0, 0.0), |output| (f64::from(output.scale()), f64::from(output.zero_point())));
        let residual = around.residual.map_or(0.0, |residual| f64::from(residual.scale()) / unit);
        let shift = zero - residual * around.residual.map_or(0.0, |residual| f64::from(residual.zero_point()));
        for (output, kernel) in weight.chunks_exact(weight.len() / spec.outputs).enumerate() {
            let sum: i32 = kernel.iter().map(|&weight| i32::from(weight)).fold(0, i32::wrapping_add);
            start[output] = sum.wrapping_mul(-i32::from(around.input.zero_point()));
            multiplier[output] = (f64::from(around.input.scale()) * f64::from(scales[output]) / unit) as f32;
            offset[output] = (f64::from(bias[output]) / unit + shift) as f32;
        }
        let (least, most) = if around.output.is_some() { (0.0, 255.0) } else { (f32::NEG_INFINITY, f32::INFINITY) };
        let (zero, six) = (zero as f32, (zero + 6.0 / unit) as f32);
        let bounds = match activation {
            Activation::Identity => [least, most],
            Activation::Relu => [zero, most],
            Activation::Relu6 => [zero, six.min(most)],
        };
        Self { start, multiplier, offset, bounds, residual: residual as f32 }
    }
}
