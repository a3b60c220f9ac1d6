//! Memory in large pages, where the system has them. A run reads all weights once: in pages of 4 KiB each would have to be looked up.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::buffer::LINE;

/// Bytes of a large page.
pub(super) const PAGE: usize = 2 << 20;
/// Bytes that are reserved for blocks that share pages. What is not written is not there.
const CHUNK: usize = 32 << 20;

/// Zeros from the start of a cache line on, as long as the block lives.
pub(super) struct Block {
    start: NonNull<u8>,
    /// Keeps them there.
    _chunk: Arc<Chunk>,
}

// SAFETY: owned memory, as a `Vec`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// A block with pages of its own; `None` where the system has none to give.
    pub(super) fn alone(bytes: usize) -> Option<Self> {
        let chunk = Chunk::new(bytes)?;
        Some(Self { start: chunk.start, _chunk: Arc::new(chunk) })
    }

    /// A block that shares pages with others. They go back to the system with the last of them.
    pub(super) fn shared(bytes: usize) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(LINE)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = match open.chunk.upgrade().filter(|chunk| chunk.len - open.used >= bytes) {
            Some(chunk) => chunk,
            None => {
                let chunk = Arc::new(Chunk::new(bytes.max(CHUNK))?);
                (open.chunk, open.used) = (Arc::downgrade(&chunk), 0);
                chunk
            }
        };
        // SAFETY: the chunk is that long, and nobody was given this part of it: `used` only grows while a chunk lives.
        let start = unsafe { chunk.start.add(open.used) };
        open.used += bytes;
        Some(Self { start, _chunk: chunk })
    }

    /// The first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

/// The chunk that still has room.
struct Open {
    chunk: Weak<Chunk>,
    used: usize,
}

static OPEN: Mutex<Open> = Mutex::new(Open { chunk: Weak::new(), used: 0 });

/// Pages of the system.
struct Chunk {
    start: NonNull<u8>,
    len: usize,
    /// What the system gave, from a small page on.
    #[cfg(target_os = "linux")]
    given: (NonNull<libc::c_void>, usize),
}

// SAFETY: an address and a length; what is there belongs to the blocks.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

#[cfg(target_os = "linux")]
impl Chunk {
    fn new(bytes: usize) -> Option<Self> {
        let len = bytes.max(1).checked_next_multiple_of(PAGE)?;
        let total = len.checked_add(PAGE)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, of any address; of zeros.
        let given = unsafe { libc::mmap(std::ptr::null_mut(), total, access, kind, -1, 0) };
        if given == libc::MAP_FAILED {
            return None;
        }
        let given = NonNull::new(given)?;
        let before = given.as_ptr().align_offset(PAGE).min(PAGE);
        // SAFETY: at most a large page of the one that was asked for besides; a hint, which the system may not follow.
        let start = unsafe {
            let start = given.cast::<u8>().add(before);
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
            start
        };
        Some(Self { start, len, given: (given, total) })
    }
}

#[cfg(target_os = "linux")]
impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: what the system gave, of which no block is left.
        unsafe { libc::munmap(self.given.0.as_ptr(), self.given.1) };
    }
}

#[cfg(not(target_os = "linux"))]
impl Chunk {
    fn new(_: usize) -> Option<Self> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeros_of_their_own_for_as_long_as_they_live() {
        let lens = [1, 64, 1000, 3 << 20, CHUNK - 64, CHUNK + 1, 7];
        let blocks: Vec<(Block, usize)> =
            lens.iter().flat_map(|&len| [Block::shared(len), Block::alone(len)].map(|block| (block.unwrap(), len))).collect();
        for (index, (block, len)) in blocks.iter().enumerate() {
            assert!(block.start().as_ptr().addr().is_multiple_of(LINE));
            // SAFETY: this block's bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block.start().as_ptr(), *len) };
            assert!(bytes.iter().all(|&byte| byte == 0), "block {index} was written by another");
            bytes.fill(index as u8 + 1);
        }
        let kept: Vec<(usize, (Block, usize))> = blocks.into_iter().enumerate().filter(|(index, _)| index % 3 == 0).collect();
        for (index, (block, len)) in &kept {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(block.start().as_ptr(), *len) };
            assert!(bytes.iter().all(|&byte| byte == *index as u8 + 1), "block {index} went with another");
        }
    }

    #[test]
    fn a_block_that_cannot_be_is_none() {
        assert!(Block::alone(usize::MAX).is_none() && Block::shared(usize::MAX - 64).is_none() && Block::alone(1 << 60).is_none());
    }
}
