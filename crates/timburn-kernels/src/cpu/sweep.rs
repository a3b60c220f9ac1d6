//! One pass over a plane: what batch normalisation does to values that lie side by side.
//!
//! Loops are over indices here, without closures: whatever the compiler does not inline is compiled without the vector instructions.
#![allow(
    clippy::needless_range_loop,
    clippy::assign_op_pattern,
    reason = "see above: assigning operators are functions that may stay calls"
)]

use macerator::{ReduceAdd, Simd, VMulAdd, vload_unaligned};

use super::element::Element;
use super::tile::{Lanes, MAX_LANES, lanes, splat};

/// Activations as constants, so that loops hold no branch.
pub(super) const IDENTITY: u8 = 0;
pub(super) const RELU: u8 = 1;
pub(super) const RELU6: u8 = 2;

/// Calls a function for vectors of `S`, values of `T` and the activation as a constant.
macro_rules! for_activation {
    ($activation:expr, $call:ident::<$S:ident, $T:ident>($($argument:expr),* $(,)?)) => {
        match $activation {
            $crate::Activation::Identity => $call::<$S, $T, { $crate::cpu::sweep::IDENTITY }>($($argument),*),
            $crate::Activation::Relu => $call::<$S, $T, { $crate::cpu::sweep::RELU }>($($argument),*),
            $crate::Activation::Relu6 => $call::<$S, $T, { $crate::cpu::sweep::RELU6 }>($($argument),*),
        }
    };
}
pub(super) use for_activation;

/// Sums in flight: as many as hide the latency of an addition.
const SUMS: usize = 4;

/// What happens to a channel's values: `(x - mean) · scale + shift`.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) mean: f32,
    pub(super) scale: f32,
    pub(super) shift: f32,
}

struct AffineLanes<S: Simd> {
    mean: Lanes<S>,
    scale: Lanes<S>,
    shift: Lanes<S>,
}

impl Affine {
    #[inline(always)]
    fn lanes<S: Simd>(self) -> AffineLanes<S> {
        AffineLanes { mean: splat(self.mean), scale: splat(self.scale), shift: splat(self.shift) }
    }
}

impl<S: Simd> AffineLanes<S> {
    /// The backward pass must see the very value that the forward pass saw.
    #[inline(always)]
    fn of(&self, x: Lanes<S>) -> Lanes<S> {
        f32::vmul_add(x - self.mean, self.scale, self.shift)
    }
}

/// `value`, or where the activation is flat its bound. NaN compares false and stays.
#[inline(always)]
pub(super) fn activate<S: Simd, const A: u8>(value: Lanes<S>) -> Lanes<S> {
    if A == IDENTITY {
        return value;
    }
    let zero = splat::<S>(0.0);
    let value = value.le(zero).select(zero, value);
    if A == RELU {
        return value;
    }
    let six = splat::<S>(6.0);
    value.ge(six).select(six, value)
}

/// What of `slope` passes an activation whose input, or output, is `value`. NaN lets it pass, as in PyTorch.
#[inline(always)]
pub(super) fn pass<S: Simd, const A: u8>(value: Lanes<S>, slope: Lanes<S>) -> Lanes<S> {
    if A == IDENTITY {
        return slope;
    }
    let zero = splat::<S>(0.0);
    let slope = value.le(zero).select(zero, slope);
    if A == RELU { slope } else { value.ge(splat::<S>(6.0)).select(zero, slope) }
}

/// The vector at `at`; past `len`, lanes are `fill`.
///
/// # Safety
/// `values` holds `len` values.
#[inline(always)]
pub(super) unsafe fn load<S: Simd, T: Element>(values: *const T, at: usize, len: usize, fill: f32) -> Lanes<S> {
    // SAFETY: within `len`.
    unsafe {
        if at + lanes::<S>() <= len {
            return T::load::<S>(values.add(at));
        }
        // Filled as f32: rounded, a mean were no longer the mean.
        let mut part = [fill; MAX_LANES];
        for i in 0..len - at {
            part[i] = values.add(at + i).read().to_f32();
        }
        vload_unaligned(part.as_ptr())
    }
}

/// Stores the vector at `at`, up to `len`.
///
/// # Safety
/// `values` has room for `len` values.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, T: Element>(values: *mut T, at: usize, len: usize, value: Lanes<S>) {
    // SAFETY: within `len`.
    unsafe {
        if at + lanes::<S>() <= len {
            T::store::<S>(values.add(at), value);
            return;
        }
        let mut part = [T::default(); MAX_LANES];
        T::store::<S>(part.as_mut_ptr(), value);
        std::ptr::copy_nonoverlapping(part.as_ptr(), values.add(at), len - at);
    }
}

#[inline(always)]
fn total_of<S: Simd>(sums: [Lanes<S>; SUMS]) -> f32 {
    f32::reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]))
}

/// `Σ x`.
#[inline(always)]
pub(super) fn sum<S: Simd, T: Element>(x: &[T]) -> f32 {
    let (len, step) = (x.len(), lanes::<S>());
    let mut sums = [splat::<S>(0.0); SUMS];
    let mut at = 0;
    while at < len {
        for i in 0..SUMS {
            if at + i * step < len {
                // SAFETY: a slice of `len`.
                sums[i] = sums[i] + unsafe { load::<S, T>(x.as_ptr(), at + i * step, len, 0.0) };
            }
        }
        at += SUMS * step;
    }
    total_of::<S>(sums)
}

/// `Σ (x - mean)²`.
#[inline(always)]
pub(super) fn squares<S: Simd, T: Element>(x: &[T], mean: f32) -> f32 {
    let (len, step) = (x.len(), lanes::<S>());
    let centre = splat::<S>(mean);
    let mut sums = [splat::<S>(0.0); SUMS];
    let mut at = 0;
    while at < len {
        for i in 0..SUMS {
            if at + i * step < len {
                // SAFETY: a slice of `len`.
                let distance = unsafe { load::<S, T>(x.as_ptr(), at + i * step, len, mean) } - centre;
                sums[i] = f32::vmul_add(distance, distance, sums[i]);
            }
        }
        at += SUMS * step;
    }
    total_of::<S>(sums)
}

/// `output = activation(affine(x) + residual)`.
///
/// # Safety
/// `x` and `output` hold `len` values (they may be the same), and so does a residual.
#[inline(always)]
pub(super) unsafe fn apply<S: Simd, T: Element, const A: u8>(
    affine: Affine,
    x: *const T,
    residual: Option<&[T]>,
    output: *mut T,
    len: usize,
) {
    let affine = affine.lanes::<S>();
    for at in (0..len).step_by(lanes::<S>()) {
        // SAFETY: as the caller promises; a vector is read before it is written.
        unsafe {
            let mut value = affine.of(load::<S, T>(x, at, len, 0.0));
            if let Some(residual) = residual {
                value = value + load::<S, T>(residual.as_ptr(), at, len, 0.0);
            }
            store::<S, T>(output, at, len, activate::<S, A>(value));
        }
    }
}

/// `Σ slope` and `Σ slope · (x - mean)` of what passes the activation at `affine(x)`.
///
/// # Safety
/// `slope` holds as many values as `x`.
#[inline(always)]
pub(super) unsafe fn slopes<S: Simd, T: Element, const A: u8>(affine: Affine, x: &[T], slope: *const T) -> [f32; 2] {
    let (len, step, lanes_of) = (x.len(), lanes::<S>(), affine.lanes::<S>());
    let (mut sums, mut products) = ([splat::<S>(0.0); SUMS], [splat::<S>(0.0); SUMS]);
    let mut at = 0;
    while at < len {
        for i in 0..SUMS {
            if at + i * step < len {
                // SAFETY: `len` values each. Past them slopes are zero, and so are the products.
                unsafe {
                    let x = load::<S, T>(x.as_ptr(), at + i * step, len, affine.mean);
                    let slope = pass::<S, A>(lanes_of.of(x), load::<S, T>(slope, at + i * step, len, 0.0));
                    sums[i] = sums[i] + slope;
                    products[i] = f32::vmul_add(slope, x - lanes_of.mean, products[i]);
                }
            }
        }
        at += SUMS * step;
    }
    [total_of::<S>(sums), total_of::<S>(products)]
}

/// The same where the activation's output is at hand. What passes stays in `slope` and goes to `residual` too.
///
/// # Safety
/// All hold as many values as `x`; those of `slope` are initialised.
#[inline(always)]
pub(super) unsafe fn mask<S: Simd, T: Element, const A: u8>(
    mean: f32,
    x: &[T],
    output: &[T],
    slope: *mut T,
    residual: Option<*mut T>,
) -> [f32; 2] {
    let (len, step, centre) = (x.len(), lanes::<S>(), splat::<S>(mean));
    let (mut sums, mut products) = ([splat::<S>(0.0); SUMS], [splat::<S>(0.0); SUMS]);
    let mut at = 0;
    while at < len {
        for i in 0..SUMS {
            let at = at + i * step;
            if at < len {
                // SAFETY: as the caller promises. Past the end slopes are zero, and so are the products.
                unsafe {
                    let passed = pass::<S, A>(load::<S, T>(output.as_ptr(), at, len, 0.0), load::<S, T>(slope, at, len, 0.0));
                    store::<S, T>(slope, at, len, passed);
                    if let Some(residual) = residual {
                        store::<S, T>(residual, at, len, passed);
                    }
                    sums[i] = sums[i] + passed;
                    products[i] = f32::vmul_add(passed, load::<S, T>(x.as_ptr(), at, len, mean) - centre, products[i]);
                }
            }
        }
        at += SUMS * step;
    }
    [total_of::<S>(sums), total_of::<S>(products)]
}

/// `slope = scale · (passed - a - (x - mean) · b)`.
///
/// # Safety
/// `slope` holds as many initialised values as `x`.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd, T: Element, const A: u8>(affine: Affine, [a, b]: [f32; 2], x: &[T], slope: *mut T) {
    let len = x.len();
    let lanes_of = affine.lanes::<S>();
    let (a, b) = (splat::<S>(a), splat::<S>(b));
    for at in (0..len).step_by(lanes::<S>()) {
        // SAFETY: as the caller promises.
        unsafe {
            let x = load::<S, T>(x.as_ptr(), at, len, 0.0);
            let passed = pass::<S, A>(lanes_of.of(x), load::<S, T>(slope, at, len, 0.0));
            store::<S, T>(slope, at, len, lanes_of.scale * (passed - a - (x - lanes_of.mean) * b));
        }
    }
}
