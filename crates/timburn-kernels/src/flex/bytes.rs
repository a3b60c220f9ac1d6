//! The kernels' memory as Burn's bytes.

use std::mem::MaybeUninit;

use burn::tensor::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

use crate::cpu::element::Element;
use crate::cpu::memory::Block;

/// A block that goes back to the pool when the last tensor that holds it is dropped.
struct Pooled<T>(Block<T>);

/// A block's values as bytes, without a copy.
pub(super) fn bytes<T: Element>(block: Block<T>) -> Bytes {
    let len = size_of_val::<[T]>(&block);
    // SAFETY: a block that was handed out is initialised up to its length.
    unsafe { Bytes::from_controller(Box::new(Pooled(block)), len) }
}

impl<T: Element> AllocationController for Pooled<T> {
    fn alloc_align(&self) -> usize {
        // More than the largest that Burn asks for: it never copies for the sake of alignment.
        align_of::<u128>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _policy: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let len = self.0.bytes();
        // SAFETY: owned memory of that size, of any content; the caller writes initialised bytes only.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let len = self.0.bytes();
        // SAFETY: as above.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), len) })
    }
}
