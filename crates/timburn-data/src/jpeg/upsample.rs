//! Components of lower resolution, brought to full size row by row as libjpeg's "fancy" upsampling does (`jdsample.c`).

use super::window::Window;

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

/// Memory for one row.
#[derive(Default)]
pub(super) struct Row {
    /// Weighted sums of two lines, with a copy of the edge value at either end.
    sums: Vec<u16>,
    row: Vec<u8>,
}

/// Gives rows of one component at the resolution of the picture.
pub(super) struct Upsampler<'a> {
    window: &'a Window,
    plane: &'a [u8],
    memory: &'a mut Row,
    method: Method,
    /// The region's first pixel in `row`.
    offset: usize,
}

impl<'a> Upsampler<'a> {
    /// For the pixels from column `left`. `smooth`: whether libjpeg filters at all, which it does not at an eighth of the size.
    pub(super) fn new(window: &'a Window, plane: &'a [u8], memory: &'a mut Row, left: usize, smooth: bool) -> Self {
        let wide = window.width > 2;
        let method = match window.expand {
            (1, 1) => Method::Full,
            (2, 1) if wide && smooth => Method::Wide,
            (1, 2) if smooth => Method::High,
            (2, 2) if wide && smooth => Method::Both,
            (h, v) => Method::Repeat(h, v),
        };
        memory.sums.resize(window.columns.len() + 2, 0);
        memory.row.resize(window.columns.len() * window.expand.0, 0);
        let offset = left - window.columns.start * window.expand.0;
        Self { window, plane, memory, method, offset }
    }

    /// The region's part of row `y` of the picture, or more.
    #[inline(always)]
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let (window, plane) = (self.window, self.plane);
        let Row { sums, row } = &mut *self.memory;
        match self.method {
            Method::Full => return &window.line(plane, y)[self.offset..],
            Method::Wide => {
                sum(sums, window.line(plane, y));
                widen::<1, 2, 2>(sums, row);
            }
            Method::High => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                deepen(row, window.line(plane, y / 2), window.line(plane, neighbour(y, window.height)), bias);
            }
            Method::Both => {
                sum_of_two(sums, window.line(plane, y / 2), window.line(plane, neighbour(y, window.height)));
                widen::<8, 7, 4>(sums, row);
            }
            Method::Repeat(h, v) => {
                for (out, &value) in row.chunks_exact_mut(h).zip(window.line(plane, y / v)) {
                    out.fill(value);
                }
            }
        }
        &row[self.offset..]
    }
}

/// The second nearest line of a component at half height; the edge lines continue outwards.
fn neighbour(y: usize, height: usize) -> usize {
    if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(height - 1) }
}

#[inline(always)]
fn deepen(row: &mut [u8], near: &[u8], far: &[u8], bias: u16) {
    let count = row.len();
    let (near, far) = (&near[..count], &far[..count]);
    for i in 0..count {
        row[i] = ((3 * u16::from(near[i]) + u16::from(far[i]) + bias) >> 2) as u8;
    }
}

#[inline(always)]
fn sum(sums: &mut [u16], line: &[u8]) {
    let count = line.len();
    let inner = &mut sums[1..=count];
    for i in 0..count {
        inner[i] = line[i].into();
    }
    continue_outwards(sums, count);
}

#[inline(always)]
fn sum_of_two(sums: &mut [u16], near: &[u8], far: &[u8]) {
    let count = near.len();
    let (inner, far) = (&mut sums[1..=count], &far[..count]);
    for i in 0..count {
        inner[i] = 3 * u16::from(near[i]) + u16::from(far[i]);
    }
    continue_outwards(sums, count);
}

/// At the edge of the picture this is what libjpeg does; at the edge of a window it concerns pixels outside the region only.
#[inline(always)]
fn continue_outwards(sums: &mut [u16], count: usize) {
    sums[0] = sums[1];
    sums[count + 1] = sums[count];
}

/// Two outputs for every sum: nearer to the left neighbour, nearer to the right one. The biases alternate, so that the mean does not drift.
#[inline(always)]
fn widen<const LEFT_BIAS: u16, const RIGHT_BIAS: u16, const SHIFT: u32>(sums: &[u16], row: &mut [u8]) {
    let pairs = row.as_chunks_mut::<2>().0;
    let count = pairs.len();
    let (left, here, right) = (&sums[..count], &sums[1..=count], &sums[2..count + 2]);
    for i in 0..count {
        let center = 3 * here[i];
        pairs[i] = [((center + left[i] + LEFT_BIAS) >> SHIFT) as u8, ((center + right[i] + RIGHT_BIAS) >> SHIFT) as u8];
    }
}
