//! Devices by name: `auto`, `flex`, `cuda:1`, `wgpu`, … parsed at run time, checked against what this build has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

pub use burn::tensor::Device;
use burn::tensor::{DeviceType, Tensor, TensorData};

use crate::error::{DeviceError, Result};
pub use crate::panic::panic_message;
use crate::suggest::nearest;

/// A backend that a timburn build may have. The order is the order of preference of `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Name on the command line, and of the cargo feature.
    pub name: &'static str,
    /// Whether this build has it.
    pub compiled: bool,
    /// What it is.
    pub description: &'static str,
}

/// Every backend timburn knows, the fastest kind first.
pub const BACKENDS: [Backend; 9] = [
    Backend { name: "cuda", compiled: cfg!(feature = "cuda"), description: "NVIDIA GPUs through CUDA" },
    Backend { name: "rocm", compiled: cfg!(feature = "rocm"), description: "AMD GPUs through ROCm" },
    Backend { name: "metal", compiled: cfg!(feature = "metal"), description: "Apple GPUs through Metal" },
    Backend { name: "vulkan", compiled: cfg!(feature = "vulkan"), description: "GPUs through Vulkan (SPIR-V)" },
    Backend { name: "wgpu", compiled: cfg!(feature = "wgpu"), description: "GPUs through wgpu, graphics API chosen by it" },
    Backend { name: "webgpu", compiled: cfg!(feature = "webgpu"), description: "GPUs through wgpu and WGSL shaders" },
    Backend { name: "flex", compiled: cfg!(feature = "flex"), description: "CPU, pure Rust" },
    Backend { name: "cpu", compiled: cfg!(feature = "cpu"), description: "CPU through CubeCL and LLVM" },
    Backend { name: "ndarray", compiled: cfg!(feature = "ndarray"), description: "CPU through ndarray (deprecated by Burn)" },
];

/// Names of the backends this build has, in the order of [`BACKENDS`].
pub fn compiled() -> Vec<&'static str> {
    BACKENDS.iter().filter(|backend| backend.compiled).map(|backend| backend.name).collect()
}

/// Opens the device called `name`: `auto`, or a backend's name with an optional index (`cuda`, `cuda:1`).
///
/// `auto` takes the first of [`BACKENDS`] that is compiled in and comes up. A GPU is brought up here, so that a missing driver is an
/// error now and not a panic later, and multiplies small matrices: Burn 0.22's SPIR-V compiler silently yields zeros on drivers without
/// `VK_KHR_workgroup_memory_explicit_layout` (see `docs/vulkan.md`).
///
/// # Errors
/// [`DeviceError`] for an unknown name, a backend that is not compiled in (naming the feature), an index out of range, a driver that does
/// not come up, or a device that multiplies wrongly.
pub fn open_device(name: &str) -> Result<Device> {
    if name == "auto" {
        let mut failure = unknown(name);
        for backend in BACKENDS.iter().filter(|backend| backend.compiled) {
            match open(backend, None, backend.name) {
                Ok(device) => return Ok(device),
                Err(error) => {
                    log::warn!("{error}; trying the next backend");
                    failure = error;
                }
            }
        }
        return Err(failure.into());
    }
    let (backend, index) = find(name)?;
    Ok(open(backend, index, name)?)
}

/// Checks that `name` is `auto` or a backend of this build, without bringing a device up.
///
/// # Errors
/// [`DeviceError`] for an unknown name or a backend that is not compiled in.
pub fn check_name(name: &str) -> Result<()> {
    if name != "auto" {
        find(name)?;
    }
    Ok(())
}

/// The backend and the index that `name` means.
fn find(name: &str) -> Result<(&'static Backend, Option<usize>), DeviceError> {
    let (base, index) = match name.split_once(':') {
        Some((base, digits)) => (base, Some(digits.parse::<usize>().map_err(|_| unknown(name))?)),
        None => (name, None),
    };
    let backend = BACKENDS.iter().find(|backend| backend.name == base).ok_or_else(|| unknown(name))?;
    if !backend.compiled {
        return Err(DeviceError::NotCompiled { name: name.into(), feature: backend.name, compiled: compiled() });
    }
    Ok((backend, index))
}

fn unknown(name: &str) -> DeviceError {
    let known = BACKENDS.iter().map(|backend| backend.name).chain(["auto"]);
    DeviceError::Unknown { name: name.into(), nearest: nearest(name, known), compiled: compiled() }
}

fn open(backend: &Backend, index: Option<usize>, name: &str) -> Result<Device, DeviceError> {
    let unavailable = |reason| DeviceError::Unavailable { name: name.into(), reason, compiled: compiled() };
    // Burn reports a missing driver by panicking; a user's machine must not end the process.
    let devices: Vec<Device> = quietly(|| devices_of(backend.name)).map_err(unavailable)?;
    let found = devices.len();
    let device = devices.into_iter().nth(index.unwrap_or(0));
    let device = device.ok_or(DeviceError::NoSuchIndex { name: name.into(), backend: backend.name, found })?;
    let probe = device.clone();
    let worst = quietly(move || worst_product(&probe)).map_err(unavailable)?;
    if worst > 1e-2 {
        let reason = format!("a product of small matrices is off by {worst:.1}");
        return Err(DeviceError::WrongResults { name: name.into(), reason, compiled: compiled() });
    }
    Ok(device)
}

/// Largest error of some matrix products on `device`. The shapes are ones for which autotune has picked the faulty kernels.
fn worst_product(device: &Device) -> f32 {
    let mut worst = 0f32;
    for (rows, inner, columns) in [(8, 10, 16), (64, 10, 8)] {
        let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect() };
        let (a, b) = (values(rows * inner), values(columns * inner));
        let tensor = |values: &[f32], shape| Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device);
        let product = tensor(&a, [rows, inner]).matmul(tensor(&b, [columns, inner]).transpose()).into_data();
        let found: Vec<f32> = product.convert::<f32>().try_to_vec().unwrap_or_default();
        let expected = (0..rows * columns).map(|i| {
            let (row, column) = (i / columns, i % columns);
            a[row * inner..][..inner].iter().zip(&b[column * inner..]).map(|(x, y)| x * y).sum::<f32>()
        });
        // Low-precision matrix units (TF32) stay within a hundredth here.
        for (x, y) in expected.zip(found.iter().chain(std::iter::repeat(&f32::INFINITY))) {
            // `max` would drop a NaN, the worst of all answers.
            worst = if (x - y).is_nan() { f32::INFINITY } else { worst.max((x - y).abs()) };
        }
    }
    worst
}

/// Runs `work`, turning a panic into its message and keeping the panic hook from printing.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // The hook is the process's: two threads that swap it at once would leave the silent one behind.
    static SWAPPING: Mutex<()> = Mutex::new(());
    let _alone = SWAPPING.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    outcome.map_err(|panic| panic_message(panic.as_ref()))
}

/// What [`open_device`] calls `device`: `flex`, `cuda:0`. Says what `auto` found.
pub fn device_name(device: &Device) -> String {
    // CPUs first: listing a GPU backend's devices may bring its driver up.
    let mut backends: Vec<&Backend> = BACKENDS.iter().filter(|backend| backend.compiled).collect();
    backends.sort_by_key(|backend| !CPU.contains(&backend.name));
    for backend in backends {
        let found = devices_of(backend.name);
        if let Some(index) = found.iter().position(|one| one == device) {
            return if CPU.contains(&backend.name) { backend.name.to_owned() } else { format!("{}:{index}", backend.name) };
        }
    }
    format!("{device:?}")
}

/// Backends that compute on the host's own processor.
const CPU: [&str; 3] = ["flex", "ndarray", "cpu"];

/// Whether a device computes on the host's own processor, in the host's own memory.
pub fn is_cpu(device: &Device) -> bool {
    // Only these are asked for their devices: listing those of a GPU backend may bring its driver up.
    CPU.into_iter().any(|name| devices_of(name).contains(device))
}

fn devices_of(name: &str) -> Vec<Device> {
    kind_of(name).map(|kind| Device::enumerate(kind).into_vec()).unwrap_or_default()
}

fn kind_of(name: &str) -> Option<DeviceType> {
    match name {
        #[cfg(feature = "cuda")]
        "cuda" => Some(DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        "rocm" => Some(DeviceType::Rocm),
        #[cfg(feature = "metal")]
        "metal" => Some(DeviceType::Metal),
        #[cfg(feature = "vulkan")]
        "vulkan" => Some(DeviceType::Vulkan),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(DeviceType::Wgpu),
        #[cfg(feature = "webgpu")]
        "webgpu" => Some(DeviceType::WebGpu),
        #[cfg(feature = "flex")]
        "flex" => Some(DeviceType::Flex),
        #[cfg(feature = "cpu")]
        "cpu" => Some(DeviceType::Cpu),
        #[cfg(feature = "ndarray")]
        "ndarray" => Some(DeviceType::NdArray),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn error(name: &str) -> DeviceError {
        match open_device(name) {
            Err(Error::Device(error)) => error,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn unknown_names_list_what_is_compiled_in() {
        let text = error("flx").to_string();
        assert!(text.contains("did you mean `flex`") && text.contains("compiled in: flex"), "{text}");
        assert!(matches!(error("flex:x"), DeviceError::Unknown { .. }));
        assert!(matches!(error(""), DeviceError::Unknown { .. }));
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_backend_left_out_names_its_feature() {
        assert!(error("cuda:0").to_string().contains("--features cuda"));
    }

    #[test]
    #[cfg(feature = "flex")]
    fn flex_is_a_cpu() {
        assert!(is_cpu(&Device::flex()) && is_cpu(&Device::flex().autodiff()));
        assert_eq!((device_name(&Device::flex()), device_name(&Device::flex().autodiff())), ("flex".to_owned(), "flex".to_owned()));
    }

    #[test]
    #[cfg(feature = "flex")]
    fn flex_is_always_there_and_alone() {
        assert!(check_name("flex:7").is_ok() && check_name("auto").is_ok() && check_name("flx").is_err());
        assert!(open_device("flex").is_ok() && open_device("flex:0").is_ok() && open_device("auto").is_ok());
        assert_eq!(error("flex:7"), DeviceError::NoSuchIndex { name: "flex:7".into(), backend: "flex", found: 1 });
    }
}
