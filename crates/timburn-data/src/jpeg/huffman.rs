//! Tables of the stream: Huffman, quantisation, restart interval.

use std::cell::OnceCell;

use timburn_core::error::ImageFault;

use super::corrupt;

/// Natural position of the coefficient at each zigzag index.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Codes up to this length are decoded by one look-up.
pub(super) const FAST: u32 = 12;

/// A Huffman code and the value behind it: how many bits they take together, how many of them are the value's, and the zeros before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u16);

impl Entry {
    /// Stands for codes longer than [`FAST`] bits.
    pub(super) const LONG: Self = Self(0);

    pub(super) fn new(code_length: u32, symbol: u8) -> Self {
        let (run, size) = (u16::from(symbol >> 4), u16::from(symbol & 15));
        Self(run << 9 | size << 5 | (code_length as u16 + size))
    }

    /// Bits of code and value together.
    #[inline(always)]
    pub(super) fn total(self) -> u32 {
        u32::from(self.0 & 31)
    }

    /// Bits of the value.
    #[inline(always)]
    pub(super) fn size(self) -> u32 {
        u32::from(self.0 >> 5 & 15)
    }

    /// Zero coefficients before the value.
    #[inline(always)]
    pub(super) fn run(self) -> usize {
        usize::from(self.0 >> 9)
    }
}

/// One or two AC symbols passed over at once.
#[derive(Clone, Copy)]
pub(super) struct Skip(u16);

impl Skip {
    /// Stands for codes whose values need more than [`FAST`] bits.
    pub(super) const LONG: Self = Self(0);

    fn new(bits: u32, coefficients: usize, last: bool) -> Self {
        Self(u16::from(last) << 15 | (coefficients as u16) << 5 | bits as u16)
    }

    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self.0 == 0
    }

    /// Bits of all symbols and their values.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        u32::from(self.0 & 31)
    }

    /// Coefficients passed.
    #[inline(always)]
    pub(super) fn coefficients(self) -> usize {
        usize::from(self.0 >> 5 & 0x3FF)
    }

    /// Whether the end of the block is among the symbols.
    #[inline(always)]
    pub(super) fn is_last(self) -> bool {
        self.0 >> 15 != 0
    }
}

/// By the next bits: as many AC symbols, at most two, as lie in them with their values.
pub(super) type Skips = [Skip; 1 << FAST];

/// A Huffman table.
pub(super) struct Huffman {
    /// What the next bits begin with.
    pub(super) fast: [Entry; 1 << FAST],
    /// Made when the first block comes that nobody looks at.
    skips: OnceCell<Box<Skips>>,
    /// First 16-bit prefix beyond the codes of each length.
    limit: [u32; 17],
    /// Index of a length's first symbol, less its first code.
    offset: [i32; 17],
    counts: [u8; 16],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, ImageFault> {
        let mut table = Self {
            fast: [Entry::LONG; 1 << FAST],
            skips: OnceCell::new(),
            limit: [0; 17],
            offset: [0; 17],
            counts: *counts,
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            table.offset[length as usize] = index as i32 - code as i32;
            for &symbol in &symbols[index..index + usize::from(count)] {
                if code >> length != 0 {
                    return Err(corrupt("an overfull Huffman table"));
                }
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    table.fast[first..first + (1 << (FAST - length))].fill(Entry::new(length, symbol));
                }
                code += 1;
            }
            index += usize::from(count);
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }

    /// The entry of a code longer than [`FAST`] bits that begins a 16-bit prefix; `None` where there is no such code.
    #[cold]
    pub(super) fn long(&self, prefix: u32) -> Option<Entry> {
        let length = (FAST + 1..=16).find(|&length| prefix < self.limit[length as usize])?;
        let index = (prefix >> (16 - length)) as i32 + self.offset[length as usize];
        let symbol = self.symbols.get(usize::try_from(index).ok()?)?;
        Some(Entry::new(length, *symbol))
    }

    /// For blocks that nobody looks at.
    pub(super) fn skips(&self) -> &Skips {
        self.skips.get_or_init(|| {
            let mut skips = Box::new([Skip::LONG; 1 << FAST]);
            for (bits, skip) in skips.iter_mut().enumerate() {
                let first = self.fast[bits];
                if first == Entry::LONG || first.total() > FAST {
                    continue;
                }
                let (used, passed, last) = (first.total(), passed(first), is_end_of_block(first));
                let second = self.fast[bits << used & ((1 << FAST) - 1)];
                // Bits behind the last whole code are not known here.
                *skip = if last || second == Entry::LONG || used + second.total() > FAST {
                    Skip::new(used, passed, last)
                } else if is_end_of_block(second) {
                    Skip::new(used + second.total(), passed, true)
                } else {
                    Skip::new(used + second.total(), passed + self::passed(second), false)
                };
            }
            skips
        })
    }
}

/// Coefficients that an AC symbol steps over, its own included.
fn passed(entry: Entry) -> usize {
    if is_end_of_block(entry) { 0 } else { entry.run() + 1 }
}

/// A symbol without value ends the block, but for the one that stands for sixteen zeros.
fn is_end_of_block(entry: Entry) -> bool {
    entry.size() == 0 && entry.run() < 15
}

/// A place for a Huffman table. A table of an earlier file stays in it until a different one comes, but counts as missing.
#[derive(Default)]
struct Slot {
    table: Option<Box<Huffman>>,
    defined: bool,
}

/// What the segments before a scan defined.
#[derive(Default)]
pub(super) struct Tables {
    dc: [Slot; 4],
    ac: [Slot; 4],
    /// In natural order.
    pub(super) quantization: [Option<[u16; 64]>; 4],
    /// MCUs between restart markers, 0 for none.
    pub(super) restart_interval: usize,
}

impl Slot {
    fn get(&self) -> Option<&Huffman> {
        self.table.as_deref().filter(|_| self.defined)
    }
}

impl Tables {
    /// Makes everything undefined, for the next file.
    pub(super) fn forget(&mut self) {
        self.dc.iter_mut().chain(&mut self.ac).for_each(|slot| slot.defined = false);
        self.quantization = [None; 4];
        self.restart_interval = 0;
    }

    pub(super) fn read_huffman(&mut self, mut segment: &[u8]) -> Result<(), ImageFault> {
        let short = || corrupt("a short Huffman table");
        while let Some((&selector, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
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
            let place = class.get_mut(slot).ok_or_else(|| corrupt("a Huffman table number above 3"))?;
            let same = place.table.as_ref().is_some_and(|table| table.counts == *counts && table.symbols == symbols);
            if !same {
                place.table = Some(Box::new(Huffman::new(counts, symbols)?));
            }
            place.defined = true;
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
        self.dc[slot].get().ok_or_else(|| corrupt("a DC Huffman table is missing"))
    }

    pub(super) fn ac(&self, slot: usize) -> Result<&Huffman, ImageFault> {
        self.ac[slot].get().ok_or_else(|| corrupt("an AC Huffman table is missing"))
    }
}
