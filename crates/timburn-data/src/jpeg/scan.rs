//! Sequential scans, and the order of blocks that they share with progressive ones.

use timburn_core::error::ImageFault;

use super::corrupt;
use super::frame::{Frame, Scan};
use super::huffman::{Bits, Huffman, Tables, ZIGZAG};

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

/// Decodes one scan into the planes of its components and returns the number of bytes used.
pub(super) fn decode(frame: &mut Frame, scan: &Scan, tables: &Tables, data: &[u8]) -> Result<usize, ImageFault> {
    let mut bits = Bits::new(data);
    let mut restarts = Restarts::new(tables);
    let mut predictions = [0i32; 4];
    // One row of MCUs at a time, so that the coefficients stay in the cache.
    let alone = scan.parts.len() == 1;
    let mut parts = Vec::with_capacity(scan.parts.len());
    for part in &scan.parts {
        let component = &frame.components[part.component];
        let (wide, high) = if alone { (1, 1) } else { (component.h, component.v) };
        let row = vec![0i16; component.stride * 64 * high];
        parts.push((part.component, tables.dc(part.dc_table)?, tables.ac(part.ac_table)?, wide, high, component.stride, row));
    }
    // A scan of one component has no padding blocks: its MCU is a block.
    let first = &frame.components[scan.parts[0].component];
    let (columns, rows) = if alone { (first.blocks_wide, first.blocks_high) } else { (frame.mcus_wide, frame.mcus_high) };
    for row in 0..rows {
        for column in 0..columns {
            if restarts.before_mcu(&mut bits)? {
                predictions = [0; 4];
            }
            for ((_, dc, ac, wide, high, stride, buffer), prediction) in parts.iter_mut().zip(&mut predictions) {
                for y in 0..*high {
                    for x in 0..*wide {
                        let at = (y * *stride + column * *wide + x) * 64;
                        if let Some(block) = buffer.get_mut(at..).and_then(<[i16]>::first_chunk_mut) {
                            decode_block(&mut bits, dc, ac, prediction, block)?;
                        }
                    }
                }
            }
            bits.check()?;
        }
        for (index, _, _, _, high, stride, buffer) in &mut parts {
            for (y, blocks) in buffer.chunks_exact(*stride * 64).enumerate() {
                frame.components[*index].render_row(row * *high + y, blocks);
            }
            buffer.fill(0);
        }
    }
    Ok(bits.position)
}

#[inline(always)]
fn decode_block(bits: &mut Bits<'_>, dc: &Huffman, ac: &Huffman, prediction: &mut i32, block: &mut [i16; 64]) -> Result<(), ImageFault> {
    let size = bits.symbol(dc)?;
    *prediction = prediction.wrapping_add(bits.value(size));
    block[0] = *prediction as i16;
    let mut k = 1;
    while k < 64 {
        let (run, value) = if let Some(short) = bits.short_ac(ac) {
            short
        } else {
            let symbol = bits.symbol(ac)?;
            let (run, size) = (symbol >> 4, symbol & 15);
            if size == 0 {
                if run < 15 {
                    return Ok(());
                }
                k += 16;
                continue;
            }
            (run, bits.value(size))
        };
        k += run as usize;
        let Some(&natural) = ZIGZAG.get(k) else { return Err(corrupt("a run beyond the end of a block")) };
        block[usize::from(natural & 63)] = value as i16;
        k += 1;
    }
    Ok(())
}
