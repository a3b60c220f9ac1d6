use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use half::bf16;

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
struct Line([u8; 64]);

/// Values that start at a cache line: a vector that straddles two lines costs two loads.
#[derive(Clone)]
pub struct Buffer<T = f32> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, of: PhantomData }
    }
}

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0; 64]); len.div_ceil(size_of::<Line>() / size_of::<T>())], len, of: PhantomData }
    }

    /// Room for at least `len` values, of any content. What was there is lost only where the buffer had to grow.
    pub fn reserve(&mut self, len: usize) {
        if self.len < len {
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
        // SAFETY: the lines are initialised bytes of an allocation that is aligned and large enough for `len` values, and any bytes are
        // plain values.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
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
