//! The frame header: size and components; the scan header: which components, which coefficients.

use timburn_core::error::ImageFault;

use super::huffman::Tables;
use super::{corrupt, truncated};

/// One colour component.
pub(super) struct Component {
    id: u8,
    /// Sampling factors.
    pub(super) h: usize,
    pub(super) v: usize,
    quant_slot: usize,
    /// In natural order, copied at the component's first scan: later redefinitions of the slot do not concern it.
    pub(super) quant: Option<[u16; 64]>,
    /// Size in blocks, the edge blocks included.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    /// Size in blocks of whole MCUs.
    pub(super) stride: usize,
    pub(super) rows: usize,
}

/// What the frame header announces.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    pub(super) h_max: usize,
    pub(super) v_max: usize,
    pub(super) mcus_wide: usize,
    pub(super) mcus_high: usize,
}

impl Frame {
    /// Reads the header; the size must be allowed and the file long enough to be able to hold it.
    pub(super) fn parse(segment: &[u8], progressive: bool, file_bytes: usize, max_pixels: u64) -> Result<Self, ImageFault> {
        let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = segment else {
            return Err(corrupt("short frame header"));
        };
        let (width, height) = (usize::from(u16::from_be_bytes([w1, w0])), usize::from(u16::from_be_bytes([h1, h0])));
        if precision != 8 {
            return Err(corrupt("only 8 bits per sample are supported"));
        }
        if width == 0 || height == 0 {
            return Err(corrupt("no width or no height"));
        }
        if (width * height) as u64 > max_pixels {
            return Err(ImageFault::TooLarge { width: width as u64, height: height as u64, limit: max_pixels });
        }
        let count = usize::from(count);
        if !matches!(count, 1 | 3 | 4) || rest.len() < count * 3 {
            return Err(corrupt("expected 1, 3 or 4 components"));
        }
        let specs: Vec<_> =
            rest.chunks_exact(3).take(count).map(|c| (c[0], usize::from(c[1] >> 4), usize::from(c[1] & 15), c[2])).collect();
        if specs.iter().any(|&(_, h, v, slot)| !(1..=4).contains(&h) || !(1..=4).contains(&v) || slot > 3) {
            return Err(corrupt("sampling factor or table number out of range"));
        }
        let h_max = specs.iter().map(|spec| spec.1).max().unwrap_or(1);
        let v_max = specs.iter().map(|spec| spec.2).max().unwrap_or(1);
        if specs.iter().any(|&(_, h, v, _)| h_max % h != 0 || v_max % v != 0) {
            return Err(corrupt("fractional sampling is not supported"));
        }
        let (mcus_wide, mcus_high) = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        let blocks: usize = specs.iter().map(|&(_, h, v, _)| (width * h).div_ceil(8 * h_max) * (height * v).div_ceil(8 * v_max)).sum();
        // A block takes at least one bit of DC code and, in a sequential scan, one of AC code: a small file cannot claim a large picture.
        if blocks * (if progressive { 1 } else { 2 }) / 8 > file_bytes {
            return Err(truncated("the file is too short for the size in its header"));
        }
        let components = specs.into_iter().map(|(id, h, v, slot)| Component {
            id,
            h,
            v,
            quant_slot: usize::from(slot),
            quant: None,
            blocks_wide: (width * h).div_ceil(8 * h_max),
            blocks_high: (height * v).div_ceil(8 * v_max),
            stride: mcus_wide * h,
            rows: mcus_high * v,
        });
        Ok(Self { width, height, progressive, components: components.collect(), h_max, v_max, mcus_wide, mcus_high })
    }

    /// Component identifiers in order.
    pub(super) fn ids(&self) -> Vec<u8> {
        self.components.iter().map(|component| component.id).collect()
    }

    /// Fixes the quantisation tables of components that appear for the first time.
    pub(super) fn latch_quantization(&mut self, scan: &Scan, tables: &Tables) -> Result<(), ImageFault> {
        for part in &scan.parts {
            let component = &mut self.components[part.component];
            // A progressive scan of AC coefficients that comes before any DC would show an unlatched component as complete.
            if component.quant.is_none() {
                if scan.start != 0 {
                    return Err(corrupt("AC coefficients before DC"));
                }
                let table = tables.quantization[component.quant_slot].ok_or_else(|| corrupt("a quantisation table is missing"))?;
                component.quant = Some(table);
            }
        }
        Ok(())
    }

    /// Whether every component had its (first) scan.
    pub(super) fn is_complete(&self) -> bool {
        self.components.iter().all(|component| component.quant.is_some())
    }
}

/// A component's part in a scan.
pub(super) struct Part {
    /// Index into the frame's components.
    pub(super) component: usize,
    pub(super) dc_table: usize,
    pub(super) ac_table: usize,
}

/// The scan header.
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// First and last coefficient in zigzag order.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Bit positions of successive approximation: the previous scan's (0: none) and this one's.
    pub(super) high: u32,
    pub(super) low: u32,
}

impl Scan {
    pub(super) fn parse(segment: &[u8], frame: &Frame) -> Result<Self, ImageFault> {
        let short = || corrupt("short scan header");
        let (&count, rest) = segment.split_first().ok_or_else(short)?;
        let count = usize::from(count);
        let (list, tail) = rest.split_at_checked(2 * count).ok_or_else(short)?;
        let &[start, end, approximation, ..] = tail else { return Err(short()) };
        if !(1..=frame.components.len()).contains(&count) {
            return Err(corrupt("wrong number of components in a scan"));
        }
        let mut parts: Vec<Part> = Vec::with_capacity(count);
        for pair in list.chunks_exact(2) {
            let component = frame.components.iter().position(|component| component.id == pair[0]);
            let component = component.ok_or_else(|| corrupt("a scan of an unknown component"))?;
            let (dc_table, ac_table) = (usize::from(pair[1] >> 4), usize::from(pair[1] & 15));
            if dc_table > 3 || ac_table > 3 || parts.iter().any(|part| part.component == component) {
                return Err(corrupt("bad scan header"));
            }
            parts.push(Part { component, dc_table, ac_table });
        }
        let blocks: usize = parts.iter().map(|part| frame.components[part.component].h * frame.components[part.component].v).sum();
        if count > 1 && blocks > 10 {
            return Err(corrupt("more than 10 blocks in an MCU"));
        }
        let scan =
            Self { parts, start: start.into(), end: end.into(), high: (approximation >> 4).into(), low: (approximation & 15).into() };
        if !frame.progressive {
            // Sequential scans carry everything, whatever their header says; libjpeg only warns.
            return Ok(Self { start: 0, end: 63, high: 0, low: 0, ..scan });
        }
        let dc_only = scan.start == 0 && scan.end == 0;
        let ac_only = scan.start >= 1 && scan.start <= scan.end && scan.end <= 63 && count == 1;
        if !(dc_only || ac_only) || scan.low > 13 || (scan.high != 0 && scan.high != scan.low + 1) {
            return Err(corrupt("bad progressive parameters"));
        }
        Ok(scan)
    }
}
