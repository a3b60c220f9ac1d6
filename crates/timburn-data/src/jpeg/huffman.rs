//! Tables of the stream (Huffman, quantisation, restart interval) and the bit reader.

use timburn_core::error::ImageFault;

use super::{corrupt, marker, truncated};

/// Natural position of the coefficient at each zigzag index.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Codes up to this length are decoded by one look-up.
const FAST: u32 = 10;

/// A Huffman table.
pub(super) struct Huffman {
    /// `length << 8 | symbol` for every code of at most [`FAST`] bits by the next bits, 0 for longer ones.
    fast: [u16; 1 << FAST],
    /// AC: `value << 16 | run << 8 | length` where code and value together fit in [`FAST`] bits, else 0.
    fast_ac: [i32; 1 << FAST],
    /// First 16-bit prefix beyond the codes of each length.
    limit: [u32; 17],
    /// Index of a length's first symbol, less its first code.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, ImageFault> {
        let mut table = Self { fast: [0; 1 << FAST], fast_ac: [0; 1 << FAST], limit: [0; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            table.offset[length as usize] = index as i32 - code as i32;
            for &symbol in &symbols[index..index + usize::from(count)] {
                if code >> length != 0 {
                    return Err(corrupt("an overfull Huffman table"));
                }
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    table.fast[first..first + (1 << (FAST - length))].fill((length << 8) as u16 | u16::from(symbol));
                }
                code += 1;
            }
            index += usize::from(count);
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        for (bits, entry) in (0u32..).zip(&mut table.fast_ac) {
            let (length, symbol) = (u32::from(table.fast[bits as usize] >> 8), u32::from(table.fast[bits as usize] & 0xFF));
            let (run, size) = (symbol >> 4, symbol & 15);
            if length > 0 && size > 0 && length + size <= FAST {
                let raw = (bits >> (FAST - length - size)) & ((1 << size) - 1);
                *entry = extend(raw, size) << 16 | (run << 8 | (length + size)) as i32;
            }
        }
        Ok(table)
    }
}

/// The signed value that `size` magnitude bits stand for (T.81, figure F.12).
fn extend(bits: u32, size: u32) -> i32 {
    if size > 0 && bits < 1 << (size - 1) { bits as i32 - (1 << size) + 1 } else { bits as i32 }
}

/// What the segments before a scan defined.
#[derive(Default)]
pub(super) struct Tables {
    dc: [Option<Box<Huffman>>; 4],
    ac: [Option<Box<Huffman>>; 4],
    /// In natural order.
    pub(super) quantization: [Option<[u16; 64]>; 4],
    /// MCUs between restart markers, 0 for none.
    pub(super) restart_interval: usize,
}

impl Tables {
    pub(super) fn read_huffman(&mut self, mut segment: &[u8]) -> Result<(), ImageFault> {
        let short = || corrupt("a short Huffman table");
        while let Some((&selector, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or_else(short)?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or_else(short)?;
            let slot = usize::from(selector & 15);
            let class = match selector >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(corrupt("a Huffman table of unknown class")),
            };
            if selector >> 4 == 0 && symbols.iter().any(|&size| size > 15) {
                return Err(corrupt("a DC difference of more than 15 bits"));
            }
            *class.get_mut(slot).ok_or_else(|| corrupt("a Huffman table number above 3"))? = Some(Box::new(Huffman::new(counts, symbols)?));
            segment = rest;
        }
        Ok(())
    }

    pub(super) fn read_quantization(&mut self, mut segment: &[u8]) -> Result<(), ImageFault> {
        while let Some((&selector, rest)) = segment.split_first() {
            let wide = usize::from(selector >> 4 != 0);
            let (values, rest) = rest.split_at_checked(64 << wide).ok_or_else(|| corrupt("a short quantisation table"))?;
            let mut table = [0; 64];
            for (&natural, value) in ZIGZAG.iter().zip(values.chunks_exact(1 << wide)) {
                table[usize::from(natural)] = value.iter().fold(0, |high, &low| high << 8 | u16::from(low));
            }
            let slot = self.quantization.get_mut(usize::from(selector & 15));
            *slot.ok_or_else(|| corrupt("a quantisation table number above 3"))? = Some(table);
            segment = rest;
        }
        Ok(())
    }

    pub(super) fn read_restart_interval(&mut self, segment: &[u8]) -> Result<(), ImageFault> {
        let interval = segment.first_chunk().ok_or_else(|| corrupt("a short restart interval"))?;
        self.restart_interval = u16::from_be_bytes(*interval).into();
        Ok(())
    }

    pub(super) fn dc(&self, slot: usize) -> Result<&Huffman, ImageFault> {
        self.dc[slot].as_deref().ok_or_else(|| corrupt("a DC Huffman table is missing"))
    }

    pub(super) fn ac(&self, slot: usize) -> Result<&Huffman, ImageFault> {
        self.ac[slot].as_deref().ok_or_else(|| corrupt("an AC Huffman table is missing"))
    }
}

/// Reads a scan bit by bit, most significant first, up to the next marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte to load; never beyond a marker.
    pub(super) position: usize,
    /// The next bits, top-aligned.
    window: u64,
    /// Bits in the window, the padding included.
    count: u32,
    /// Zeros at the end of the window that stand for data that is not there.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0, window: 0, count: 0, padding: 0 }
    }

    /// Makes at least 32 bits available, enough for a code and its value.
    #[inline(always)]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(chunk) = self.data.get(self.position..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_be_bytes(*chunk);
            // No byte is 0xFF: no byte of the complement is zero.
            if (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0 {
                // Bits beyond the last whole byte are loaded too and loaded again, unchanged, by the next refill.
                self.window |= word >> self.count;
                self.position += (63 - self.count as usize) >> 3;
                self.count |= 56;
                return;
            }
        }
        self.refill_bytewise();
    }

    #[cold]
    fn refill_bytewise(&mut self) {
        while self.count <= 56 {
            let byte = match (self.data.get(self.position), self.data.get(self.position + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.position += 2;
                    0xFF
                }
                (Some(0xFF), _) | (None, _) => {
                    self.padding += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.position += 1;
                    byte
                }
            };
            self.window |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn consume(&mut self, count: u32) {
        self.window <<= count;
        self.count -= count;
    }

    /// The next `count` bits as a number, at most 16.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        self.refill();
        self.take_loaded(count)
    }

    #[inline(always)]
    fn take_loaded(&mut self, count: u32) -> u32 {
        // Two shifts, because a shift by 64 is not allowed.
        let bits = (self.window >> 1 >> (63 - count)) as u32;
        self.consume(count);
        bits
    }

    /// The next symbol; at least 16 bits stay loaded behind it.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u32, ImageFault> {
        self.refill();
        let entry = u32::from(table.fast[(self.window >> (64 - FAST)) as usize]);
        if entry != 0 {
            self.consume(entry >> 8);
            return Ok(entry & 0xFF);
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &Huffman) -> Result<u32, ImageFault> {
        let prefix = (self.window >> 48) as u32;
        for length in FAST + 1..=16 {
            if prefix < table.limit[length as usize] {
                self.consume(length);
                let index = (prefix >> (16 - length)) as i32 + table.offset[length as usize];
                let symbol = usize::try_from(index).ok().and_then(|index| table.symbols.get(index));
                return symbol.map(|&symbol| u32::from(symbol)).ok_or_else(|| self.bad_code());
            }
        }
        Err(self.bad_code())
    }

    fn bad_code(&self) -> ImageFault {
        if self.padding > 0 { self.end_of_scan() } else { corrupt("a bit pattern that is no Huffman code") }
    }

    /// A value of `size` bits, 0 to 15, behind a symbol.
    #[inline(always)]
    pub(super) fn value(&mut self, size: u32) -> i32 {
        let bits = self.take_loaded(size);
        extend(bits, size)
    }

    /// The next AC coefficient when code and value are short: `(run, value)`.
    #[inline(always)]
    pub(super) fn short_ac(&mut self, table: &Huffman) -> Option<(u32, i32)> {
        self.refill();
        let entry = table.fast_ac[(self.window >> (64 - FAST)) as usize];
        if entry == 0 {
            return None;
        }
        self.consume((entry & 0xFF) as u32);
        Some(((entry >> 8 & 0xFF) as u32, entry >> 16))
    }

    /// An error if bits were used that are not in the file.
    #[inline(always)]
    pub(super) fn check(&self) -> Result<(), ImageFault> {
        if self.padding > self.count { Err(self.end_of_scan()) } else { Ok(()) }
    }

    #[cold]
    fn end_of_scan(&self) -> ImageFault {
        if marker::find(self.data, self.position).is_some() {
            corrupt("a scan ends before its last block")
        } else {
            truncated("the file ends within a scan")
        }
    }

    /// Steps over the restart marker number `index`.
    pub(super) fn restart(&mut self, index: usize) -> Result<(), ImageFault> {
        match marker::find(self.data, self.position) {
            Some((marker, behind)) if usize::from(marker) == usize::from(marker::RST0) + index % 8 => {
                *self = Self { position: behind, ..Self::new(self.data) };
                Ok(())
            }
            Some(_) => Err(corrupt("a restart marker is missing")),
            None => Err(truncated("the file ends before a restart marker")),
        }
    }
}
