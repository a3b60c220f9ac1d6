//! Memory of the kernels: outputs that several threads fill, and each thread's scratch.

use std::cell::RefCell;

use super::element::Element;
use super::memory::Block;

/// An output under construction. Its memory is not cleared first: at the sizes of a training step that would cost as much as a pass.
pub(crate) struct Output<T = f32>(Block<T>);

impl<T: Element> Output<T> {
    /// Room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        Self(Block::new(len))
    }

    /// Where the values go.
    pub(crate) fn pointer(&mut self) -> Shared<T> {
        Shared(self.0.as_mut_ptr())
    }

    /// The filled buffer.
    ///
    /// # Safety
    /// Each of the values was written.
    pub(crate) unsafe fn finish(self) -> Block<T> {
        self.0
    }
}

/// A pointer into memory that tasks write disjoint parts of.
pub(crate) struct Shared<T = f32>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: a bare address; each use of it is unsafe and says why its part is its own.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// This pointer.
    pub(crate) fn new(values: *mut T) -> Self {
        Self(values)
    }

    /// A pointer to the first value of `values`.
    pub(crate) fn from_slice(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The address of value `offset`.
    ///
    /// # Safety
    /// `offset` is at most the length of the memory pointed to.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut T {
        // SAFETY: within the allocation, says the caller.
        unsafe { self.0.add(offset) }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Values of a cache line; scratch starts at one.
const LINE: usize = 16;

/// A thread's scratch: values of any content, from a cache line's start. It goes back to the thread when dropped.
///
/// A guard, not a function that lends to a closure: the closure's body would be compiled without the vector instructions of its caller.
pub(crate) struct Scratch {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Scratch {
    /// Room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        // Taken out of the pool: while it is used, rayon may run another task on this thread.
        let mut buffer = SCRATCH.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
        if buffer.len() < len + LINE {
            buffer.resize(len + LINE, 0.0);
        }
        let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { buffer, start, len }
    }

    /// The values.
    pub(crate) fn values(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // At a thread's end the pool may be gone already.
        let _ = SCRATCH.try_with(|pool| pool.borrow_mut().push(buffer));
    }
}
