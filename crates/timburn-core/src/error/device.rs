const VULKAN_HINT: &str = ": its driver lacks VK_KHR_workgroup_memory_explicit_layout, without which Burn's SPIR-V compiler is faulty; \
                           use a build with the feature `wgpu` instead of `vulkan`";

/// A device that was asked for and cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a device name at all.
    #[error("unknown device `{name}`{}; compiled in: {}; form: name or name:index, or `auto`", crate::suggest::did_you_mean(nearest), compiled.join(", "))]
    Unknown {
        /// The name as given.
        name: String,
        /// Names that look like it.
        nearest: Vec<String>,
        /// Backends this build has.
        compiled: Vec<&'static str>,
    },
    /// A backend that this build leaves out.
    #[error("device `{name}` is not compiled in; compiled in: {}; rebuild with `--features {feature}`", compiled.join(", "))]
    NotCompiled {
        /// The name as given.
        name: String,
        /// Cargo feature that brings it.
        feature: &'static str,
        /// Backends this build has.
        compiled: Vec<&'static str>,
    },
    /// The backend is there but has no such device.
    #[error("device `{name}` does not exist: {backend} reports {found} device(s)")]
    NoSuchIndex {
        /// The name as given.
        name: String,
        /// Its backend.
        backend: &'static str,
        /// Number of devices the backend lists.
        found: usize,
    },
    /// The driver or runtime refused to come up.
    #[error("device `{name}` does not come up: {reason}; is its driver installed? Compiled in: {}", compiled.join(", "))]
    Unavailable {
        /// The name as given.
        name: String,
        /// What the backend said.
        reason: String,
        /// Backends this build has.
        compiled: Vec<&'static str>,
    },
    /// The device failed while it computed: out of memory, a lost driver.
    #[error("device `{name}` failed: {reason}")]
    Failed {
        /// The device.
        name: String,
        /// What the backend said.
        reason: String,
    },
    /// The device computes wrong results: see [`open_device`](crate::open_device).
    #[error(
        "device `{name}` computes wrong results ({reason}){}; compiled in: {}",
        if name.starts_with("vulkan") { VULKAN_HINT } else { "" },
        compiled.join(", ")
    )]
    WrongResults {
        /// The name as given.
        name: String,
        /// What was computed.
        reason: String,
        /// Backends this build has.
        compiled: Vec<&'static str>,
    },
}
