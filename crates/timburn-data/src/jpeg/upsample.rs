//! Components of lower resolution, brought to full size row by row as libjpeg's "fancy" upsampling does (`jdsample.c`).

use super::frame::{Component, Frame};

/// How a component reaches full resolution.
#[derive(Clone, Copy)]
enum Method {
    /// It has it.
    Full,
    /// Triangle filter across, twice the width.
    Wide,
    /// Triangle filter down, twice the height.
    High,
    /// Both in one rounding.
    Both,
    /// Samples repeated `h` by `v` times.
    Repeat(usize, usize),
}

/// Gives full-width rows of one component.
pub(super) struct Upsampler<'a> {
    component: &'a Component,
    method: Method,
    /// Weighted sums of two rows, with a copy of the edge value at either end.
    sums: Vec<u16>,
    row: Vec<u8>,
}

impl<'a> Upsampler<'a> {
    pub(super) fn new(frame: &Frame, component: &'a Component) -> Self {
        let wide = component.width > 2;
        let method = match (frame.h_max / component.h, frame.v_max / component.v) {
            (1, 1) => Method::Full,
            (2, 1) if wide => Method::Wide,
            (1, 2) => Method::High,
            (2, 2) if wide => Method::Both,
            (h, v) => Method::Repeat(h, v),
        };
        // Two spare samples, for the column pairs that an odd width cuts in half.
        let across = (component.width * frame.h_max / component.h).max(frame.width) + 2;
        Self { component, method, sums: vec![0; component.width + 2], row: vec![0; across] }
    }

    /// Row `y` of the picture; at least as long as the picture is wide.
    #[inline(always)]
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let component = self.component;
        let line = |y: usize| &component.plane[y * component.stride * 8..][..component.width];
        match self.method {
            Method::Full => return line(y),
            Method::Wide => {
                sum(&mut self.sums, line(y), None);
                widen::<1, 2, 2>(&self.sums, &mut self.row);
            }
            Method::High => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let (near, far) = (line(y / 2), line(neighbour(y, component.height)));
                for ((out, &near), &far) in self.row.iter_mut().zip(near).zip(far) {
                    *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Method::Both => {
                sum(&mut self.sums, line(y / 2), Some(line(neighbour(y, component.height))));
                widen::<8, 7, 4>(&self.sums, &mut self.row);
            }
            Method::Repeat(h, v) => {
                for (out, &value) in self.row.chunks_mut(h).zip(line(y / v)) {
                    out.fill(value);
                }
            }
        }
        &self.row
    }
}

/// The second nearest row of a component at half height; the edge rows continue outwards.
fn neighbour(y: usize, height: usize) -> usize {
    if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(height - 1) }
}

#[inline(always)]
fn sum(sums: &mut [u16], near: &[u8], far: Option<&[u8]>) {
    let width = near.len();
    let inner = &mut sums[1..=width];
    if let Some(far) = far {
        for ((sum, &near), &far) in inner.iter_mut().zip(near).zip(far) {
            *sum = 3 * u16::from(near) + u16::from(far);
        }
    } else {
        for (sum, &near) in inner.iter_mut().zip(near) {
            *sum = near.into();
        }
    }
    sums[0] = sums[1];
    sums[width + 1] = sums[width];
}

/// Two outputs for every sum: nearer to the left neighbour, nearer to the right one. The biases alternate, so that the mean does not drift.
#[inline(always)]
fn widen<const LEFT_BIAS: u16, const RIGHT_BIAS: u16, const SHIFT: u32>(sums: &[u16], row: &mut [u8]) {
    let count = sums.len() - 2;
    let (left, here, right) = (&sums[..count], &sums[1..=count], &sums[2..]);
    for (((out, &left), &here), &right) in row.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(here).zip(right) {
        *out = [((3 * here + left + LEFT_BIAS) >> SHIFT) as u8, ((3 * here + right + RIGHT_BIAS) >> SHIFT) as u8];
    }
}
