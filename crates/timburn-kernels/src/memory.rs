/// Returns the memory to the system that the kernels keep for their next outputs.
///
/// Tensors made here leave their memory to the next ones of their size: a training step then pays for no page again. What nobody asks for
/// goes back by itself, but only while others are made; after training, this returns the rest. Tensors alive are not concerned.
pub fn release_memory() {
    #[cfg(feature = "flex")]
    crate::cpu::memory::release();
}
