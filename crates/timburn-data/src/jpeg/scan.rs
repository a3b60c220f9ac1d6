//! Sequential scans, and the order of blocks that they share with progressive ones.

use timburn_core::error::ImageFault;

use super::bits::Bits;
use super::corrupt;
use super::frame::{Frame, Scan};
use super::huffman::{Huffman, Tables, ZIGZAG};
use super::idct::{self, Group, LANES};
use super::window::{Buffers, Window};

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
            bits.restart(self.seen)?;
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
    windows: &[Window],
    buffers: &mut [Buffers],
    scan: &Scan,
    tables: &Tables,
    data: &[u8],
) -> Result<usize, ImageFault> {
    let mut bits = Bits::new(data);
    let mut restarts = Restarts::new(tables);
    // A scan of one component has no padding blocks: its MCU is a block.
    let alone = scan.parts.len() == 1;
    let mut tracks = Vec::with_capacity(scan.parts.len());
    for (index, ((component, window), buffers)) in frame.components.iter().zip(windows).zip(buffers).enumerate() {
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
    let first = &frame.components[scan.parts[0].component];
    let (columns, rows) = if alone { (first.blocks_wide, first.blocks_high) } else { (frame.mcus_wide, frame.mcus_high) };
    // One row of MCUs at a time, so that the coefficients stay in the cache.
    for row in 0..rows {
        for column in 0..columns {
            if restarts.before_mcu(&mut bits)? {
                tracks.iter_mut().for_each(|track| track.prediction = 0);
            }
            for track in &mut tracks {
                track.decode_mcu(&mut bits, row, column)?;
            }
            bits.check()?;
        }
        tracks.iter_mut().for_each(|track| track.render(row));
    }
    Ok(bits.position)
}

impl Track<'_> {
    #[inline(always)]
    fn decode_mcu(&mut self, bits: &mut Bits<'_>, row: usize, column: usize) -> Result<(), ImageFault> {
        let window = self.window;
        let groups = window.groups();
        for y in 0..self.high {
            let inside = window.block_rows.contains(&(row * self.high + y));
            for x in 0..self.wide {
                // Huge to the left of the window.
                let at = (column * self.wide + x).wrapping_sub(window.block_columns.start);
                let group = if inside && at < window.block_columns.len() {
                    self.buffers.coefficients.get_mut(y * groups + at / LANES)
                } else {
                    None
                };
                if let Some(group) = group {
                    decode_block(bits, self.dc, self.ac, &mut self.prediction, group, at % LANES)?;
                } else {
                    skip_block(bits, self.dc, self.ac, &mut self.prediction)?;
                }
            }
        }
        Ok(())
    }

    /// Inverse transform of a row of MCUs, as far as it lies in the window.
    fn render(&mut self, row: usize) {
        let (window, groups) = (self.window, self.window.groups());
        for y in 0..self.high {
            let block_row = row * self.high + y;
            if groups == 0 || !window.block_rows.contains(&block_row) {
                continue;
            }
            let coefficients = &mut self.buffers.coefficients[y * groups..][..groups];
            let line = (block_row - window.block_rows.start) * window.size;
            idct::groups(coefficients, &self.quant, window.size, &mut self.buffers.plane[line * window.stride()..]);
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
fn skip_block(bits: &mut Bits<'_>, dc: &Huffman, ac: &Huffman, prediction: &mut i32) -> Result<(), ImageFault> {
    let skips = ac.skips();
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
