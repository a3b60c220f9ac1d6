//! Downloads of files: continued where an earlier try stopped, hashed on the way, never visible before they are verified.

use std::path::PathBuf;

#[cfg(feature = "fetch")]
mod transfer;

#[cfg(feature = "fetch")]
pub use transfer::{Answer, Transfer, TransferError, lock};

/// Hears of a download. All methods may be called from one thread only, in order.
pub trait Progress {
    /// The transfer of `name` begins: `done` bytes are there from an earlier try, `total` is known when the server says so.
    fn start(&self, name: &str, done: u64, total: Option<u64>) {
        let _ = (name, done, total);
    }
    /// More bytes arrived.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// Silence.
impl Progress for () {}

/// Variables of the environment, or what a test says they are; `None` for those that are empty.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable that forbids the network: `HF_HUB_OFFLINE` or `TIMBURN_OFFLINE`, set to anything but `0`, `false`, `no`, `off`.
pub fn offline(variable: Environment<'_>) -> Option<&'static str> {
    let is_on = |name: &&str| variable(name).is_some_and(|value| !["0", "false", "no", "off"].contains(&value.to_lowercase().as_str()));
    ["HF_HUB_OFFLINE", "TIMBURN_OFFLINE"].into_iter().find(is_on)
}

/// The user's folder of caches: `XDG_CACHE_HOME`, else `~/.cache`.
pub fn user_caches(variable: Environment<'_>) -> PathBuf {
    let path = |name| variable(name).map(PathBuf::from);
    let home = || path("HOME").or_else(|| path("USERPROFILE")).unwrap_or_default();
    path("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"))
}
