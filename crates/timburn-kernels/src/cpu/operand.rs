//! What the tiles of convolutions multiply: f32 values, or pairs of bf16 where the machine multiplies such.

use std::ops::Range;

use half::bf16;
use macerator::{Simd, vload_unaligned, vstore_unaligned};

use super::correlation::WeightLayout;
use super::element::Element;
use super::tile::outer;
use super::tile_bf16::{self, Sums};
use super::window::{Run, Window};

/// Whether this machine multiplies pairs of bf16; else they are f32 once they are packed.
pub(super) fn pairs() -> bool {
    #[cfg(test)]
    if NO_PAIRS.get() {
        return false;
    }
    tile_bf16::supported()
}

#[cfg(test)]
thread_local! {
    /// Lets a test compute as a machine without the instructions does.
    pub(super) static NO_PAIRS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Values that are multiplied. Operands lie in memory as f32: each holds a value, or a pair of them that are consecutive in the depth.
pub(super) trait Operand: Element {
    /// Values of the depth in a step.
    const VALUES: usize;

    /// Packs some channels of a tile of `M` rows of which `count` exist: `[channel][tap][M]`.
    ///
    /// # Safety
    /// `to` has room for the steps of these channels times `M`, the caller's to write.
    unsafe fn pack_weights<const M: usize>(from: &[f32], count: usize, channels: Range<usize>, layout: &WeightLayout<'_>, to: *mut f32);

    /// `to[m · pitch + v] (+)= Σ a[i · step + m] · b[i · V · lanes + v]`.
    ///
    /// # Safety
    /// `a` has `steps` steps of M values or pairs, `b` of V vectors; the sums are the caller's, initialised unless they start here.
    unsafe fn add<S: Simd, const M: usize, const V: usize>(
        steps: usize,
        a: *const f32,
        step: usize,
        b: *const f32,
        to: *mut f32,
        pitch: usize,
        first: bool,
    );
}

/// An operand for tensors of `T`.
pub(super) trait Tile<T: Element>: Operand {
    /// What a window's scratch holds.
    type Seen: Element;
    /// Whether a target of `T` holds sums that are not complete.
    const KEEPS_SUMS: bool;

    /// What the taps see of some channels as a panel: rows, or rows of pairs, `pitch` apart.
    ///
    /// # Safety
    /// As [`Window::rows`].
    unsafe fn pack<S: Simd>(
        window: &Window<'_, T>,
        runs: &[(Run, usize)],
        origin: usize,
        channels: Range<usize>,
        scratch: &[Self::Seen],
        target: *mut f32,
        pitch: usize,
    );

    /// Writes sums, with their bias, to rows `plane` apart.
    ///
    /// # Safety
    /// The sums are there, and so is room for the rows.
    unsafe fn round(sums: &Sums<'_>, to: *mut T, plane: usize);
}

/// The weights of a channel's taps for `count` rows.
fn of_channel<'a>(from: &'a [f32], count: usize, channel: usize, layout: &WeightLayout<'_>) -> &'a [f32] {
    let far = layout.taps.iter().copied().max().unwrap_or(0);
    &from[channel * layout.channel..][..(count - 1) * layout.row + far + 1]
}

impl Operand for f32 {
    const VALUES: usize = 1;

    unsafe fn pack_weights<const M: usize>(
        from: &[f32],
        count: usize,
        channels: Range<usize>,
        layout: &WeightLayout<'_>,
        mut to: *mut f32,
    ) {
        for channel in channels {
            let from = of_channel(from, count, channel, layout);
            for &tap in layout.taps {
                // SAFETY: `from` was cut to hold all these; `to` as the caller promises.
                unsafe {
                    if count == M && layout.row == 1 {
                        to.cast::<[f32; M]>().write_unaligned(from.as_ptr().add(tap).cast::<[f32; M]>().read_unaligned());
                    } else if count == M {
                        for m in 0..M {
                            to.add(m).write(*from.get_unchecked(tap + m * layout.row));
                        }
                    } else {
                        for m in 0..M {
                            to.add(m).write(if m < count { *from.get_unchecked(tap + m * layout.row) } else { 0.0 });
                        }
                    }
                    to = to.add(M);
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "whatever the compiler does not inline is compiled without the vector instructions")]
    unsafe fn add<S: Simd, const M: usize, const V: usize>(
        steps: usize,
        a: *const f32,
        step: usize,
        b: *const f32,
        to: *mut f32,
        pitch: usize,
        first: bool,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let tile = outer::<S, M, V>(steps, a, step, b);
            for m in 0..M {
                for v in 0..V {
                    let to = to.add(m * pitch + v * super::tile::lanes::<S>());
                    vstore_unaligned(to, if first { tile[m][v] } else { vload_unaligned::<S, f32>(to) + tile[m][v] });
                }
            }
        }
    }
}

impl<T: Element> Tile<T> for f32 {
    type Seen = Self;
    const KEEPS_SUMS: bool = size_of::<T>() == size_of::<Self>();

    #[inline(always)]
    unsafe fn pack<S: Simd>(
        window: &Window<'_, T>,
        runs: &[(Run, usize)],
        origin: usize,
        channels: Range<usize>,
        scratch: &[Self],
        target: *mut f32,
        pitch: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe { window.rows::<S, Self>(runs, origin, channels, scratch, target, pitch) };
    }

    #[inline(always)]
    unsafe fn round(sums: &Sums<'_>, to: *mut T, plane: usize) {
        for row in 0..sums.rows {
            let bias = sums.bias.map_or(0.0, |bias| bias[row]);
            for i in 0..sums.len {
                // SAFETY: as the caller promises.
                unsafe { to.add(row * plane + i).write(T::from_f32(sums.values.add(row * sums.pitch + i).read() + bias)) };
            }
        }
    }
}

impl Operand for bf16 {
    const VALUES: usize = 2;

    unsafe fn pack_weights<const M: usize>(
        from: &[f32],
        count: usize,
        channels: Range<usize>,
        layout: &WeightLayout<'_>,
        mut to: *mut f32,
    ) {
        let taps = layout.taps.len();
        let in_order = layout.channel == taps && layout.taps.iter().enumerate().all(|(place, &tap)| place == tap);
        if count == M && M == tile_bf16::ROWS && !channels.is_empty() && taps > 0 {
            let last = of_channel(from, count, channels.end - 1, layout);
            debug_assert!(!last.is_empty());
            // SAFETY: the last channel's weights are there; this operand is chosen where the instructions are supported.
            unsafe {
                if in_order {
                    return tile_bf16::pack_rows(from[channels.start * taps..].as_ptr(), layout.row, channels.len() * taps, to);
                }
                if taps == 1 && layout.row == 1 {
                    let from = from[channels.start * layout.channel + layout.taps[0]..].as_ptr();
                    return tile_bf16::pack_columns(from, layout.channel, channels.len(), to);
                }
                let columns = channels.flat_map(|channel| layout.taps.iter().map(move |tap| channel * layout.channel + tap));
                return tile_bf16::pack_scattered(from.as_ptr(), layout.row, columns, to);
            }
        }
        // Values of a step that are packed already.
        let mut packed = 0;
        for channel in channels {
            let from = of_channel(from, count, channel, layout);
            for &tap in layout.taps {
                for m in 0..M {
                    let value = if m < count { from[tap + m * layout.row] } else { 0.0 };
                    // SAFETY: as the caller promises; the first of a pair writes a zero for the second.
                    unsafe {
                        let pair = to.add(m).cast::<bf16>();
                        pair.add(packed).write(Element::from_f32(value));
                        if packed == 0 {
                            pair.add(1).write(bf16::ZERO);
                        }
                    }
                }
                packed = 1 - packed;
                if packed == 0 {
                    // SAFETY: a step further.
                    to = unsafe { to.add(M) };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add<S: Simd, const M: usize, const V: usize>(
        steps: usize,
        a: *const f32,
        step: usize,
        b: *const f32,
        to: *mut f32,
        pitch: usize,
        first: bool,
    ) {
        // SAFETY: as the caller promises; this operand is chosen where the instructions are supported.
        unsafe { tile_bf16::add::<M, V>(steps, a, step, b, to, pitch, first) };
    }
}

impl Tile<bf16> for bf16 {
    type Seen = Self;
    const KEEPS_SUMS: bool = false;

    #[inline(always)]
    unsafe fn pack<S: Simd>(
        window: &Window<'_, bf16>,
        runs: &[(Run, usize)],
        origin: usize,
        channels: Range<usize>,
        scratch: &[Self],
        target: *mut f32,
        pitch: usize,
    ) {
        // SAFETY: as above.
        unsafe { window.pairs(runs, origin, channels, scratch, target, pitch) };
    }

    #[inline(always)]
    unsafe fn round(sums: &Sums<'_>, to: *mut Self, plane: usize) {
        // SAFETY: as above.
        unsafe { tile_bf16::round(sums, to, plane) };
    }
}
