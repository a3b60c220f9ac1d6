use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use half::bf16;

use super::pages::{Block, PAGE};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// A number that all bytes are values of, zero bytes zero.
#[allow(private_bounds, reason = "nobody else can add a type")]
pub trait Plain: Copy + Send + Sync + Sealed + 'static {}

trait Sealed {}

macro_rules! plain {
    ($($number:ty)*) => { $(impl Sealed for $number {} impl Plain for $number {})* };
}
plain!(f32 bf16 i32 i8 u8);

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Values that start at a cache line: a vector that straddles two lines costs two loads.
pub struct Buffer<T = f32> {
    memory: Memory,
    len: usize,
    of: PhantomData<T>,
}

enum Memory {
    Lines(Vec<Line>),
    Pages(Block),
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { memory: Memory::Lines(Vec::new()), len: 0, of: PhantomData }
    }
}

impl<T: Plain> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let bytes = len.saturating_mul(size_of::<T>());
        Self::new(len, if bytes < PAGE { None } else { Block::alone(bytes) })
    }

    /// `len` zeros beside others that live as long.
    pub(super) fn beside(len: usize) -> Self {
        // Tests look for reads beyond a buffer: each is an allocation of its own there.
        Self::new(len, if cfg!(test) { None } else { Block::shared(len.saturating_mul(size_of::<T>())) })
    }

    fn new(len: usize, block: Option<Block>) -> Self {
        let lines = || Memory::Lines(vec![Line([0; LINE]); len.div_ceil(LINE / size_of::<T>())]);
        Self { memory: block.map_or_else(lines, Memory::Pages), len, of: PhantomData }
    }

    /// Room for at least `len` values, of any content. What was there is lost only where the buffer had to grow.
    pub fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::default();
            *self = Self::zeros(len);
        }
    }
}

impl<T> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({})", self.len)
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let start = match &self.memory {
            Memory::Lines(lines) => lines.as_ptr().cast(),
            Memory::Pages(block) => block.start().as_ptr().cast_const().cast(),
        };
        // SAFETY: initialised bytes of an allocation that is aligned and large enough for `len` values, and any bytes are plain
        // values.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let start = match &mut self.memory {
            Memory::Lines(lines) => lines.as_mut_ptr().cast(),
            Memory::Pages(block) => block.start().as_ptr().cast(),
        };
        // SAFETY: as above, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

/// A pointer into memory that tasks write disjoint parts of.
#[derive(Debug)]
pub(super) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: a bare address; each use of it is unsafe and says why its part is its own.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A pointer to the first value of `values`.
    pub(super) fn from_slice(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The same address, for values that are no larger.
    pub(super) fn cast<U>(self) -> Shared<U> {
        const { assert!(size_of::<U>() <= size_of::<T>() && align_of::<U>() <= align_of::<T>()) };
        Shared(self.0.cast())
    }

    /// The address of value `offset`.
    ///
    /// # Safety
    /// `offset` is at most the length of the memory pointed to.
    pub(super) unsafe fn at(self, offset: usize) -> *mut T {
        // SAFETY: within the allocation, says the caller.
        unsafe { self.0.add(offset) }
    }
}
