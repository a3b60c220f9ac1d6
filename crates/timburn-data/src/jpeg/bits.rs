//! The bit reader of a scan.

use timburn_core::error::ImageFault;

use super::huffman::{Entry, FAST, Huffman};
use super::{corrupt, marker, truncated};

/// Bits that a code and its value may take: what a refill leaves at least.
const ENOUGH: u32 = 32;

/// Reads a scan bit by bit, most significant first, up to the next marker.
///
/// What is not inlined takes it by value: a reference would keep the window out of the registers.
#[derive(Clone, Copy)]
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
    pub(super) fn refill(&mut self) {
        if self.count >= ENOUGH {
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
        *self = self.refilled_bytewise();
    }

    #[cold]
    #[inline(never)]
    fn refilled_bytewise(mut self) -> Self {
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
        self
    }

    #[inline(always)]
    pub(super) fn consume(&mut self, count: u32) {
        self.window <<= count;
        self.count -= count;
    }

    /// The next [`FAST`] bits, once loaded.
    #[inline(always)]
    pub(super) fn peek(&self) -> usize {
        (self.window >> (64 - FAST)) as usize
    }

    /// The next `count` bits as a number, at most 16.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        self.refill();
        // Two shifts, because a shift by 64 is not allowed.
        let bits = (self.window >> 1 >> (63 - count)) as u32;
        self.consume(count);
        bits
    }

    /// The code that comes next; nothing is consumed.
    #[inline(always)]
    pub(super) fn entry(&mut self, table: &Huffman) -> Result<Entry, ImageFault> {
        self.refill();
        let entry = table.fast[self.peek()];
        if entry == Entry::LONG { self.long_entry(table) } else { Ok(entry) }
    }

    #[cold]
    #[inline(never)]
    fn long_entry(self, table: &Huffman) -> Result<Entry, ImageFault> {
        table
            .long((self.window >> 48) as u32)
            .ok_or_else(|| if self.padding > 0 { self.end_of_scan() } else { corrupt("a bit pattern that is no Huffman code") })
    }

    /// Consumes a code and the value behind it, which is returned (T.81, figure F.12); 0 where there is none.
    #[inline(always)]
    pub(super) fn value(&mut self, entry: Entry) -> i32 {
        let size = entry.size();
        let behind = self.window << (entry.total() - size);
        let bits = (behind >> 1 >> (63 - size)) as i32;
        // A leading zero means a negative value.
        let negative = !(behind.cast_signed() >> 63) as i32;
        self.consume(entry.total());
        bits + (negative & (1 - (1 << size)))
    }

    /// Consumes a code and leaves the value behind it.
    #[inline(always)]
    pub(super) fn consume_code(&mut self, entry: Entry) {
        self.consume(entry.total() - entry.size());
    }

    /// An error if bits were used that are not in the file.
    #[inline(always)]
    pub(super) fn check(&self) -> Result<(), ImageFault> {
        if self.padding > self.count { Err(self.end_of_scan()) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn end_of_scan(self) -> ImageFault {
        if marker::find(self.data, self.position).is_some() {
            corrupt("a scan ends before its last block")
        } else {
            truncated("the file ends within a scan")
        }
    }

    /// The reader behind the restart marker number `index`.
    #[inline(never)]
    pub(super) fn restarted(self, index: usize) -> Result<Self, ImageFault> {
        match marker::find(self.data, self.position) {
            Some((marker, behind)) if usize::from(marker) == usize::from(marker::RST0) + index % 8 => {
                Ok(Self { position: behind, ..Self::new(self.data) })
            }
            Some(_) => Err(corrupt("a restart marker is missing")),
            None => Err(truncated("the file ends before a restart marker")),
        }
    }
}
