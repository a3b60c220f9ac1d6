use super::dense::Dense;
use super::depthwise::Depthwise;
use super::element::Product;
use super::map::{Border, Map, Part};
use super::winograd::{self, Winograd};
use super::{Element, View, ViewMut};
use crate::Activation;

/// Zeros around the input of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The same number on each side.
    Zeros(usize),
    /// TensorFlow's SAME: output size `ceil(size / stride)`, the odd zero at the bottom and right.
    Same,
}

/// Shape of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step in both directions.
    pub stride: usize,
    /// Distance of kernel taps in both directions.
    pub dilation: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Zeros around the input.
    pub padding: Padding,
}

impl ConvSpec {
    /// Pixels from the first tap to the last, both included.
    pub(super) fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation + 1
    }

    /// Height and width of the output, and the border that the input needs; `None` when the input is smaller than the kernel.
    pub fn plan(&self, size: [usize; 2]) -> Option<([usize; 2], Border)> {
        let axis = |axis: usize| {
            let (size, reach) = (size[axis], self.reach(axis));
            // Pixels that the taps of so many outputs see.
            let span = |output: usize| (output.max(1) - 1).saturating_mul(self.stride).saturating_add(reach);
            let (before, output) = match self.padding {
                Padding::Zeros(zeros) => (zeros, size.checked_add(2 * zeros)?.checked_sub(reach)? / self.stride + 1),
                Padding::Same => {
                    let output = size.div_ceil(self.stride);
                    (span(output).saturating_sub(size) / 2, output)
                }
            };
            // Zeros that no tap of any output sees need not be there.
            let after = span(output).saturating_sub(before.saturating_add(size));
            (size > 0).then_some((output, before, after))
        };
        let ((height, top, bottom), (width, left, right)) = (axis(0)?, axis(1)?);
        Some(([height, width], Border { top, bottom, left, right }))
    }

    /// Multiplications per pixel of the output.
    pub fn multiplications(&self) -> usize {
        self.outputs * (self.inputs / self.groups) * self.kernel[0] * self.kernel[1]
    }

    /// Values of a weight, `[outputs, inputs / groups, kernel height, kernel width]`.
    pub fn weights(&self) -> usize {
        self.multiplications()
    }

    fn is_depthwise(&self) -> bool {
        self.groups == self.inputs && self.groups == self.outputs
    }
}

/// What follows the sums of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a, T = f32> {
    /// Added first: a shortcut, of the output's shape.
    pub residual: Option<View<'a, T>>,
    /// Applied last.
    pub activation: Activation,
}

impl<T> From<Activation> for Epilogue<'_, T> {
    fn from(activation: Activation) -> Self {
        Self { residual: None, activation }
    }
}

/// A convolution with packed weights, of inputs stored as `T`.
#[derive(Debug)]
pub struct Conv<T: Element = f32> {
    spec: ConvSpec,
    planar: bool,
    pub(super) method: Method<T>,
}

#[derive(Debug)]
pub(super) enum Method<T: Element> {
    Dense(Dense<T>),
    Depthwise(Depthwise),
    Winograd(Winograd<f32>),
}

/// Fewest input channels that are worth blocks; with fewer, the input is planar.
const BLOCKED: usize = 5;

impl<T: Element> Conv<T> {
    /// Packs `weight` `[outputs, inputs / groups, kernel height, kernel width]` and `bias` `[outputs]`.
    ///
    /// # Panics
    /// When a length or number of groups does not fit, or an extent, the stride or the dilation is zero; for bf16 where it is not
    /// [supported](super::supports_bf16).
    pub fn new(spec: ConvSpec, weight: &[f32], bias: &[f32]) -> Self {
        let divides = spec.groups > 0 && spec.inputs.is_multiple_of(spec.groups) && spec.outputs.is_multiple_of(spec.groups);
        let some = [spec.inputs, spec.outputs, spec.kernel[0], spec.kernel[1], spec.stride, spec.dilation].iter().all(|&extent| extent > 0);
        assert!(divides && some, "a convolution that cannot be: {spec:?}");
        assert!(weight.len() == spec.weights() && bias.len() == spec.outputs, "parameters of another shape: {spec:?}");
        assert!(T::supported(), "a type that this processor does not multiply");
        // In a planar map the taps that an instruction multiplies together are neighbours.
        let planar = spec.groups == 1 && spec.inputs < BLOCKED && spec.stride <= 2 && (T::GROUP == 1 || spec.dilation == 1);
        let method = if spec.is_depthwise() && !planar {
            Method::Depthwise(Depthwise::new(&spec, weight, bias))
        } else if winograd::suits::<T>(&spec) {
            Method::Winograd(Winograd::new(&spec, weight, bias))
        } else {
            Method::Dense(Dense::new(&spec, planar, weight, bias))
        };
        Self { spec, planar, method }
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
        match &self.method {
            Method::Dense(dense) => dense.bytes(),
            Method::Depthwise(depthwise) => depthwise.bytes(),
            Method::Winograd(winograd) => winograd.bytes(),
        }
    }

    /// As [`ConvSpec::plan`], with the border that this way of computing the convolution needs: at least as wide.
    pub fn plan(&self, size: [usize; 2]) -> Option<([usize; 2], Border)> {
        let (size, border) = self.spec.plan(size)?;
        let border = match &self.method {
            Method::Winograd(winograd) => winograd.border(size, border),
            // The last tap of an incomplete group has weights of zero, but is read.
            Method::Dense(_) if self.planar => {
                Border { right: border.right + self.spec.kernel[1].next_multiple_of(T::GROUP) - self.spec.kernel[1], ..border }
            }
            _ => border,
        };
        Some((size, border))
    }

    /// Computes `images` images. The input's border is at least what [`plan`](Self::plan) says, of zeros.
    ///
    /// # Panics
    /// When maps or lengths do not fit the convolution.
    #[allow(private_bounds, reason = "every element's products are stored as such an element, and as f32")]
    pub fn run<O: Element>(&self, images: usize, input: View<'_, T>, output: ViewMut<'_, O>, epilogue: Epilogue<'_, O>)
    where
        T: Product<O>,
    {
        let spec = &self.spec;
        let Some((size, border)) = self.plan([input.map.height, input.map.width]) else { panic_on_maps(spec, input.map) };
        let fits = |map: &Map, channels: usize, size: [usize; 2], len: usize| {
            map.channels == channels && [map.height, map.width] == size && len >= map.len(images)
        };
        let blocked = |map: &Map| map.lanes == super::vector_lanes();
        let input_fits = input.map.channels == spec.inputs
            && input.values.len() >= input.map.len(images)
            && input.map.border.max(border) == input.map.border
            && if self.planar { input.map.lanes == 1 } else { blocked(input.map) };
        let output_fits = fits(output.map, spec.outputs, size, output.values.len()) && blocked(output.map);
        let residual_fits =
            epilogue.residual.is_none_or(|residual| fits(residual.map, spec.outputs, size, residual.values.len()) && blocked(residual.map));
        if !(input_fits && output_fits && residual_fits) {
            panic_on_maps(spec, input.map);
        }
        let job = Job { spec, images, border, input, output: output.map, epilogue };
        match &self.method {
            Method::Dense(dense) => dense.run(&job, output.values),
            Method::Depthwise(depthwise) => depthwise.run(&job, output.values),
            Method::Winograd(winograd) => winograd.run(&job, output.values),
        }
    }
}

#[allow(clippy::panic, reason = "documented: the caller's mistake, never the data's")]
pub(super) fn panic_on_maps(spec: &ConvSpec, input: &Map) -> ! {
    panic!("maps that do not fit the convolution {spec:?}: input {input:?}")
}

/// A convolution whose maps were checked.
pub(super) struct Job<'a, T, O> {
    pub(super) spec: &'a ConvSpec,
    pub(super) images: usize,
    /// The zeros that the convolution sees around its input; the map's own may be wider.
    pub(super) border: Border,
    pub(super) input: View<'a, T>,
    pub(super) output: &'a Map,
    pub(super) epilogue: Epilogue<'a, O>,
}

impl<T, O> Job<'_, T, O> {
    /// Row and column of output pixel `(row, column)`'s first tap.
    pub(super) fn first(&self, row: usize, column: usize) -> (isize, isize) {
        let at = |place: usize, before: usize| (place * self.spec.stride) as isize - before as isize;
        (at(row, self.border.top), at(column, self.border.left))
    }

    /// Where output pixel `(row, column)`'s first tap is in an input plane.
    pub(super) fn first_tap(&self, row: usize, column: usize) -> usize {
        let (row, column) = self.first(row, column);
        Part::whole(self.input.map).at(0, 0, row, column)
    }
}

/// Distances of a kernel's taps from the first, in a map; of groups of `group` taps side by side, those of each group's first.
pub(super) fn taps(spec: &ConvSpec, map: &Map, group: usize) -> Vec<usize> {
    let tap = |i: usize, j: usize| i * spec.dilation * map.row() + j * spec.dilation * map.lanes;
    (0..spec.kernel[0]).flat_map(|i| (0..spec.kernel[1]).step_by(group).map(move |j| tap(i, j))).collect()
}
