//! Markers and the segments behind them.

use timburn_core::error::ImageFault;

use super::{corrupt, truncated};

pub(super) const TEM: u8 = 0x01;
pub(super) const SOF0: u8 = 0xC0;
pub(super) const SOF2: u8 = 0xC2;
pub(super) const SOF3: u8 = 0xC3;
pub(super) const DHT: u8 = 0xC4;
pub(super) const RST0: u8 = 0xD0;
pub(super) const RST7: u8 = 0xD7;
pub(super) const SOI: u8 = 0xD8;
pub(super) const EOI: u8 = 0xD9;
pub(super) const SOS: u8 = 0xDA;
pub(super) const DQT: u8 = 0xDB;
pub(super) const DRI: u8 = 0xDD;
pub(super) const APP0: u8 = 0xE0;
pub(super) const APP1: u8 = 0xE1;
pub(super) const APP14: u8 = 0xEE;

/// The next marker at or after `from`: its code and the position behind it. Stuffed zeros and fill bytes are skipped.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let tail = bytes.get(from..)?;
    let at = tail.windows(2).position(|pair| pair[0] == 0xFF && pair[1] != 0x00 && pair[1] != 0xFF)?;
    Some((tail[at + 1], from + at + 2))
}

/// A position in the file between segments.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, ImageFault> {
        if !bytes.starts_with(&[0xFF, SOI]) {
            return Err(corrupt("no start-of-image marker"));
        }
        Ok(Self { bytes, position: 2 })
    }

    pub(super) fn next_marker(&mut self) -> Result<u8, ImageFault> {
        let (marker, behind) = find(self.bytes, self.position).ok_or_else(|| truncated("no end-of-image marker"))?;
        self.position = behind;
        Ok(marker)
    }

    /// The body of the segment whose marker was just read.
    pub(super) fn segment(&mut self) -> Result<&'a [u8], ImageFault> {
        let cut = || truncated("the file ends within a segment");
        let length = self.rest().first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes))).ok_or_else(cut)?;
        if length < 2 {
            return Err(corrupt("a segment shorter than its own length field"));
        }
        let body = self.rest().get(2..length).ok_or_else(cut)?;
        self.position += length;
        Ok(body)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.position += count;
    }

    /// Succeeds when an end-of-image marker follows.
    pub(super) fn find_end(&mut self) -> Result<(), ImageFault> {
        while self.next_marker()? != EOI {}
        Ok(())
    }
}
