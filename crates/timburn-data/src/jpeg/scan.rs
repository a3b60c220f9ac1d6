//! Sequential scans, and the order of blocks that they share with progressive ones.

use timburn_core::error::ImageFault;

use super::bits::Bits;
use super::corrupt;
use super::frame::{Frame, Scan};
use super::huffman::{Huffman, Skips, Tables, ZIGZAG};
use super::idct::{self, Group, LANES};
use super::window::{Buffers, Window, Windows};

/// Counts MCUs and steps over restart markers.
pub(super) struct Restarts {
    interval: usize,
    left: usize,
    seen: usize,
}

impl Restarts {
    pub(super) fn new(tables: &Tables) -> Self {
        Self { interval: tables.restart_interval, left: tables.restart_interval, seen: 0 }
    }

    /// To be called before each MCU; true when a marker was passed and predictions start anew.
    #[inline(always)]
    pub(super) fn before_mcu(&mut self, bits: &mut Bits<'_>) -> Result<bool, ImageFault> {
        if self.interval == 0 {
            return Ok(false);
        }
        let due = self.left == 0;
        if due {
            *bits = bits.restarted(self.seen)?;
            self.seen += 1;
            self.left = self.interval;
        }
        self.left -= 1;
        Ok(due)
    }
}

/// A component on its way through a scan.
struct Track<'a> {
    dc: &'a Huffman,
    ac: &'a Huffman,
    prediction: i32,
    /// Blocks of an MCU, across and down.
    wide: usize,
    high: usize,
    quant: [u16; 64],
    window: &'a Window,
    buffers: &'a mut Buffers,
}

/// Decodes one scan into the planes of its components and returns the number of bytes used.
pub(super) fn decode(
    frame: &Frame,
    windows: &Windows,
    buffers: &mut [Buffers],
    scan: &Scan,
    tables: &Tables,
    data: &[u8],
) -> Result<usize, ImageFault> {
    let mut bits = Bits::new(data);
    let mut restarts = Restarts::new(tables);
    // A scan of one component has no padding blocks: its MCU is a block.
    let alone = scan.parts.len() == 1;
    let first = scan.parts[0].component;
    let (columns, rows, inside_columns, inside_rows) = if alone {
        let (component, window) = (&frame.components[first], &windows.components[first]);
        let end = window.block_columns.end.min(component.blocks_wide);
        (component.blocks_wide, component.blocks_high, window.block_columns.start..end, window.block_rows.clone())
    } else {
        (frame.mcus_wide, frame.mcus_high, windows.mcu_columns.clone(), windows.mcu_rows.clone())
    };
    let mut tracks = Vec::with_capacity(scan.parts.len());
    for (index, ((component, window), buffers)) in frame.components.iter().zip(&windows.components).zip(buffers).enumerate() {
        let Some(position) = scan.parts.iter().position(|part| part.component == index) else { continue };
        let part = &scan.parts[position];
        let (wide, high) = if alone { (1, 1) } else { (component.h, component.v) };
        let quant = component.quant.unwrap_or([0; 64]);
        let (dc, ac) = (tables.dc(part.dc_table)?, tables.ac(part.ac_table)?);
        tracks.push((position, Track { dc, ac, prediction: 0, wide, high, quant, window, buffers }));
    }
    // An MCU has the blocks in the order of the scan's header.
    tracks.sort_by_key(|&(position, _)| position);
    let mut tracks: Vec<_> = tracks.into_iter().map(|(_, track)| track).collect();
    for row in 0..rows {
        let inside = if inside_rows.contains(&row) { inside_columns.clone() } else { 0..0 };
        for column in 0..columns {
            if restarts.before_mcu(&mut bits)? {
                tracks.iter_mut().for_each(|track| track.prediction = 0);
            }
            if inside.contains(&column) {
                let at = column - inside.start;
                for track in &mut tracks {
                    track.decode_mcu(&mut bits, at % LANES)?;
                }
                if at % LANES == LANES - 1 || column + 1 == inside.end {
                    tracks.iter_mut().for_each(|track| track.render(row, at / LANES, at % LANES + 1));
                }
            } else {
                for track in &mut tracks {
                    track.skip_mcu(&mut bits)?;
                }
            }
            bits.check()?;
        }
    }
    Ok(bits.position)
}

impl Track<'_> {
    /// Decodes the blocks of an MCU, the `at`th of a run of [`LANES`].
    #[inline(always)]
    fn decode_mcu(&mut self, bits: &mut Bits<'_>, at: usize) -> Result<(), ImageFault> {
        for y in 0..self.high {
            for x in 0..self.wide {
                let block = at * self.wide + x;
                let Some(group) = self.buffers.coefficients.get_mut(y * self.wide + block / LANES) else { continue };
                decode_block(bits, self.dc, self.ac, &mut self.prediction, group, block % LANES)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn skip_mcu(&mut self, bits: &mut Bits<'_>) -> Result<(), ImageFault> {
        let skips = self.ac.skips();
        for _ in 0..self.high * self.wide {
            skip_block(bits, self.dc, self.ac, skips, &mut self.prediction)?;
        }
        Ok(())
    }

    /// Inverse transform of run number `run` of a row, which has `count` MCUs.
    fn render(&mut self, row: usize, run: usize, count: usize) {
        let (size, stride) = (self.window.size, self.window.stride());
        let groups = (count * self.wide).div_ceil(LANES);
        for y in 0..self.high {
            let coefficients = &mut self.buffers.coefficients[y * self.wide..][..groups];
            let line = (row * self.high + y - self.window.block_rows.start) * size;
            let plane = &mut self.buffers.plane[line * stride + run * self.wide * LANES * size..];
            idct::groups(coefficients, &self.quant, size, plane, stride);
            coefficients.fill(Group::ZERO);
        }
    }
}

#[inline(always)]
fn decode_block(
    bits: &mut Bits<'_>,
    dc: &Huffman,
    ac: &Huffman,
    prediction: &mut i32,
    group: &mut Group,
    lane: usize,
) -> Result<(), ImageFault> {
    let entry = bits.entry(dc)?;
    *prediction = prediction.wrapping_add(bits.value(entry));
    *group.at(0, lane) = *prediction as i16;
    let mut k = 1;
    while k < 64 {
        let entry = bits.entry(ac)?;
        let value = bits.value(entry);
        k += entry.run();
        if entry.size() == 0 {
            if entry.run() < 15 {
                return Ok(());
            }
        } else {
            let Some(&natural) = ZIGZAG.get(k) else { return Err(beyond()) };
            *group.at(natural.into(), lane) = value as i16;
        }
        k += 1;
    }
    Ok(())
}

/// Passes over a block that lies outside; finds the same faults as [`decode_block`].
#[inline(always)]
fn skip_block(bits: &mut Bits<'_>, dc: &Huffman, ac: &Huffman, skips: &Skips, prediction: &mut i32) -> Result<(), ImageFault> {
    let entry = bits.entry(dc)?;
    *prediction = prediction.wrapping_add(bits.value(entry));
    let mut k = 1;
    while k < 64 {
        bits.refill();
        let skip = skips[bits.peek()];
        let behind = k + skip.coefficients();
        if !skip.is_long() && behind < 64 {
            bits.consume(skip.bits());
            if skip.is_last() {
                return Ok(());
            }
            k = behind;
            continue;
        }
        // Long codes, and the symbol that fills the block.
        let entry = bits.entry(ac)?;
        bits.consume(entry.total());
        if entry.size() == 0 && entry.run() < 15 {
            return Ok(());
        }
        k += entry.run();
        if entry.size() != 0 && k > 63 {
            return Err(beyond());
        }
        k += 1;
    }
    Ok(())
}

fn beyond() -> ImageFault {
    corrupt("a run beyond the end of a block")
}
