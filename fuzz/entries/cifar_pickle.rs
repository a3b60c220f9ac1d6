//! Any bytes as a pickle of CIFAR.

use timburn_data::dataset::fuzzing::parse_cifar_pickle;

#[path = "cifar.rs"]
mod cifar;

/// Reads `data` as a batch or a list of names.
///
/// # Panics
/// When what is read breaks a promise, see [`cifar::check`].
pub(crate) fn run(data: &[u8]) {
    match parse_cifar_pickle(data) {
        Ok(file) => cifar::check(file, data.len()),
        Err(error) => assert!(error.to_string().len() < 1000, "a message that grows with the input"),
    }
}
