//! The bilinear and bicubic inner loops of a warp, in `PIL.Image.transform`'s arithmetic.
//!
//! A row of the output is three runs: the pixels between two ends have all their neighbours inside the source and take a loop without
//! branches; those before and behind are computed one by one, with their neighbours clamped or the fill colour shown. Both give the same
//! bits, so where exactly the runs meet does not matter.

use crate::image::Rgb8Image;
use crate::simd::widest;

/// Pixels whose source positions are computed together.
const BLOCK: usize = 64;

/// Every output pixel from its `N`×`N` neighbours in the source, 2 or 4; `BYTES` holds a row of them and one byte more: `3 * N + 1`.
pub(super) fn interpolated<const N: usize, const BYTES: usize>(image: &Rgb8Image, out: &mut Rgb8Image, m: [f64; 6], fill: [u8; 3]) {
    widest(
        #[inline(always)]
        || {
            warped::<N, BYTES>(
                image,
                out,
                Positions { matrix: m, origin: (0.5, 0.5), shift: (0.0, 0.0), half: 0.5 },
                #[inline(always)]
                |point| careful::<N>(image, point).unwrap_or(fill),
                combined,
            );
        },
    );
}

/// Where the output pixels come from: `matrix` of the pixel indices plus `origin`, plus `shift`; a pixel's centre lies at its index plus
/// `half`.
#[derive(Clone, Copy)]
pub(super) struct Positions {
    pub matrix: [f64; 6],
    pub origin: (f64, f64),
    pub shift: (f64, f64),
    pub half: f64,
}

/// Every output pixel: from `inside` and the distances to the first neighbours where all neighbours exist, from `anywhere` elsewhere.
#[inline(always)]
pub(super) fn warped<const N: usize, const BYTES: usize>(
    image: &Rgb8Image,
    out: &mut Rgb8Image,
    positions: Positions,
    anywhere: impl Fn((f64, f64)) -> [u8; 3],
    inside: impl Fn([&[u8; BYTES]; N], f64, f64) -> [u8; 3],
) {
    let width = out.width;
    // Offsets are 32 bits wide.
    let small = u32::try_from(image.pixels.len()).is_ok();
    for (y, row) in out.pixels.chunks_exact_mut((width * 3).max(1)).enumerate() {
        let line = Line::new(positions, y);
        let (from, to) = if small { line.interior(width, (image.width, image.height), (N / 2) as f64 - 1.0) } else { (0, 0) };
        let row = row.as_chunks_mut::<3>().0;
        for x in (0..from).chain(to..width) {
            row[x] = anywhere(line.at(x));
        }
        interior(image, line, from, &mut row[from..to], &anywhere, &inside);
    }
}

/// The source positions of one output row.
#[derive(Clone, Copy)]
struct Line {
    positions: Positions,
    by: f64,
    ey: f64,
}

impl Line {
    #[inline(always)]
    fn new(positions: Positions, y: usize) -> Self {
        let [_, b, _, _, e, _] = positions.matrix;
        let y = y as f64 + positions.origin.1;
        Self { positions, by: b * y, ey: e * y }
    }

    /// Where a pixel comes from, in PIL's order of operations.
    #[inline(always)]
    fn at(self, x: usize) -> (f64, f64) {
        let Positions { matrix: [a, _, c, d, _, f], origin, shift, .. } = self.positions;
        let x = x as f64 + origin.0;
        (a * x + self.by + c + shift.0, d * x + self.ey + f + shift.1)
    }

    /// The run of pixels whose position, less `half`, is at least `before` and below `size - 1 - before` along both axes. Rounding keeps
    /// products and sums monotone in x, so that a binary search finds it exactly.
    #[inline(always)]
    fn interior(self, width: usize, (columns, rows): (usize, usize), before: f64) -> (usize, usize) {
        let Positions { matrix: [a, _, _, d, ..], half, .. } = self.positions;
        let (from, to) = run(width, a, |x| self.at(x).0 - half, before, columns as f64 - 1.0 - before);
        let (top, bottom) = run(width, d, |x| self.at(x).1 - half, before, rows as f64 - 1.0 - before);
        let from = from.max(top);
        (from, to.min(bottom).max(from))
    }
}

/// The pixels with `low <= position < high` along one axis; `slope` has the sign of the position's growth.
#[inline(always)]
fn run(width: usize, slope: f64, position: impl Fn(usize) -> f64, low: f64, high: f64) -> (usize, usize) {
    if slope >= 0.0 {
        (first(width, |x| position(x) >= low), first(width, |x| position(x) >= high))
    } else {
        (first(width, |x| position(x) < high), first(width, |x| position(x) < low))
    }
}

/// The first of `0..width` from which on `reached` holds.
#[inline(always)]
fn first(width: usize, reached: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, width);
    while low < high {
        let middle = (low + high) / 2;
        if reached(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The output pixels `row`, whose first is pixel `from` of its line, all with their neighbours inside the source.
#[inline(always)]
fn interior<const N: usize, const BYTES: usize>(
    image: &Rgb8Image,
    line: Line,
    from: usize,
    row: &mut [[u8; 3]],
    anywhere: &impl Fn((f64, f64)) -> [u8; 3],
    inside: &impl Fn([&[u8; BYTES]; N], f64, f64) -> [u8; 3],
) {
    let (stride, before, half) = (image.width * 3, N as u32 / 2 - 1, line.positions.half);
    let (mut offsets, mut across, mut down) = ([0_u32; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
    for (block, out) in row.chunks_mut(BLOCK).enumerate() {
        let start = from + block * BLOCK;
        for index in 0..BLOCK {
            let (x, y) = line.at(start + index);
            let (x, y) = (x - half, y - half);
            // Positions are not negative here, so that a cast is the floor. Those behind the end of a short block are not used.
            let (column, line) = (x as u32, y as u32);
            (across[index], down[index]) = (x - f64::from(column), y - f64::from(line));
            let (column, line) = (column.wrapping_sub(before), line.wrapping_sub(before));
            offsets[index] = line.wrapping_mul(stride as u32).wrapping_add(column.wrapping_mul(3));
        }
        for index in 0..out.len().min(BLOCK) {
            out[index] = match neighbourhood::<N, BYTES>(&image.pixels, offsets[index] as usize, stride) {
                Some(rows) => inside(rows, across[index], down[index]),
                // The picture's last pixel has no byte behind it.
                None => anywhere(line.at(start + index)),
            };
        }
    }
}

/// The bytes of the neighbours, by row.
#[inline(always)]
fn neighbourhood<const N: usize, const BYTES: usize>(pixels: &[u8], offset: usize, stride: usize) -> Option<[&[u8; BYTES]; N]> {
    let block = pixels.get(offset..)?;
    let mut rows = [block.first_chunk::<BYTES>()?; N];
    let mut row = 1;
    while row < N {
        rows[row] = block.get(row * stride..)?.first_chunk::<BYTES>()?;
        row += 1;
    }
    Some(rows)
}

/// The neighbour's three channels, and the byte behind them: four make a vector.
#[inline(always)]
pub(super) fn lanes<const BYTES: usize>(row: &[u8; BYTES], column: usize) -> [f64; 4] {
    let at = column * 3;
    [f64::from(row[at]), f64::from(row[at + 1]), f64::from(row[at + 2]), f64::from(row[at + 3])]
}

#[inline(always)]
fn combined<const N: usize, const BYTES: usize>(rows: [&[u8; BYTES]; N], dx: f64, dy: f64) -> [u8; 3] {
    let values = if N == 2 {
        let (upper, lower) = (rows[0], rows[1]);
        linear(linear(lanes(upper, 0), lanes(upper, 1), dx), linear(lanes(lower, 0), lanes(lower, 1), dx), dy)
    } else {
        let mut lines = [[0.0; 4]; 4];
        for index in 0..4 {
            let row = rows[index.min(N - 1)];
            lines[index] = cubic([lanes(row, 0), lanes(row, 1), lanes(row, 2), lanes(row, N - 1)], dx);
        }
        cubic(lines, dy)
    };
    let mut bytes = [0; 4];
    for channel in 0..4 {
        bytes[channel] = values[channel] as u8;
    }
    [bytes[0], bytes[1], bytes[2]]
}

#[inline(always)]
fn linear<const C: usize>(a: [f64; C], b: [f64; C], t: f64) -> [f64; C] {
    let mut values = [0.0; C];
    for channel in 0..C {
        values[channel] = a[channel] + (b[channel] - a[channel]) * t;
    }
    values
}

/// Hermite with a = -1.
#[inline(always)]
fn cubic<const C: usize>([a, b, c, d]: [[f64; C]; 4], t: f64) -> [f64; C] {
    let mut values = [0.0; C];
    for channel in 0..C {
        let (a, b, c, d) = (a[channel], b[channel], c[channel], d[channel]);
        let (p2, p3, p4) = (-a + c, 2.0 * (a - b) + c - d, -a + b - c + d);
        values[channel] = b + t * (p2 + t * (p3 + t * p4));
    }
    values
}

/// The pixel at a point anywhere; none outside the source.
#[inline(always)]
fn careful<const N: usize>(image: &Rgb8Image, (x, y): (f64, f64)) -> Option<[u8; 3]> {
    let (columns, dx) = neighbours::<N>(x, image.width)?;
    let (rows, dy) = neighbours::<N>(y, image.height)?;
    let mut lines = [[0.0; 3]; N];
    for (line, y) in lines.iter_mut().zip(rows) {
        let row = &image.pixels.as_chunks::<3>().0[y * image.width..][..image.width];
        let mut picked = [[0.0; 3]; N];
        for (picked, x) in picked.iter_mut().zip(columns) {
            *picked = row[x].map(f64::from);
        }
        *line = between(picked, dx);
    }
    Some(between(lines, dy).map(|value| value as u8))
}

#[inline(always)]
fn between<const N: usize>(values: [[f64; 3]; N], t: f64) -> [f64; 3] {
    if N == 2 { linear(values[0], values[N - 1], t) } else { cubic([values[0], values[1], values[N - 2], values[N - 1]], t) }
}

/// The neighbours of a point along one axis, those beyond the edge replaced by the edge pixel, and the distance from the pixel before it.
#[inline(always)]
fn neighbours<const N: usize>(position: f64, size: usize) -> Option<([usize; N], f64)> {
    if !(position >= 0.0 && position < size as f64) {
        return None;
    }
    let position = position - 0.5;
    // The floor of what is above -1.
    let floor = position as i64 - i64::from(position < 0.0);
    let before = N as i64 / 2 - 1;
    let indices = std::array::from_fn(|offset| (floor - before + offset as i64).clamp(0, size as i64 - 1) as usize);
    Some((indices, position - floor as f64))
}

#[cfg(test)]
mod tests {
    use timburn_core::seed::Draws;

    use super::*;

    fn noise(width: usize, height: usize, draws: &mut Draws) -> Rgb8Image {
        let pixels = (0..width * height * 3).map(|_| draws.below(256) as u8).collect();
        Rgb8Image::new(width, height, pixels).unwrap()
    }

    fn check<const N: usize, const BYTES: usize>(image: &Rgb8Image, width: usize, height: usize, m: [f64; 6]) -> usize {
        let mut out = Rgb8Image { width, height, pixels: vec![7; width * height * 3] };
        interpolated::<N, BYTES>(image, &mut out, m, [1, 2, 3]);
        let mut inside = 0;
        for (index, found) in out.pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = ((index % width) as f64 + 0.5, (index / width) as f64 + 0.5);
            // PIL's order, and `floor` itself.
            let point = (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]);
            let expected = plain::<N>(image, point);
            inside += usize::from(expected.is_some());
            assert_eq!(*found, expected.unwrap_or([1, 2, 3]), "{m:?} {index} of {width}×{height}");
        }
        inside
    }

    /// The same without runs, blocks and casts.
    fn plain<const N: usize>(image: &Rgb8Image, (x, y): (f64, f64)) -> Option<[u8; 3]> {
        if !(x >= 0.0 && x < image.width as f64 && y >= 0.0 && y < image.height as f64) {
            return None;
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let before = N as i64 / 2 - 1;
        let at = |column: i64, row: i64, channel: usize| {
            let column = (x.floor() as i64 - before + column).clamp(0, image.width as i64 - 1) as usize;
            let row = (y.floor() as i64 - before + row).clamp(0, image.height as i64 - 1) as usize;
            f64::from(image.pixels[(row * image.width + column) * 3 + channel])
        };
        let mix = |v: [f64; N], t: f64| {
            if N == 2 {
                return v[0] + (v[1] - v[0]) * t;
            }
            let (a, b, c, d) = (v[0], v[1], v[2], v[3]);
            b + t * ((-a + c) + t * ((2.0 * (a - b) + c - d) + t * (-a + b - c + d)))
        };
        let (dx, dy) = (x - x.floor(), y - y.floor());
        Some(std::array::from_fn(|channel| {
            let lines = std::array::from_fn(|row| mix(std::array::from_fn(|column| at(column as i64, row as i64, channel)), dx));
            mix(lines, dy) as u8
        }))
    }

    /// The runs and their casts give what every pixel by itself gives, for matrices of all kinds.
    #[test]
    fn runs_change_nothing() {
        let mut draws = Draws::new(3, &[]);
        let mut inside = 0;
        for round in 0..600 {
            let image = noise(1 + draws.below(90), 1 + draws.below(40), &mut draws);
            let (width, height) = (1 + draws.below(150), 1 + draws.below(20));
            let mut entry = |size: usize| draws.range(-1.5, 1.5) * size as f64;
            let mut m = [entry(1), entry(1), entry(image.width), entry(1), entry(1), entry(image.height)];
            match round % 6 {
                0 => (m[1], m[3]) = (0.0, 0.0),
                // On pixel centres and edges exactly.
                1 => m = m.map(|value| (value * 2.0).round() / 2.0),
                2 => m = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                3 => m = [image.width as f64 / width as f64, 0.0, 0.0, 0.0, image.height as f64 / height as f64, 0.0],
                _ => {}
            }
            inside += check::<2, 7>(&image, width, height, m);
            inside += check::<4, 13>(&image, width, height, m);
        }
        assert!(inside > 100_000, "{inside}");
    }

    /// Matrices without sense show the fill colour or something, and never panic.
    #[test]
    fn odd_matrices() {
        let image = noise(9, 7, &mut Draws::new(4, &[]));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 1e18, 1e-320] {
            for place in 0..6 {
                let mut m = [1.0, 0.1, 0.0, 0.2, 1.0, 0.0];
                m[place] = value;
                check::<2, 7>(&image, 80, 9, m);
                check::<4, 13>(&image, 80, 9, m);
            }
        }
    }
}
