//! Progressive scans: the coefficients of a band, or one more bit of them (T.81, annex G; libjpeg's `jdphuff.c`).

use timburn_core::error::ImageFault;

use super::bits::Bits;
use super::corrupt;
use super::frame::{Frame, Scan};
use super::huffman::{Huffman, Tables, ZIGZAG};
use super::idct::{self, Group, LANES};
use super::scan::Restarts;
use super::window::{Buffers, Window};

/// Decodes one scan into the coefficients of its components and returns the number of bytes used.
pub(super) fn decode(frame: &Frame, buffers: &mut [Buffers], scan: &Scan, tables: &Tables, data: &[u8]) -> Result<usize, ImageFault> {
    if scan.start == 0 { decode_dc(frame, buffers, scan, tables, data) } else { decode_ac(frame, buffers, scan, tables, data) }
}

/// Inverse transform of all coefficients inside the window, once the last scan has been read.
pub(super) fn render(frame: &Frame, windows: &[Window], buffers: &mut [Buffers]) {
    for ((component, window), Buffers { coefficients, plane }) in frame.components.iter().zip(windows).zip(buffers) {
        let Some(quant) = &component.quant else { continue };
        let (all, wanted, stride) = (component.stride.div_ceil(LANES), window.groups(), window.stride());
        if wanted == 0 {
            continue;
        }
        for (line, row) in window.block_rows.clone().enumerate() {
            let groups = &coefficients[row * all + window.block_columns.start / LANES..][..wanted];
            idct::groups(groups, quant, window.size, &mut plane[line * window.size * stride..], stride);
        }
    }
}

fn decode_dc(frame: &Frame, buffers: &mut [Buffers], scan: &Scan, tables: &Tables, data: &[u8]) -> Result<usize, ImageFault> {
    let mut bits = Bits::new(data);
    let mut restarts = Restarts::new(tables);
    let mut predictions = [0i32; 4];
    let alone = scan.parts.len() == 1;
    let mut parts = Vec::with_capacity(scan.parts.len());
    for part in &scan.parts {
        // Refinement is one plain bit a block and needs no table.
        parts.push((part.component, if scan.high == 0 { Some(tables.dc(part.dc_table)?) } else { None }));
    }
    let first = &frame.components[scan.parts[0].component];
    let (columns, rows) = if alone { (first.blocks_wide, first.blocks_high) } else { (frame.mcus_wide, frame.mcus_high) };
    for row in 0..rows {
        for column in 0..columns {
            if restarts.before_mcu(&mut bits)? {
                predictions = [0; 4];
            }
            for (&(index, table), prediction) in parts.iter().zip(&mut predictions) {
                let (component, groups) = (&frame.components[index], &mut buffers[index].coefficients);
                let (wide, high) = if alone { (1, 1) } else { (component.h, component.v) };
                for y in 0..high {
                    for x in 0..wide {
                        let column = column * wide + x;
                        let at = (row * high + y) * component.stride.div_ceil(LANES) + column / LANES;
                        let Some(group) = groups.get_mut(at) else { continue };
                        let coefficient = group.at(0, column % LANES);
                        if let Some(table) = table {
                            let entry = bits.entry(table)?;
                            *prediction = prediction.wrapping_add(bits.value(entry));
                            *coefficient = (*prediction << scan.low) as i16;
                        } else {
                            *coefficient |= (bits.take(1) << scan.low) as i16;
                        }
                    }
                }
            }
            bits.check()?;
        }
    }
    Ok(bits.position)
}

fn decode_ac(frame: &Frame, buffers: &mut [Buffers], scan: &Scan, tables: &Tables, data: &[u8]) -> Result<usize, ImageFault> {
    let mut bits = Bits::new(data);
    let mut restarts = Restarts::new(tables);
    let table = tables.ac(scan.parts[0].ac_table)?;
    let index = scan.parts[0].component;
    let (component, groups) = (&frame.components[index], &mut buffers[index].coefficients);
    let mut end_of_band_run = 0u32;
    for row in 0..component.blocks_high {
        for column in 0..component.blocks_wide {
            if restarts.before_mcu(&mut bits)? {
                end_of_band_run = 0;
            }
            let at = row * component.stride.div_ceil(LANES) + column / LANES;
            let Some(group) = groups.get_mut(at) else { continue };
            let mut block = Block { group, lane: column % LANES };
            if scan.high == 0 {
                first_bits(&mut bits, table, scan, &mut block, &mut end_of_band_run)?;
            } else {
                next_bit(&mut bits, table, scan, &mut block, &mut end_of_band_run)?;
            }
            bits.check()?;
        }
    }
    Ok(bits.position)
}

/// One block of a group.
struct Block<'a> {
    group: &'a mut Group,
    lane: usize,
}

impl Block<'_> {
    /// The coefficient at a zigzag index.
    #[inline(always)]
    fn at(&mut self, k: usize) -> &mut i16 {
        self.group.at(usize::from(ZIGZAG[k & 63]), self.lane)
    }
}

fn first_bits(bits: &mut Bits<'_>, table: &Huffman, scan: &Scan, block: &mut Block<'_>, run_left: &mut u32) -> Result<(), ImageFault> {
    if *run_left > 0 {
        *run_left -= 1;
        return Ok(());
    }
    let mut k = scan.start;
    while k <= scan.end {
        let entry = bits.entry(table)?;
        let run = entry.run();
        let value = bits.value(entry);
        if entry.size() == 0 {
            if run < 15 {
                *run_left = (1 << run) - 1 + bits.take(run as u32);
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        if k > scan.end {
            return Err(beyond());
        }
        *block.at(k) = (value << scan.low) as i16;
        k += 1;
    }
    Ok(())
}

fn next_bit(bits: &mut Bits<'_>, table: &Huffman, scan: &Scan, block: &mut Block<'_>, run_left: &mut u32) -> Result<(), ImageFault> {
    let one = 1i16 << scan.low;
    let mut k = scan.start;
    if *run_left == 0 {
        while k <= scan.end {
            let entry = bits.entry(table)?;
            bits.consume_code(entry);
            let mut run = entry.run();
            let mut new = 0;
            if entry.size() != 0 {
                new = if bits.take(1) == 1 { one } else { -one };
            } else if run < 15 {
                *run_left = (1 << run) + bits.take(run as u32);
                break;
            }
            // Skips `run` coefficients that are still zero; the others on the way get their next bit.
            while k <= scan.end {
                let coefficient = block.at(k);
                if *coefficient != 0 {
                    refine(bits, coefficient, one);
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if new != 0 {
                if k > scan.end {
                    return Err(beyond());
                }
                *block.at(k) = new;
            }
            k += 1;
        }
    }
    if *run_left > 0 {
        while k <= scan.end {
            let coefficient = block.at(k);
            if *coefficient != 0 {
                refine(bits, coefficient, one);
            }
            k += 1;
        }
        *run_left -= 1;
    }
    Ok(())
}

#[inline(always)]
fn refine(bits: &mut Bits<'_>, coefficient: &mut i16, one: i16) {
    if bits.take(1) == 1 && *coefficient & one == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { one } else { -one });
    }
}

fn beyond() -> ImageFault {
    corrupt("a run beyond the end of a band")
}
